"""Settings arrive where they work, and schedules last as long as the training does."""

import ast
import math
from collections import OrderedDict
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import neuropil
from common import rng
from neuropil.associative import CLASSIFY, AssociativeNetwork, AssociativeTraining, Connectivity, Nudge, Settling, Task
from neuropil.associative.learning import clamp_task
from neuropil.data import Split, digits
from neuropil.evaluate import ReferenceClassifier
from neuropil.experiments.methods import builders, method_names
from neuropil.experiments.settings import FeatureSettings
from neuropil.models import (
    AssociationClassifier,
    AssociationTraining,
    BackpropClassifier,
    Distort,
    LocalLearning,
    SpikeTimeTraining,
    SpikingClassifier,
    SupervisedTraining,
)
from neuropil.plasticity import Oja
from neuropil.runs import NullTracker


@pytest.fixture(scope="module")
def few():
    """Two batches of 25."""
    return digits(seed=0)[0][:50]


def layer(seed=0):
    hidden = nn.Linear(64, 5, bias=False)
    nn.init.normal_(hidden.weight, std=0.1, generator=rng(seed))
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), hidden=hidden))


# Schedules


class Rates(NullTracker):
    """Remembers the learning rate at the start of every pass."""

    def __init__(self):
        self.seen = []

    def loop(self, title, count, **parts):
        for epoch in range(count):
            self.seen.append(parts["optimizer"].param_groups[0]["lr"])
            yield epoch


SHORT = {"epochs": 2, "batch": 25, "min_steps": 7}  # of the data above 2 passes are too few: it takes 4
LINEAR = lambda k: 1 - k / 4
COSINE, FADING = SpikeTimeTraining(**SHORT, lr_time_constant=None), SpikeTimeTraining(**SHORT, lr_time_constant=0.7)
DECAYING = AssociativeTraining(**SHORT, tasks=(CLASSIFY,), lr_decay=0.7)
TRAININGS = {
    "local": (
        lambda few, more: LocalLearning({"hidden": Oja()}, **SHORT, lr=0.02).fit_(layer(), few, **more),
        LINEAR,
    ),
    "supervised": (
        lambda few, more: SupervisedTraining(**SHORT).fit_(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), few, stage="all", **more
        ),
        LINEAR,
    ),
    "association": (
        lambda few, more: AssociationClassifier((20,), k=1, training=AssociationTraining(**SHORT)).fit(few, **more),
        LINEAR,
    ),
    "reference": (lambda few, more: ReferenceClassifier(4, **SHORT).fit(few, **more), LINEAR),
    "spiking, cosine": (
        lambda few, more: SpikingClassifier((3,), training=COSINE).fit(few, **more),
        lambda k: (1 + math.cos(math.pi * k / 4)) / 2,
    ),
    "spiking, exponential": (
        lambda few, more: SpikingClassifier((3,), training=FADING).fit(few, **more),
        lambda k: math.exp(-k / (0.7 * 4)),
    ),
    "associative": (
        lambda few, more: AssociativeNetwork((5,), training=DECAYING).fit(few, **more),
        lambda k: 0.7 ** (k * 2 / 4),
    ),
}


@pytest.mark.parametrize(("fit", "law"), TRAININGS.values(), ids=TRAININGS)
def test_where_examples_are_few_the_rate_falls_over_all_the_passes_that_they_get(fit, law, few):
    tracker = Rates()
    fit(few, {"rng": rng(), "tracker": tracker})
    assert [rate / tracker.seen[0] for rate in tracker.seen] == pytest.approx([law(k) for k in range(4)])


# Settings of the training


def test_weights_that_no_gradient_moves_decay_as_was_asked():
    """AdamW takes lr times decay of a weight in every step; the second input is always 0, so nothing else moves it."""
    split = Split(torch.tensor([[1.0, 0.0]]).expand(5, 2).clone(), torch.tensor([0, 1, 0, 1, 0]), 2)
    network = nn.Linear(2, 2)
    before = network.weight[:, 1].detach().clone()
    training = SupervisedTraining(epochs=3, batch=3, lr=0.3, weight_decay=0.07, min_steps=1)
    training.fit_(network, split, stage="all", rng=rng(), tracker=NullTracker())
    kept = math.prod((1 - 0.3 * part * 0.07) ** 2 for part in (1, 2 / 3, 1 / 3))  # two steps a pass
    torch.testing.assert_close(network.weight[:, 1], kept * before, rtol=1e-6, atol=0)


def test_settings_of_backprop_and_of_the_readouts_all_arrive():
    backprop = {"backprop_epochs": 3, "backprop_batch": 7, "backprop_lr": 0.013, "backprop_weight_decay": 0.017}
    readout = {"readout_epochs": 5, "readout_batch": 11, "readout_lr": 0.029, "readout_min_steps": 31}
    config, change = FeatureSettings(**backprop, **readout, weight_decay=0.037, smoothing=0.19), Distort()
    same = {"smoothing": 0.19, "min_steps": 31}
    head = SupervisedTraining(epochs=5, batch=11, lr=0.029, weight_decay=0.037, **same)
    assert config.readout() == head
    assert config.readout(0.41) == SupervisedTraining(epochs=5, batch=11, lr=0.029, weight_decay=0.41, **same)
    deep = SupervisedTraining(epochs=3, batch=7, lr=0.013, weight_decay=0.017, augment=change, **same)
    assert config.end_to_end(31, change) == deep


def test_the_loss_that_is_logged_is_that_of_all_examples_alike():
    x, y = torch.rand(5, 3, generator=rng()), torch.tensor([0, 1, 1, 0, 1])
    network, seen = nn.Linear(3, 2), []
    tracker = NullTracker()
    tracker.log = lambda row: seen.append(row.metrics["loss"])
    want = F.cross_entropy(network(x), y).item()
    training = SupervisedTraining(epochs=1, batch=3, lr=1e-12, min_steps=1)
    training.fit_(network, Split(x, y, 2), stage="all", rng=rng(), tracker=tracker)
    assert seen == [pytest.approx(want, rel=1e-6)]


@pytest.mark.parametrize("standardise", [True, False])
def test_backprop_standardises_where_it_is_told_to(standardise, few):
    training = SupervisedTraining(epochs=1, lr=1e-12, min_steps=1)
    body = nn.Sequential(nn.Flatten())
    learner = BackpropClassifier(body, training=training, standardise=standardise).fit(few, rng=rng())
    features = learner.network_.get_submodule("readout.standardise")(few.pixels().flatten(1))
    assert torch.equal(features, few.pixels().flatten(1)) != standardise
    assert (features.mean().abs() < 1e-4) == standardise


def test_layers_that_learn_together_take_the_sum_if_asked_to(few):
    bodies = []
    for lr, reduction in ((0.02, "mean"), (0.02 / 25, "sum")):
        body = layer().append(nn.Linear(5, 3, bias=False))
        nn.init.normal_(body[-1].weight, std=0.1, generator=rng())
        rules = {name: Oja() for name in ("hidden", "2")}
        learning = LocalLearning(rules, epochs=2, batch=25, joint=True, lr=lr, reduction=reduction)
        learning.fit_(body, few, rng=rng(), tracker=NullTracker())
        bodies.append(body)
    for one, other in zip(*(body.parameters() for body in bodies)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(bodies[0].hidden.weight, layer().hidden.weight, atol=1e-3)


# Settings of associative networks


def test_no_nudge_moves_activity_out_of_0_to_1():
    """s = 0 with f(u) = d = 1 would go to 0.9 (1 + 0.8) = 1.62, and s = 1 with f(u) = d = 0 as far below 0."""
    net = Connectivity({"pixels": 1, "label": 2}, [("pixels", "label")])
    net.between("pixels", "label").weight.copy_(torch.tensor([[3.0], [-3.0]]))
    before = {"pixels": torch.ones(1, 1), "label": torch.tensor([[0.0, 1.0]])}
    target = {"label": torch.tensor([[1.0, 0.0]])}
    for steps in (1, 4):
        after = Nudge(steps, beta=0.8)(net, before, {"label": None}, target, Settling(step_size=0.9))
        assert after["label"].tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_task_learns_at_its_share_of_the_rate(kind, few):
    changes = []
    for scale in (1.0, 0.3):
        training = AssociativeTraining(tasks=(CLASSIFY,), learning_rates={"label": 0.2, "classification": 0.3})
        learner = AssociativeNetwork((5,), training=training).initialise_(few, rng())
        old = {name: part.clone() for name, part in learner.net_.named_parameters()}
        optimizer = kind(training.parameter_groups(learner.net_), lr=0.0)
        rates = [group["lr"] for group in optimizer.param_groups]
        learner.train_step_(Task("label", "all", lr_scale=scale), few.pixels(), few.y, optimizer, rng(3))
        changes.append({name: part - old[name] for name, part in learner.net_.named_parameters()})
        assert [group["lr"] for group in optimizer.param_groups] == rates
    assert changes[0]["bias.label"].abs().max() > 1e-3
    for name, change in changes[0].items():
        torch.testing.assert_close(changes[1][name], 0.3 * change, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_fraction_of_the_labels_that_was_asked_for_is_clamped(fraction):
    net = Connectivity({"pixels": 4, "label": 2}, [("pixels", "label"), ("label", "pixels")])
    y = torch.arange(2000) % 2
    x, label, task = torch.rand(2000, 4, generator=rng()), F.one_hot(y, 2).float(), Task("pixels", "partial", fraction)
    state, free, _ = clamp_task(net, task, x, label, y, torch.Size([4]), rng())
    known = torch.ones(2000) if "label" not in free else 1 - free["label"][:, 0]
    assert known.mean().item() == pytest.approx(fraction, abs=0.03)
    assert torch.equal(state["label"], label * known[:, None])
    y[::3] = -1  # without a label, which is then free as well
    state, free, _ = clamp_task(net, task, x, label, y, torch.Size([4]), rng())
    assert torch.equal(free["label"][::3], torch.ones(667, 2))
    assert not state["label"][::3].any()


# Settings of recipes, benchmarks and methods

ROOMS = Path(neuropil.__file__).parent
OF_THE_MACHINE = {"device", "threads"}  # they are put to work before the recipe begins


@pytest.mark.parametrize(
    "path",
    sorted([*ROOMS.glob("recipes/[!_]*.py"), *ROOMS.glob("bench/[!_]*.py")]),
    ids=lambda path: f"{path.parent.name}.{path.stem}",
)
def test_every_setting_of_a_file_is_read_in_it(path):
    """Settings that it takes over from others are theirs."""
    config = import_module(f"neuropil.{path.parent.name}.{path.stem}").Config
    others = {one.name for base in config.__mro__[1:] if is_dataclass(base) for one in fields(base)}
    read = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert {one.name for one in fields(config)} - others - OF_THE_MACHINE <= read


def widest(learner):
    """Units of its largest hidden layer."""
    sizes = getattr(learner, "hidden", None) or getattr(learner, "classification_units", None)
    return max(sizes or [len(weight) for weight in learner.body.parameters() if weight.ndim == 2])


@pytest.mark.parametrize("name", sorted({*method_names()} - {"linear", "plain_linear"}))
def test_every_method_has_as_many_units_as_was_asked(name, few):
    for units in (20, 33):
        assert widest(builders([name], units)[name](few, rng()).learner) == units


def test_units_of_an_associative_network_learn_the_slower_the_more_ink_an_image_has():
    rates = {}
    for sum_of_pixels in (70.0, 105.0, 840.0):
        x = torch.full((40, 1, 32, 32), sum_of_pixels / 32**2)
        learner = builders(["mstdp"], 30)["mstdp"](Split(x, torch.arange(40) % 10, 10), rng()).learner
        rates[sum_of_pixels] = learner.training.learning_rates
    for role, first in (("classification", 2e-3), ("generation", 1e-3)):
        assert [rates[ink][role] / first for ink in rates] == pytest.approx([1, 1, 1 / 8])
    assert {rates[840.0]["label"], rates[840.0]["pixels"]} == {1e-2}
    train = Split(x, torch.arange(40) % 10, 10)
    net = AssociativeNetwork((7,)).initialise_(train, rng()).net_
    given = lambda how: sorted({group["lr"] for group in how.steps(net, train).optimizer.param_groups})
    assert given(AssociativeTraining()) == pytest.approx([1e-5 / 8, 1e-3 / 8, 2e-3, 3e-3])
    assert 1e-3 in given(AssociativeTraining(learning_rates={"classification": 1e-3}))  # what is given stays
