"""Recurrent LIF networks: events against an ODE solver, gradients against differences, and the jump they make."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from neuropil.errors import Refusal
from neuropil.spiking import LIF, Plan, RecurrentLIF, simulate_lif, simulate_recurrent_lif

INF, T = math.inf, 4.3
SMALL = Plan(events=1, memory=2**22)  # so that a network that never stops is refused at once


def lively(seed, *, batch=2, inputs=3, neurons=4, spikes=2):
    """Times, outer and inner weights, potentials and currents of a lively trial; some inputs coincide."""
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)
    times = (torch.rand(batch, inputs, spikes, generator=rng, dtype=torch.float64) * T).sort(-1).values
    times[0, 1], times[-1, 2] = times[0, 0], INF
    outer, inner = 2.1 + 4.3 * normal(inputs, neurons), 1.3 * normal(neurons, neurons) - 0.4
    return times, outer, inner, (normal(neurons) - 1).clamp(max=0.9), normal(neurons) * 3 + 5


def solve(times, outer, inner, potential, current, tau):
    """One trial by an ODE solver: spike times of every neuron, V and I at the end."""
    neurons = len(potential)
    events = sorted((t, i) for i, train in enumerate(times) for t in train if t < INF)
    v, i, now, spikes = np.array(potential), np.array(current), 0.0, [[] for _ in potential]
    slope = lambda _, z: np.r_[z[neurons:] - z[:neurons], -2 * z[neurons:]] / tau

    def through(j):
        event = lambda _, z: z[j] - 1
        event.terminal, event.direction = True, 1
        return event

    tops = [through(j) for j in range(neurons)]
    for until, source in [*events, (T, None)]:
        while now < until:
            path = solve_ivp(
                slope, (now, until), np.r_[v, i], "DOP853", events=tops, rtol=1e-12, atol=1e-13, max_step=0.02
            )
            now, v, i = path.t[-1], path.y[:neurons, -1].copy(), path.y[neurons:, -1].copy()
            for j in range(neurons):
                if len(path.t_events[j]):
                    spikes[j].append(now)
                    v[j], i = 0.0, i + inner[j]
        i = i if source is None else i + outer[source]
    return spikes, v, i


@pytest.mark.parametrize(("tau", "seed"), [(1.0, 0), (0.63, 1)])
def test_spikes_and_end_states_are_those_of_an_ode_solver(tau, seed):
    parts = lively(seed)
    found, end = simulate_recurrent_lif(*parts, LIF(tau), T, plan=SMALL)
    assert found.isfinite().sum() > 15
    for b in range(2):
        want, v, i = solve(parts[0][b].tolist(), *(part.numpy() for part in parts[1:]), tau)
        for train, times in zip(found[b], want):
            assert train[train.isfinite()].tolist() == pytest.approx(times, rel=1e-8)
        np.testing.assert_allclose(end.potential[b], v, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(end.current[b], i, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_pass_gradcheck(seed):
    times, outer, inner, *start = lively(seed, neurons=3)
    if seed == 2:  # each trial has a start of its own
        start = [torch.stack((part, 0.7 * part - 0.2)) for part in start]
    parts = [part.requires_grad_() for part in (times, outer, inner, *start)]
    parts[0] = torch.where(parts[0].isinf(), torch.tensor([1.93, 3.37]), parts[0]).detach().requires_grad_()

    def simulate(*args):
        spikes, end = simulate_recurrent_lif(*args, LIF(0.8), T, plan=SMALL)
        return torch.where(spikes.isfinite(), spikes, 0), *end

    assert torch.autograd.gradcheck(simulate, parts, rtol=1e-5, atol=1e-6)


def test_without_synapses_it_is_a_feed_forward_layer_and_a_start_may_differ_from_trial_to_trial():
    times, outer, inner, potential, current = lively(5)
    starts = torch.stack((potential, potential - 0.3)), torch.stack((current, 0.7 * current))
    one, end = simulate_recurrent_lif(times, outer, 0 * inner, *starts, LIF(), T, plan=SMALL)
    two, other = simulate_lif(times, outer, *starts, LIF(), T)
    torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(tuple(end), tuple(other), rtol=1e-10, atol=1e-10)


def test_a_layer_has_the_synapses_of_its_mask_and_no_gradient_where_none_fires():
    times, outer, inner, potential, current = lively(6)
    mask = ~torch.eye(4, dtype=torch.bool)
    net = RecurrentLIF(3, 4, neuron=LIF(0.8), t_end=T, mask=mask, dtype=torch.float64, plan=SMALL)
    for name, part in {"weight": outer, "recurrent": inner, "potential": potential, "current": current}.items():
        getattr(net, name).data.copy_(part)
    want, _ = simulate_recurrent_lif(times, outer, inner * mask, potential, current, LIF(0.8), T, plan=SMALL)
    assert torch.equal(net(times).spikes[0], want)
    net.potential.data.fill_(1.2)
    with pytest.raises(Refusal, match="first potentials below 1"):
        net(times)
    net.clamp_phases_()
    assert net.potential.tolist() == [1 - 1e-3] * 4
    for part in net.parameters():
        part.data.zero_()
    late = net(times, n_spikes=2).times
    assert torch.equal(late, torch.full_like(late, T))
    late.sum().backward()
    assert all(not part.grad.any() for part in net.parameters())


def test_a_spike_that_vanishes_makes_another_neuron_s_spikes_jump():
    """Neuron 0 fires at a current above 4 and takes neuron 1's last spike away: no small change, however small."""
    inner = torch.tensor([[0.0, -40.0], [0.0, 0.0]], dtype=torch.float64)
    nothing, outer = torch.full((1, 1, 1), INF).double(), torch.zeros(1, 2).double()

    def last(current):
        start = torch.zeros(2).double(), torch.tensor([current, 9.0], dtype=torch.float64)
        spikes, _ = simulate_recurrent_lif(nothing, outer, inner, *start, LIF(), T, plan=SMALL)
        return [int(train.isfinite().sum()) for train in spikes[0]]

    assert [last(4 - 1e-9), last(4 + 1e-9)] == [[0, 3], [1, 2]]


def test_neurons_that_excite_each_other_without_end_are_refused():
    times, outer, inner, potential, current = lively(7)
    with pytest.raises(Refusal, match="take a smaller batch, an earlier end or smaller weights"):
        simulate_recurrent_lif(times, outer, inner.abs() + 9, potential, current, LIF(), T, plan=Plan(memory=2**20))
    with pytest.raises(Refusal, match="LIF neurons have no kernels for a GPU"):
        simulate_recurrent_lif(times, outer, inner, potential, current, LIF(), T, plan=Plan(triton=True))
