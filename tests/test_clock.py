"""Clock-driven neurons against an ODE solver, step by step; encodings against their hash in plain integers."""

import doctest
import importlib
import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

from common import refused
from neuropil.spiking import (
    AdaptiveLIF,
    BernoulliEncoding,
    ConductanceLIF,
    CurrentLIF,
    DeltaLIF,
    Izhikevich,
    PoissonEncoding,
    RateEncoding,
    SpikeCounter,
    SpikingSequential,
    lateral_inhibition,
    simulate,
)

STEPS, UNITS = 60, 3
CURRENT = CurrentLIF(tau=17e-3, tau_syn=4.3e-3, threshold=0.9, reset=-0.2, bias=0.3, refractory=2.6e-3, dt=1.3e-3)
DELTA = DeltaLIF(tau=17e-3, threshold=0.9, reset=-0.2, bias=0.3, refractory=2.6e-3, dt=1.3e-3)
ADAPTIVE = AdaptiveLIF(17e-3, 4.3e-3, 0.031, 0.4, 0.7, 0.052, 0.13, 0.9, -0.2, 0.3, 2.6e-3, 1.3e-3)
CONDUCTANCE = ConductanceLIF(
    tau=13e-3, tau_e=1.7e-3, tau_i=2.1e-3, reset=-67e-3, refractory=2.6e-3, theta_plus=2e-3, tau_theta=0.07, dt=1.3e-3
)


def flow(slope, x, dt):
    """x after dt, for all units at once."""
    path = solve_ivp(slope, [0, dt], np.concatenate(x), method="DOP853", rtol=1e-12, atol=1e-14, max_step=dt / 2)
    return np.split(path.y[:, -1], len(x))


class Oracle:
    """A neuron whose steps an ODE solver makes; `free` and `held` are its equations with v free, and with v held."""

    def __init__(self, neuron, x, theta=0.0):
        self.neuron, self.x, self.theta = neuron, x, np.full(UNITS, theta)
        self.resting = np.zeros(UNITS, int)

    def slope(self, t, flat):
        x = np.split(flat, len(self.x))
        change = self.equations(*x)
        change[0] = np.where(self.resting > 0, 0.0, change[0])
        return np.concatenate(change)

    def step(self, *drives):
        n = self.neuron
        for k, drive in enumerate(drives, 1) if not isinstance(n, DeltaLIF) else ():
            self.x[k] = self.x[k] + drive
        self.x = flow(self.slope, self.x, n.dt)
        if isinstance(n, DeltaLIF):
            self.x[0] = self.x[0] + drives[0] * (self.resting == 0)
        tau = getattr(n, "tau_theta", 1.0)
        self.theta = self.theta * np.exp(-n.dt / tau)
        spikes = self.x[0] >= n.threshold + self.theta
        self.resting = np.where(spikes, round(n.refractory / n.dt), np.maximum(self.resting - 1, 0))
        self.x[0] = np.where(spikes, n.reset, self.x[0])
        self.theta = self.theta + getattr(n, "theta_plus", 0.0) * spikes
        if len(self.x) == 3 and isinstance(n, AdaptiveLIF):
            self.x[2] = self.x[2] + n.b * spikes
        return spikes

    def equations(self, *x):
        n = self.neuron
        match n:
            case DeltaLIF():
                return [(-x[0] + n.bias) / n.tau]
            case CurrentLIF():
                v, i = x
                return [(-v + i + n.bias) / n.tau, -i / n.tau_syn]
            case AdaptiveLIF():
                v, i, w = x
                return [(-v + i - w + n.bias) / n.tau, -i / n.tau_syn, (-w + n.a * v) / n.tau_w]
            case ConductanceLIF():
                v, e, i = x
                dv = (n.rest - v + e * (n.e_rev - v) + i * (n.i_rev - v)) / n.tau
                return [dv, -e / n.tau_e, -i / n.tau_i]


@pytest.mark.parametrize("neuron", [CURRENT, DELTA, ADAPTIVE, CONDUCTANCE], ids=lambda n: type(n).__name__)
def test_a_neuron_is_its_equation_and_spikes_in_the_same_steps(neuron):
    rng = np.random.default_rng(0)
    inputs = 2 if isinstance(neuron, ConductanceLIF) else 1
    strength = {CurrentLIF: 4.0, DeltaLIF: 0.9, AdaptiveLIF: 9.0, ConductanceLIF: 4.0}[type(neuron)]
    drives = strength * rng.random((STEPS, inputs, UNITS)) * (rng.random((STEPS, inputs, UNITS)) < 0.5)
    zero = np.zeros(UNITS)
    size = {CurrentLIF: 2, DeltaLIF: 1, AdaptiveLIF: 3, ConductanceLIF: 3}[type(neuron)]
    oracle, state = (
        Oracle(neuron, [zero + neuron_rest(neuron), zero, zero][:size]),
        neuron.init(torch.zeros(1, UNITS).double()),
    )
    count = 0
    for drive in drives:
        spikes, state = neuron.step(*torch.from_numpy(drive)[:, None], state)
        want = oracle.step(*drive)
        assert spikes[0].tolist() == want.astype(float).tolist()
        np.testing.assert_allclose(state.v[0].numpy(), oracle.x[0], rtol=0, atol=1e-9)
        if hasattr(state, "w"):
            np.testing.assert_allclose(state.w[0].numpy(), oracle.x[2], rtol=0, atol=1e-9)
        count += want.sum()
    assert 9 < count < 150


@pytest.mark.parametrize("high", [0.7, 3.0, 19.0, 170.0, 2.3e4, 1.1e9])
@pytest.mark.parametrize("taus", [(5.3e-3,) * 3, (5.3e-3, 7.1e-3, 31e-3), (41e-3, 5.3e-3, 11e-3), (0.53, 6e-3, 90e-3)])
def test_a_potential_is_right_however_high_conductances_are(taus, high):
    tau, tau_e, tau_i = taus
    neuron = ConductanceLIF(tau, tau_e, tau_i, threshold=0.9, reset=-67e-3, dt=5.3e-3)
    g_e, g_i = (high * tau / neuron.dt * np.array(part) for part in ((1, 0, 0.37, 0.8, 0.013), (0, 1, 0.63, 0.2, 0.98)))
    v = np.array([-61e-3, -0.013, -0.083, -57e-3, -0.099])

    def slope(t, now):
        e, i = g_e * math.exp(-t / tau_e), g_i * math.exp(-t / tau_i)
        return (neuron.rest - now + e * (neuron.e_rev - now) + i * (neuron.i_rev - now)) / tau

    jacobian = lambda t, now: -np.diag(1 + g_e * math.exp(-t / tau_e) + g_i * math.exp(-t / tau_i)) / tau
    want = solve_ivp(slope, [0, neuron.dt], v, method="Radau", jac=jacobian, rtol=1e-11, atol=1e-13).y[:, -1]
    e, i, v = (torch.from_numpy(part)[None] for part in (g_e, g_i, v))
    _, state = neuron.step(e, i, neuron.init(v)._replace(v=v))
    np.testing.assert_allclose(state.v[0].numpy(), want, rtol=0, atol=1e-9)
    alone = [neuron.step(e[:, [k]], i[:, [k]], neuron.init(v[:, [k]])._replace(v=v[:, [k]]))[1].v for k in range(5)]
    assert torch.equal(torch.cat(alone, 1), state.v)
    low = neuron.step(e.float(), i.float(), neuron.init(v.float())._replace(v=v.float()))[1].v
    np.testing.assert_allclose(low[0].numpy(), want, rtol=0, atol=1e-7)


def neuron_rest(neuron):
    return getattr(neuron, "rest", 0.0)


@pytest.mark.parametrize(
    "name", ["linear", "conductance", "delays", "izhikevich", "sequential", "simulate", "encodings"]
)
def test_the_examples_give_what_they_say(name):
    assert doctest.testmod(importlib.import_module(f"neuropil.spiking.clock.{name}")).failed == 0


@pytest.mark.parametrize("neuron", [CURRENT, DELTA, ADAPTIVE, CONDUCTANCE], ids=lambda one: type(one).__name__)
def test_steps_of_rest_are_counted_in_whole_numbers_and_all_else_in_the_dtype_of_the_input(neuron):
    state = neuron.init(torch.zeros(2, 3, dtype=torch.float64))
    assert {name: one.dtype for name, one in state._asdict().items() if name == "resting"} == {"resting": torch.int32}
    assert {one.dtype for name, one in state._asdict().items() if name != "resting"} == {torch.float64}


@pytest.mark.parametrize(("refractory", "dt", "rest"), [(1.8e-3, 1e-3, 2), (5e-3, 2e-5, 250), (1.4e-3, 1e-3, 1)])
def test_a_rest_has_the_nearest_number_of_steps(refractory, dt, rest):
    delta, conductance = DeltaLIF(refractory=refractory, dt=dt), replace(CONDUCTANCE, refractory=refractory, dt=dt)
    rested, silent = [], torch.zeros(1, 1).double()
    for neuron, drives in ((delta, [silent + 1e3]), (conductance, [silent + 1e3, silent])):
        spikes, state = neuron.step(*drives, neuron.init(silent))
        rested.append((spikes.item(), state.resting.item()))
    assert rested == [(1, rest), (1, rest)]


def test_equal_time_constants_are_no_special_case():
    same, near = CurrentLIF(tau=5e-3, tau_syn=5e-3), CurrentLIF(tau=5e-3, tau_syn=5.000001e-3)
    drive, silent = torch.full((1, 1), 0.5).double(), torch.zeros(1, 1).double()
    v = [neuron.step(drive, neuron.init(silent))[1].v.item() for neuron in (same, near)]
    assert v[0] == pytest.approx(0.5 * 0.2 * np.exp(-0.2), rel=1e-12)  # i0 (dt / tau) exp(-dt / tau)
    assert v[1] == pytest.approx(v[0], rel=1e-6)


@pytest.mark.parametrize(("a", "b", "c", "d"), [(0.02, 0.2, -65, 8), (0.1, 0.2, -65, 2), (0.02, 0.2, -50, 2)])
def test_izhikevich_spikes_when_its_equation_does(a, b, c, d):
    neuron, current = Izhikevich(a, b, c, d, substeps=25), 10.0
    finer = Izhikevich(a, b, c, d, substeps=5, dt=0.2e-3)  # the same substeps in five steps
    slope = lambda t, x: [0.04 * x[0] ** 2 + 5 * x[0] + 140 - x[1] + current, a * (b * x[0] - x[1])]
    top = lambda t, x: x[0] - 30
    top.terminal = True
    now, x, want = 0.0, [c, b * c], []
    while now < 40:
        path = solve_ivp(slope, [now, 40], x, events=top, rtol=1e-9, atol=1e-9)
        now, x = path.t[-1], [c, path.y[1, -1] + d]
        want += list(path.t_events[0])
    run = simulate(neuron, torch.full((40, 1, 1), current).double(), record=lambda spikes, state: {"spikes": spikes})
    steps = simulate(finer, torch.full((200, 1, 1), current).double())
    torch.testing.assert_close(steps.state, run.state, rtol=1e-9, atol=0)
    assert torch.equal(steps.counts, run.counts)
    got = run.recorded["spikes"].flatten().nonzero().flatten() + 0.5
    assert len(got) == len(want)
    assert np.abs(got.numpy() - want).max() < 0.5 + 0.04 * len(want)  # half a step; each spike waits for a substep


def test_every_spike_inhibits_all_other_units():
    spikes = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert lateral_inhibition(spikes, 3.0).tolist() == [[3, 6, 3], [0, 0, 0]]


def test_a_simulation_keeps_no_step_unless_asked():
    alive, most = weakref.WeakSet(), 0

    def drives():
        nonlocal most
        for _ in range(50):
            x = torch.full((2, 3), 0.5)
            alive.add(x)
            most = max(most, len(alive))
            yield x

    run = simulate(CurrentLIF(), drives())
    assert most <= 2
    assert run.recorded == {}
    again = simulate(CurrentLIF(), torch.full((50, 2, 3), 0.5), record=lambda s, state: {"spikes": s, "v": state.v})
    assert torch.equal(again.recorded["spikes"].sum(0), run.counts)
    first = simulate(CurrentLIF(), torch.full((20, 2, 3), 0.5))
    rest = simulate(CurrentLIF(), torch.full((30, 2, 3), 0.5), first.state)
    assert torch.equal(first.counts + rest.counts, run.counts)
    assert torch.equal(rest.state.v, run.state.v)


def lowbias32(x):
    x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
    x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
    return x ^ (x >> 16)


def test_spikes_are_decided_by_a_hash_of_seed_sample_step_and_line():
    x, index = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([70000, 3, 11])
    spikes = BernoulliEncoding(probability=0.4, steps=6).raster(x, index, seed=9)
    for b, sample in enumerate(index.tolist()):
        key = lowbias32(sample ^ lowbias32((9 + 0x9E3779B9) % 2**32))
        for t in range(6):
            now = lowbias32((key + t) % 2**32)
            for i in range(5):
                bits = lowbias32(now ^ (i * 0x9E3779B9 % 2**32))
                assert spikes[t, b, i] == float(bits < round(0.4 * x[b, i].item() * 2**32))


def test_a_sample_has_the_same_spikes_in_any_batch_and_order():
    x, index = torch.rand(8, 1, 4, 4), torch.arange(8) + 100
    encode = PoissonEncoding(rate=200.0, duration=0.05)
    whole, order = encode.raster(x, index, seed=1), torch.tensor([5, 2])
    assert torch.equal(encode.raster(x[order], index[order], seed=1), whole[:, order])
    assert not torch.equal(encode.raster(x, index, seed=2), whole)
    assert whole.shape == (50, 8, 1, 4, 4)


def test_spikes_come_at_their_rate_and_lines_know_nothing_of_each_other():
    spikes = PoissonEncoding(rate=150.0, duration=2.0).raster(torch.ones(50, 20), torch.arange(50), seed=3).double()
    p = 1 - np.exp(-0.15)
    assert spikes.mean().item() == pytest.approx(p, abs=4 * (p / spikes.numel()) ** 0.5)
    flat = spikes.flatten(1)
    flat = (flat - flat.mean(0)) / flat.std(0)
    across = (flat.T @ flat / len(flat)).fill_diagonal_(0)
    assert across.abs().max() < 0.15  # 6 standard errors of 2000 steps are 0.13
    assert across.std().item() == pytest.approx(2000**-0.5, rel=0.05)
    later = (flat[1:] * flat[:-1]).mean(0)
    assert later.std().item() == pytest.approx(2000**-0.5, rel=0.15)


def test_regular_spikes_are_as_many_as_the_rate_says():
    x = torch.tensor([[0.0, 0.1, 0.37, 1.0]]).double()
    spikes = RateEncoding(rate=200.0, duration=1.0).raster(x)
    assert spikes.sum(0).tolist() == [[0, 20, 74, 200]]
    assert spikes.dtype == torch.float64
    gaps = spikes[:, 0, 2].nonzero().flatten().diff()
    assert set(gaps.tolist()) <= {13, 14}
    for rate in (29, 57, 100, 113, 290):  # of these some multiples are rounded down
        on = RateEncoding(rate=float(rate), duration=1.0).raster(torch.ones(1, 1)).flatten().nonzero().flatten()
        assert on.tolist() == [-(-1000 * k // rate) - 1 for k in range(1, rate + 1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rate_has_all_of_its_spikes_whatever_the_dtype(dtype):
    """Of x = k / 10 and 10 Hz there are k in a second, though 0.7 in float32 is a bit less."""
    tenths = torch.tensor([k / 10 for k in range(11)], dtype=dtype)[None]
    assert RateEncoding(rate=10.0, duration=1.0).raster(tenths).sum(0).tolist() == [list(range(11))]
    whole = RateEncoding(rate=1000.0, duration=1.0).raster(torch.ones(1, 1, dtype=dtype))
    assert torch.equal(whole, torch.ones_like(whole))


X, INDEX = torch.rand(2, 3), torch.arange(2)
REFUSED = {
    "ms": (lambda: CurrentLIF(tau=20.0), "if this is in ms give tau=0.02"),
    "dt in ms": (lambda: ConductanceLIF(dt=0.5), "dt up to 0.05"),
    "a step above tau": (lambda: CurrentLIF(tau_syn=5e-4), "dt <= tau_syn"),
    "mV": (lambda: ConductanceLIF(threshold=-52.0), "potentials in V, as threshold=-52e-3"),
    "reset above threshold": (lambda: AdaptiveLIF(reset=2.0), "reset < threshold"),
    "a lower threshold": (lambda: AdaptiveLIF(theta_plus=-0.1), "theta_plus >= 0: the threshold must not fall"),
    "a lower threshold, V": (lambda: ConductanceLIF(theta_plus=-1e-4), "theta_plus >= 0: the threshold must not"),
    "no substeps": (lambda: Izhikevich(substeps=0), "substeps >= 1"),
    "a step for several spikes": (lambda: Izhikevich(dt=2.1e-3), "dt <= 0.002 s: more resets in a step are one spike"),
    "less than a step": (lambda: RateEncoding(duration=1e-4), "dt <= duration"),
    "negative rate": (lambda: PoissonEncoding(rate=-1.0), "rate >= 0, in Hz"),
    "probability": (lambda: BernoulliEncoding(probability=1.5), "0 <= probability <= 1"),
    "pixels": (lambda: PoissonEncoding().raster(X.byte(), INDEX, 0), "in a floating dtype, got torch.uint8"),
    "255": (lambda: BernoulliEncoding().raster(X * 255, INDEX, 0), "bring values to [0, 1]"),
    "negative": (lambda: RateEncoding().raster(X - 2), "needs values of 0 or more"),
    "too fast": (lambda: RateEncoding(rate=5000.0).raster(X + 1), "at most one spike in a step"),
    "no index": (
        lambda: PoissonEncoding().raster(X, torch.arange(3), 0),
        "an index for each sample, (2,)",
    ),
    "no layer": (lambda: SpikingSequential(DELTA, torch.relu), "got builtin_function_or_method as 1"),
    "no neurons": (lambda: SpikingSequential(nn.Linear(2, 3)), "needs neurons, such as CurrentLIF, got none"),
    "nothing to do": (lambda: simulate(CurrentLIF(), []), "at least one step"),
    "numbers": (lambda: simulate(CurrentLIF(), [1.0]), "a tensor of spikes for each step, got float"),
}


@pytest.mark.parametrize(("do", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_one_line(do, says):
    assert says in refused(do)


def test_a_neuron_without_adaptation_is_the_plain_one():
    plain, state = AdaptiveLIF(17e-3, 4.3e-3, dt=1.3e-3), CurrentLIF(17e-3, 4.3e-3, dt=1.3e-3)
    drive = 3 * torch.rand(80, 2, 4, generator=torch.Generator().manual_seed(0)).double()
    assert torch.equal(simulate(plain, drive).counts, simulate(state, drive).counts)
    tired = replace(plain, theta_plus=0.5)
    assert simulate(tired, drive).counts.sum() < simulate(plain, drive).counts.sum()


def test_a_row_of_layers_is_the_loop_over_them():
    torch.manual_seed(0)
    conv, dense = nn.Conv2d(1, 3, 3, bias=False).double(), nn.Linear(12, 5).double()
    row = SpikingSequential(conv, DELTA, nn.Flatten(), dense, CURRENT)
    x = 3 * torch.rand(40, 2, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    run = simulate(row, x, record=lambda spikes, state: {"spikes": spikes, "v": state[1].v})
    with torch.no_grad():
        low, high = DELTA.init(conv(x[0])), CURRENT.init(torch.zeros(2, 5).double())
        for t, now in enumerate(x):
            spikes, low = DELTA.step(conv(now), low)
            top, high = CURRENT.step(dense(spikes.flatten(1)), high)
            assert torch.equal(run.recorded["v"][t], low.v)
            assert torch.equal(run.recorded["spikes"][t], top)
    assert run.counts.min() < run.counts.max()
    assert len(list(row.parameters())) == 3
    assert "CurrentLIF" in repr(row)


class InPlace:
    """A network that keeps its state in one tensor, writes into it, and gives that out."""

    def init(self, like):
        return torch.zeros_like(like)

    def step(self, spikes, state):
        return state.add_(spikes), state


def test_a_network_may_write_into_what_it_gives():
    run = simulate(InPlace(), torch.tensor([[[1.0]], [[2.0]], [[4.0]]]), record=lambda out, state: {"v": state})
    assert run.recorded["v"].flatten().tolist() == [1.0, 3.0, 7.0]
    assert run.counts.item() == 11.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_a_counter_adds_up_the_spikes_of_a_hidden_layer(dtype):
    spikes = torch.rand(600, 2, 3, generator=torch.Generator().manual_seed(0)) < 0.9
    network = SpikingSequential(nn.Identity(), SpikeCounter(), nn.Flatten(), SpikeCounter())
    run = simulate(network, spikes.to(dtype))
    assert torch.equal(run.state[1].counts.long(), spikes.sum(0))
    assert torch.equal(run.state[3].spikes, spikes[-1].to(dtype))
    shown = simulate(network, spikes.to(dtype), record=lambda out, state: {"hidden": state[1].spikes}).recorded
    assert torch.equal(shown["hidden"], spikes.to(dtype))
    again = simulate(network, spikes[:9].to(dtype), run.state)
    assert torch.equal(again.state[1].counts.long(), spikes.sum(0) + spikes[:9].sum(0))
