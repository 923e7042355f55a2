"""Weights in few bits, after learning and while they learn, against levels tried by hand; and the two recipes."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from sklearn.svm import SVC
from torch import nn

from neuropil.cli import main
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.evaluate.robustness.precision import accuracy_with_bits, rounded, with_bits
from neuropil.experiments.comparison import data_splits
from neuropil.models.training.rounding import few_bits, to_levels, weights_seen
from neuropil.recipes import precision
from neuropil.runs import read

QUICK = Path(__file__).with_name("quick")
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


def test_no_bit_makes_a_synapse_where_there_is_none():
    """The scale is that of the synapses alone, by hand."""
    holes = WEIGHT.clone()
    holes[0, :, :3], holes[2] = 0, 0
    for scale, rows in (("layer", [holes]), ("unit", [*holes])):
        one = torch.cat([torch.atleast_1d(rounded(holes, 1, scale).flatten())])
        want = []
        for row in rows:
            sizes = [abs(value) for value in row.flatten().tolist() if value]
            c = sum(sizes) / len(sizes) if sizes else 0.0
            want += [math.copysign(c, value) if value else 0.0 for value in row.flatten().tolist()]
        torch.testing.assert_close(one, torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=0)
    for bits in (1, 2, 3, 8, 16):
        assert bool((rounded(holes, bits)[holes == 0] == 0).all())


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


SVM = SVC(kernel="linear").fit([[0.1] * 64, [0.9] * 64], [0, 1])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: rounded(WEIGHT, 9), "1 to 8 bits or to 16"),
        (lambda: rounded(WEIGHT, 4, "layers"), "Did you mean 'layer'"),
        (lambda: rounded(WEIGHT * 1e5, 16), "float16 needs weights up to 65504"),
        (lambda: [*accuracy_with_bits(SVM, digits(seed=0)[1])], "few bits need weights, and SVC has none"),
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


# While weights learn


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_stochastic_rounding_takes_the_two_levels_around_a_value_and_its_mean_is_the_value():
    largest, n = 0.7321, 40000
    levels = [largest * k / 3 for k in range(-3, 4)]  # 3 bits
    for value in (-0.6113, -0.05, 0.0, 0.2347, 0.55, levels[5]):
        got = to_levels(torch.full((n,), value, dtype=torch.float64), largest, 3, seeded(1))
        low = max(level for level in levels if level <= value + 1e-12)
        high = min(level for level in levels if level >= value - 1e-12)
        assert all(min(abs(one - low), abs(one - high)) < 1e-12 for one in got.unique().tolist())
        spread = ((value - low) * (high - value) / n) ** 0.5  # of the mean of n values that are low or high
        assert abs(got.mean().item() - value) <= 4.5 * spread + 1e-12
    up = 2 * to_levels(torch.full((3, 1000), 0.5), 1.0, 2, seeded(1)) - 1  # 1 or -1, each weight by itself
    assert (up @ up.T / 1000 - torch.eye(3)).abs().max() < 0.15
    outside = to_levels(torch.tensor([-5.0, 0.74, 9.0], dtype=torch.float64), largest, 3, seeded(1))
    torch.testing.assert_close(outside, torch.tensor([-largest, largest, largest], dtype=torch.float64))


def test_without_a_generator_the_nearest_level_is_taken():
    levels = [0.7321 * k / 7 for k in range(-7, 8)]  # 4 bits
    want = [min(levels, key=lambda level, w=w: abs(level - w)) for w in WEIGHT.flatten().tolist()]
    got = to_levels(WEIGHT, 0.7321, 4).flatten()
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


def learn(rng, steps=300, lr=2e-3):
    """A layer whose weight is pushed up and its bias, too, in steps of less than half the distance of two levels."""
    first, second = nn.Linear(7, 4), nn.Linear(4, 3)
    with torch.no_grad():
        for layer in (first, second):
            layer.weight.zero_()
            layer.bias.zero_()
    with few_bits(3, [0.9, 2.1], rng):
        for layer in (first, second):
            optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
            for _ in range(steps):
                layer.weight.grad, layer.bias.grad = -torch.ones_like(layer.weight), -torch.ones_like(layer.bias)
                optimizer.step()
    return first, second


def test_small_steps_are_lost_at_the_nearest_level_and_not_in_the_mean_of_stochastic_rounding():
    stalled = learn(None)
    moved, again, other = learn(seeded(3)), learn(seeded(3)), learn(seeded(4))
    for k, largest in enumerate((0.9, 2.1)):
        assert torch.equal(stalled[k].weight, torch.zeros_like(stalled[k].weight))
        torch.testing.assert_close(moved[k].bias, torch.full_like(moved[k].bias, 0.6), rtol=1e-4, atol=1e-4)
        whole = moved[k].weight * 3 / largest
        assert (whole - whole.round()).abs().max() < 1e-5
        step, lr, n = largest / 3, 2e-3, moved[k].weight.numel()
        spread = (300 * lr * (step - lr) / n) ** 0.5
        assert abs(moved[k].weight.mean().item() - 0.6) < 4 * spread
        assert torch.equal(moved[k].weight, again[k].weight)
    assert not torch.equal(moved[0].weight, other[0].weight)


def test_weights_are_rounded_within_the_block_alone_and_each_needs_a_level():
    layers = [nn.Linear(3, 2), nn.Linear(2, 3)]
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in layers]
    for layer in layers:
        layer.weight.grad = torch.rand(layer.weight.shape, generator=seeded(0))
    with weights_seen() as seen:
        for k in (1, 0, 1):
            optimizers[k].step()
    assert [weight is layers[k].weight for weight, k in zip(seen, (1, 0))] == [True, True]
    assert len(seen) == 2
    other = nn.Linear(2, 2)
    other.weight.grad = torch.ones(2, 2)
    torch.optim.SGD(other.parameters(), lr=0.1).step()
    assert len(seen) == 2  # the block has ended
    with few_bits(2, [0.5]):
        optimizers[0].step()
        with pytest.raises(Refusal, match="outermost levels of 1 weights, and more"):
            optimizers[1].step()
    optimizers[0].step()
    assert layers[0].weight.unique().numel() == 6
    with pytest.raises(Refusal, match="levels need bits >= 2, got 1"):
        to_levels(WEIGHT, 1.0, 1)
    with pytest.raises(Refusal, match="above 0, got 0"):
        to_levels(WEIGHT, 0.0, 2)


def test_methods_learn_with_few_bits_from_a_command(tmp_path, capsys):
    words = f"run few_bits --data digits --n-train 150 --units 20 --bits 8 2 --learners {QUICK / 'backprop.py'}"
    assert main(f"{words} --out {tmp_path / 'out'}".split()) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    (sums,) = read(tmp_path / "out").facts["data"].values()
    parts = data_splits("digits", 150, 0)
    assert sums == {part: split.checksum() for part, split in zip(("train", "test"), parts)}
    found = {(row["bits"], row.get("rounding", "")): row for row in rows if row["kind"] == "result"}
    assert set(found) == {(32, "")} | set(itertools.product((8, 2), ("stochastic", "nearest", "after")))
    right = {key: row["accuracy"] for key, row in found.items()}
    assert right[8, "after"] == pytest.approx(right[32, ""], abs=0.02)
    assert right[2, "nearest"] < 0.3 < right[2, "stochastic"]
    for key, row in found.items():
        assert key == (32, "") or row["above_float32"] == pytest.approx(right[key] - right[32, ""])
    assert len({row["learner"] for row in found.values()}) == 7
    assert main(f"{words} --bits 1 --out {tmp_path / 'no'}".split()) == 2
    assert "setting 'bits' needs numbers from 2 to 8" in capsys.readouterr().err
