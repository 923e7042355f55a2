"""Whoever learns in passes goes on after an interruption as if there had been none: weights, optimiser, rate, rng."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn

from common import rng
from neuropil.associative import AssociativeNetwork, AssociativeTraining, SpikingAssociativeNetwork, SpikingPhases, Task
from neuropil.data import Split, digits
from neuropil.evaluate import ReferenceClassifier
from neuropil.models import (
    AssociationClassifier,
    AssociationTraining,
    BackpropClassifier,
    CompetitiveLearning,
    CompetitiveUnits,
    Distort,
    FeatureClassifier,
    LocalLearning,
    RidgeRegression,
    SpikeTimeTraining,
    SpikingClassifier,
    SupervisedTraining,
    VotingClassifier,
)
from neuropil.models import competition as room
from neuropil.plasticity import KrotovHopfield, PairSTDP, SoftHebb
from neuropil.recipes import cifar_softhebb, mnist_association, mnist_conv_krotov, mnist_krotov
from neuropil.runs import Run, TaggedTracker
from neuropil.spiking import LIF, QIF, ConductanceLIF, LatencyEncoding, PoissonEncoding

TRAIN = digits(seed=0)[0][:40]
SOME = Split(TRAIN.x, TRAIN.y.where(torch.arange(40) % 3 > 0, -1), 10)  # a third has no label
SUPERVISED = SupervisedTraining(4, 10, min_steps=1, augment=Distort(), weight_decay=0.1)
RULES = {"hidden": KrotovHopfield(p=2.0, k=2), "second": SoftHebb(tau=0.3)}
PAIRED = {"tasks": (Task("label", "all"), Task("pixels")), "epochs": 4, "batch": 10, "lr_decay": 0.5}


def body():
    torch.manual_seed(0)
    layers = OrderedDict(flat=nn.Flatten(), hidden=nn.Linear(64, 9), norm=nn.BatchNorm1d(9), act=nn.ReLU())
    return nn.Sequential(layers | OrderedDict(second=nn.Linear(9, 8)))


def local(**settings):
    learning = LocalLearning(RULES, epochs=4, batch=10, min_steps=1, norm_rate=0.5, **settings)
    how = {"augment": Distort(), "n_augmented": 1, "readout": RidgeRegression((0.1,))}
    return FeatureClassifier(body(), learning=learning, **how)


def spiking(neuron):
    training = SpikeTimeTraining(epochs=4, batch=10, min_steps=1, flip_probability=0.2, lr_time_constant=2.0)
    return SpikingClassifier((6,), encode=LatencyEncoding(), neuron=neuron, training=training)


def competing():
    rule, encoding = PairSTDP(a_plus=0.03, a_minus=1e-3, pairing="nearest"), PoissonEncoding(rate=128.0, duration=0.05)
    neuron = ConductanceLIF(theta_plus=2e-4, tau_theta=100.0)
    hidden = CompetitiveUnits(64, 25, neuron, rule, encoding, excitation=6.0, total=12.0)
    hidden.init_(rng())
    layers = OrderedDict(flat=nn.Flatten(), hidden=hidden)
    return VotingClassifier(nn.Sequential(layers), learning=CompetitiveLearning(2))


LEARNERS = {
    "associative": lambda: AssociativeNetwork((8,), 6, training=AssociativeTraining(**PAIRED)),
    "association": lambda: AssociationClassifier((40, 20), k=2, training=AssociationTraining(4, 10)),
    "backprop": lambda: BackpropClassifier(body(), training=SUPERVISED),
    "competition": competing,
    "layer by layer": local,
    "layers together": lambda: local(joint=True),
    "readout": lambda: FeatureClassifier(body(), readout=SupervisedTraining(4, 10, min_steps=1)),
    "spiking association": lambda: SpikingAssociativeNetwork(
        6, phases=SpikingPhases(free=0.05, nudged=0.05, control=0.05, in_use=0.05),
        training=AssociativeTraining((Task("label", "all"),), epochs=4, batch=20, lr_decay=0.5),
    ),
    "reference classifier": lambda: ReferenceClassifier(8, epochs=3, batch=20, min_steps=1),
    "theta": lambda: spiking(None),
    "LIF": lambda: spiking(LIF()),
    "QIF": lambda: spiking(QIF()),
}  # fmt: skip
FEW_LOOP = {"epochs": 3, "batch": 20}
FEW_DENSE = FEW_LOOP | {"readout_epochs": 2, "readout_min_steps": 1}
FEW = FEW_DENSE | {"n_augmented": 0}
RECIPES = {  # which show their own loops
    "mnist_krotov": (mnist_krotov.krotov_hopfield, mnist_krotov.Config(units=9, k=2, **FEW_DENSE)),
    "mnist_conv_krotov": (mnist_conv_krotov.krotov_hopfield,
                          mnist_conv_krotov.Config(kernels=9, kernel=3, k=2, patch_fraction=0.3, **FEW)),
    "cifar_softhebb": (cifar_softhebb.soft_hebb, cifar_softhebb.Config(channels=(4, 5, 6), max_images=30, **FEW)),
    "mnist_association": (mnist_association.association,
                          mnist_association.Config(hidden=(80, 40), columns=(4, 2), receptive_field=5, **FEW_LOOP)),
}  # fmt: skip
LEARNERS |= {
    name: partial(lambda make, config: make(config, TRAIN, rng(3)).learner, *RECIPES[name]) for name in RECIPES
}


class Killed(BaseException):
    pass


class Watched(TaggedTracker):
    """Counts the turns of all loops, and ends the process, as it were, when turn number `last` begins."""

    turns, last = 0, None

    def loop(self, title, count, **state):
        for turn in super().loop(title, count, **state):
            if self.turns == self.last:
                raise Killed
            self.turns += 1
            yield turn


def learned(name, run, last=None):
    """All that a learner knows in the end, and after how many turns."""
    tracker, run.every = Watched(run, learner="one", data="d", seed=0), 0
    tracker.last = last
    try:
        model = LEARNERS[name]().fit(SOME if name == "associative" else TRAIN, rng=rng(3), tracker=tracker)
    finally:
        run.close()
    return (getattr(model, "net_", None) or model.network_).state_dict(), tracker.turns


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_that_was_interrupted_learns_the_same(name, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "PART", 15)
    start = lambda place: Run.start(tmp_path / place, recipe="x", config={}, command="x", quiet=True)
    whole, turns = learned(name, start("whole"))
    for last in {1, turns - 1}:  # early in its first loop, and in the last turn of its last
        with pytest.raises(Killed):
            learned(name, start(f"{last}"), last)
        state, again = learned(name, Run.resume(tmp_path / f"{last}"))
        assert again < turns  # it did not begin anew
        for key, value in state.items():
            assert torch.equal(value, whole[key]), key
