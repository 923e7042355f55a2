"""LIF beside QIF: what the recipe counts as a jump, how silent neurons are helped, and the recipe itself, cut short."""

import math

import pytest
import torch

from neuropil.data import load
from neuropil.errors import Refusal
from neuropil.experiments.spike_jumps import JumpTracker, jumped
from neuropil.models import SpikeTimeTraining, SpikingClassifier
from neuropil.recipes import lif_qif
from neuropil.runs import Run, read
from neuropil.spiking import LIF, LIFLayer, LIFNetwork, QIFLayer

INF, T = math.inf, 4.3


def rows_of(folder, config):
    """The rows of a finished run of the recipe, by kind."""
    run = Run.start(folder, recipe="neuropil.recipes.lif_qif", config=config, command="test")
    lif_qif.main(config, run)
    run.finish()
    rows = read(folder).rows
    return {kind: [row for row in rows if row["kind"] == kind] for kind in {row["kind"] for row in rows}}


def test_a_small_step_of_a_weight_makes_a_lif_spike_jump_and_no_qif_spike():
    weights = torch.arange(1, 12, 0.001, dtype=torch.float64)
    for kind, jumps in ((LIFLayer, 1), (QIFLayer, 0)):  # a neuron for each weight
        layer = kind(1, len(weights), t_end=T, dtype=torch.float64)
        layer.weight.data[0] = weights
        spikes = layer.simulate(torch.tensor([[0.3]]).double())[0]
        numbers = spikes.isfinite().sum(-1)[0]
        assert numbers[0] == 0 < numbers[-1]
        found = jumped(spikes[:, :-1], spikes[:, 1:], T) * (len(weights) - 1)
        assert found == pytest.approx(jumps * numbers[-1].item())
    before, after = torch.tensor([[[0.5, INF], [0.5, 2.0]]]), torch.tensor([[[0.7], [0.5]]])
    assert jumped(before, after, 2.1) == 0
    assert jumped(before, after, T) == jumped(after, before, T) == 0.5
    assert jumped(before, after, T, least=0.1) == 1


def test_weights_into_silent_neurons_grow_in_the_lowest_layer_that_has_some():
    network = LIFNetwork((2, 3, 2), t_end=T)
    low, high = (layer.weight for layer in network.stack())
    low.data.copy_(torch.tensor([[9.0, 0.5, 9.0], [9.0, 0.5, -90.0]]))
    times, training = torch.tensor([[0.1, 0.1], [0.2, INF]]), SpikeTimeTraining(weight_bump=0.25, max_silent=0.5)
    before = low.clone()
    SpikeTimeTraining().bump_(network, network(times))
    assert torch.equal(low, before)
    training.bump_(network, network(times))  # the last neuron is silent in half of the examples
    assert torch.equal(low - before, torch.tensor([[0, 0.25, 0], [0, 0.25, 0]]))
    assert high.eq(0).all()
    low.data.fill_(9.0)
    training.bump_(network, network(times))
    assert low.eq(9).all()
    assert high.eq(0.25).all()
    for wrong in ({"weight_bump": -1.0}, {"max_silent": 1.1}):
        with pytest.raises(Refusal, match=next(iter(wrong))):
            SpikeTimeTraining(**wrong)


def test_the_initial_scale_is_that_of_the_weights_from_the_inputs():
    train = lif_qif.data_splits("yin_yang", 20, 0)[0]
    make = lambda scale: SpikingClassifier((5,), neuron=LIF(), init_scale=scale, training=SpikeTimeTraining(epochs=1))
    first = [make(scale).initialised(train, torch.Generator().manual_seed(0)).stack() for scale in (1.0, 0.5)]
    assert torch.equal(first[0][0].weight * 0.5, first[1][0].weight)
    assert torch.equal(first[0][1].weight, first[1][1].weight)
    with pytest.raises(Refusal, match="init_scale > 0"):
        make(0.0)


def test_first_potentials_beyond_the_threshold_are_put_back_before_spikes_are_watched(tmp_path):
    run = Run.start(tmp_path / "run", recipe="none", config={}, command="test")
    network = LIFNetwork((1, 3, 2), t_end=T)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    tracker = JumpTracker(run, times=torch.tensor([[0.3]]), every=1, learner="LIF")
    for _ in tracker.loop("epochs", 1, network=network, optimizer=optimizer):
        network.stack()[0].potential.grad = torch.full((3,), -7.0)
        optimizer.step()
    assert network.stack()[0].potential.max() < 1


def test_the_recipe_says_what_jumps_and_who_falls_silent(tmp_path):
    few = {"n_train": 60, "units": 6, "batch": 30, "epochs": 2, "watch_every": 3}
    few["learners"] = ("lif", "lif_bump", "qif", "backprop")
    rows = rows_of(tmp_path / "run", lif_qif.Config(**few))
    results = {row["learner"]: row for row in rows["result"]}
    spiking = ["LIF", "LIF, weights bumped", "QIF"]
    assert set(results) == {*spiking, *(f"{name}, ordinary only" for name in spiking), "backprop"}
    assert all(0 <= results[f"{name}, ordinary only"]["never_firing"] < 1 for name in spiking)
    assert [(row["learner"], row["update"]) for row in rows["jumps"]] == [(name, n) for name in spiking for n in (0, 3)]
    assert not {"warning", "failed"} & set(rows)
    few |= {"search": True, "learners": ("lif", "qif", "backprop"), "lrs": (1e-2,), "scales": (0.5, 1.0)}
    tried = rows_of(tmp_path / "search", lif_qif.Config(**few))["validation"]
    changes = [row["change"] for row in tried]
    assert changes[:2] == [{"lif_lr": 1e-2, "lif_scale": 0.5}, {"lif_lr": 1e-2, "lif_scale": 1.0}]
    assert [len(changes), changes[3]] == [7, {"qif_lr": 1e-2, "qif_scale": 1.0}]


def test_every_kind_of_neuron_has_its_own_rate_and_scale():
    config = lif_qif.Config(
        units=5, t_end=3.7, span=2.1, epochs=3, batch=7, watch_every=9, lif_lr=0.01, lif_scale=0.9, bump_lr=0.02,
        bump_scale=0.8, bump=0.003, qif_lr=0.03, qif_scale=0.7, backprop_lr=0.04,
    )  # fmt: skip
    train = load("yin_yang")[0][:20]
    made = {name: build(config, train, torch.Generator()) for name, build in lif_qif.METHODS.items()}
    for name, want in {"lif": (0.01, 0.9, 0.0), "lif_bump": (0.02, 0.8, 0.003), "qif": (0.03, 0.7, 0.0)}.items():
        learner, how = made[name].learner, made[name].learner.training
        assert (how.lr, learner.init_scale, how.weight_bump) == want
        assert (learner.hidden, learner.t_end, learner.encode.span, made[name].every) == ((5,), 3.7, 2.1, 9)
        assert (how.epochs, how.batch) == (3, 7)
    how = made["backprop"].learner.training
    assert (how.lr, how.epochs, how.batch) == (0.04, 3, 7)
