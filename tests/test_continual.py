"""Learning without end: models, the protocol against counting, and a run that is resumed."""

import json
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from common import rng
from neuropil.cli import main
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy
from neuropil.experiments.continual import features, protocol
from neuropil.experiments.continual.features import Architecture, pixels
from neuropil.experiments.continual.learners import Rates, learners
from neuropil.experiments.continual.tasks import class_tasks, forgetting, permuted_tasks
from neuropil.loading import load
from neuropil.models import (
    LocalLearning,
    OnlineClassifier,
    PatchNormConv2d,
    Triangle,
    dense_body,
    init_examples_,
    init_patches_,
    stacked,
)
from neuropil.models.description import describe
from neuropil.plasticity import KrotovHopfield
from neuropil.recipes import continual as recipe
from neuropil.recipes.continual import through
from neuropil.runs import NullTracker

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
    assert torch.equal(second.train.x, permuted_tasks(train, test, 2, seed=3)[1].train.x)
    for other in (train.x, permuted_tasks(train, test, 2, seed=4)[1].train.x):
        assert not torch.equal(second.train.x, other)


def test_in_random_order_a_fresh_learner_learns(monkeypatch):
    given, (train, test) = [], digits(seed=0)

    def learn(learner, tasks, **_):
        readout = learner.network_.readout.linear
        given.append((learner, readout.weight.clone()))
        readout.weight.data.add_(1)
        return protocol.Outcome(0.5, 0.0)

    monkeypatch.setattr(recipe, "stream", learn)
    monkeypatch.setattr(recipe, "in_random_order", lambda *some, **how: learn(*some, **how).accuracy)
    config = recipe.Config(data="digits", units=4)
    learner = learners(config.architecture(), config.rates())["backprop"]
    recipe.one_learner(config, learner, train, class_tasks(train, test, 5), NullTracker())
    (one, first), (other, second) = given
    assert one is not other
    assert torch.equal(first, second)


@pytest.mark.parametrize(("name", "joint"), [("pixels_means", 0.5), ("backprop", 0.7), ("ewc", None)])
def test_what_takes_no_order_is_not_trained_twice_and_what_has_no_joint_training_has_no_number(
    name, joint, monkeypatch
):
    """By hand: sums do not know an order, so that the stream is joint training; consolidation needs tasks."""
    monkeypatch.setattr(recipe, "stream", lambda *_, **__: protocol.Outcome(0.5, 0.25))
    monkeypatch.setattr(recipe, "in_random_order", lambda *_, **__: 0.7)
    config, (train, test), book = recipe.Config(data="digits", units=4), digits(seed=0), Notebook()
    tasks = class_tasks(train[:50], test[:50], 5)
    recipe.one_learner(config, learners(config.architecture(), config.rates())[name], tasks[0].train, tasks, book)
    (row,) = [row for row in book.rows if row.kind == "continual"]
    want = {} if joint is None else {"in_random_order": joint, "lost_by_order": joint - 0.5}
    assert row.metrics == pytest.approx({"accuracy": 0.5, "forgetting": 0.25} | want)


@pytest.mark.parametrize("kernel", [0, 3])
def test_local_features_learn_by_krotov_hopfield_in_one_pass(kernel):
    first, how = digits(seed=0)[0][:120], Architecture(9, kernel)
    found = features.local(how, first, rng())
    other = rng()
    if kernel:
        conv = PatchNormConv2d(1, 9, 3)
        body = stacked({"conv": conv, "act": Triangle(1.0), "pool": nn.AdaptiveMaxPool2d(1)})
        init_patches_(body, first, other)
    else:
        body = dense_body(first, 9, n=2.0)
        init_examples_(body, first, other)
    rule, fraction = KrotovHopfield(p=2.0, k=7, delta=0.4, average=True), 0.1 if kernel else 1.0
    learning = LocalLearning({how.layer: rule}, epochs=1, batch=100, lr=0.1, patch_fraction=fraction)
    learning.fit_(body, first, rng=other, tracker=NullTracker())
    assert torch.equal(found.get_parameter(f"{how.layer}.weight"), body.get_parameter(f"{how.layer}.weight"))
    below = nn.functional.normalize(body(first.pixels()).flatten(1), dim=1)
    away = below - below.mean(0)
    torch.testing.assert_close(found(first.pixels()), away / away.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "columns", "field"), [((1, 8, 12), 9, 4), ((1, 12, 8), 9, 4), ((1, 12, 7), 1, None)])
def test_receptive_fields_are_half_the_shorter_side_and_small_images_have_none(shape, columns, field):
    first = Split(torch.rand(20, *shape), torch.arange(20) % 2, 2)
    made = learners(Architecture(4), recipe.Config().rates())["association"].build(first, rng())
    assert (made.columns, made.receptive_field) == ((columns, 1), field)


def test_frozen_features_follow_the_seed():
    train, test = digits(seed=0)
    tasks = class_tasks(train[:50], test[:50], 5)[:1]
    first, again, other = (through("random", Architecture(4), tasks, seed)[1][0].train.x for seed in (1, 1, 2))
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
    split = Split(torch.rand(12, 2), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3]), 4, names=("a", "b", "c", "d"))
    book = Notebook()
    outcome = protocol.stream(Latest(), class_tasks(split, split, 2), batch=12, rng=rng(), tracker=book)
    one, two, result, matrix = book.rows
    assert one.metrics == pytest.approx(dict.fromkeys(one.metrics, 2 / 7))
    new = {"accuracy": 1 / 12, "first_task_accuracy": 0, "new_task_accuracy": 1 / 5}
    assert two.metrics == pytest.approx(new)
    assert outcome == pytest.approx((1 / 12, 2 / 7))
    assert (result.accuracy, result.n_train) == (pytest.approx(1 / 12), 12)
    assert matrix.matrix == [[0, 0, 0, 5], [0, 0, 0, 2], [0, 0, 0, 4], [0, 0, 0, 1]]
    assert matrix.classes == split.names
    joint = protocol.in_random_order(Latest(), class_tasks(split, split, 2), batch=12, rng=rng(), tracker=book)
    assert joint == pytest.approx(1 / 12)


def test_pixels_as_features_are_directions_from_their_mean():
    first = digits(seed=0)[0][:50]
    x = first.x.flatten(1) / first.x.flatten(1).norm(dim=1, keepdim=True)
    found = pixels(Architecture(1), first, rng())(first.x)
    torch.testing.assert_close(found, (x - x.mean(0)) / (x - x.mean(0)).norm(dim=1, keepdim=True))


@pytest.mark.parametrize(
    "name", ["random_means", "random_lateral", "stream_prototypes", "association", "backprop", "ewc"]
)
def test_what_is_kept_of_a_learner_is_all_that_it_goes_on_from(name):
    config, train = recipe.Config(data="digits", units=20, per_class=2), digits(seed=0)[0][:60]
    learner = learners(config.architecture(), config.rates())[name]
    one, other = (recipe.begun(learner, train, class_tasks(train, train, 5), rng(seed)) for seed in (0, 1))
    protocol.one_pass(one, train[:30], batch=10, rng=rng())
    getattr(one, "end_task_", lambda: None)()
    kept = {part: deepcopy(state.state_dict()) for part, state in protocol.state_of(one).items()}
    for part, state in protocol.state_of(other).items():
        state.load_state_dict(kept[part])
    for each in (one, other):
        protocol.one_pass(each, train[30:], batch=10, rng=rng())
    for a, b in zip(one.network_.state_dict().values(), other.network_.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_stream_is_scored_after_every_task_and_goes_on_after_two_kills(tmp_path, monkeypatch):
    words = ["run", "continual", "--data", "digits", "--n-train", "300", "--units", "40", "--per-class", "3", "--quiet"]
    words += ["--learners", "pixels_means", "local_lateral", "stream_prototypes", "ewc", "--classes-per-task", "4"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*words, "--out", str(whole)]) == 0
    rows = (whole / "metrics.jsonl").read_text()
    assert rows.count('"after each task"') == 4 * 3
    train = digits(seed=0)[0]
    assert rows.count('"in_random_order"') == 3  # with one task there is nothing to consolidate

    real = protocol.confusion

    def stopping(left, *arguments):
        if next(left, None) is None:
            raise OSError("power cut")
        return real(*arguments)

    again = ["run", "--resume", str(cut), "--quiet"]
    for begun, tests in (([*words, "--out", str(cut)], 17), (again, 4)):  # in a task, then in random order
        monkeypatch.setattr(protocol, "confusion", partial(stopping, iter(range(tests))))
        assert main(begun) != 0
    monkeypatch.undo()
    assert main(again) == 0
    timeless = lambda text: [line for line in text.splitlines() if '"result"' not in line]
    assert timeless((cut / "metrics.jsonl").read_text()) == timeless(rows)
    reached = {row["learner"]: row["accuracy"] for row in map(json.loads, rows.splitlines()) if row["kind"] == "result"}
    assert len(reached) == 4
    for name, right in reached.items():
        model = load(cut, name)
        assert accuracy(model, digits(seed=0)[1]) == pytest.approx(right, abs=1e-6), name
        assert torch.equal(model.forward(train.x), load(whole, name).forward(train.x)), name
        assert model.feature_layers() or name == "pixels + class means"
