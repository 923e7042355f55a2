"""The suite on several learners at once: its rows, its verdicts, its randomness; and learners that come back."""

from collections import Counter
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from common import rng
from neuropil.data import digits, iris
from neuropil.errors import Refusal
from neuropil.evaluate.robustness import FGSM, Linf, accuracy_under, victim_of
from neuropil.evaluate.robustness import suite as suite_room
from neuropil.evaluate.robustness.attacks.gradient import input_gradient
from neuropil.evaluate.robustness.harness import WHITE, Curve
from neuropil.evaluate.robustness.suite import Suite, _log, robustness
from neuropil.models import (
    BackpropClassifier,
    FeatureClassifier,
    SpikeTimeTraining,
    SpikingClassifier,
    SupervisedTraining,
)
from neuropil.spiking import QIF, LinearTimeEncoding

QUICK = Suite(linf=(0.05, 0.2), l2=(1.0,), attack_steps=5, attack_restarts=1, attack_queries=30)


class Notebook:
    """Rows, and loops that may be cut off and taken up again with their parts."""

    def __init__(self, stop=-1, parts=None):
        self.rows, self.stop, self.parts, self.turn = [], stop, parts, 0

    def loop(self, title, count, **parts):
        if self.parts:
            for name, part in parts.items():
                part.copy_(self.parts[name])
        for turn in range(self.turn, count):
            if turn == self.stop:
                self.kept = {name: part.clone() for name, part in parts.items()}
                raise KeyboardInterrupt
            yield turn

    def log(self, row):
        self.rows.append((row.kind, row.columns()))

    def of(self, kind, **same):
        return [row for name, row in self.rows if name == kind and all(row[k] == v for k, v in same.items())]


@pytest.fixture(scope="module")
def fitted():
    train, test = digits(seed=0)
    flat = lambda: nn.Sequential(nn.Flatten())
    linear = FeatureClassifier(flat(), readout=SupervisedTraining(min_steps=60, epochs=1)).fit(train, rng=rng())
    torch.manual_seed(0)
    deep = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU())
    backprop = BackpropClassifier(deep, training=SupervisedTraining(min_steps=60, epochs=1, lr=2e-2)).fit(
        train, rng=rng()
    )
    nearest = KNeighborsClassifier(3).fit(train.pixels().flatten(1).numpy(), train.y.numpy())
    rounded = nn.Sequential(Rounded(), linear.network_).eval()
    return {"backprop": backprop, "linear": linear, "nearest": nearest, "rounded": rounded}, test[:80]


class Rounded(nn.Module):
    def forward(self, x):
        return (x * 16).round() / 16


@pytest.fixture(scope="module")
def told(fitted):
    learners, test = fitted
    watches = {name: Notebook() for name in learners}
    robustness(learners, test, trackers=watches, baselines=["backprop", "linear"], suite=QUICK, seed=0)
    return watches


def test_what_a_smaller_budget_took_a_larger_one_does_not_give_back():
    left = torch.tensor([[True, True, True], [True, False, True], [False, True, True]])
    test = digits(seed=0)[1][:3]
    worst = _log([Curve("PGD", WHITE, (0.0, 0.1, 0.2), left)], {}, "Linf", test, Notebook())
    assert worst.tolist() == [[True, True, True], [True, False, True], [False, False, True]]


def test_every_learner_gets_every_attack_that_it_allows(told):
    names = lambda who: list(dict.fromkeys(row["attack"] for row in told[who].of("attack", norm="Linf")))
    outside = ["transfer from backprop", "transfer from baselines", "square", "boundary", "noise", "all attacks"]
    assert names("nearest") == outside
    assert names("rounded") == ["FGSM", "PGD", *outside]
    assert names("linear") == ["FGSM", "PGD", *[name for name in outside if "baselines" not in name]]
    assert names("backprop") == ["FGSM", "PGD", *[name for name in outside if "backprop" not in name]]


def test_one_row_for_every_budget_and_the_worst_case_is_below_all(told, fitted):
    for tracker in told.values():
        for norm, sizes in (("Linf", [0.0, 0.05, 0.2]), ("L2", [0.0, 1.0])):
            rows = tracker.of("attack", norm=norm)
            count = Counter(row["attack"] for row in rows)
            assert set(count.values()) == {len(sizes)}
            worst = [row["accuracy"] for row in rows if row["attack"] == "all attacks"]
            assert worst == sorted(worst, reverse=True)
            for at, size in enumerate(sizes):
                assert worst[at] <= min(row["accuracy"] for row in rows if row["size"] == size)
                if size == 0:
                    assert len({row["accuracy"] for row in rows if row["size"] == 0}) == 1
            assert all(row["n_test"] == 80 for row in rows)


def test_the_numbers_are_those_of_the_harness(told, fitted):
    learners, test = fitted
    found = {row["size"]: row["accuracy"] for row in told["backprop"].of("attack", norm="Linf", attack="FGSM")}
    attack = FGSM(learners["backprop"].forward, Linf())
    for size in (0.05, 0.2):
        assert found[size] == accuracy_under(attack, learners["backprop"], test, norm=Linf(), size=size)


def test_masking_is_named_and_makes_white_boxes_and_what_rests_on_them_invalid(told):
    invalid = lambda who: {row["attack"] for row in told[who].of("attack", norm="Linf") if row["invalid"]}
    assert invalid("rounded") >= {"FGSM", "PGD", "all attacks"}
    assert invalid("nearest") >= {"all attacks"}  # no attack with gradients applies
    assert "PGD" not in invalid("linear") | invalid("backprop")
    assert "all attacks" not in invalid("linear") | invalid("backprop")
    failed = [row["check"] for row in told["rounded"].of("check", norm="Linf", attack="PGD") if not row["passed"]]
    assert "gradients" in failed


def test_an_attack_that_oversteps_at_its_smallest_budget_alone_is_named(fitted, monkeypatch):
    learners, test = fitted
    verify = suite_room.verify

    def sees(victim, split, adversarial, *, norm, size):
        left = verify(victim, split, adversarial, norm=norm, size=size)
        return left._replace(overstepped=0.25 if size == QUICK.linf[0] else left.overstepped)

    monkeypatch.setattr(suite_room, "verify", sees)
    watch, few = Notebook(), replace(QUICK, l2=())
    robustness({"linear": learners["linear"]}, test[:20], trackers={"linear": watch}, baselines=[], suite=few, seed=0)
    told = {row["passed"] for row in watch.of("check", check="keeps to its budget")}
    assert told == {False}, watch.rows


def test_the_linear_model_is_compared_on_images_that_both_name_right(told, fitted):
    assert told["linear"].of("matched", norm="Linf")[0]["n_both"] == round(
        80 * told["linear"].of("attack", norm="Linf", size=0.0)[0]["accuracy"]
    )
    assert all(row["accuracy"] == row["linear_accuracy"] for row in told["linear"].of("matched"))
    row = told["backprop"].of("matched", norm="Linf", size=0.05)[0]
    learners, test = fitted
    right = [learners[name].predict(test.pixels()) == test.y for name in ("backprop", "linear")]
    assert row["n_both"] == int((right[0] & right[1]).sum()) < int(right[0].sum())
    assert row["linear"] == "linear"
    assert 0 <= row["linear_accuracy"] <= 1


def test_corruptions_and_damage_have_five_severities(told):
    assert len(told["nearest"].of("corruption")) == 30
    assert told["nearest"].of("damage") == []  # it has no weights
    assert Counter(row["damage"] for row in told["rounded"].of("damage")) == dict.fromkeys(
        ("lost weights", "weight noise", "few bits"), 5
    )


def test_a_suite_that_was_cut_off_goes_on_with_the_same_numbers(told, fitted):
    learners, test = fitted
    cut = Notebook(stop=4)
    one = {"linear": learners["linear"]}
    with pytest.raises(KeyboardInterrupt):
        robustness(one, test, trackers={"linear": cut}, baselines=[], suite=QUICK, seed=0)
    again, whole = Notebook(parts=cut.kept), Notebook()
    again.turn = 4
    robustness(one, test, trackers={"linear": again}, baselines=[], suite=QUICK, seed=0)
    robustness(one, test, trackers={"linear": whole}, baselines=[], suite=QUICK, seed=0)
    assert again.rows == whole.rows


def test_vectors_are_attacked_without_a_range_and_not_corrupted():
    train, test = iris(seed=0)
    linear = FeatureClassifier(nn.Sequential(nn.Flatten()), readout=SupervisedTraining(min_steps=200, epochs=1)).fit(
        train, rng=rng()
    )
    tracker = Notebook()
    robustness({"linear": linear}, test, trackers={"linear": tracker}, baselines=[], suite=QUICK, seed=0)
    found = {row["size"]: row["accuracy"] for row in tracker.of("attack", norm="Linf", attack="PGD")}
    assert found[0.2] < found[0.0]
    assert tracker.of("corruption") == []


def test_a_transfer_attack_is_crafted_once_for_all(fitted, monkeypatch):
    learners, test = fitted
    module, calls = import_module("neuropil.evaluate.robustness.suite"), []
    original = module._transfer
    counted = lambda victims, *rest: calls.append(len(victims)) or original(victims, *rest)
    monkeypatch.setattr(module, "_transfer", counted)
    few = {name: learners[name] for name in ("backprop", "nearest", "rounded")}
    robustness(few, test, trackers={name: Notebook() for name in few}, baselines=["backprop"], suite=QUICK, seed=0)
    assert calls == [1, 1, 1]  # three budgets, for two learners together
    norms = []
    monkeypatch.setattr(module, "_transfer", lambda victims, test, norm, size: norms.append(norm.name) or test.x * 0)
    alike = Suite(linf=(0.2,), l2=(0.2,), attack_steps=1, attack_restarts=1, attack_queries=30)
    robustness(few, test, trackers={name: Notebook() for name in few}, baselines=["backprop"], suite=alike, seed=0)
    assert sorted(norms) == ["L2", "Linf"]  # one for each, though they have the same size
    wrong = type(test)(test.x, (learners["backprop"].predict(test.x) + 1) % 10, 10)  # fooled from the start
    moved = original([victim_of(learners["backprop"], 10)], wrong, Linf(), 0.1) - test.pixels()
    assert moved.flatten(1).abs().amax(1).min() > 0.05


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"linf": (-0.1,)}, "budgets of an attack need to be above 0"),
        ({"attack_steps": 0}, "attack_steps and attack_restarts >= 1"),
        ({"attack_queries": 10}, "over 10 attack_queries, got 10"),
    ],
)
def test_a_suite_without_sense_is_refused(settings, words):
    with pytest.raises(Refusal, match=words):
        Suite(**settings)


# Gradients of learners


def test_logits_of_learners_are_their_scores_with_a_gradient(fitted):
    learners, test = fitted
    for name in ("linear", "backprop"):
        x = test.pixels()
        torch.testing.assert_close(learners[name].forward(x), learners[name].decision_function(x))
        assert victim_of(learners[name], 10).forward is not None


def test_the_gradient_of_spike_times_by_the_image_is_exact():
    """Against central differences in float64."""
    train, _ = iris(seed=0)
    x = train.x[:60] - train.x.min()
    small = type(train)(x / x.max(), train.y[:60], 3)
    learner = SpikingClassifier(
        (8,), encode=LinearTimeEncoding(), neuron=QIF(), t_end=4.0, training=SpikeTimeTraining(epochs=1, min_steps=20)
    ).fit(small, rng=rng())
    learner.network_.double()
    at, total = small.x[:5].double(), lambda scores, y: scores.gather(1, y[:, None])[:, 0]
    exact = input_gradient(learner.forward, total, at, small.y[:5]).gradient
    step = 1e-6
    for k in range(at.shape[1]):
        nudge = torch.zeros_like(at)
        nudge[:, k] = step
        difference = [total(learner.forward(at + side * nudge), small.y[:5]) for side in (1, -1)]
        torch.testing.assert_close((difference[0] - difference[1]) / (2 * step), exact[:, k], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(learner.forward(at), learner.decision_function(at))
