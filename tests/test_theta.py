"""Theta neurons: spikes against an ODE solver, gradients against differences and autograd, and no jump anywhere."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from neuropil.bench._spiking_scan import theta_scan
from neuropil.spiking import Theta, ThetaLayer, ThetaNetwork
from theta_oracles import theta_ode

INF, T = math.inf, 2.0
KINDS = [Theta(), Theta(tau=0.3, drive=0.6), Theta(tau=0.05, drive=3.0)]  # up to 33 half turns in a trial


def spikes_of(shape, rng, share=0.8):
    """Random ascending spike times in (0, T), a `share` of them finite."""
    times = torch.rand(shape, generator=rng, dtype=torch.float64) * T
    return torch.where(torch.rand(shape, generator=rng) < share, times, INF).sort(-1).values


def stack(sizes, rng, neuron=None, scale=2.0):
    """A float64 network with drawn weights and phases; lively if `scale` is large."""
    net = ThetaNetwork(sizes, neuron=neuron, t_end=T).double()
    for layer in net.layers:
        layer.weight.data = torch.randn(layer.weight.shape, generator=rng, dtype=torch.float64) * scale
        layer.phase.data = torch.rand(layer.phase.shape, generator=rng, dtype=torch.float64) * layer.neuron.period
    return net


def parts(net):
    return [p for layer in net.layers for p in (layer.weight, layer.phase)]


@pytest.mark.parametrize("neuron", KINDS)
def test_spikes_and_end_phase_are_those_of_an_ode_solver(neuron):
    rng = torch.Generator().manual_seed(1)
    layer = stack((6, 4), rng, neuron).layers[0]
    trains = spikes_of((2, 6, 2), rng)
    times, phase = layer.simulate(trains)
    assert times.isfinite().sum() > 3
    for b in range(2):
        for j in range(4):
            events = sorted((float(t), layer.weight[i, j].item()) for i in range(6) for t in trains[b, i] if t < INF)
            spikes, end = theta_ode(events, layer.phase[j].item(), neuron, T)
            mine = times[b, j][times[b, j].isfinite()].tolist()
            assert mine == pytest.approx(spikes, rel=1e-9)
            assert phase[b, j].item() == pytest.approx(end, rel=1e-9)


def finite(times):
    return times[times.isfinite()]


def mixture(answers, rng):
    """A number that depends on every finite spike time and every end phase, each with its own weight."""
    total = 0
    for times, phase in answers:
        draw = torch.rand(times.shape, generator=rng, dtype=torch.float64)
        total = total + (draw[times.isfinite()] * finite(times)).sum()
        total = total + (torch.rand(phase.shape, generator=rng, dtype=torch.float64) * phase).sum()
    return total


@pytest.mark.parametrize("neuron", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_spikes_and_gradients_are_those_of_an_spiking_scan(neuron, seed):
    rng = torch.Generator().manual_seed(seed)
    net = stack((5, 7, 4, 3), rng, neuron)
    trains = spikes_of((3, 5, 2), rng).requires_grad_()
    mine, last = [], trains
    for layer in net.layers:
        mine.append(layer.simulate(last))
        last = mine[-1][0]
    theirs = theta_scan(trains, *zip(*((la.weight, la.phase) for la in net.layers)), neuron, T)
    for (t, phase), (u, psi) in zip(mine, theirs):
        torch.testing.assert_close(t, u[..., : t.shape[-1]], rtol=1e-9, atol=1e-9)
        assert u.isfinite().sum() == t.isfinite().sum()
        torch.testing.assert_close(phase, psi, rtol=1e-9, atol=1e-9)
    results = []
    for answers in (mine, theirs):
        draws = torch.Generator().manual_seed(9)
        answers = [(t[..., : m.shape[-1]], p) for (t, p), (m, _) in zip(answers, mine)]
        results.append(torch.autograd.grad(mixture(answers, draws), [trains, *parts(net)]))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8 * float(b.abs().max()))
        assert a.abs().max() > 0


def test_gradcheck_of_a_stack_with_pseudospikes():
    rng = torch.Generator().manual_seed(3)
    net = stack((3, 4, 2), rng)
    trains = spikes_of((2, 3, 2), rng, share=1.0).requires_grad_()
    names = [name for name, _ in net.named_parameters()]

    def run(trains, *values):
        answer = torch.func.functional_call(net, dict(zip(names, values)), (trains, 2))
        return answer.times, answer.states[-1]

    assert 0 < sum(t.isfinite().sum() for t in net(trains).spikes) < 100
    values = [p.detach().clone().requires_grad_() for p in net.parameters()]
    assert gradcheck(run, (trains, *values), eps=1e-6, atol=1e-7, rtol=1e-6)


def slope(run, at, step=1e-4):
    """dy/dx of a scalar function by central differences, their error of first and second order removed."""
    wide, half, narrow = ((run(at + h) - run(at - h)) / (2 * h) for h in (step, step / 2, step / 4))
    first, second = 2 * half - wide, 2 * narrow - half
    return (4 * second - first) / 3


def lone(weight, times=((0.3,),), phase=4.2, spikes=1):
    """First output times of one neuron with one weight for all its inputs, float64."""
    net = ThetaNetwork((len(times), 1), t_end=T).double()
    net.layers[0].weight.data.fill_(0)
    net.layers[0].phase.data.fill_(phase)
    trains = torch.tensor([times], dtype=torch.float64)
    weight = torch.as_tensor(weight, dtype=torch.float64)
    values = {"layers.0.weight": weight.expand(len(times), 1)}
    return torch.func.functional_call(net, values, (trains, spikes)).times[0, 0, -1]


def next_spike(run, low, high, goal):
    """Where the monotone `run` has the value `goal`, to the last digits."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (run(middle) > goal) == (run(low) > goal) else (low, middle)
    return (low + high) / 2


def test_gradient_is_right_where_a_spike_appears_and_disappears():
    run = lambda w: lone(w).item()
    critical = next_spike(run, -2.0, 2.0, T)
    assert run(critical + 0.01) < T < run(critical - 0.01)
    for offset in (-1e-3, 0.0, 1e-3):  # pseudospike, on the edge, ordinary spike
        weight = torch.tensor(critical + offset, dtype=torch.float64, requires_grad=True)
        (exact,) = torch.autograd.grad(lone(weight), weight)
        assert exact.item() == pytest.approx(slope(run, weight.item()), rel=1e-7)
        assert exact < -0.1


def test_gradient_with_zero_weights_is_that_of_differences():
    for times in (((0.3,), (1.1,)), ((0.3,), (0.3,))):
        weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (exact,) = torch.autograd.grad(lone(weight, times), weight)
        assert exact.item() == pytest.approx(slope(lambda w, times=times: lone(w, times).item(), 0.0), rel=1e-7)
        assert exact.abs() > 0.01


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_coincident_inputs_count_once_and_have_the_mean_slope(moved):
    rng = torch.Generator().manual_seed(moved)
    net = stack((4, 3, 2), rng, scale=1.0)
    base = torch.tensor([[0.5, 0.5, 0.5, 1.2]], dtype=torch.float64)

    def run(time):
        times = base.clone()
        times[0, moved] = time
        return (net(times).times * torch.tensor([1.0, 2.0])[:, None]).sum()

    time = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(run(time), time)
    assert exact.item() == pytest.approx(slope(lambda t: run(t).item(), 0.5), rel=1e-7, abs=1e-9)
    shuffled = net(base[:, [2, 0, 1, 3]]).times
    for layer in net.layers[:1]:
        layer.weight.data = layer.weight.data[[1, 2, 0, 3]]
    torch.testing.assert_close(shuffled, net(base).times, rtol=1e-13, atol=0)


def test_two_inputs_may_swap_without_a_jump():
    rng = torch.Generator().manual_seed(2)
    net = stack((2, 3, 2), rng)
    before, at, after = (net(torch.tensor([[0.5, 0.5 + gap]], dtype=torch.float64)).times for gap in (-1e-9, 0.0, 1e-9))
    torch.testing.assert_close(before, at, rtol=0, atol=1e-7)
    torch.testing.assert_close(after, at, rtol=0, atol=1e-7)


def test_a_path_on_which_spikes_are_born_and_die_has_no_jump():
    rng = torch.Generator().manual_seed(5)
    nets = [stack((6, 8, 8, 3), rng, Theta(tau=0.8), scale=0.5) for _ in range(2)]
    net, ends = nets[0], [[p.detach().clone() for p in parts(net)] for net in nets]
    trains = spikes_of((5, 6, 2), rng)

    def travel(steps):
        seen, spikes = [], set()
        for share in torch.linspace(0, 1, steps + 1, dtype=torch.float64):
            for p, a, b in zip(parts(net), *ends):
                p.data = a + share * (b - a)
            answer = net(trains, 2)
            spikes.add(tuple(int(t.isfinite().sum()) for t in answer.spikes))
            seen.append(answer.times.flatten())
        return torch.stack(seen).diff(dim=0).abs().max().item(), spikes

    coarse, _ = travel(300)
    fine, spikes = travel(3000)
    assert len(spikes) > 20
    assert min(len({counts[depth] for counts in spikes}) for depth in range(3)) > 3
    assert fine < coarse / 5


def test_first_weights_are_smaller_where_there_are_more_inputs():
    layer = ThetaLayer(400, 9)
    for _ in range(2):
        assert 0.024 < layer.weight.max() <= 0.025 < 1e-3 - layer.weight.min() <= 0.026  # 0.5 / sqrt(400)
        layer.init_(torch.Generator().manual_seed(0))


def test_every_parameter_of_a_silent_network_has_a_gradient():
    torch.manual_seed(0)
    net = ThetaNetwork((6, 5, 5, 4, 3))
    answer = net(torch.full((2, 6), 0.02))
    assert all(t.isinf().all() for t in answer.spikes)
    answer.times.sum().backward()
    for layer in net.layers:
        assert (layer.weight.grad != 0).all()
        assert (layer.phase.grad != 0).all()


def test_a_spike_at_the_end_belongs_to_the_trial_or_not_without_a_difference():
    trains, phase = torch.tensor([[[INF, INF]], [[T, INF]]]), torch.tensor([[6.0], [0.0]])
    times = Theta().with_pseudospikes(trains, phase, T, 3)
    torch.testing.assert_close(times[0], times[1])
    assert times[0, 0].tolist() == pytest.approx([2.0, 8.0, 14.0])


def test_slots_grow_to_what_the_busiest_neuron_needs():
    layer = ThetaLayer(1, 2, neuron=Theta(tau=0.5, drive=1.25), t_end=2.0).double()
    layer.weight.data = torch.tensor([[0.0, 1e6]], dtype=torch.float64)
    layer.phase.data.zero_()
    pushes = torch.arange(1, 40, dtype=torch.float64) * 0.05
    times, _ = layer.simulate(pushes[None, None])
    assert times.shape[2] > 15
    counts = times[0].isfinite().sum(1)
    assert counts[0] == 1
    assert counts[1] == times.shape[2]
    assert (times[0, 1].diff() > 0).all()


def test_float32_is_float64_rounded():
    rng = torch.Generator().manual_seed(0)
    net = stack((20, 30, 10), rng, scale=0.5)
    trains = spikes_of((10, 20, 2), rng)
    exact = net(trains)
    exact.times.sum().backward()
    low = ThetaNetwork((20, 30, 10), t_end=T)
    low.load_state_dict({name: value.float() for name, value in net.state_dict().items()})
    rough = low(trains.float())
    rough.times.sum().backward()
    torch.testing.assert_close(rough.times.double(), exact.times, rtol=1e-4, atol=1e-4)
    for p, q in zip(low.parameters(), net.parameters()):
        assert (p.grad.double() - q.grad).norm() < 1e-3 * q.grad.norm()


def test_threads_share_the_samples_and_change_nothing():
    rng = torch.Generator().manual_seed(0)
    net = stack((20, 30, 10), rng, scale=0.5)
    trains = spikes_of((7, 20, 1), rng).requires_grad_()
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append((net(trains).times, *torch.autograd.grad(net(trains).times.sum(), [trains, *parts(net)])))
    torch.set_num_threads(before)
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_phase_potential_jump_flow_and_time_to_spike_agree():
    neuron = Theta(tau=0.7, drive=0.9)
    phase = torch.linspace(0.01, 0.99, 9, dtype=torch.float64) * neuron.period
    torch.testing.assert_close(neuron.phase(neuron.potential(phase)), phase)
    weight = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    by_hand = neuron.phase(neuron.potential(phase) + weight)
    torch.testing.assert_close(neuron.jump(phase, weight), by_hand)
    ends = torch.tensor([0.0, neuron.period], dtype=torch.float64)
    torch.testing.assert_close(neuron.jump(ends, weight), ends.expand(7, 2))
    torch.testing.assert_close(neuron.flow(phase, neuron.time_to_spike(phase) + 0.1), torch.full_like(phase, 0.1))
    inputs = (phase.requires_grad_(), weight.requires_grad_())
    assert gradcheck(neuron.jump, inputs)
    single = torch.tensor([neuron.period], dtype=torch.float32)
    assert neuron.jump(single, torch.tensor([5.0])).item() == pytest.approx(neuron.period, rel=1e-6)


def test_a_weight_changed_between_forward_and_backward_is_refused():
    layer = ThetaLayer(2, 3)
    total = layer(torch.tensor([[0.1, 0.2]])).states[0].sum()
    with torch.no_grad():
        layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
