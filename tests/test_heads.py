"""Heads that learn batch by batch, against closed forms and other laws in float64."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from common import rng
from neuropil.data import digits
from neuropil.errors import Refusal
from neuropil.models import (
    AssociationClassifier,
    AssociationReadout,
    AssociationTraining,
    DeltaReadout,
    LateralReadout,
    LeastSquares,
    Prototypes,
)
from neuropil.models.description import describe, rebuild


@pytest.fixture(scope="module")
def data():
    """Features and labels, float64, of three classes with different means."""
    generator = rng(1)
    y = torch.randint(0, 3, (137,), generator=generator)
    mix = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    x = torch.randn(137, 7, generator=generator, dtype=torch.float64) @ mix + 1.7 * y[:, None] + 0.3
    return x, y


def fed(head, x, y, size):
    """`head` after all of `x`, in batches of `size`."""
    head = head.double()
    for part, labels in zip(x.split(size), y.split(size)):
        head.learn_(part, labels)
    return head


def ridge_by_hand(x, y, ridge):
    """Weights and intercept that minimise the penalised squares, the intercept free: from the normal equations."""
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    penalty = ridge * torch.eye(design.shape[1], dtype=x.dtype)
    penalty[-1, -1] = 0
    target = nn.functional.one_hot(y, 3).double()
    return torch.linalg.solve(design.T @ design + penalty, design.T @ target)


@pytest.mark.parametrize("size", [1, 10, 137])
def test_least_squares_is_the_ridge_regression_of_all_examples(data, size):
    x, y = data
    found = ridge_by_hand(x, y, 0.37)
    want = x @ found[:-1] + found[-1]
    torch.testing.assert_close(fed(LeastSquares(7, 3, ridge=0.37), x, y, size)(x), want, rtol=0, atol=1e-9)


def test_units_that_have_not_won_take_the_examples_of_a_batch_one_after_the_other():
    x, y = torch.tensor([[1.0, 0], [0, 5], [3, 0], [3, 1], [0, 7]]), torch.tensor([0, 1, 0, 0, 1])
    head = Prototypes(2, 2, per_class=2)
    head.learn_(x[:3], y[:3])
    assert head.weight.tolist() == [[[1, 0], [3, 0]], [[0, 5], [0, 0]]]
    head.learn_(x[3:], y[3:])  # the nearest learns, and the one that is left
    assert head.weight.tolist() == [[[1, 0], [3, 0.5]], [[0, 5], [0, 7]]]
    assert head.wins.tolist() == [[1, 2], [1, 1]]


def test_least_squares_is_the_recursion_that_keeps_an_inverse(data):
    """Sherman and Morrison, example by example; the input carries a constant that is hardly penalised."""
    x, y = data
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    inverse, weight = torch.eye(8, dtype=x.dtype) / 0.37, torch.zeros(3, 8, dtype=x.dtype)
    inverse[-1, -1] = 1e7
    for row, label in zip(design, y):
        gain = inverse @ row / (1 + row @ inverse @ row)
        weight += torch.outer(nn.functional.one_hot(label, 3) - weight @ row, gain)
        inverse -= torch.outer(gain, row @ inverse)
    torch.testing.assert_close(fed(LeastSquares(7, 3, ridge=0.37), x, y, 1)(x), design @ weight.T, rtol=0, atol=1e-5)


def test_what_waits_is_counted_between_batches(data):
    x, y = data
    head = LeastSquares(7, 3).double()
    for part, labels in zip(x.split(20), y.split(20)):
        head.learn_(part, labels)
        head(x)  # a look in between changes nothing
    torch.testing.assert_close(head(x), fed(LeastSquares(7, 3), x, y, 137)(x), rtol=0, atol=1e-9)
    head.learn_(x[:3], y[:3])
    for used in (lambda copy: copy.learn_(x[-9:], y[-9:]), lambda copy: copy(x)):  # the copy forgets what it did before
        copy = LeastSquares(7, 3).double()
        used(copy)
        copy.load_state_dict(head.state_dict())
        assert torch.equal(copy(x), head(x))


def test_settled_neurons_give_least_squares_and_each_example_may_settle_by_itself(data):
    x, y = data
    settled = fed(LateralReadout(7, 3, iterations=20_000), x, y, 10)(x)
    torch.testing.assert_close(settled, fed(LeastSquares(7, 3, ridge=1e-9), x, y, 10)(x), rtol=0, atol=1e-6)
    mean, target = x.mean(0), nn.functional.one_hot(y, 3).double()
    spread, together = (x - mean).T @ (x - mean) / len(x), target.T @ (x - mean) / len(x)
    activity = torch.zeros_like(x)
    before, step = activity, 1 / spread.abs().sum(0)
    for _ in range(30):  # the neurons of every example, as in the docstring
        after = torch.empty_like(x)
        for i in range(7):
            pull = x[:, i] - mean[i] - (spread[i] * activity).sum(1)
            after[:, i] = activity[:, i] + step[i] * pull + 0.9 * (activity[:, i] - before[:, i])
        before, activity = activity, after
    want = activity @ together.T + target.mean(0)
    torch.testing.assert_close(fed(LateralReadout(7, 3, iterations=30), x, y, 10)(x), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [1, 10, 137])
def test_one_prototype_of_a_class_is_its_mean_and_the_nearest_answers(data, size):
    x, y = data
    head = fed(Prototypes(7, 3), x, y, size)
    means = torch.stack([x[y == label].mean(0) for label in range(3)])
    torch.testing.assert_close(head.weight[:, 0], means, rtol=0, atol=1e-12)
    assert torch.equal(head(x).argmax(1), torch.cdist(x, means).argmin(1))


def test_prototypes_are_k_means_within_each_class(data):
    x, y = data
    head = fed(Prototypes(7, 3, per_class=4), x, y, 1)
    for label in range(3):
        centres, wins = [], []
        for row in x[y == label]:
            if len(centres) < 4:
                centres.append(row.clone())
                wins.append(1)
                continue
            k = min(range(4), key=lambda k: ((centres[k] - row) ** 2).sum().item())
            wins[k] += 1
            centres[k] += (row - centres[k]) / wins[k]
        torch.testing.assert_close(head.weight[label], torch.stack(centres), rtol=0, atol=1e-12)
    assert torch.equal(fed(Prototypes(7, 3, per_class=4), x[:1].repeat(9, 1), y[:1].repeat(9), 9).wins.sum(1), 9 * (
        torch.arange(3) == y[0]
    ).long())  # fmt: skip


def test_no_class_changes_another_and_none_is_named_before_it_has_come(data):
    x, y = data
    first, later = y < 2, y == 2
    for make in (Prototypes, partial(Prototypes, per_class=3), LeastSquares, LateralReadout, DeltaReadout):
        head = fed(make(7, 3), x[first], y[first], 10)
        assert (head(x)[:, 2] == -math.inf).all()
    head = fed(Prototypes(7, 3, per_class=3), x[first], y[first], 10)
    before = head.weight[:2].clone()
    assert torch.equal(fed(head, x[later], y[later], 10).weight[:2], before)


def test_delta_rule_is_the_gradient_of_the_cross_entropy(data):
    x, y = data
    x, y = x[y < 2], y[y < 2]  # a class that has not come has a unit, too
    head = fed(DeltaReadout(7, 3, lr=0.3), x, y, 137)
    layer = nn.Linear(7, 3).double()
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    nn.functional.cross_entropy(layer(x), y).backward()
    torch.testing.assert_close(head.weight, -0.3 * layer.weight.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(head.bias, -0.3 * layer.bias.grad, rtol=0, atol=1e-12)
    with pytest.raises(Refusal, match="DeltaReadout needs a learning rate lr > 0, got 0"):
        DeltaReadout(7, 3, lr=0.0)


def test_a_readout_of_associated_neurons_is_a_network_of_one_layer():
    train = digits(seed=0)[0][:40]
    x = train.x.flatten(1)
    training = AssociationTraining(lr=0.01, adaptive=False)  # of the sum over a batch, not of its mean
    network = AssociationClassifier((200,), k=3, unit_norm_input=False, training=training)
    network.begin(x, 10, rng=rng(3))
    head = AssociationReadout(64, 10, rng=rng(3))
    head.hidden.load_state_dict(network.network_.hidden.state_dict())
    for part in train.batches(10):
        network.partial_fit(part.x.flatten(1), part.y)
        head.learn_(part.x.flatten(1), part.y)
    torch.testing.assert_close(head.hidden.weight, network.network_.hidden.weight)
    torch.testing.assert_close(head(x)[:, head.seen], network.decision_function(x)[:, head.seen])


HEADS = {
    "prototypes": lambda: Prototypes(7, 3, per_class=2),
    "delta": lambda: DeltaReadout(7, 3, lr=0.037),
    "association": lambda: AssociationReadout(7, 3, per_class=5, k=2, slope=1.7, lr=0.037, rng=rng(1)),
    "least squares": lambda: LeastSquares(7, 3, ridge=1.7),
    "lateral": lambda: LateralReadout(7, 3, iterations=3, momentum=0.3),
}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_a_head_from_a_file_learns_on_as_the_one_that_was_saved(data, make):
    x, y = data
    head = fed(make(), x[:40], y[:40], 7)
    again = rebuild(describe(head)).double()
    again.load_state_dict(head.state_dict())
    for one in (head, again):
        one.learn_(x[40:], y[40:])
    assert torch.equal(again(x), head(x))
