"""Learning without end: heads against closed forms, the protocol against counting, and a run that is resumed."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from neuropil.cli import main
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy
from neuropil.experiments.continual import protocol
from neuropil.experiments.continual.backprop import Consolidation, OnlineBackprop
from neuropil.experiments.continual.features import Architecture, pixels
from neuropil.experiments.continual.learners import Rates, learners
from neuropil.experiments.continual.tasks import class_tasks, forgetting, permuted_tasks
from neuropil.loading import load
from neuropil.models import (
    AssociationClassifier,
    AssociationReadout,
    AssociationTraining,
    DeltaReadout,
    LateralReadout,
    LeastSquares,
    OnlineClassifier,
    Prototypes,
    dense_body,
    init_normal_,
)
from neuropil.models.description import describe, rebuild
from neuropil.plasticity import KrotovHopfield
from neuropil.recipes.continual import through
from neuropil.runs import NullTracker


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


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


# Heads


@pytest.mark.parametrize("size", [1, 10, 137])
def test_least_squares_is_the_ridge_regression_of_all_examples(data, size):
    x, y = data
    found = ridge_by_hand(x, y, 0.37)
    want = x @ found[:-1] + found[-1]
    torch.testing.assert_close(fed(LeastSquares(7, 3, ridge=0.37), x, y, size)(x), want, rtol=0, atol=1e-9)


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


# Models


def random_body(train):
    body = dense_body(train, 50, n=1.0)
    init_normal_(body, rng())
    return body


def test_batches_of_a_stream_are_those_of_one_pass_and_a_file_goes_on(tmp_path):
    train, test = digits(seed=0)
    train = train[:300]
    whole = OnlineClassifier(random_body(train), LateralReadout).begin(train.x, 10).learn_(train, batch=7, rng=rng(2))
    one = OnlineClassifier(random_body(train), LateralReadout)
    for part in train.batches(7, shuffle=rng(2)):
        one.partial_fit(part.x, part.y, classes=10)
    torch.testing.assert_close(one.decision_function(test.x), whole.decision_function(test.x))
    assert accuracy(one, test) > 0.8
    again = load(one.save(tmp_path / "one.safetensors"))
    assert torch.equal(again.decision_function(test.x), one.decision_function(test.x))
    for model in (one, again):
        model.partial_fit(test.x[:50], test.y[:50])
    assert torch.equal(again.decision_function(test.x), one.decision_function(test.x))


def test_a_layer_with_a_rule_learns_on_from_every_batch():
    train = digits(seed=0)[0][:60]
    body, rule = random_body(train), KrotovHopfield(p=2.0, k=2, average=True)
    model, whole = (OnlineClassifier(body, Prototypes, rules={"hidden": rule}, lr=0.05) for _ in range(2))
    whole.begin(train.x, 10).learn_(train, batch=20, rng=rng(2))
    weight = body.hidden.weight.detach().clone()
    for part in train.batches(20, shuffle=rng(2)):
        model.partial_fit(part.x, part.y, classes=10)
        pre = body[:2](part.x)
        layer = nn.Linear(64, 50, bias=False).requires_grad_(False)
        layer.weight.copy_(weight)
        weight += 0.05 * rule(layer, pre)
    assert torch.equal(whole.decision_function(train.x), model.decision_function(train.x))
    torch.testing.assert_close(model.feature_layers()[0].weight, weight)


def test_association_learns_in_steps_what_one_pass_teaches_at_a_constant_rate():
    train, test = digits(seed=0)
    settings = {"hidden": (90, 60), "columns": (9, 1), "receptive_field": 4, "k": 1}
    model = AssociationClassifier(**settings)
    for _ in range(3):
        for part in train.batches(50):
            model.partial_fit(part.x, part.y, classes=10, rng=rng())
    assert accuracy(model, test) > 0.8
    assert (model.network_.hidden.weight[model.mask(train) == 0] == 0).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda model, x, y: model.partial_fit(x, y),
            r"needs the number of all classes: partial_fit\(x, y, classes=10",
        ),
        (lambda model, x, y: model.partial_fit(x, y - 1, classes=3), "needs a label for every example"),
        (lambda model, x, y: model.partial_fit(x, y[:2], classes=3), "one label per example, got 3 examples and 2"),
        (
            lambda model, x, y: model.partial_fit(x, y, classes=3).partial_fit(x, y, classes=4),
            "3 classes, got classes=4",
        ),
        (lambda model, x, y: model.partial_fit(x, y + 2, classes=3), "labels need 0 <= y < classes=3"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(call, said):
    body = nn.Sequential(nn.Flatten())
    for model in (OnlineClassifier(body), OnlineBackprop(body, lr=0.1)):
        with pytest.raises(Refusal, match=said):
            call(model, torch.rand(3, 5), torch.arange(3))


def test_rules_of_layers_that_are_not_there_are_refused():
    with pytest.raises(Refusal, match="unknown layer 'hiden'"):
        OnlineClassifier(nn.Sequential(nn.Flatten()), rules={"hiden": KrotovHopfield()}).begin(torch.rand(1, 4), 2)


# Settings


REACHED = {
    "per_class": "prototypes", "ridge": "least_squares", "iterations": "lateral", "delta_lr": "delta",
    "association_lr": "association", "stream_lr": "stream", "backprop_lr": "backprop", "ewc_lr": "ewc",
    "consolidation": "ewc",
}  # fmt: skip


def test_every_setting_reaches_its_learners_and_no_other():
    first = Split(torch.rand(20, 1, 4, 4), torch.arange(20) % 2, 2)

    def made(rates):
        """What was set in each learner, but for the body."""
        found = {}
        for name, learner in learners(Architecture(4), Rates(**rates)).items():
            one = learner.build(first, rng())
            if isinstance(one, OnlineClassifier):
                found[name] = describe(one.head(4, 2)), one.lr
            else:
                found[name] = {key: value for key, value in vars(one).items() if key != "body"}
        return found

    usual = dict.fromkeys(REACHED, 1) | {"per_class": 3, "iterations": 7}
    before = made(usual)
    for name, words in REACHED.items():
        after = made(usual | {name: 2})
        changed = {one for one in before if after[one] != before[one]}
        assert changed == {one for one in before if any(word in one for word in words.split())}, name


# Backprop


def test_the_pull_of_consolidation_is_the_gradient_of_its_penalty():
    weights = [nn.Parameter(torch.randn(3, 4, dtype=torch.float64)), nn.Parameter(torch.randn(3, dtype=torch.float64))]
    memory = Consolidation(weights, 2.7)
    squares = [torch.zeros_like(weight) for weight in weights]
    for batch in (1, 5):  # two batches of a first task
        for weight, square in zip(weights, squares):
            weight.grad = torch.randn_like(weight)
            square += batch * weight.grad**2 / 6
        memory.constrain_(batch)
    memory.consolidate_()
    anchors = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.data += 0.3 * torch.randn_like(weight)
        weight.grad = torch.zeros_like(weight)
    memory.constrain_(1)
    penalty = (
        2.7
        / 2
        * sum((square * (weight - anchor) ** 2).sum() for square, weight, anchor in zip(squares, weights, anchors))
    )
    for weight, want in zip(weights, torch.autograd.grad(penalty, weights)):
        torch.testing.assert_close(weight.grad, want, rtol=1e-12, atol=1e-12)


def test_backprop_takes_plain_steps():
    train = digits(seed=0)[0][:20]
    model = OnlineBackprop(random_body(train), lr=0.5)
    for part in train.batches(10):
        model.partial_fit(part.x, part.y, classes=10)
    body, readout = random_body(train), nn.Linear(50, 10)
    nn.init.zeros_(readout.weight), nn.init.zeros_(readout.bias)
    network = nn.Sequential(body, readout)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for part in train.batches(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(part.x), part.y).backward()
        optimizer.step()
    torch.testing.assert_close(model.network_[2].weight, readout.weight)


# The protocol


def test_tasks_have_their_classes_and_permutations_keep_labels():
    train, test = digits(seed=0)
    tasks = class_tasks(train, test, 3)
    assert [task.test.y.unique().tolist() for task in tasks] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert sum(len(task.train) for task in tasks) == len(train)
    with pytest.raises(Refusal, match="more than 10 classes, got 10"):
        class_tasks(train, test, 10)
    first, second = permuted_tasks(train, test, 2, seed=3)
    assert torch.equal(first.train.x, train.x)
    assert torch.equal(second.test.y, test.y)
    same = [task.x.flatten(1).sort(1).values for task in (second.train, train)]
    assert torch.equal(*same)
    for other in (train.x, permuted_tasks(train, test, 2, seed=4)[1].train.x):
        assert not torch.equal(second.train.x, other)


def test_frozen_features_follow_the_seed():
    train, test = digits(seed=0)
    tasks = class_tasks(train[:50], test[:50], 5)[:1]
    first, again, other = (through("random", Architecture(4), tasks, seed)[0].train.x for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_forgetting_is_the_mean_fall_from_the_best():
    right = torch.tensor([[0.9, 0, 0], [0.95, 0.8, 0], [0.5, 0.85, 0.7]])
    assert forgetting(right) == pytest.approx(((0.95 - 0.5) + (0.8 - 0.85)) / 2)


class Latest:
    """Names the class that it learned last, whatever it sees."""

    def partial_fit(self, x, y):
        self.last = int(y.max())

    def predict(self, x):
        return torch.full((len(x),), self.last)


class Notebook(NullTracker):
    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(row)


def test_a_stream_counts_each_example_once_however_large_its_task_is():
    split = Split(torch.rand(12, 2), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3]), 4)
    book = Notebook()
    outcome = protocol.stream(Latest(), class_tasks(split, split, 2), batch=12, rng=rng(), tracker=book)
    one, two, result, matrix = book.rows
    assert one.metrics == pytest.approx(dict.fromkeys(one.metrics, 2 / 7))
    new = {"accuracy": 1 / 12, "first_task_accuracy": 0, "new_task_accuracy": 1 / 5}
    assert two.metrics == pytest.approx(new)
    assert outcome == pytest.approx((1 / 12, 2 / 7))
    assert (result.accuracy, result.n_train) == (pytest.approx(1 / 12), 12)
    assert matrix.matrix == [[0, 0, 0, 5], [0, 0, 0, 2], [0, 0, 0, 4], [0, 0, 0, 1]]


def test_pixels_as_features_are_directions_from_their_mean():
    first = digits(seed=0)[0][:50]
    x = first.x.flatten(1) / first.x.flatten(1).norm(dim=1, keepdim=True)
    found = pixels(Architecture(1), first, rng())(first.x)
    torch.testing.assert_close(found, (x - x.mean(0)) / (x - x.mean(0)).norm(dim=1, keepdim=True))


def test_a_stream_is_scored_after_every_task_and_goes_on_after_a_kill(tmp_path, monkeypatch):
    words = ["run", "continual", "--data", "digits", "--n-train", "300", "--units", "40", "--per-class", "3", "--quiet"]
    words += ["--learners", "pixels_means", "local_lateral", "stream_prototypes", "ewc", "--classes-per-task", "4"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*words, "--out", str(whole)]) == 0
    rows = (whole / "metrics.jsonl").read_text()
    assert rows.count('"after each task"') == 4 * 3
    assert rows.count('"in_random_order"') == 3  # with one task there is nothing to consolidate

    real, left = protocol.confusion, iter(range(17))

    def stopping(*arguments):
        if next(left, None) is None:
            raise OSError("power cut")
        return real(*arguments)

    monkeypatch.setattr(protocol, "confusion", stopping)
    assert main([*words, "--out", str(cut)]) != 0
    monkeypatch.undo()
    assert (cut / "").exists()
    assert main(["run", "--resume", str(cut), "--quiet"]) == 0
    timeless = lambda text: [line for line in text.splitlines() if '"result"' not in line]
    assert timeless((cut / "metrics.jsonl").read_text()) == timeless(rows)
