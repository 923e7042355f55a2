"""Layers that learn while they are simulated do what a loop over layer, neurons, rule, optimiser and bounds does."""

import math
from copy import deepcopy
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

import neuropil as npl
from common import refused
from neuropil.errors import Diverged, Refusal
from neuropil.models import PlasticLayer
from neuropil.plasticity import Hebb, PairSTDP, SoftBounds, TripletSTDP, VoltageSTDP, constrain_, propose_
from neuropil.spiking import AdaptiveLIF, CurrentLIF, DeltaLIF, SpikingSequential, simulate

DT = 1.3e-3
NEURONS = {
    "delta": DeltaLIF(tau=17e-3, threshold=0.9, reset=-0.2, bias=0.1, refractory=2.6e-3, dt=DT),
    "current": CurrentLIF(17e-3, 4.3e-3, threshold=0.4, reset=-0.2, bias=0.1, refractory=2.6e-3, dt=DT),
}
RULE = PairSTDP(tau_plus=13e-3, tau_minus=29e-3, a_plus=0.9, a_minus=0.73, dt=DT)
BOUNDS = {"low": 0.07, "high": 0.61}


def spikes_of(*shape, p=0.23):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(3)) < p).double()


def network_of(neuron, rule, layer=None, **bounds):
    torch.manual_seed(5)
    layer = layer or nn.Linear(9, 40)
    nn.init.uniform_(layer.double().weight, 0, 0.7)
    return PlasticLayer(layer, neuron, rule, lr=0.037, **bounds)


def by_parts(network, spikes):
    """What comes out in each step, states of the neurons and memory of the rule, by the public parts of the package."""
    layer, neuron, rule = network.layer, network.neuron, network.rule
    optimizer, outs, state, memory = torch.optim.SGD([layer.weight], lr=network.lr), [], None, None
    for x in spikes:
        with torch.no_grad():
            drive = layer(x)
            state = neuron.init(drive) if state is None else state
            out, state = neuron.step(drive, state)
        memory = memory or rule.init(layer, x, out)
        change, memory = rule.step(layer, x, out, memory)
        propose_(layer, change)
        optimizer.step()
        constrain_(layer, low=network.low, high=network.high)
        outs.append(out)
    return torch.stack(outs), state, memory


def flat(state):
    return [state] if isinstance(state, torch.Tensor) else [one for part in state or () for one in flat(part)]


def close(got, want):
    for one, other in zip(flat(got), flat(want), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def check(make, spikes):
    """One call against the loop; the weights have moved, and some neurons have fired."""
    one, other = make(), make()
    before = one.layer.weight.detach().clone()
    run, (outs, *state) = simulate(one, spikes), by_parts(other, spikes)
    close((run.counts, run.state, one.layer.weight.detach()), (outs.sum(0), tuple(state), other.layer.weight.detach()))
    assert (one.layer.weight - before).abs().max() > 0.02
    assert 0.01 < outs.mean() < 0.6
    return run, one


@pytest.mark.parametrize(("name", "pairing", "bounds"), list(product(NEURONS, ("all", "nearest"), ({}, BOUNDS))))
@pytest.mark.parametrize(("batch", "p"), [(1, 0.23), (7, 0.12)])
def test_one_call_does_what_a_loop_of_public_parts_does(name, pairing, bounds, batch, p, monkeypatch):
    make = lambda: network_of(NEURONS[name], replace(RULE, pairing=pairing), **bounds)
    spikes = spikes_of(90, batch, 9, p=p)
    check(make, spikes)
    monkeypatch.setattr(PlasticLayer, "step", None)  # compiled
    check(make, spikes)


OTHERS = {
    "triplets": lambda: network_of(NEURONS["delta"], TripletSTDP(dt=DT, a2_plus=0.4)),
    "soft bounds": lambda: network_of(NEURONS["current"], replace(RULE, dependence=SoftBounds()), **BOUNDS),
    "adaptive": lambda: network_of(AdaptiveLIF(threshold=0.3, dt=DT), RULE),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_compiled_does_the_same(name):
    check(OTHERS[name], spikes_of(60, 3, 9))


def test_a_convolution_learns_from_all_positions():
    check(
        lambda: network_of(NEURONS["delta"], RULE, nn.Conv2d(2, 3, 2, bias=False), **BOUNDS),
        spikes_of(50, 2, 2, 4, 5, p=0.1),
    )


def test_a_row_of_layers_learns_as_its_steps_do_and_a_record_sees_every_weight():
    def row():
        first = network_of(NEURONS["current"], RULE, **BOUNDS)
        return SpikingSequential(
            first, network_of(NEURONS["delta"], RULE, nn.Linear(40, 3, bias=False), low=0.0, high=0.2)
        )

    spikes, networks = spikes_of(70, 3, 9), [row() for _ in range(3)]
    run = simulate(networks[0], iter(spikes))
    state, counts, weights = networks[1].init(spikes[0]), 0, []
    for x in spikes:
        out, state = networks[1].step(x, state)
        counts = counts + out
        weights.append(networks[1].layers[1].layer.weight.detach().clone())
    close((run.counts, run.state), (counts, state))
    close(list(networks[0].parameters()), list(networks[1].parameters()))
    seen = simulate(networks[2], spikes, record=lambda out, state: {"w": networks[2].layers[1].layer.weight})
    assert torch.equal(seen.recorded["w"].detach(), torch.stack(weights))
    assert counts.min() > 0


def test_numbers_in_place_of_spikes_and_other_batches_are_refused_as_in_a_step():
    network, spikes = network_of(NEURONS["delta"], RULE), spikes_of(20, 2, 9)
    assert "PairSTDP needs pre as spikes, 0 or 1" in refused(lambda: simulate(network, 0.5 * spikes))
    state = simulate(network, spikes_of(20, 3, 9)).state
    with pytest.raises((ValueError, RuntimeError)):
        simulate(network, spikes, state)


def test_settings_that_do_not_fit_are_refused():
    layer, neuron = nn.Linear(9, 4), NEURONS["delta"]
    what = "PlasticLayer needs a layer, neurons with init and step, and a rule of spikes, got Linear, DeltaLIF, {}."
    assert refused(lambda: PlasticLayer(layer, neuron, Hebb(), lr=0.1)) == what.format("Hebb")
    assert refused(lambda: PlasticLayer(layer, neuron, VoltageSTDP(), lr=0.1)) == what.format("VoltageSTDP")
    assert "needs a finite lr > 0, got -1" in refused(lambda: PlasticLayer(layer, neuron, RULE, lr=-1.0))
    said = refused(lambda: PlasticLayer(layer, neuron, RULE, lr=0.1, low=1.0, high=0.5))
    assert said == "PlasticLayer needs low < high, got low=1.0 and high=0.5."
    said = refused(lambda: PlasticLayer(layer, neuron, PairSTDP(), lr=0.1))
    assert said == "PlasticLayer needs one step for all, got dt=0.0013 of neurons, 0.001 of a rule."


def test_a_rate_or_weights_that_are_not_finite_are_refused():
    with pytest.raises(Refusal, match="finite lr > 0, got inf"):
        PlasticLayer(nn.Linear(6, 4), DeltaLIF(), PairSTDP(), lr=float("inf"))
    network = PlasticLayer(nn.Linear(6, 4), DeltaLIF(), PairSTDP(), lr=0.1)
    nn.init.constant_(network.layer.weight[1:2], float("nan"))
    with pytest.raises(Refusal, match="needs finite weights, got NaN"):
        simulate(network, torch.zeros(5, 3, 6))


@pytest.mark.parametrize("name", NEURONS)
def test_a_step_without_a_spike_brings_all_weights_within_bounds(name):
    networks = [network_of(NEURONS[name], RULE, **BOUNDS) for _ in range(2)]
    silent = spikes_of(1, 2, 9, p=0)
    networks[0].several_steps(silent, networks[0].init(silent[0]))
    networks[1].step(silent[0], networks[1].init(silent[0]))
    assert torch.equal(networks[0].layer.weight, networks[1].layer.weight)
    assert (networks[0].layer.weight.min().item(), networks[0].layer.weight.max().item()) == tuple(BOUNDS.values())


def test_steps_of_a_layer_that_processes_share_are_those_of_the_rule_which_adds_them_up(monkeypatch):
    network, spikes, real, count = network_of(NEURONS["delta"], RULE), spikes_of(5, 2, 9), PlasticLayer.step, []
    monkeypatch.setattr(PlasticLayer, "step", lambda *given: count.append(1) or real(*given))
    simulate(network, spikes)
    assert not count
    npl.distributed.start("gloo")
    try:
        npl.distributed.share(network)
        simulate(network, spikes)
    finally:
        npl.distributed.stop()
    assert len(count) == 5


@pytest.mark.parametrize("way", ["compiled", "step by step", "recorded"])
def test_weights_that_run_away_within_a_simulation_are_refused_at_its_end(way, monkeypatch):
    learns = network_of(NEURONS["delta"], RULE)
    learns.lr = 1e308
    monkeypatch.setattr(PlasticLayer, "step" if way == "compiled" else "_fused", None)
    monkeypatch.setattr(PlasticLayer, "_compilable", lambda *_: way == "compiled")
    record = (lambda out, state: {"out": out}) if way == "recorded" else None
    what = r"PlasticLayer '1' has learned weights that are NaN or infinite; start again with a lower lr than 1e\+308"
    with pytest.raises(Diverged, match=what):
        simulate(SpikingSequential(nn.Identity(), learns), spikes_of(90, 7, 9), record=record)


def test_spikes_and_weights_that_do_not_fit_are_refused_before_torch_sees_them():
    network, spikes = network_of(NEURONS["delta"], RULE), spikes_of(20, 2, 9)
    wrong = spikes_of(20, 2, 7)
    what = "a rule on Linear needs pre with 9 features, got (2, 7)."
    assert refused(lambda: simulate(network, wrong)) == what
    assert refused(lambda: simulate(network, wrong, network.init(spikes[0]))) == what
    assert refused(lambda: simulate(SpikingSequential(nn.Identity(), network), wrong)) == what
    assert "was given activity of float64 on meta" in refused(lambda: simulate(network, spikes.to("meta")))
    said = refused(lambda: simulate(network.to("meta"), spikes))
    assert said.startswith("PlasticLayer needs weights, got a Linear on the meta device; call to_empty(device=...)")


@pytest.mark.parametrize(("width", "device", "why"), [(7, "cpu", "cannot be multiplied"), (9, "meta", "device meta")])
def test_layers_that_cannot_take_the_spikes_are_named_in_one_line(width, device, why):
    layer = nn.Linear(width, 3, device=device, dtype=torch.float64)
    got = refused(lambda: simulate(SpikingSequential(nn.Identity(), layer, DeltaLIF()), spikes_of(5, 2, 9)))
    assert got.startswith(f"layer 1 of a network, {layer}, cannot take torch.float64 of shape (2, 9) on cpu: ")
    assert why in got
    assert got.endswith("; change the layer, or what is below it.")


class Broken(nn.Module):
    """Somebody's own."""

    def forward(self, x):
        raise RuntimeError("mine")


def test_faults_of_ones_own_layers_are_shown_as_they_are():
    with pytest.raises(RuntimeError, match="mine"):
        simulate(SpikingSequential(Broken(), DeltaLIF()), spikes_of(5, 2, 9))


def test_an_effect_follows_its_cause_by_a_step_where_time_says_so():
    """One synapse on paper: the neuron spikes in the step of its input, so at the end of it, dt after the input."""
    rule = PairSTDP(tau_plus=0.017, tau_minus=0.029, a_plus=0.7, a_minus=0.9, dt=1.3e-3)
    one, none = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    up, down = 0.7 * math.exp(-1.3 / 17), 0.9 * math.exp(-1.3 / 29)
    for lag, spikes, want in (
        (0, [one, none], 0.0),  # of one step: no pair
        (1, [one, none], up),  # dt
        (1, [one, one], up),  # the second input comes just when the first output falls
        (1, [one, none, one], up - down),  # and here dt after it
        (0, [one, one], up - down),  # each output meets the input of the other step
    ):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(layer.weight, 2.0)
        network = PlasticLayer(layer, DeltaLIF(tau=0.02, dt=1.3e-3), rule, lr=0.01, lag=lag)
        made = simulate(network, torch.cat(spikes))
        assert made.counts.item() == sum(spike.sum().item() for spike in spikes)
        assert layer.weight.item() - 2.0 == pytest.approx(0.01 * want, abs=3e-7), (lag, len(spikes))
    with pytest.raises(Refusal, match=r"needs lag=0 or lag=1, in steps, got 2"):
        PlasticLayer(nn.Linear(1, 1), DeltaLIF(), PairSTDP(), lr=0.01, lag=2)


@pytest.mark.parametrize("kind", [nn.Linear(5, 3), nn.Conv1d(5, 3, 1)])
def test_a_lag_is_that_of_a_loop_that_gives_the_rule_the_step_before(kind):
    layer, other, rule, neuron = kind, deepcopy(kind), PairSTDP(a_minus=0.8), CurrentLIF(tau_syn=2e-3)
    nn.init.uniform_(layer.weight, 2.0, 9.0)
    other.load_state_dict(layer.state_dict())
    spikes = (torch.rand(60, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    spikes = spikes if isinstance(kind, nn.Linear) else spikes[..., None].expand(-1, -1, -1, 2).contiguous()
    end = simulate(PlasticLayer(layer, neuron, rule, lr=0.05, lag=1), spikes)
    out = torch.zeros_like(other(spikes[0]))
    state, memory, counts, before = neuron.init(out), rule.init(other, spikes[0], out), torch.zeros_like(out), out
    with torch.no_grad():
        for x in spikes:
            out, state = neuron.step(other(x), state)
            change, memory = rule.step(other, x, before, memory)
            other.weight.add_(change, alpha=0.05)
            counts, before = counts + out, out
    assert torch.equal(end.counts, counts)
    assert counts.sum() > 20
    torch.testing.assert_close(layer.weight, other.weight)


@pytest.mark.parametrize(
    ("name", "lag", "learns"), [(n, 1, True) for n in NEURONS] + [(n, k, False) for n, k in product(NEURONS, (0, 1))]
)
def test_a_lag_and_a_rest_from_learning_are_compiled_to_what_the_steps_do(name, lag, learns, monkeypatch):
    one, other = (network_of(NEURONS[name], RULE, **BOUNDS, lag=lag).train(learns) for _ in range(2))
    start, spikes = one.layer.weight.detach().clone(), spikes_of(90, 3, 9)
    counts, state = 0, other.init(spikes[0])
    for x in spikes:
        out, state = other.step(x, state)
        counts = counts + out
    monkeypatch.setattr(PlasticLayer, "step", None)
    first = simulate(one, spikes[:31])
    last = simulate(one, spikes[31:], first.state)
    close((first.counts + last.counts, last.state), (counts, state))
    close(one.layer.weight.detach(), other.layer.weight.detach())
    assert counts.sum() > 50
    assert torch.equal(start, one.layer.weight) is not learns
