"""LIF layers: spikes against an ODE solver, gradients against differences, and the jump that QIF neurons lack."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from neuropil.errors import Refusal
from neuropil.spiking import LIF, QIF, LIFLayer, LIFNetwork, Membrane, Plan, simulate_lif, simulate_qif

INF, T = math.inf, 4.3


def draw(seed, *, batch=4, inputs=5, neurons=6, spikes=2, mean=2.3, std=4.7):
    """Times, weights, potentials and currents of a lively trial; some inputs coincide."""
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)
    times = (torch.rand(batch, inputs, spikes, generator=rng, dtype=torch.float64) * T).sort(-1).values
    times[0, 1], times[1, 2] = times[0, 0], INF
    start = (normal(neurons) - 1).clamp(max=0.9), normal(neurons) * 3
    return times, mean + std * normal(inputs, neurons), *start


def solve(times, weight, potential, current, tau):
    """One trial of one neuron by an ODE solver: its spikes, V and I at the end."""
    events = sorted((t, i) for i, train in enumerate(times) for t in train if t < INF)
    v, i, now, spikes = potential, current, 0.0, []
    top = lambda _, z: z[0] - 1
    top.terminal, top.direction = True, 1
    slope = lambda _, z: [(z[1] - z[0]) / tau, -2 * z[1] / tau]
    for until, source in [*events, (T, None)]:
        while now < until:
            path = solve_ivp(slope, (now, until), [v, i], "DOP853", events=top, rtol=1e-12, atol=1e-13, max_step=0.02)
            now, (v, i) = path.t[-1], path.y[:, -1]
            if len(path.t_events[0]):
                spikes.append(now)
                v = 0.0
        i += 0 if source is None else weight[source]
    return spikes, v, i


@pytest.mark.parametrize(("tau", "seed"), [(1.0, 0), (0.63, 1)])
def test_spikes_and_end_states_are_those_of_an_ode_solver(tau, seed):
    times, weight, potential, current = draw(seed)
    spikes, end = simulate_lif(times, weight, potential, current, LIF(tau), T)
    numbers = spikes.isfinite().sum(-1)
    assert numbers.max() > 2
    assert (numbers == 0).any()
    for b, j in np.ndindex(*numbers.shape):
        start = potential[j].item(), current[j].item()
        want, v, i = solve(times[b].tolist(), weight[:, j].tolist(), *start, tau)
        assert spikes[b, j, : numbers[b, j]].tolist() == pytest.approx(want, rel=1e-9)
        assert (end.potential[b, j].item(), end.current[b, j].item()) == pytest.approx((v, i), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_pass_gradcheck(seed):
    parts = [part.requires_grad_() for part in draw(seed, batch=2, inputs=3, neurons=5)]

    def outputs(*args):
        spikes, end = simulate_lif(*args, LIF(0.83), T)
        assert spikes.isfinite().sum() > 4
        return torch.where(spikes.isfinite(), spikes, 0), *end

    assert torch.autograd.gradcheck(outputs, parts, eps=1e-7, rtol=1e-5, atol=1e-5)


def test_closed_forms_agree_with_the_layer():
    _, _, potential, current = draw(2, neurons=60)
    current, nothing = 4 * current, torch.full((1, 1, 1), INF).double()
    spikes, end = simulate_lif(nothing, torch.zeros(1, 60).double(), potential, current, LIF(0.7), T)
    late = LIF(0.7).time_to_spike(potential, current)
    assert 5 < late.isfinite().sum() < 50
    torch.testing.assert_close(spikes[0, :, 0], torch.where(late < T, late, INF), rtol=1e-12, atol=0)
    silent = late.isinf()
    free = Membrane(*LIF(0.7).flow(potential, current, torch.tensor(T, dtype=torch.float64)))
    for got, want in zip(end, free):
        torch.testing.assert_close(got[0, silent], want[silent], rtol=1e-11, atol=1e-14)
    inputs = (potential[late < T].requires_grad_(), current[late < T].requires_grad_())
    assert torch.autograd.gradcheck(LIF(0.7).time_to_spike, inputs)


def first_spike(neuron, weight):
    """The first spike of a neuron at rest with one input at 0.3."""
    simulate = simulate_lif if isinstance(neuron, LIF) else simulate_qif
    rest = weight.new_zeros(1)
    return simulate(weight.new_tensor([[0.3]]), weight, rest, rest, neuron, T)[0][0, 0, 0]


def test_a_lif_spike_vanishes_in_the_middle_of_the_trial_where_that_of_a_qif_neuron_leaves_through_its_end():
    """From rest one input of 4 is the least that makes V reach 1, tau ln 2 later."""
    at = lambda neuron, w: first_spike(neuron, torch.tensor([[w]], dtype=torch.float64)).item()
    assert at(LIF(), 4 + 1e-12) == pytest.approx(0.3 + math.log(2), abs=1e-5)
    assert at(LIF(), 4.0) == INF == at(LIF(), 4 - 1e-12)
    weight = torch.tensor([[4 + 1e-10]], dtype=torch.float64, requires_grad=True)
    first_spike(LIF(), weight).backward()
    assert weight.grad.item() < -1e4
    low, high = 1.0, 40.0
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if at(QIF(), middle) == INF else (low, middle)
    assert at(QIF(), high) == pytest.approx(T, abs=1e-6)


def test_a_silent_neuron_stands_at_the_end_and_has_no_gradient():
    network = LIFNetwork((3, 4, 2), t_end=T)
    for layer in network.stack():
        layer.init_(torch.Generator().manual_seed(0), mean=0.3, std=0.1)
    output = network(torch.tensor([[0.1, 0.5, 0.9]]), n_spikes=2)
    assert (output.times == torch.tensor(T)).all()
    assert output.spikes[-1].isinf().all()
    output.times.sum().backward()
    assert all((layer.weight.grad == 0).all() for layer in network.stack())


def test_gradients_pass_through_layers_and_float32_tells_the_same():
    times = torch.tensor([[0.13, 0.52, 0.97], [0.71, 0.24, 0.48]])
    grads = {}
    for dtype in (torch.float64, torch.float32):
        network = LIFNetwork((3, 7, 2), t_end=T, dtype=torch.float64)
        network.init_(torch.Generator().manual_seed(3))
        network, moving = network.to(dtype), times.to(dtype).requires_grad_()
        output = network(moving, n_spikes=2)
        assert output.spikes[-1].isfinite().any(-1).all()
        output.times.sum().backward()
        grads[dtype] = [moving.grad.double(), *(p.grad.double() for p in network.parameters())]
    for want, got in zip(*grads.values()):
        torch.testing.assert_close(got, want, rtol=2e-4, atol=2e-4)
    assert all((grad != 0).any() for grad in grads[torch.float64])


def test_spikes_are_never_capped_and_threads_leave_no_trace():
    parts = [part.requires_grad_() for part in draw(6, batch=7, mean=30.0)]
    found = []
    for threads, slots in ((1, 0), (2, 1)):
        torch.set_num_threads(threads)
        spikes, end = simulate_lif(*parts, LIF(), T, plan=Plan(slots=slots))
        loss = torch.where(spikes.isfinite(), spikes, 0).sum() + end.potential.sum()
        found.append((spikes, *torch.autograd.grad(loss, parts)))
    torch.set_num_threads(1)
    assert found[0][0].shape[-1] > 8
    for one, two in zip(*found):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_what_lif_neurons_cannot_use_is_refused_in_one_line():
    fits, weight, rest = torch.tensor([[0.1, 0.2]]), torch.ones(2, 3), torch.zeros(3)
    refused = {
        "tau > 0": lambda: LIF(tau=0.0),
        "no kernels for a GPU; move": lambda: LIFLayer(2, 3, t_end=T, plan=Plan(triton=True))(fits),
        "potentials below 1": lambda: simulate_lif(fits, weight, rest + 1, rest, LIF(), T),
        "NaN": lambda: simulate_lif(fits, weight, rest, rest * math.nan, LIF(), T),
    }
    for words, call in refused.items():
        with pytest.raises(Refusal, match=words):
            call()
    layer = LIFLayer(2, 3, t_end=T)
    layer.potential.data.fill_(1.7)
    layer.clamp_phases_()
    assert layer(fits).times.shape == (1, 3, 1)


def test_first_weights_are_strong_from_the_inputs_and_first_potentials_stay_below_the_threshold():
    network = LIFNetwork((60, 80, 90), t_end=T)
    network.init_(torch.Generator().manual_seed(0))
    for layer, mean in zip(network.stack(), (2.0, 0.7)):
        assert layer.weight.mean().item() == pytest.approx(mean, abs=0.06)  # three standard errors
        assert layer.weight.std().item() == pytest.approx(1.2, rel=0.04)
