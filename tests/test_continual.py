"""Learning without end: models, the protocol against counting, and a run that is resumed."""

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
    LateralReadout,
    OnlineClassifier,
    Prototypes,
    dense_body,
    init_normal_,
)
from neuropil.models.description import describe
from neuropil.plasticity import KrotovHopfield
from neuropil.recipes import continual as recipe
from neuropil.recipes.continual import through
from neuropil.runs import NullTracker


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


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


def test_in_random_order_a_fresh_learner_learns(monkeypatch):
    given, (train, test) = [], digits(seed=0)

    def learn(learner, tasks, **_):
        given.append((learner, learner.network_[-1].weight.clone()))
        learner.network_[-1].weight.data.add_(1)
        return protocol.Outcome(0.5, 0.0)

    monkeypatch.setattr(recipe, "stream", learn)
    monkeypatch.setattr(recipe, "in_random_order", lambda *some, **how: learn(*some, **how).accuracy)
    config = recipe.Config(data="digits", units=4)
    learner = learners(config.architecture(), config.rates())["backprop"]
    recipe.one_learner(config, learner, train, class_tasks(train, test, 5), NullTracker())
    (one, first), (other, second) = given
    assert one is not other
    assert torch.equal(first, second)


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
