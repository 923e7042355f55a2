"""QIF layers: spikes against an ODE solver, gradients against differences, continuity where spikes come and go."""

import math

import numpy as np
import pytest
import torch

from neuropil.spiking import QIF, Plan, QIFNetwork
from neuropil.spiking.oscillator import projective
from neuropil.spiking.qif import QIFState
from qif_oracles import no_jumps, output_times, qif, solve

INF = math.inf
T = 4.0


def draw(seed, *, batch=3, inputs=4, neurons=6, spikes=2, strength=6.0, dtype=torch.float64):
    """Times, weights, potentials and currents of a lively trial."""
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)
    times = (torch.rand(batch, inputs, spikes, generator=rng, dtype=torch.float64) * T).sort(-1).values.to(dtype)
    return times, normal(inputs, neurons) * strength, normal(neurons) * 2, normal(neurons) * 3


def exact(value):
    """A float64 tensor."""
    return torch.tensor(value, dtype=torch.float64)


def finite(*parts):
    """The same with 0 for inf: a silent neuron has no time and no gradient."""
    return tuple(torch.where(part.isfinite(), part, 0) for part in parts)


def slope(function, at, step):
    """Central difference of a function of one number."""
    return (function(at + step) - function(at - step)) / (2 * step)


def numbers(*values):
    """(1, n) float64 tensor that wants a gradient."""
    return torch.tensor([values], dtype=torch.float64, requires_grad=True)


def compare_with_solver(times, weight, potential, current, *, tau=1.0, t_end=T):
    """Assert spikes to 1e-9, end states to 1e-8; returns the number of spikes."""
    trial = qif(times, weight, potential, current, QIF(tau), t_end)
    none = np.zeros((weight.shape[1], weight.shape[1]))
    for b in range(len(times)):
        start = [part.numpy() for part in (weight, torch.from_numpy(none), potential, current)]
        spikes, angle, i = solve(times[b].numpy(), *start, t_end, tau)
        for j, want in enumerate(spikes):
            got = trial.times[b, j][trial.times[b, j].isfinite()].numpy()
            assert got == pytest.approx(np.array(want), rel=1e-9)
        np.testing.assert_allclose(trial.angle[b], angle, atol=1e-8)
        np.testing.assert_allclose(trial.current[b], i, rtol=1e-8, atol=1e-9)
    return int(trial.times.isfinite().sum())


@pytest.mark.parametrize("seed", range(3))
def test_spikes_are_those_of_an_ode_solver(seed):
    assert compare_with_solver(*draw(seed)) > 5


def test_strong_currents_and_another_tau_agree_with_the_solver():
    times, weight, potential, current = draw(5, strength=40.0, spikes=1)
    times[0, 1] = times[0, 0]  # coincident inputs
    times[1, 2] = INF
    assert compare_with_solver(times, weight, potential, current + 60, tau=0.7, t_end=3 * T) > 30


def test_without_input_the_closed_forms_hold():
    potential = torch.tensor([2.0, 0.5, -1.0, 3.0, -INF], dtype=torch.float64)
    current = torch.tensor([0.0, 0.0, 0.0, -1.0, 16.0], dtype=torch.float64)
    got = qif(torch.full((1, 1, 1), INF).double(), torch.zeros(1, 5).double(), potential, current, QIF(2.0), 9.0)
    by_hand = [2 * math.log(2), INF, INF, -2 * math.log(1 - math.atanh(1 / 3)), -2 * math.log(1 - math.pi / 4)]
    assert got.times[0, :, 0].tolist() == pytest.approx(by_hand, rel=1e-12)
    told = QIF(2.0).time_to_spike(torch.atan(potential), current)
    assert told.tolist() == pytest.approx(by_hand, rel=1e-12)


def test_flow_and_layer_agree_through_spikes_and_signs():
    _, _, potential, current = draw(2, neurons=50)
    current[:5] *= 20
    nothing = torch.full((1, 1, 1), INF).double()
    trial = qif(nothing, torch.zeros(1, 50).double(), potential, current, QIF(), 3.0)
    angle, i = QIF().flow(torch.atan(potential), current, exact(3.0))
    torch.testing.assert_close(trial.angle[0], angle, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(trial.current[0], i, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_pass_gradcheck(seed):
    parts = [part.requires_grad_() for part in draw(seed, batch=2, inputs=3, neurons=4)]
    simulate = lambda *args: finite(*qif(*args, QIF(0.8), T))
    assert torch.autograd.gradcheck(simulate, parts, rtol=1e-6, atol=1e-7)


def test_functions_pass_gradcheck_at_zero_current():
    angle, current = torch.atan(numbers(2.0, 3.0, 2.0, 1.0, 40.0)), numbers(0.0, -1.0, 5.0, 1.0, 1e-9)
    spike = lambda v, i: finite(QIF().time_to_spike(v, i))
    assert torch.autograd.gradcheck(spike, (angle, current), rtol=1e-6, atol=1e-7)
    move = lambda v, i: QIF().flow(v, i, exact(0.3))
    assert torch.autograd.gradcheck(move, (angle, current), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("v", "i"), [(2.0, 0.0), (1.0, -1.0), (-1.5, 0.0), (-2.0, -4.0), (1.0, -1.0 + 1e-12)])
def test_differences_agree_where_formulas_have_cases(v, i):
    """At I = 0 and |V| = sqrt|I| the solution changes its elementary form, not its value or slope."""

    def late(v, i):
        times = torch.tensor([[[0.5], [0.5], [1.1]]], dtype=torch.float64)
        weight = torch.tensor([[3.0], [0.0], [4.0]], dtype=torch.float64)
        trial = qif(times, weight, v, i, QIF(), T)
        return output_times(QIF(), trial, T, 2).sum()

    v_now, i_now = exact([v]).requires_grad_(), exact([i]).requires_grad_()
    late(v_now, i_now).backward()
    alone = lambda x: exact([x])
    assert v_now.grad.item() == pytest.approx(slope(lambda x: late(alone(x), alone(i)).item(), v, 1e-5), rel=1e-7)
    assert i_now.grad.item() == pytest.approx(slope(lambda x: late(alone(v), alone(x)).item(), i, 1e-5), rel=1e-7)


def first_spikes(weight, count=3, t_end=T):
    """Sum of the first output times of one neuron with one input at 0.3, and the number of ordinary ones."""
    trial = qif(exact([[0.3]]), weight, *torch.zeros(2, 1).double(), QIF(), t_end)
    return output_times(QIF(), trial, t_end, count).sum(), int(trial.times.isfinite().sum())


def test_a_spike_is_born_at_the_end_of_the_trial_with_the_slope_it_keeps():
    low, high = 1.0, 40.0
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if first_spikes(exact([[middle]]))[1] == 0 else (low, middle)
    assert first_spikes(exact([[low - 1e-6]]))[1] == 0
    assert first_spikes(exact([[high + 1e-6]]))[1] == 1
    late = lambda w: first_spikes(exact([[w]]))[0].item()
    for weight in (low - 1e-3, low, high, high + 1e-3):
        at = exact([[weight]]).requires_grad_()
        first_spikes(at)[0].backward()
        wide, narrow = (slope(late, weight, step) for step in (2e-4, 1e-4))
        assert at.grad.item() == pytest.approx((4 * narrow - wide) / 3, rel=1e-7)


def test_coincident_inputs_have_the_gradient_of_either_order():
    def late(first, second):
        times = torch.stack((first, second)).view(1, 2, 1)
        weight = exact([[6.0, 2.0], [-3.0, 7.0]])
        trial = qif(times, weight, torch.zeros(2).double(), torch.ones(2).double(), QIF(), T)
        return output_times(QIF(), trial, T, 2).sum()

    at = [exact(0.5).requires_grad_() for _ in range(2)]
    late(*at).backward()
    fixed = exact(0.5)
    move = lambda x: late(exact(x), fixed).item()
    follow = lambda x: late(fixed, exact(x)).item()
    assert at[0].grad.item() == pytest.approx(slope(move, 0.5, 1e-5), rel=1e-7)
    assert at[1].grad.item() == pytest.approx(slope(follow, 0.5, 1e-5), rel=1e-7)


def test_a_zero_weight_has_the_gradient_of_its_neighbours():
    times, weight, potential, current = draw(1, batch=2)
    weight[1], weight[:, 2] = 0, 0
    weight.requires_grad_()

    def total(weight):
        trial = qif(times, weight, potential, current, QIF(), T)
        return trial.angle.sum() + trial.current.sum()

    total(weight).backward()
    for i, j in [(1, 0), (1, 2), (3, 2)]:
        nudge = torch.zeros_like(weight)
        nudge[i, j] = 1
        want = slope(lambda h, nudge=nudge: total((weight + h * nudge).detach()).item(), 0.0, 1e-5)
        assert weight.grad[i, j].item() == pytest.approx(want, rel=1e-7)


def lively_network(seed):
    """A deep network in which spikes of every layer come and go along the way to the next seed's."""
    rng = torch.Generator().manual_seed(seed)
    net = QIFNetwork((3, 6, 5, 2), t_end=T, dtype=torch.float64)
    for layer in net.layers:
        layer.init_(rng, mean=3.0, std=6.0)
    return net


def test_outputs_of_a_deep_network_move_without_a_jump_while_spikes_come_and_go():
    net, times = lively_network(3), exact([[0.1, 0.5, 0.9], [0.7, 0.2, 0.4]])

    def at(parameters):
        output = torch.func.functional_call(net, parameters, (times, 2))
        return tuple(tuple(layer.isfinite().sum((1, 2)).tolist()) for layer in output.spikes), output.times

    births = no_jumps(at, net, lively_network(4), points=200)
    assert births > 20


def test_float32_and_float64_tell_the_same():
    parts = [part.requires_grad_() for part in draw(4, strength=3.0)]
    small = [part.detach().float().requires_grad_() for part in parts]
    for each in (parts, small):
        trial = qif(*each, QIF(), T)
        (trial.angle.sum() + finite(trial.times)[0].sum()).backward()
    for want, got in zip(parts, small):
        torch.testing.assert_close(got.grad.double(), want.grad, rtol=2e-3, atol=1e-3)


def test_spikes_are_never_capped():
    current = exact([3000.0, 0.0])
    nothing = torch.full((2, 1, 1), INF).double()
    times = qif(nothing, torch.zeros(1, 2).double(), torch.zeros(2).double(), current, QIF(), 6.0).times
    turns = math.sqrt(3000) * (1 - math.exp(-6.0)) / math.pi  # of the oscillator, from a quarter of a turn on
    assert times.isfinite().sum(-1).tolist() == [[math.floor(turns + 0.5), 0]] * 2
    few = qif(nothing, torch.zeros(1, 2).double(), torch.zeros(2).double(), current, QIF(), 6.0, plan=Plan(slots=1))
    assert torch.equal(few.times, times)  # room grows from whatever it was
    assert times.shape[-1] == math.floor(turns + 0.5) > 8


def test_threads_share_a_batch_without_a_trace():
    parts = [part.requires_grad_() for part in draw(6, batch=7)]
    grads = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        trial = qif(*parts, QIF(), T)
        grads.append(torch.autograd.grad(trial.angle.sum() + finite(trial.times)[0].sum(), parts))
    torch.set_num_threads(1)
    for one, two in zip(*grads):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_a_silent_network_has_gradients_everywhere():
    rng = torch.Generator().manual_seed(0)
    net = QIFNetwork((3, 5, 4, 2), t_end=T)
    for layer in net.layers:
        layer.init_(rng, mean=0.3, std=0.1)
    output = net(torch.tensor([[0.1, 0.5, 0.9]]))
    assert not any(layer.isfinite().any() for layer in output.spikes)
    output.times.sum().backward()
    assert all((layer.weight.grad != 0).all() for layer in net.layers if layer is not net.layers[0])
    assert (net.layers[0].weight.grad != 0).all()


def test_first_weights_are_spread_less_where_there_are_more_inputs():
    network = QIFNetwork((60, 300, 200), t_end=T)
    network.init_(torch.Generator().manual_seed(0))
    first, second = (layer.weight.detach() for layer in network.stack())
    for weight, mean in ((first, 1.0), (second * 300**0.5, 0.5)):
        assert weight.mean().item() == pytest.approx(mean, abs=0.15)  # three standard errors
        assert weight.std().item() == pytest.approx(4.0, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_neuron_that_was_reset_is_at_minus_infinity_and_not_beside_it(dtype):
    """cos(atan(-inf)) is not 0 but 6e-17, and below 0 in float32: on the other side of a spike."""
    x, y, _ = projective(torch.tensor([-INF, -3.0], dtype=dtype), torch.ones(2, dtype=dtype))[:, 0]
    assert (x[0].item(), y[0].item()) == (-1.0, 0.0)
    assert (x[1] / y[1]).item() == pytest.approx(-3.0, rel=1e-6)
    assert y[1] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_neuron_at_infinity_is_at_the_start_or_the_end_of_its_phase(dtype):
    """At plus infinity the cosine is rounded to below 0 in float32, and the phase would jump from 1 to -1."""
    angle = torch.tensor([math.pi / 2, -math.pi / 2], dtype=dtype)
    current = torch.tensor([0.7, 0.7], dtype=dtype)
    phase, _ = QIF().normalised_phase(QIFState(angle, current, torch.zeros_like(angle)))
    torch.testing.assert_close(phase, torch.tensor([1.0, 0.0], dtype=dtype), rtol=0, atol=1e-6)
