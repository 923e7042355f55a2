"""Learners: what is frozen stays frozen, what learns locally follows the six-line loop, and baselines really learn."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from common import first_digits, rng
from neuropil.associative import AssociativeNetwork, AssociativeTraining
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy, confusion, linear_probe, majority_rate
from neuropil.models import (
    AssociationClassifier,
    BackpropClassifier,
    CentredUnitNorm,
    Distort,
    FeatureClassifier,
    LocalLearning,
    RePU,
    SpikeTimeTraining,
    SpikingClassifier,
    Standardise,
    SupervisedTraining,
    UnitNorm,
    dense_body,
    init_examples_,
    init_normal_,
    receptive_fields,
)
from neuropil.models.contract import feature_layers_of
from neuropil.models.training.readout import featurise
from neuropil.models.training.supervised import passes
from neuropil.plasticity import HardWTA, KrotovHopfield, Oja, SoftHebb, propose_
from neuropil.runs import NullTracker

train = first_digits(300)


def two_layers():
    torch.manual_seed(3)
    layers = OrderedDict(
        flat=nn.Flatten(), one=nn.Linear(64, 20, bias=False), act=RePU(1.0), two=nn.Linear(20, 9, bias=False)
    )
    return nn.Sequential(layers)


def weights(body):
    return {name: weight.detach().clone() for name, weight in body.named_parameters()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


# Layers


def test_unit_norm_keeps_direction_and_zero():
    x = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    want = torch.tensor([[[0.6, 0.0], [0.0, 0.8]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(UnitNorm()(x), want)


@pytest.mark.parametrize("n", [1.0, 2.0, 4.5])
def test_repu_is_the_power_of_the_positive_part(n):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    want = torch.tensor([value**n if value > 0 else 0.0 for value in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(RePU(n)(x), want)
    with pytest.raises(Refusal, match=r"n >= 1, got 0\.5"):
        RePU(0.5)


def test_standardise_gives_mean_zero_scale_one_and_leaves_constants_finite():
    x = torch.randn(500, 3, generator=rng()) * torch.tensor([1.0, 5.0, 0.0]) + 2
    seen = Standardise(3).fit_(x)(x)
    torch.testing.assert_close(seen.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)


def test_direction_is_the_unit_vector_of_the_departure_from_the_mean(train):
    direction = CentredUnitNorm(64).fit_(train)
    x = train.x.flatten(1).double().numpy()
    unit = x / (x**2).sum(1, keepdims=True) ** 0.5
    want = unit - unit.mean(0)
    want = want / (want**2).sum(1, keepdims=True) ** 0.5
    torch.testing.assert_close(direction(train.x.flatten(1)).double(), torch.from_numpy(want), atol=1e-5, rtol=0)


def test_a_constant_beside_the_columns_of_a_table_keeps_how_long_a_row_was():
    x = torch.randn(211, 3, generator=rng()) * torch.tensor([0.7, 1.9, 0.31]) + 0.17
    table = Split(x, torch.arange(211) % 2, 2)
    body = dense_body(table, 5, n=1.3)
    beside = np.full((211, 1), 0.5 * (x.double().square().sum(1).mean() ** 0.5))
    want = np.hstack([x.double().numpy(), beside])
    want = want / np.linalg.norm(want, axis=1, keepdims=True)
    want -= want.mean(0)
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    torch.testing.assert_close(body.direction(x).double(), torch.from_numpy(want), atol=1e-5, rtol=0)
    assert body.hidden.weight.shape == (5, 4)
    images = Split(x.sigmoid().view(211, 1, 1, 3), table.y, 2)
    assert dense_body(images, 5, n=1.3).hidden.weight.shape == (5, 3)  # images have none


def test_rows_of_one_direction_and_two_lengths_are_told_apart():
    lengths = 1.0 + torch.arange(60) % 2 * 2.3
    table = Split(lengths[:, None] * torch.tensor([[0.6, 0.8]]), torch.arange(60) % 2, 2)
    body = dense_body(table, 20, n=1.0)
    init_examples_(body, table, rng())
    model = FeatureClassifier(body, readout=SupervisedTraining(epochs=20)).fit(table, rng=rng())
    assert accuracy(model, table) == 1.0


def test_draws_follow_the_generator(train):
    bodies = [dense_body(train, 12, n=2.0) for _ in range(3)]
    for body, seed in zip(bodies, (1, 1, 2)):
        init_normal_(body, rng(seed))
    assert torch.equal(bodies[0].hidden.weight, bodies[1].hidden.weight)
    assert not torch.equal(bodies[0].hidden.weight, bodies[2].hidden.weight)


def test_units_drawn_from_examples_answer_one_to_an_example(train):
    body = dense_body(train, 400, n=1.0)  # more units than the 300 examples: they come again
    init_examples_(body, train, rng())
    best = featurise(body, train).x.amax(1)
    torch.testing.assert_close(best, torch.ones(300), atol=1e-5, rtol=0)
    assert (body.hidden.weight.unique(dim=0).shape[0]) >= 299


def test_units_start_at_examples_that_the_seed_chooses(train):
    body, found = dense_body(train, 5, n=1.0), []
    for seed in (1, 1, 2):
        init_examples_(body, train, rng(seed))
        found.append(body.hidden.weight.detach().clone())
    assert torch.equal(*found[:2])
    assert not torch.equal(*found[1:])


def test_receptive_fields_are_the_first_weights(train):
    body = two_layers()
    assert torch.equal(receptive_fields(body, (1, 8, 8)), body.one.weight.detach().view(20, 1, 8, 8))
    conv = nn.Conv2d(3, 5, 3)
    assert torch.equal(receptive_fields(nn.Sequential(conv), (3, 8, 8)), conv.weight.detach())


# Local learning


def by_hand(body, layer, below, rule, train, *, epochs, batch, lr, generator):
    """The loop of the README, written out, with the rate falling linearly."""
    for epoch in range(epochs):
        optimizer = torch.optim.SGD([layer.weight], lr=lr * (1 - epoch / epochs))
        for part in train.batches(batch, shuffle=generator):
            with torch.no_grad():
                pre = below(part.x)
            propose_(layer, rule(layer, pre, layer(pre)))
            optimizer.step()


@pytest.mark.parametrize("rule", [KrotovHopfield(k=3, normalise=True), SoftHebb(tau=0.1), Oja(), HardWTA()])
def test_one_layer_learns_as_in_the_loop_written_out(rule, train):
    body, oracle = two_layers(), two_layers()
    LocalLearning({"one": rule}, epochs=3, batch=50, lr=1e-3).fit_(body, train, rng=rng(), tracker=NullTracker())
    by_hand(oracle, oracle.one, oracle[:1], rule, train, epochs=3, batch=50, lr=1e-3, generator=rng())
    torch.testing.assert_close(body.one.weight, oracle.one.weight, rtol=1e-5, atol=1e-6)
    assert torch.equal(body.two.weight, oracle.two.weight)


def test_greedily_the_second_layer_learns_on_the_finished_first(train):
    rules = {"one": HardWTA(), "two": KrotovHopfield(k=3)}
    body, oracle, generator = two_layers(), two_layers(), rng()
    LocalLearning(rules, epochs=2, batch=50, lr=1e-3).fit_(body, train, rng=rng(), tracker=NullTracker())
    for name, below in (("one", oracle[:1]), ("two", oracle[:3])):
        layer = oracle.get_submodule(name)
        by_hand(oracle, layer, below, rules[name], train, epochs=2, batch=50, lr=1e-3, generator=generator)
    torch.testing.assert_close(body.one.weight, oracle.one.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(body.two.weight, oracle.two.weight, rtol=1e-5, atol=1e-6)


def test_together_both_layers_learn_from_the_same_pass(train):
    rules, part = {"one": HardWTA(), "two": HardWTA()}, train[:50]
    body, oracle = two_layers(), two_layers()
    LocalLearning(rules, epochs=1, batch=50, lr=1e-3, joint=True).fit_(body, part, rng=rng(), tracker=NullTracker())
    with torch.no_grad():
        drive = oracle[:2](part.x)
        hidden = drive.relu()
        changes = HardWTA()(oracle.one, part.x.flatten(1), drive), HardWTA()(oracle.two, hidden, oracle.two(hidden))
    torch.testing.assert_close(body.one.weight, oracle.one.weight + 1e-3 * changes[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(body.two.weight, oracle.two.weight + 1e-3 * changes[1], rtol=1e-5, atol=1e-6)


def test_a_rule_for_a_layer_that_is_not_there_is_refused(train):
    with pytest.raises(Refusal, match=r"unknown layer 'on'\. Did you mean 'one'"):
        LocalLearning({"on": Oja()}).fit_(two_layers(), train, rng=rng(), tracker=NullTracker())


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"epochs": 0}, {"batch": 0}])
def test_settings_out_of_range_are_refused(bad):
    for settings in (LocalLearning, SupervisedTraining):
        settings(epochs=1, batch=1)  # the least
        with pytest.raises(Refusal, match="got"):
            settings(**bad)


# Classifiers


@pytest.mark.parametrize("smoothing", [1.0, -0.1])
def test_labels_are_smoothed_by_less_than_all(smoothing):
    with pytest.raises(Refusal, match="0 <= smoothing < 1"):
        SupervisedTraining(smoothing=smoothing)


def test_frozen_features_stay_exactly_as_they_were(train):
    body = two_layers()
    before = weights(body)
    learner = FeatureClassifier(body, readout=SupervisedTraining(epochs=3)).fit(train, rng=rng())
    assert_same(weights(body), before)
    assert_same(weights(learner.body_), before)


def test_the_body_that_was_given_is_not_touched_and_new_labels_leave_the_features_alone(train):
    body = two_layers()
    before = weights(body)
    learning = LocalLearning({"one": HardWTA()}, epochs=2, lr=0.01)
    learner = FeatureClassifier(body, learning=learning).fit(train, rng=rng())
    assert_same(weights(body), before)
    assert not torch.equal(learner.body_.one.weight, body.one.weight)
    learned = weights(learner.body_)
    learner.refit_readout(train[:40], rng=rng())
    assert_same(weights(learner.body_), learned)


def test_batch_normalisation_inside_frozen_features_does_not_move(train):
    body = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 30))
    learner = FeatureClassifier(body, readout=SupervisedTraining(epochs=2)).fit(train, rng=rng())
    assert torch.equal(learner.body_[1].running_mean, torch.zeros(64))


def test_a_fit_repeats_exactly_and_another_seed_differs(train):
    def scores(seed):
        body = dense_body(train, 30, n=2.0)
        generator = rng(seed)
        init_examples_(body, train, generator)
        learning = LocalLearning({"hidden": KrotovHopfield(p=2, k=2)}, epochs=2, lr=1e-3)
        return FeatureClassifier(body, learning=learning).fit(train, rng=generator).decision_function(train.x[:20])

    assert torch.equal(scores(1), scores(1))
    assert not torch.equal(scores(1), scores(2))


def test_the_readout_finds_what_logistic_regression_finds(train):
    linear = FeatureClassifier(
        nn.Sequential(nn.Flatten()), readout=SupervisedTraining(epochs=300, lr=1e-2, weight_decay=0.0)
    )
    linear.fit(train, rng=rng())
    x = Standardise(64).fit_(train.x.flatten(1))(train.x.flatten(1)).numpy()
    exact = LogisticRegression(C=1e4, max_iter=2000).fit(x, train.y)
    same = (torch.from_numpy(exact.predict(x)) == linear.predict(train.x)).float().mean()
    assert same == 1.0


def ring(n, seed):
    """Two classes that no line separates: inside and outside of a circle."""
    x = torch.rand(n, 2, generator=rng(seed)) * 2 - 1
    return Split(x, (x.norm(dim=1) < 0.75).long(), 2)


def test_backprop_learns_what_no_linear_model_can():
    train, test = ring(1000, 0), ring(1000, 1)
    body = nn.Sequential(nn.Linear(2, 50), nn.ReLU())
    network = BackpropClassifier(body, training=SupervisedTraining(epochs=100, lr=1e-2)).fit(train, rng=rng())
    linear = FeatureClassifier(nn.Sequential(nn.Flatten())).fit(train, rng=rng())
    assert accuracy(network, test) > 0.97
    assert accuracy(linear, test) < 0.65
    assert not torch.equal(network.body_[0].weight, body[0].weight)


def test_backprop_reaches_the_bottom_layer_and_local_learning_does_not(train):
    body = two_layers()
    local = FeatureClassifier(body, learning=LocalLearning({"two": HardWTA()}, epochs=1)).fit(train, rng=rng())
    assert torch.equal(local.body_.one.weight, body.one.weight)
    deep = BackpropClassifier(body, training=SupervisedTraining(epochs=1)).fit(train, rng=rng())
    assert not torch.equal(deep.body_.one.weight, body.one.weight)


@pytest.mark.parametrize(("examples", "want"), [(50_000, 20), (1000, 250), (10, 500)])
def test_few_examples_get_more_passes(examples, want):
    assert passes(examples, epochs=20, batch=500, min_steps=500) == max(20, math.ceil(500 / math.ceil(examples / 500)))
    assert passes(examples, epochs=20, batch=500, min_steps=500) == want


class Rates(NullTracker):
    """Remembers the learning rate at the start of every pass."""

    def loop(self, title, count, **parts):
        self.seen = []
        for epoch in range(count):
            self.seen.append(parts["optimizer"].param_groups[0]["lr"])
            yield epoch


FOUR = {"epochs": 4, "batch": 50, "lr": 0.2, "min_steps": 1}
FITS = {
    "local": lambda part, tracker: LocalLearning({"one": HardWTA()}, **FOUR).fit_(
        two_layers(), part, rng=rng(), tracker=tracker
    ),
    "descent": lambda part, tracker: SupervisedTraining(**FOUR).fit_(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), part, stage="all", rng=rng(), tracker=tracker
    ),
}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_every_learning_rate_falls_linearly_towards_zero(fit, train):
    tracker = Rates()
    fit(train[:50], tracker)
    assert tracker.seen == pytest.approx([0.2, 0.15, 0.1, 0.05])


@pytest.mark.parametrize(
    "learner",
    [
        FeatureClassifier(
            nn.Sequential(nn.Flatten()), readout=SupervisedTraining(lr=0.1, weight_decay=0.0, smoothing=0.2)
        ),
        BackpropClassifier(
            nn.Sequential(nn.Flatten()), training=SupervisedTraining(lr=0.1, weight_decay=0.0, smoothing=0.2)
        ),
    ],
    ids=["readout", "backprop"],
)
def test_smoothed_labels_are_what_the_answers_come_to(learner):
    split = Split(torch.tensor([[0.0], [1.0]]), torch.arange(2), 2)
    answers = learner.fit(split, rng=rng()).decision_function(split.x).softmax(1)
    torch.testing.assert_close(answers, torch.tensor([[0.9, 0.1], [0.1, 0.9]]), atol=1e-3, rtol=0)


QUICK = SupervisedTraining(epochs=1, min_steps=1)
MODELS = {
    "features": lambda: FeatureClassifier(
        two_layers(), learning=LocalLearning({"one": Oja()}, epochs=1), readout=QUICK
    ),
    "backprop": lambda: BackpropClassifier(two_layers(), training=QUICK),
    "spikes": lambda: SpikingClassifier((7,), training=SpikeTimeTraining(epochs=1, min_steps=1)),
    "association": lambda: AssociationClassifier((40, 30), k=1),
    "associative": lambda: AssociativeNetwork((30,), training=AssociativeTraining(epochs=1)),
}


@pytest.mark.filterwarnings("ignore:.*had not settled")
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_no_examples_have_an_empty_answer_and_teach_nothing(make, train):
    model = make().fit(train[:60], rng=rng())
    x = train[:0].pixels()
    assert model.predict(x).shape == (0,)
    assert model.decision_function(x).shape == model.forward(x).shape == (0, 10)
    with pytest.raises(Refusal, match="needs examples to learn from, got a split of none"):
        make().fit(train[:0], rng=rng())
    for score in accuracy, confusion:
        with pytest.raises(Refusal, match="needs examples, got a split of none"):
            score(model, train[:0])


def test_scores_and_distortions_of_nothing(train):
    for score in majority_rate, lambda split: linear_probe(split, train), lambda split: linear_probe(train, split):
        with pytest.raises(Refusal, match="needs examples, got a split of none"):
            score(train[:0])
    assert Distort()(train.pixels()[:0], rng()).shape == (0, 1, 8, 8)


def test_examples_of_another_shape_than_the_fitted_ones_are_refused(train):
    model = BackpropClassifier(dense_body(train, 5, n=1.0), training=SupervisedTraining(epochs=1)).fit(train, rng=rng())
    with pytest.raises(Refusal, match=r"BackpropClassifier cannot take examples of shape \(1, 7, 7\)"):
        model.predict(torch.rand(4, 1, 7, 7))


def test_layers_of_blocks_are_features_with_what_lies_below_them():
    one, two, x = nn.Linear(4, 3), nn.Linear(3, 2), torch.rand(5, 2, 2)
    first = nn.Sequential(OrderedDict(flat=nn.Flatten(), one=one))
    body = nn.Sequential(OrderedDict(first=first, second=nn.Sequential(OrderedDict(act=nn.ReLU(), two=two))))
    found = feature_layers_of(body, 2)
    assert [layer.name for layer in found] == ["first.one", "second.two"]
    for layer, want, weight in zip(found, (one(x.flatten(1)), body(x)), (one.weight, two.weight)):
        assert torch.equal(layer.module(x), want)
        assert torch.equal(layer.weight, weight)


def test_scores_are_of_tensors_only(train):
    model = FeatureClassifier(nn.Sequential(nn.Flatten()), readout=SupervisedTraining(1, min_steps=1))
    model.fit(train, rng=rng())
    with pytest.raises(Refusal, match="tensor"):
        model.decision_function(train.x.numpy())
