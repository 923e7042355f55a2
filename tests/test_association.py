"""The association rule: the law by loops, what a synapse may see, and what is refused."""

import math

import pytest
import torch
from torch import nn

from association_oracles import error_by_hand
from common import rng
from neuropil.errors import Refusal
from neuropil.plasticity import Association, associations, gains
from oracles import correlate_by_hand


@pytest.mark.parametrize(("k", "columns"), [(None, 1), (1, 1), (3, 1), (4, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_law_on_a_dense_layer(k, columns, classes):
    rule, layer = Association(classes, slope=2.5, k=k, columns=columns), nn.Linear(7, 12).double()
    pre, label = torch.randn(12, 7, generator=rng()).double(), torch.arange(12) % classes
    want = torch.zeros_like(layer.weight)
    with torch.no_grad():
        error = error_by_hand(rule, layer(pre), label)
        for b, j, i in torch.cartesian_prod(torch.arange(12), torch.arange(12), torch.arange(7)).tolist():
            want[j, i] += error[b, j] * pre[b, i]
    torch.testing.assert_close(rule(layer, pre, label=label, reduction="sum"), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rule(layer, pre, layer(pre), label=label), want / 12, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [None, 2])
def test_in_a_convolution_the_channels_of_every_position_compete(k):
    rule, layer = Association(2, slope=1.5, k=k), nn.Conv2d(1, 5, 3).double()
    pre, label = torch.randn(4, 1, 5, 4, generator=rng()).double(), torch.tensor([0, 1, 1, 0])
    with torch.no_grad():
        drive = layer(pre)
        error = torch.stack(
            [error_by_hand(rule, drive[:, :, r, c], label) for r in range(3) for c in range(2)], -1
        ).view_as(drive)
        want = correlate_by_hand(layer, pre, error)
    torch.testing.assert_close(rule(layer, pre, label=label, reduction="sum"), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("units", "classes"), [(10, 10), (23, 10), (1000, 7), (5, 2)])
def test_every_class_has_as_many_neurons_give_or_take_one(units, classes):
    counts = associations(units, classes).bincount(minlength=classes)
    assert counts.sum() == units
    assert counts.max() - counts.min() == (units % classes > 0)


def test_without_competition_no_other_neuron_matters():
    layer, pre, label = nn.Linear(64, 20), torch.rand(30, 64, generator=rng()), torch.arange(30) % 10
    rule = Association(10)
    before = rule(layer, pre, label=label)
    with torch.no_grad():
        layer.weight[1:] = 5.0
    after = rule(layer, pre, label=label)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


DENSE, X, Y = nn.Linear(4, 6), torch.rand(5, 4), torch.arange(5) % 3
REFUSED = {
    "a label out of range": (Association(3), DENSE, X, Y + 1, r"0 <= y < classes=3, got 1 to 3"),
    "a negative label": (Association(3), DENSE, X, Y - 1, r"0 <= y < classes=3, got -1 to 1"),
    "fewer neurons than classes": (Association(7), DENSE, X, Y, r"got 6 neurons for 7 classes; use more neurons"),
    "k above the association": (Association(3, k=3), DENSE, X, Y, r"got k=3 and 6 neurons for 3 classes, 2 each"),
    "a label too few": (Association(3), DENSE, X, Y[:4], r"one label per sample, \(5,\), got \(4,\)"),
    "labels that are no integers": (Association(3), DENSE, X, Y.float(), "labels in int64, got float32"),
    "one sample without batch": (Association(3), DENSE, X[0], Y, r"needs pre as \(batch"),
    "not a number": (Association(3), DENSE, X * math.nan, Y, "NaN or infinite"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused(case):
    rule, layer, pre, label, words = case
    with pytest.raises(Refusal, match=words):
        rule(layer, pre, label=label)


@pytest.mark.parametrize("bad", [{"classes": 1}, {"slope": 0}, {"k": 0}, {"columns": 0}])
def test_rule_settings_out_of_range_are_refused(bad):
    with pytest.raises(Refusal, match="Association needs"):
        Association(**{"classes": 3} | bad)


def test_nothing_is_learned_from_no_events():
    layer, label = torch.nn.Linear(3, 4), torch.zeros(0, dtype=torch.int64)
    assert not Association(2)(layer, torch.zeros(0, 3), label=label).any()
    assert gains(Association(2), layer, torch.zeros(0, 3), label=label).shape == (0, 4)
