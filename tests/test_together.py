"""`simulate` takes several steps at once; what comes out is what a loop over `step` gives, neurons bit for bit."""

import math

import pytest
import torch
from torch import nn

from common import refused
from neuropil.errors import Refusal
from neuropil.spiking import (
    AdaptiveLIF,
    AxonalDelay,
    CurrentLIF,
    DeltaLIF,
    Izhikevich,
    PoissonEncoding,
    SpikeCounter,
    SpikingSequential,
    simulate,
)
from neuropil.spiking.clock import together
from neuropil.spiking.kernels.cpu import clocked

DT = 1.3e-3
NEURONS = {
    "current": CurrentLIF(17e-3, 4.3e-3, threshold=0.9, reset=-0.2, bias=0.3, refractory=2.6e-3, dt=DT),
    "delta": DeltaLIF(tau=17e-3, threshold=0.9, reset=-0.2, bias=0.3, refractory=2.6e-3, dt=DT),
    "adaptive": AdaptiveLIF(17e-3, 4.3e-3, 0.031, 0.4, 0.7, 0.052, 0.13, 0.9, -0.2, 0.3, 2.6e-3, DT),
    "no leak": DeltaLIF(tau=math.inf, threshold=0.9, reset=-0.2, refractory=2.6e-3, dt=DT),
    "izhikevich": Izhikevich(substeps=2, dt=DT),
    "counter": SpikeCounter(),
    "delay": AxonalDelay(torch.tensor([0.0, 2.6e-3, 9.1e-3, 0.0, 1.3e-3]), DT),
}
SCALE = {"izhikevich": 40.0, "no leak": 0.6, "adaptive": 3.0, "delta": 0.6}


def by_steps(network, spikes, state=None):
    """All outputs and states, (time, ...), by a loop over the method of the network."""
    outs, states = [], []
    with torch.no_grad():
        for x in spikes:
            state = network.init(x) if state is None else state
            out, state = network.step(x, state)
            outs.append(out)
            states.append(state)
    return torch.stack(outs), states


def total(outs):
    """One after the other, as a sum that goes on."""
    return sum(outs[1:], outs[0])


def tensors(state):
    return [state] if isinstance(state, torch.Tensor) else [one for part in state or () for one in tensors(part)]


def same(got, want, exact=True):
    pairs = list(zip(tensors(got), tensors(want), strict=True))
    assert pairs
    for one, other in pairs:
        assert one.dtype == other.dtype
        if exact:
            assert torch.equal(one, other)
        else:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def record(out, state):
    return {"out": out, **{str(k): one for k, one in enumerate(tensors(state))}}


def drive_of(name, steps, units, dtype):
    rng = torch.Generator().manual_seed(steps)
    sparse = (torch.rand(steps, *units, generator=rng) < 0.5).to(dtype)
    return SCALE.get(name, 2.0) * sparse * torch.rand(steps, *units, generator=rng).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NEURONS)
def test_neurons_do_bit_for_bit_what_their_steps_do(name, dtype):
    neuron, drive = NEURONS[name], drive_of(name, 151, (3, 5), dtype)
    outs, states = by_steps(neuron, drive)
    assert 20 < outs.count_nonzero() < 0.6 * outs.numel()
    run = simulate(neuron, drive)
    assert torch.equal(run.counts, total(outs))
    same(run.state, states[-1])
    traced = simulate(neuron, iter(drive), record=record)
    same((traced.recorded["out"], *(traced.recorded[str(k)] for k in range(len(tensors(states[0]))))),
         (outs, *(torch.stack(one) for one in zip(*map(tensors, states)))))  # fmt: skip
    same(traced.state, states[-1])
    first = simulate(neuron, drive[:77])
    rest = simulate(neuron, drive[77:], first.state)
    same(rest.state, states[-1])
    same(first.state, states[76])  # what the second run began with is still what it was
    torch.testing.assert_close(first.counts + rest.counts, run.counts)


def test_blocks_and_threads_change_no_neuron(monkeypatch):
    monkeypatch.setattr(clocked, "WORTH", 100)
    threads, drive = torch.get_num_threads(), drive_of("current", 30, (2, 5000), torch.float32)
    outs, states = by_steps(NEURONS["current"], drive)
    try:
        torch.set_num_threads(2)
        run = simulate(NEURONS["current"], drive)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(run.counts, total(outs))
    same(run.state, states[-1])


def dense(neurons=NEURONS):
    delay = AxonalDelay(torch.tensor([0.0, 2.6e-3, 9.1e-3, 0.0]), DT)
    return SpikingSequential(nn.Linear(5, 4), neurons["current"], delay, nn.Linear(4, 3), neurons["adaptive"]), (3, 5)


def convolved(neurons=NEURONS, last="current"):
    layers = [nn.Conv2d(2, 3, 3, padding=1), neurons["delta"], nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU()]
    return SpikingSequential(*layers, neurons[last], nn.Flatten(), nn.Linear(4, 2)), (3, 2, 4, 4)


def one_sample():
    return SpikingSequential(nn.Conv1d(2, 3, 2), NEURONS["delta"], nn.Linear(4, 6), NEURONS["current"]), (2, 5)


def no_batch():
    return SpikingSequential(nn.Linear(5, 4), NEURONS["current"], nn.Linear(4, 3), NEURONS["delta"]), (5,)


@pytest.mark.parametrize("make", [dense, convolved, one_sample, no_batch], ids=lambda make: make.__name__)
def test_a_row_of_layers_gives_what_its_steps_give(make, monkeypatch):
    torch.manual_seed(0)
    network, units = make()
    for one in network.double().parameters():
        nn.init.uniform_(one, -0.4, 1.2)
    drive = drive_of("row", 70, units, torch.float64)
    outs, states = by_steps(network, drive)
    assert outs.count_nonzero() > 20
    monkeypatch.setattr(network, "step", None)  # steps are taken together
    for given in (drive, iter(drive)):
        run = simulate(network, given, record=record)
        same([run.counts, run.recorded["out"], run.state], [total(outs), outs, states[-1]], exact=False)
    for k, want in enumerate(zip(*map(tensors, states))):
        torch.testing.assert_close(run.recorded[str(k)], torch.stack(want), rtol=1e-12, atol=1e-12)


class Own:
    """A neuron of one's own, which may do anything."""

    def init(self, like):
        return torch.zeros_like(like)

    def step(self, spikes, state):
        return (state + spikes >= 1).to(spikes), (state + spikes) % 1


class OwnLIF(CurrentLIF):
    def step(self, drive, state):
        return super().step(2 * drive, state)


class OwnRow(SpikingSequential):
    def step(self, spikes, state):
        return super().step(1 - spikes, state)


def hooked():
    layer = nn.Linear(5, 4)
    layer.register_forward_hook(lambda layer, inputs, out: out + 12 / len(out))  # of how many it sees at once
    return SpikingSequential(layer, CurrentLIF())


def hooked_before():
    layer = nn.Linear(5, 4)
    layer.register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 0 + len(inputs[0]),))
    nn.init.constant_(layer.weight, 0.07)
    return SpikingSequential(layer, CurrentLIF())


OTHERS = {
    "own": Own,
    "own in a row": lambda: SpikingSequential(nn.Linear(5, 4), Own()),
    "child": OwnLIF,
    "child of a row": lambda: OwnRow(nn.Linear(5, 4), CurrentLIF()),
    "hooked": hooked,
    "hooked before": hooked_before,
    "batch norm": lambda: SpikingSequential(nn.BatchNorm1d(5), CurrentLIF()),
    "dropout": lambda: SpikingSequential(nn.Dropout(), CurrentLIF()),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_what_may_do_anything_is_run_step_by_step(make):
    drive = drive_of("own", 40, (6, 5), torch.float32)
    runs = []
    for run in (lambda network: total(by_steps(network, drive)[0]), lambda network: simulate(network, drive).counts):
        torch.manual_seed(0)
        runs.append(run(make()))
    assert torch.equal(*runs)
    assert runs[0].any()


def test_states_that_broadcast_or_have_another_kind_are_run_step_by_step():
    neuron, drive = NEURONS["current"], drive_of("current", 40, (6, 5), torch.float32)
    for state in (neuron.init(drive[0, :1]), neuron.init(drive[0].double())):
        outs, states = by_steps(neuron, drive, state)
        run = simulate(neuron, drive, state)
        assert torch.equal(run.counts, total(outs))
        same(run.state, states[-1])


def test_inputs_whose_shape_changes_are_answered_as_step_by_step():
    neuron = CurrentLIF()
    drives = [torch.full((1, 3), 0.3)] * 9 + [torch.full((2, 3), 0.4)] * 9
    want = by_steps(neuron, drives[:9])[1][-1]
    want = by_steps(neuron, drives[9:], want)[1][-1]
    same(simulate(neuron, drives[9:], simulate(neuron, drives[:9]).state).state, want)
    with pytest.raises(Refusal, match=r"simulate needs steps of one shape, got \(1, 3\), then \(2, 3\)"):
        simulate(neuron, drives)


def learning(layer, first):
    """Inputs between which a weight changes, from step `first` on."""
    for t in range(40):
        if t >= first:
            layer.weight.data = layer.weight.data  # no change
            with torch.no_grad():
                layer.weight.mul_(1.03)
        yield torch.full((2, 5), 0.2)


def network_of(seed=0):
    torch.manual_seed(seed)
    layer = nn.Linear(5, 4).requires_grad_(False)
    nn.init.uniform_(layer.weight, 0, 1)
    return layer, SpikingSequential(layer, CurrentLIF())


@pytest.mark.parametrize("first", [0, 1, 3])
def test_weights_that_change_between_steps_are_followed(first):
    layer, network = network_of()
    want = total(by_steps(network, learning(layer, first))[0])
    layer, network = network_of()
    assert torch.equal(simulate(network, learning(layer, first)).counts, want)
    assert want.min() > 0


def test_weights_that_begin_to_change_late_are_refused():
    layer, network = network_of()
    assert "weights have changed between them; call network.step" in refused(
        lambda: simulate(network, learning(layer, 20))
    )
    count = iter(range(1000))
    late = lambda out, state: {} if next(count) < 39 else {"w": layer.weight.mul_(2)}
    assert "weights have changed" in refused(lambda: simulate(network, torch.ones(40, 2, 5), record=late))


def test_memory_is_that_of_some_steps_however_many_there_are():
    most = []

    def record_size(steps):
        sizes, units = [], 40000
        encode = PoissonEncoding(rate=100.0, duration=steps * 1e-3)
        held = together.Chunks(encode(torch.ones(1, units), torch.zeros(1, dtype=torch.int64), seed=0), most=64)
        for x in held:
            sizes.append(x.numel())
        most.append(max(sizes))

    record_size(60)
    record_size(600)
    assert most[0] == most[1] <= together.NUMBERS
    assert together.Chunks([], most=1000).room(torch.zeros(2)) == together.LONGEST
    wide = together.Chunks([], most=64)
    wide.width = together.NUMBERS // 3
    assert wide.room(torch.zeros(2)) == 3
