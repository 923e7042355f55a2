"""How often the host would wait for a GPU in a step, counted on the stand-in; docs/gpu.md says the same.

Waiting for a number, for the size of a result (a mask, `unique`) or for a copy from or to the CPU counts.
"""

from copy import deepcopy

import pytest
import torch
from torch import nn

from neuropil.associative import CLASSIFY, AssociativeNetwork, AssociativeTraining
from neuropil.data import digits
from neuropil.models import (
    AssociationClassifier,
    AssociationTraining,
    BackpropClassifier,
    FirstSpikeConv2d,
    SpikeTimeTraining,
    SpikingClassifier,
    SupervisedTraining,
)
from neuropil.plasticity import BCM, ExplainAway, HardWTA, Hebb, KrotovHopfield, Oja, Sanger, SoftHebb, propose_
from neuropil.spiking import QIF, SpikingSequential, simulate
from other_device import other_device
from test_together import NEURONS

ONE, CHOOSES = (Hebb(), Oja(), Sanger(), BCM(), SoftHebb(), ExplainAway(k=2)), (HardWTA(), KrotovHopfield(k=3))
LEARNERS = {  # with what a pass waits for beside its steps
    "backprop": (lambda n: BackpropClassifier(nn.Flatten(), training=SupervisedTraining(n, 20, min_steps=1)), 0),
    "association": (lambda n: AssociationClassifier((20,), k=None, training=AssociationTraining(n, 20)), 2),
    "theta": (lambda n: SpikingClassifier((6,), training=SpikeTimeTraining(n, 20, min_steps=1)), 4),
    "qif": (lambda n: SpikingClassifier((6,), neuron=QIF(), training=SpikeTimeTraining(n, 20, min_steps=1)), 4),
    "associative": (lambda n: AssociativeNetwork((8,), training=AssociativeTraining((CLASSIFY,), n, 20)), 6),
}


@pytest.mark.parametrize("layer", [nn.Linear(9, 8), nn.Conv2d(1, 8, 3)], ids=["dense", "convolution"])
@pytest.mark.parametrize("rule", [*ONE, *CHOOSES], ids=repr)
def test_a_step_of_a_rule_waits_as_often_as_is_said(rule, layer):
    with other_device() as seen:
        there = layer.to("cuda")
        x = torch.rand(2, 1, 5, 5 if isinstance(layer, nn.Conv2d) else 9).to("cuda")
        optimizer = torch.optim.SGD(there.parameters(), 0.1)
        for _ in range(2):
            seen.clear()
            propose_(there, rule(there, x))
            optimizer.step()
            optimizer.zero_grad()
        assert sum(seen.values()) == (4 if rule in CHOOSES else 1), seen


@pytest.mark.parametrize("name", LEARNERS)
def test_a_step_of_a_learner_waits_as_often_as_is_said(name):
    make, most = LEARNERS[name]
    with other_device() as seen:
        waited = []
        for examples in (40, 80):  # two steps, and four
            seen.clear()
            make(1).fit(digits(seed=0)[0][:examples].to("cuda"), rng=torch.Generator().manual_seed(0))
            waited.append(seen.copy())
        steps = waited[1] - waited[0]
        assert sum(steps.values()) == 2 * most, steps


@pytest.mark.parametrize("name", NEURONS)
def test_a_simulation_waits_for_nothing_but_how_long_delays_are_before_it_starts(name):
    with other_device() as seen:
        neurons = deepcopy(NEURONS[name])
        network = SpikingSequential(nn.Linear(6, 5), neurons, nn.Linear(5, 4), NEURONS["current"]).to("cuda")
        drive = torch.rand(20, 3, 6).to("cuda")
        seen.clear()
        simulate(network, drive)
        assert sum(seen.values()) == (name == "delay"), seen


def test_winners_of_first_spikes_are_waited_for_once():
    with other_device() as seen:
        layer = FirstSpikeConv2d(1, 4, 3, threshold=1.5, steps=4).to("cuda")
        nn.init.uniform_(layer.weight)
        ages = torch.randint(5, (3, 1, 9, 9)).float().to("cuda")
        waited = []
        for winners in (2, 6):
            seen.clear()
            layer.compete(ages, winners, 1)
            waited.append(sum(seen.values()))
        assert waited == [1, 1]
