"""While settings are chosen no test example is handed out: held-out training examples stand in its place."""

import pytest
import torch

import neuropil as npl
from cli_place import go, said
from cli_place import place as place
from neuropil import data
from neuropil.data import held_out, hold_out
from neuropil.experiments.comparison import data_splits
from neuropil.runs import read

FILE = """
import torch
from neuropil.data import Split, digits

def load(seed):
    train, test = digits(seed)
    return train[:600], test
"""


def same(pair, want):
    assert all(torch.equal(part.x, one.x) and torch.equal(part.y, one.y) for part, one in zip(pair, want, strict=True))


@pytest.mark.parametrize("seed", [0, 3])
def test_whatever_hands_out_data_gives_two_parts_of_the_training_examples(seed, tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    mine = str(tmp_path / "mine.py")
    train, test = data.digits(seed=seed)
    ways = {
        "by name": (lambda: data.digits(seed=seed), train),
        "by load": (lambda: data.load("digits", seed=seed), train),
        "by load_data": (lambda: npl.load_data("digits", seed=seed), train),
        "in a recipe": (lambda: data_splits("digits", 0, seed), train),
        "by a file": (lambda: data_splits(mine, 0, seed), train[:600]),  # held out once, not twice
    }
    with held_out(0.3, seed) as held:
        assert not held.used
        found = {name: ask() for name, (ask, _) in ways.items()}
        assert held.used
    forbidden = {row.numpy().tobytes() for row in test.x} - {row.numpy().tobytes() for row in train.x}
    for name, (_, whole) in ways.items():
        same(found[name], hold_out(whole, 0.3, seed))
        assert not forbidden & {row.numpy().tobytes() for part in found[name] for row in part.x}
    same(data.digits(seed=seed), (train, test))


RECIPE = '''"""Names the commonest class."""

from dataclasses import dataclass

from neuropil.data import digits
from neuropil.runs import ResultRow, Row


@dataclass(frozen=True)
class Config:
    own: bool = False  # whether data come from elsewhere
    validate: bool = False
    seed: int = 0


def main(config, run):
    test = None if config.own else digits(seed=config.seed)[1]
    mean = test.pixels().mean().item() if test else 0.1
    run.log(ResultRow(learner="one", data="digits", seed=config.seed, n_train=len(test or [1]), accuracy=mean))
    if config.validate:
        run.log(Row(kind="validation", learner="one", data="digits", seed=config.seed, metrics={"accuracy": 0.2}))
'''


@pytest.mark.usefixtures("place")
def test_a_run_scores_what_is_held_out_says_so_and_goes_on_so(tmp_path, capsys):
    (tmp_path / "one.py").write_text(RECIPE)
    assert go("run ./one.py --seed 2 --hold-out 0.25 --out a") == 0
    held = hold_out(data.digits(seed=2)[0], 0.25, 2)[1]
    assert read("a").rows[0]["n_train"] == len(held)
    assert read("a").rows[0]["accuracy"] == held.pixels().mean().item()  # those of this seed
    assert read("a").facts["hold_out"] == 0.25
    facts = (tmp_path / "a/run.json").read_text()
    (tmp_path / "a/run.json").write_text(
        facts.replace(read("a").facts["finished"], "").replace('"finished": ""', '"finished": null')
    )
    assert go("run --resume a") == 0
    assert {row["n_train"] for row in read("a").rows} == {360}
    capsys.readouterr()
    assert "nothing could be held out, since ./one.py takes no data" in said(
        capsys, "run ./one.py --own --hold-out 0.25"
    )
    assert go("run ./one.py --own --validate --hold-out 0.25") == 0
    assert "a fraction between 0 and 1, got 1.0" in said(capsys, "run ./one.py --hold-out 1")
