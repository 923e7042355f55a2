"""Axonal delays: a spike arrives when its time and its axon's delay say so, by a loop over single spikes."""

import math

import pytest
import torch
from torch import nn

from common import refused
from neuropil.plasticity import PairSTDP, propose_
from neuropil.spiking import AxonalDelay, CurrentLIF, DeltaLIF, SpikingSequential, simulate
from oracles import make

DT, STEPS = 1.3e-3, 23
DENSE = torch.tensor([0.0, 2.6e-3, 9.1e-3, 3.2e-3, 0.7e-3])  # 0, 2, 7, 2 and 1 steps
CASES = {
    "one for all": (6.5e-3, (4,)),
    "none at all": (0.0, (4,)),
    "dense": (DENSE, (5,)),
    "dense with an axis more": (DENSE, (3, 5)),
    "a channel each": (torch.tensor([3.9e-3, 0.0])[:, None, None], (2, 3, 4)),
    "a position each": (torch.linspace(0, 12e-3, 24).view(2, 3, 4), (2, 3, 4)),
    "one for all maps": (torch.tensor([[[2.6e-3]]]), (2, 3, 4)),
}


def arrivals(raster, delay):
    """Where single spikes arrive, in lists: a spike of step t is seen in the step nearest to t + delay / dt."""
    seen = torch.zeros_like(raster)
    each = torch.as_tensor(delay, dtype=torch.float64).expand(raster.shape[2:])
    for t, *place in raster.nonzero().tolist():
        late = t + math.floor(each[tuple(place[1:])].item() / DT + 0.5)
        if late < len(raster):
            seen[(late, *place)] += 1
    return seen


def raster(network, spikes):
    """All that comes out, (time, batch, *out)."""
    return simulate(network, spikes, record=lambda out, state: {"out": out}).recorded["out"]


def spikes_of(units, batch=3, steps=STEPS, rate=0.3):
    rng = torch.Generator().manual_seed(len(units))
    return (torch.rand(steps, batch, *units, generator=rng) < rate).double()


@pytest.mark.parametrize(("delay", "units"), CASES.values(), ids=CASES)
def test_every_spike_arrives_after_the_delay_of_its_axon(delay, units):
    axon, sent = AxonalDelay(delay, dt=DT), spikes_of(units)
    want = arrivals(sent, delay)
    assert torch.equal(raster(axon, sent), want)
    assert want.sum() < sent.sum() or not axon.lags.any()
    first = simulate(axon, sent[:9])
    rest = simulate(axon, sent[9:], first.state)
    assert torch.equal(first.counts, want[:9].sum(0))
    assert torch.equal(rest.counts, want[9:].sum(0))
    axon.step(sent[0], rest.state)  # what is on its way is a value: a step leaves it as it is
    assert torch.equal(simulate(axon, sent[9:], first.state).counts, rest.counts)


def test_what_is_on_its_way_survives_a_caller_that_writes_into_its_tensor():
    axon, held, arrived = AxonalDelay(2 * DT, dt=DT), torch.zeros(1, 2), []
    state = axon.init(held)
    for t in range(5):
        out, state = axon.step(held.fill_(t + 1), state)
        arrived.append(out[0, 0].item())
    assert arrived == [0, 0, 1, 2, 3]
    assert len(state.past) == 2


def test_a_network_with_delays_is_a_loop_over_its_spikes():
    """Convolution, neurons, axons, dense layer, neurons: layer by layer, with the arrivals of single spikes between."""
    torch.manual_seed(0)
    conv, dense = nn.Conv2d(1, 3, 3, bias=False).double(), nn.Linear(12, 5, bias=False).double()
    low, high = DeltaLIF(threshold=0.9, refractory=2.6e-3, dt=DT), CurrentLIF(17e-3, 4.3e-3, threshold=0.03, dt=DT)
    delay = torch.tensor([0.0, 2.6e-3, 9.1e-3])[:, None, None]
    row = SpikingSequential(conv, low, AxonalDelay(delay, DT), nn.Flatten(), dense, high)
    x = 3 * torch.rand(40, 2, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        sent = raster(low, (conv(now) for now in x))
        want = raster(high, (dense(now) for now in arrivals(sent, delay).flatten(2)))
        at_once = raster(high, (dense(now) for now in sent.flatten(2)))
    assert torch.equal(raster(row, x), want)
    assert not torch.equal(at_once, want)
    assert 20 < want.sum() < 350
    assert "AxonalDelay(delay=0 to 0.0091, dt=0.0013)" in repr(row)


@pytest.mark.parametrize("name", ["dense", "conv2d, groups"])
def test_stdp_counts_from_the_arrival_of_a_spike(name):
    """Spike pairs one by one: the lag is that of the postsynaptic spike after t + delay."""
    layer, like = make(name)
    layer.weight.data.zero_()
    units = tuple(like.shape[1:])
    delay = torch.linspace(0, 11e-3, units[0]).view(-1, *[1] * (len(units) - 1))
    rule, axon = PairSTDP(17e-3, 23e-3, 0.7, 0.9, dt=DT), AxonalDelay(delay, DT)
    pre, post = spikes_of(units, len(like)), spikes_of(tuple(layer(like).shape[1:]), len(like))
    memory, state = rule.init(layer, pre[0], post[0]), axon.init(pre[0])
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    for x, y in zip(pre, post):
        arrived, state = axon.step(x, state)
        change, memory = rule.step(layer, arrived, y, memory, reduction="sum")
        propose_(layer, change)
        optimizer.step()
    want, seen = torch.zeros_like(layer.weight), arrivals(pre, delay)
    for s in range(STEPS):
        for t in range(STEPS):
            lag = (t - s) * DT
            size = 0.7 * math.exp(-lag / 17e-3) if lag > 0 else -0.9 * math.exp(lag / 23e-3) if lag < 0 else 0.0
            want += size * products(layer, seen[s], post[t])
    torch.testing.assert_close(layer.weight.detach(), want, rtol=1e-11, atol=1e-11)


def products(layer, x, y):
    """Pre times post at every synapse, by the derivative of <y, layer(x)>, which is linear in the weight."""
    weight = layer.weight.detach().clone().requires_grad_()
    out = torch.func.functional_call(layer, {"weight": weight}, (x,))
    return torch.autograd.grad((out * y).sum(), weight)[0]


def test_delays_move_with_their_network_and_stay_in_its_file():
    row = SpikingSequential(nn.Linear(5, 4), DeltaLIF(), AxonalDelay(torch.tensor([0.0, 1e-3, 2e-3, 5e-3])))
    other = SpikingSequential(nn.Linear(5, 4), DeltaLIF(), AxonalDelay(torch.zeros(4)))
    other.load_state_dict(row.state_dict())
    x = 3 * torch.rand(30, 2, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(simulate(row, x).counts, simulate(other, x).counts)
    assert simulate(row.double(), x.double()).counts.dtype == torch.float64


REFUSED = {
    "negative": (lambda: AxonalDelay(-1e-3), "delays from 0 to 1, in s, got -0.001"),
    "ms": (lambda: AxonalDelay(torch.tensor([1e-3, 5.0])), "got 5; if this is in ms give 0.005"),
    "nan": (lambda: AxonalDelay(torch.tensor(math.nan)), "got nan"),
    "text": (lambda: AxonalDelay("5 ms"), "needs a number as delay, got '5 ms'"),
    "none": (lambda: AxonalDelay(torch.zeros(0)), "at least one delay"),
    "dt in ms": (lambda: AxonalDelay(5e-3, dt=1.0), "dt up to 0.05, got dt=1.0"),
    "no step": (lambda: AxonalDelay(5e-3, dt=0.0), "dt > 0"),
    "no number": (lambda: AxonalDelay(5e-3, dt="1"), "a number as dt"),
    "units": (lambda: AxonalDelay(torch.zeros(3)).init(torch.zeros(2, 4)), "(3,), got spikes of units shaped (4,)"),
    "axes": (lambda: AxonalDelay(torch.zeros(2, 3)).init(torch.zeros(2, 3)), "delays shaped (2, 3)"),
}


@pytest.mark.parametrize(("do", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_one_line(do, says):
    assert says in refused(do)
