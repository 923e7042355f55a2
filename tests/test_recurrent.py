"""Recurrent QIF networks: events against an ODE solver and a scan under autograd, gradients, continuity."""

import math

import numpy as np
import pytest
import torch

from neuropil.bench._spiking_scan import qif_scan
from neuropil.spiking import QIF, Plan, RecurrentQIF
from qif_oracles import Simulated, no_jumps, output_times, qif, recurrent_qif, solve

INF = math.inf
T = 4.0


def draw(seed, *, batch=2, inputs=3, neurons=4, spikes=2, dtype=torch.float64):
    """Times, outer and inner weights, potentials and currents of a lively trial."""
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)
    times = (torch.rand(batch, inputs, spikes, generator=rng, dtype=torch.float64) * T).sort(-1).values.to(dtype)
    return (
        times,
        normal(inputs, neurons) * 6,
        normal(neurons, neurons) * 4,
        normal(neurons) * 2,
        normal(neurons) * 3 + 12,
    )


def finite(part):
    """The same with 0 for inf: a silent neuron has no time and no gradient."""
    return torch.where(part.isfinite(), part, 0)


def total(trial):
    """One number that every output moves, each in its own measure."""
    sums = [(finite(part) * torch.arange(1, part[0].numel() + 1).view(part[0].shape)).sum() for part in trial]
    return sums[0] + sums[1] + sums[2]


def trains_of(trial, b):
    """Finite spikes of every neuron of sample b."""
    return [train[train.isfinite()].tolist() for train in trial.times[b].detach()]


def slope(function, at, step):
    """Central difference of a function of one number."""
    return (function(at + step) - function(at - step)) / (2 * step)


@pytest.mark.parametrize("seed", range(3))
def test_spikes_are_those_of_an_ode_solver(seed):
    parts = draw(seed)
    trial = recurrent_qif(*parts, QIF(0.9), T)
    assert trial.times.isfinite().sum() > 4
    for b in range(2):
        spikes, angle, i = solve(parts[0][b].numpy(), *(part.numpy() for part in parts[1:]), T, 0.9)
        for got, want in zip(trains_of(trial, b), spikes):
            assert got == pytest.approx(want, rel=1e-9)
        np.testing.assert_allclose(trial.angle[b], angle, atol=1e-8)
        np.testing.assert_allclose(trial.current[b], i, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_events_and_gradients_are_those_of_a_scan_under_autograd(seed):
    parts = [part.requires_grad_() for part in draw(seed, neurons=6)]
    trial = recurrent_qif(*parts, QIF(), T)
    scanned = qif_scan(*parts, QIF(), T)
    torch.testing.assert_close(trial.times, scanned[0], rtol=1e-11, atol=0)
    assert trial.times.isfinite().sum() > 8
    want = torch.autograd.grad(total(scanned), parts)
    for one, two in zip(torch.autograd.grad(total(trial), parts), want):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_gradients_pass_gradcheck(seed):
    parts = [part.requires_grad_() for part in draw(seed, neurons=3)]
    simulate = lambda *args: tuple(finite(part) for part in recurrent_qif(*args, QIF(0.8), T))
    assert torch.autograd.gradcheck(simulate, parts, rtol=1e-6, atol=1e-7)


def test_without_synapses_it_is_a_feed_forward_layer():
    times, outer, inner, potential, current = draw(7)
    one = recurrent_qif(times, outer, 0 * inner, potential, current, QIF(), T)
    two = qif(times, outer, potential, current, QIF(), T)
    for a, b in zip(one, two):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def pair(first, weight):
    """Two neurons that excite each other and a third, from currents `first` and 9: sum of all output times."""
    inner = torch.zeros(3, 3, dtype=torch.float64)
    inner = inner.index_put((torch.tensor([0, 1, 1]), torch.tensor([1, 0, 2])), torch.stack((weight, weight, weight)))
    current = torch.stack((first, torch.tensor(9.0).double(), torch.tensor(1.0).double()))
    nothing = torch.full((1, 1, 1), INF).double()
    net = RecurrentQIF(1, 3, t_end=T, dtype=torch.float64)
    values = {"recurrent": inner, "current": current}
    output = torch.func.functional_call(net, values, (nothing,))
    (state,) = output.states
    trial = Simulated(output.spikes[0], state.angle, state.current)
    return output_times(net.neuron, trial, T, 3).sum()


@pytest.mark.parametrize("weight", [0.0, 1.5, -4.0])
def test_gradients_hold_where_spikes_coincide_and_change_their_order(weight):
    """At equal currents neurons 0 and 1 fire at once; a little less or more, and one comes first."""
    exact = lambda x: torch.tensor(x, dtype=torch.float64)
    at = exact(9.0).requires_grad_(), exact(weight).requires_grad_()
    pair(*at).backward()
    by_current = slope(lambda x: pair(exact(x), exact(weight)).item(), 9.0, 1e-5)
    by_weight = slope(lambda x: pair(exact(9.0), exact(x)).item(), weight, 1e-5)
    assert at[0].grad.item() == pytest.approx(by_current, rel=1e-7)
    assert at[1].grad.item() == pytest.approx(by_weight, rel=1e-7)


def test_gradients_hold_where_a_spike_appears():
    """Neuron 0 makes neuron 1 fire: the later the weaker the synapse, and in the end beyond the end of the trial."""
    exact = lambda x: torch.tensor(x, dtype=torch.float64)

    def late(weight):
        net = RecurrentQIF(1, 2, t_end=T, dtype=torch.float64)
        inner = torch.zeros(2, 2, dtype=torch.float64).index_put((exact(0).long(), exact(1).long()), weight)
        values = {"recurrent": inner, "current": exact([9.0, 0.0])}
        output = torch.func.functional_call(net, values, (torch.full((1, 1, 1), INF).double(), 2))
        return output.times[0, 1, 0], int(output.spikes[0][0, 1].isfinite().sum())

    low, high = 1.0, 40.0
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if late(exact(middle))[1] == 0 else (low, middle)
    assert [late(exact(low - 1e-3))[1], late(exact(high + 1e-3))[1]] == [0, 1]
    for weight in (low - 1e-3, low, high, high + 1e-3):
        at = exact(weight).requires_grad_()
        late(at)[0].backward()
        wide, narrow = (slope(lambda w: late(exact(w))[0].item(), weight, step) for step in (2e-4, 1e-4))
        assert at.grad.item() == pytest.approx((4 * narrow - wide) / 3, rel=1e-7)
        assert at.grad.item() < -0.01


def test_coincident_inputs_have_the_gradient_of_either_order():
    parts = [part[:1] if k == 0 else part for k, part in enumerate(draw(2))]
    parts[0] = parts[0][..., :1]

    def run(first, second):
        return total(recurrent_qif(torch.stack((first, second, parts[0][0, 2, 0])).view(1, 3, 1), *parts[1:], QIF(), T))

    exact = lambda x: torch.tensor(x, dtype=torch.float64)
    at = [exact(0.5).requires_grad_() for _ in range(2)]
    run(*at).backward()
    by_first = slope(lambda t: run(exact(t), exact(0.5)).item(), 0.5, 1e-6)
    by_second = slope(lambda t: run(exact(0.5), exact(t)).item(), 0.5, 1e-6)
    assert [part.grad.item() for part in at] == pytest.approx([by_first, by_second], rel=1e-7)


@pytest.mark.parametrize(("v", "i"), [(2.0, 0.0), (1.0, -1.0), (-1.0, -1.0), (-0.5, 0.0)])
def test_gradients_hold_at_zero_current_and_at_the_separatrix(v, i):
    exact = lambda x: torch.tensor(x, dtype=torch.float64)

    def late(v, i):
        potential, current = torch.stack((v, exact(0.5))), torch.stack((i, exact(20.0)))
        inner = exact([[0.0, 3.0], [5.0, 0.0]])
        trial = recurrent_qif(exact([[0.9]]), exact([[0.0, 2.0]]), inner, potential, current, QIF(), T)
        return total(trial)

    at = exact(v).requires_grad_(), exact(i).requires_grad_()
    late(*at).backward()
    assert at[0].grad.item() == pytest.approx(slope(lambda x: late(exact(x), exact(i)).item(), v, 1e-5), rel=1e-7)
    assert at[1].grad.item() == pytest.approx(slope(lambda x: late(exact(v), exact(x)).item(), i, 1e-5), rel=1e-7)


def lively_network(seed):
    """A network whose spikes come, go and change order along the way to the next seed's."""
    rng = torch.Generator().manual_seed(seed)
    net = RecurrentQIF(2, 8, t_end=T, dtype=torch.float64)
    with torch.no_grad():
        for part, mean, spread in ((net.weight, 2, 5), (net.recurrent, 1, 5), (net.current, 10, 8)):
            part.normal_(mean, spread, generator=rng)
    return net


def test_outputs_move_without_a_jump_while_spikes_come_and_go():
    net, times = lively_network(0), torch.tensor([[[0.3, 1.5], [0.9, 2.0]]]).double()

    def at(parameters):
        (spikes,) = torch.func.functional_call(net, parameters, (times,)).spikes
        counts = spikes.isfinite().sum(-1)
        order = spikes.flatten().argsort(stable=True)[: int(counts.sum())]
        early = torch.nn.functional.pad(spikes.clamp(max=T), (0, 20), value=T)[..., :20]
        return (tuple(counts.flatten().tolist()), tuple((order // spikes.shape[-1]).tolist())), early

    assert no_jumps(at, net, lively_network(1), points=200) > 15


def test_pseudospikes_join_spikes_without_a_jump():
    net, times = lively_network(2), torch.tensor([[[0.3, 1.5], [0.9, 2.0]]]).double()

    def at(parameters):
        output = torch.func.functional_call(net, parameters, (times, 3))
        return tuple(output.spikes[0].isfinite().sum(-1).flatten().tolist()), output.times

    assert no_jumps(at, net, lively_network(3), points=200) > 5


def test_neurons_that_are_alike_fire_together_whatever_rounding_does():
    for current in torch.linspace(5, 100, 40).double():
        net = RecurrentQIF(1, 3, t_end=T, dtype=torch.float64)
        net.current.data.fill_(current)
        net.recurrent.data.fill_(0.3)
        first, second, third = net(torch.tensor([[0.5]]).double()).spikes[0][0].detach()
        assert torch.equal(first.isfinite(), second.isfinite())
        assert torch.equal(first.isfinite(), third.isfinite())
        torch.testing.assert_close(first, second, rtol=1e-12, atol=0)
        torch.testing.assert_close(first, third, rtol=1e-12, atol=0)


def test_a_mask_removes_synapses_and_their_gradients():
    times, outer, inner, _, current = draw(3)
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    net = RecurrentQIF(3, 4, t_end=T, mask=mask, dtype=torch.float64)
    with torch.no_grad():
        for part, value in ((net.weight, outer), (net.recurrent, inner), (net.current, current)):
            part.copy_(value)
    output = net(times)
    other = recurrent_qif(times, outer, inner * mask, torch.zeros(4).double(), current, QIF(), T)
    torch.testing.assert_close(output.spikes[0], other.times, rtol=0, atol=0)
    state = output.states[0]
    total((output.spikes[0], state.angle, state.current)).backward()
    late = net(times, n_spikes=30).times  # with pseudospikes
    late.sum().backward()
    assert (net.recurrent.grad[~mask] == 0).all()
    assert (net.recurrent.grad[mask] != 0).any()
    net.recurrent.data *= mask
    assert torch.equal(net(times, n_spikes=30).times, late)


def test_float32_and_float64_tell_the_same():
    parts = [part.requires_grad_() for part in draw(1)]
    small = [part.detach().float().requires_grad_() for part in parts]
    for each in (parts, small):
        total(recurrent_qif(*each, QIF(), T)).backward()
    for want, got in zip(parts, small):
        torch.testing.assert_close(got.grad.double(), want.grad, rtol=1e-3, atol=1e-2)


def test_spikes_are_never_capped():
    parts = draw(2, neurons=5)
    parts[4].add_(400)
    want = recurrent_qif(*parts, QIF(), T)
    assert want.times.isfinite().sum() > 40
    got = recurrent_qif(*parts, QIF(), T, plan=Plan(events=1))
    for a, b in zip(got, want):
        assert torch.equal(a, b)


def test_threads_share_a_batch_without_a_trace():
    parts = [part.requires_grad_() for part in draw(6, batch=5)]
    grads = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        grads.append(torch.autograd.grad(total(recurrent_qif(*parts, QIF(), T)), parts))
    torch.set_num_threads(1)
    for one, two in zip(*grads):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
