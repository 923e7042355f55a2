"""What the documents show runs as it stands there, and what they point to exists."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from neuropil.plasticity import KrotovHopfield, SoftHebb, propose_, tap

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_loop_of_the_readme_moves_the_named_layers_and_no_other():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 20), nn.Linear(20, 5))
    rules = {"0": SoftHebb(tau=0.1), "2": KrotovHopfield(k=3)}
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    (loop,) = blocks("README.md")
    here = {"model": model, "rules": rules, "optimizer": optimizer, "images": torch.rand(4, 1, 8, 8)}
    exec(loop, {"tap": tap, "propose_": propose_} | here)
    moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters())]
    assert moved == [True, False, True, False, False, False]


def test_the_example_of_the_rules_page_runs():
    own_network, deep = blocks("docs/rules.md")
    torch.manual_seed(0)
    here = {"loader": [torch.rand(4, 1, 28, 28) for _ in range(2)]}
    exec(own_network, here)
    assert here["model"][3].weight.grad.abs().max() == pytest.approx(1)
    exec(deep, here)
    learner, test = here["learner"], here["test"]
    assert (learner.predict(test.pixels()) == test.y).float().mean() > 0.9


def test_the_example_of_the_events_page_gives_a_gradient_to_every_layer():
    code, more = blocks("docs/events.md")
    torch.manual_seed(0)
    here = {}
    exec(code, here)
    assert all(parameter.grad.abs().max() > 0 for parameter in here["network"].parameters())
    exec(more, here)
    assert (here["named"] == here["test"].y).float().mean() > 0.8
    assert (here["alone"] == here["named"]).float().mean() > 0.3


def test_the_example_of_the_robustness_page_runs(capsys):
    (code,) = blocks("docs/robustness.md")
    exec(code, {})
    square, transfer = map(float, capsys.readouterr().out.split())
    assert 0.2 < square < 0.97
    assert 0.2 < transfer < 1


@pytest.mark.filterwarnings("ignore:.*samples had not settled")
def test_the_example_of_the_associative_page_names_draws_and_completes():
    (code,) = blocks("docs/associative.md")
    here = {}
    exec(code, here)
    assert here["threes"].shape == (8, 1, 8, 8)
    assert here["filled"].shape == here["test"].x.shape
    assert (here["named"] == here["test"].y).float().mean() > 0.6


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_points_to_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page} points to {target}"
