"""Weights in few bits, against every level tried by hand, and the recipe that rounds the models of a run."""

import itertools
import json

import pytest
import torch
from torch import nn

from neuropil.cli import main
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.evaluate.robustness.precision import accuracy_with_bits, rounded, with_bits
from neuropil.recipes import precision

WEIGHT = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("bits", "scale"), [(2, "layer"), (3, "unit"), (4, "layer"), (4, "unit")])
def test_each_weight_takes_the_nearest_level_of_the_best_scale(bits, scale):
    got = rounded(WEIGHT, bits, scale)
    steps = 2 ** (bits - 1) - 1
    for rows, found in [(WEIGHT, got)] if scale == "layer" else zip(WEIGHT, got):
        flat, tried = rows.flatten().tolist(), []
        for k in range(41):
            top = (0.2 + 0.02 * k) * max(map(abs, flat))
            levels = [top * level / steps for level in range(-steps, steps + 1)]
            tried.append([min(levels, key=lambda level, w=w: abs(level - w)) for w in flat])
        best = min(tried, key=lambda made: sum((a - b) ** 2 for a, b in zip(made, flat)))
        torch.testing.assert_close(found.flatten(), torch.tensor(best, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_one_bit_is_the_best_of_two_opposite_values():
    found = rounded(WEIGHT, 1)
    assert found.unique().numel() == 2
    error = (found - WEIGHT).square().sum()
    for c, flipped in itertools.product(torch.linspace(0.1, 2, 30, dtype=torch.float64), (-1, 1)):
        assert error <= (flipped * c * WEIGHT.sign() - WEIGHT).square().sum() + 1e-12
    assert torch.equal(rounded(torch.zeros(2, 3), 3), torch.zeros(2, 3))
    assert torch.equal(rounded(WEIGHT, 16), WEIGHT.half().double())


def test_a_copy_is_rounded_and_biases_are_not():
    network = nn.Linear(5, 3)
    copy = with_bits(network, 2)
    assert torch.equal(copy.weight, rounded(network.weight.detach(), 2))
    assert torch.equal(copy.bias, network.bias)
    assert network.weight.unique().numel() == 15


def test_an_accuracy_is_that_of_weights_with_the_scale_that_was_asked_for():
    network, x = (
        nn.Linear(5, 3).eval().requires_grad_(False),
        torch.rand(400, 5, generator=torch.Generator().manual_seed(1)),
    )
    network.weight.copy_(WEIGHT[:, 0] * torch.tensor([[0.01], [1.0], [0.1]]))
    for scale in ("layer", "unit"):
        test = Split(x, with_bits(network, 2, scale)(x).argmax(1), 3)
        reached = {word: dict(accuracy_with_bits(network, test, [2], word))[2] for word in ("layer", "unit")}
        assert [word for word, value in reached.items() if value == 1] == [scale]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: rounded(WEIGHT, 9), "1 to 8 bits or to 16"),
        (lambda: rounded(WEIGHT, 4, "layers"), "Did you mean 'layer'"),
        (lambda: with_bits(nn.ReLU(), 4), "few bits need weights, and ReLU has none"),
    ],
)
def test_what_cannot_be_rounded(ask, message):
    with pytest.raises(Refusal, match=message):
        ask()


def test_the_models_of_a_run_are_rounded_from_a_command(tmp_path, monkeypatch, capsys):
    out, asked = tmp_path / "bits", []
    rounding = lambda learner, test, *how: asked.append(how) or accuracy_with_bits(learner, test, *how)
    monkeypatch.setattr(precision, "accuracy_with_bits", rounding)
    assert main(f"run precision --of digits-association --bits 16 4 1 --scale unit --out {out}".split()) == 0
    assert asked == [((16, 4, 1), "unit")]
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = {row["bits"]: row["accuracy"] for row in rows if row["kind"] == "precision"}
    assert list(found) == [32, 16, 4, 1]
    assert found[16] == pytest.approx(found[32], abs=0.006)
    assert found[32] > 0.9
    assert (out / "pictures" / "precision.png").exists()
    head, row = capsys.readouterr().out.splitlines()[:2]
    assert head.split() == ["accuracy,", "%", "n", "32", "bits", "16", "bits", "4", "bits", "1", "bits"]
    assert [f"{100 * found[bits]:.2f}" in row for bits in (32, 16, 4, 1)] == [True] * 4
    assert main(f"table {out}".split()) == 2
    assert "has results of learners; its numbers are in metrics.jsonl" in capsys.readouterr().err
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    assert [bits for bits, _ in accuracy_with_bits(network, digits(seed=0)[1])] == [16, 8, 4, 3, 2, 1]
