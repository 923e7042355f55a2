"""Losses and readouts of spike times by hand, and AdaBelief by the paper."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

from neuropil.errors import Refusal
from neuropil.models import AdaBelief, SpikeTimeTraining
from neuropil.spiking import Theta, ThetaNetwork
from neuropil.spiking.losses import first_spike_loss, first_to_fire, peak_potential, spike_count, spike_time_loss

INF, NAN = math.inf, math.nan


def test_first_spike_loss_by_hand():
    times, labels = torch.tensor([[1.0, 2.0], [0.5, 0.5]]), torch.tensor([0, 1])
    first = -math.log(math.exp(-1) / (math.exp(-1) + math.exp(-2))) + 0.01 * (math.exp(0.5) - 1)
    second = math.log(2) + 0.01 * (math.exp(0.25) - 1)
    assert first_spike_loss(times, labels, 2.0).item() == pytest.approx((first + second) / 2, rel=1e-6)
    assert first_spike_loss(times, labels, 2.0, early_weight=0.0) < first_spike_loss(times, labels, 2.0)
    with pytest.raises(Refusal, match="one time per class"):
        first_spike_loss(times[..., None], labels, 2.0)


def test_the_loss_of_a_training_by_hand():
    """A temperature sharpens the competition, and leaves alone how early and how late a spike is."""
    training = SpikeTimeTraining(inverse_temperature=3.0, early_weight=0.2, late_weight=0.4, margin=0.7)
    rows = []
    for own, other in ((1.1, 2.3), (1.9, 0.6)):
        rival = math.exp(-3 * own) / (math.exp(-3 * own) + math.exp(-3 * other))
        rows.append(-math.log(rival) + 0.2 * (math.exp(own / 2.5) - 1) + 0.4 * max(0.0, own - 2.5 + 0.7))
    times, labels = torch.tensor([[1.1, 2.3], [0.6, 1.9]]), torch.tensor([0, 1])
    assert training.loss(times, labels, 2.5).item() == pytest.approx(sum(rows) / 2, rel=1e-6)


def test_spike_time_loss_by_hand_and_one_sided():
    times = torch.tensor([[[1.0, 3.0], [2.0, 5.0]]], requires_grad=True)
    targets = torch.tensor([[2.0, 2.0], [NAN, 4.0]])
    parts = [(-1 / 4) ** 2, (1 / 4) ** 2, (1 / 6) ** 2]
    assert spike_time_loss(times, targets).item() == pytest.approx(sum(parts) / 3, rel=1e-6)
    one_sided = torch.tensor([[True, True], [False, True]])
    loss = spike_time_loss(times, targets, one_sided=one_sided)
    assert loss.item() == pytest.approx(parts[0] / 3, rel=1e-6)
    (slope,) = torch.autograd.grad(loss, times)
    assert slope.flatten().tolist() == pytest.approx([-2 / 16 / 3, 0, 0, 0], rel=1e-6)
    twice = torch.cat((times, times))  # a mean, so what two samples ask is what one of them asks
    assert spike_time_loss(twice, targets).item() == pytest.approx(sum(parts) / 3, rel=1e-6)
    assert spike_time_loss(times, torch.tensor(2.0)).item() == pytest.approx((1 + 1 + 0 + 9) / 16 / 4, rel=1e-6)
    with pytest.raises(Refusal, match="as many spikes as there are targets"):
        spike_time_loss(times, torch.zeros(2, 3))


def test_a_spike_is_removed_and_added_by_descending_the_loss():
    for phase, target, one_sided, spikes in ((4.5, 2.2, True, 0), (3.5, 1.2, False, 1)):
        net = ThetaNetwork((1, 1))
        net.layers[0].phase.data.fill_(phase)
        net.layers[0].weight.data.zero_()
        assert net(torch.tensor([[0.5]])).spikes[0].isfinite().sum() == 1 - spikes
        optimizer = torch.optim.SGD([net.layers[0].weight], lr=2.0)
        for _ in range(200):
            times = net(torch.tensor([[0.5]])).times
            loss = spike_time_loss(times, torch.tensor([target]), one_sided=torch.tensor(one_sided))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        answer = net(torch.tensor([[0.5]]))
        assert answer.spikes[0].isfinite().sum() == spikes
        assert answer.times.item() == pytest.approx(target, abs=0.01)


def test_count_is_smooth_and_the_first_to_fire_needs_a_spike():
    neuron = Theta()
    before = spike_count(torch.tensor([[[INF]]]), torch.tensor([[neuron.period]]), neuron.period)
    after = spike_count(torch.tensor([[[2.0]]]), torch.tensor([[0.0]]), neuron.period)
    assert before.item() == pytest.approx(after.item())
    trains = torch.tensor([[[0.7, 0.9], [0.5, INF], [INF, INF]], [[INF, INF]] * 3])
    assert first_to_fire(trains).tolist() == [1, -1]
    assert spike_count(trains, torch.full((2, 3), 3.0), 6.0).tolist() == [[2.5, 1.5, 0.5], [0.5] * 3]


def test_adabelief_takes_the_steps_of_the_paper():
    param = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = AdaBelief([param], lr=0.1, betas=(0.8, 0.9), eps=1e-3)
    m = s = torch.zeros(2, dtype=torch.float64)
    theta = param.detach().clone()
    for step, gradient in enumerate(([1.0, 0.5], [0.2, 0.5], [-3.0, 0.5]), 1):
        g = torch.tensor(gradient, dtype=torch.float64)
        param.grad = g.clone()
        optimizer.step()
        m = 0.8 * m + 0.2 * g
        s = 0.9 * s + 0.1 * (g - m) ** 2 + 1e-3
        theta = theta - 0.1 * (m / (1 - 0.8**step)) / ((s / (1 - 0.9**step)).sqrt() + 1e-3)
        torch.testing.assert_close(param.detach(), theta, rtol=1e-12, atol=0)


def test_adabelief_goes_on_from_its_state_and_refuses_nonsense():
    steps = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))

    def train(stop):
        param = nn.Parameter(torch.zeros(3))
        optimizer = AdaBelief([param])
        for index, gradient in enumerate(steps):
            if index == stop:
                old, optimizer = optimizer, AdaBelief([param])
                optimizer.load_state_dict(old.state_dict())
            param.grad = gradient.clone()
            optimizer.step()
        return param.detach()

    assert torch.equal(train(3), train(None))
    assert train(None).abs().min() > 0
    for bad in ({"lr": 0}, {"eps": 0}, {"betas": (1.0, 0.9)}):
        with pytest.raises(Refusal, match="AdaBelief needs"):
            AdaBelief([nn.Parameter(torch.zeros(1))], **bad)


def test_phases_that_leave_the_circle_come_back_to_its_end():
    net = ThetaNetwork((2, 3))
    net.layers[0].phase.data = torch.tensor([-1.0, 3.0, 7.0])
    net.clamp_phases_()
    assert net.layers[0].phase.tolist() == pytest.approx([0.0, 3.0, 6.0])


def peak_by_ode(times, weight, t_end, tau):
    """Oracle: a leaky integrator, solved from input to input, stopped wherever its slope is 0."""
    v = current = peak = now = 0.0
    still = lambda t, state: state[1] - state[0]
    slope = lambda t, state: [(state[1] - state[0]) / tau, -2 * state[1] / tau]
    for time, w in [*sorted(zip(times, weight)), (t_end, 0.0)]:
        if time > now:
            path = solve_ivp(slope, [now, time], [v, current], events=still, rtol=1e-11, atol=1e-13)
            peak = max([peak, path.y[0][-1], *(state[0] for state in path.y_events[0])])
            v, current = path.y[:, -1]
        now, current = time, current + w
    return peak


def spikes_and_weights(seed):
    rng = torch.Generator().manual_seed(seed)
    times = (torch.rand(6, 5, 2, generator=rng, dtype=torch.float64) * 3).sort(-1).values
    times[0], times[1, :3], times[2, 0] = INF, INF, times[2, 1]  # silence, few spikes, coincident ones
    return times, torch.randn(5, 4, generator=rng, dtype=torch.float64)


def test_the_peak_of_the_potential_is_that_of_the_ode():
    times, weight = spikes_and_weights(0)
    got = peak_potential(times, weight, 3.0, tau=0.7)
    for b in range(4):  # silence, few spikes, coincident ones, and all of them
        for j in range(2):
            spikes = [(t, w) for row, w in zip(times[b].tolist(), weight[:, j].tolist()) for t in row if t < INF]
            want = peak_by_ode([t for t, _ in spikes], [w for _, w in spikes], 3.0, 0.7)
            assert got[b, j].item() == pytest.approx(want, rel=1e-8, abs=1e-10)
    assert (got[0] == 0).all()
    assert (got > 0).any()
    single = peak_potential(torch.tensor([[0.2]]), torch.tensor([[2.0]]), 3.0)
    assert single.item() == pytest.approx(0.5)  # w / 4, log 2 after the spike


def test_the_peak_has_exact_gradients():
    times, weight = spikes_and_weights(1)
    times[2, 0] += torch.tensor([0.01, 0.02])  # the order of coincident spikes is not differentiable
    finite = times.isfinite()

    def peak(values, weight):
        return peak_potential(torch.full_like(times, INF).masked_scatter(finite, values), weight, 3.0, tau=0.7)

    given = (times[finite].clone().requires_grad_(True), weight.requires_grad_(True))
    assert torch.autograd.gradcheck(peak, given, eps=1e-7, atol=1e-6)


def test_a_spike_at_the_end_does_not_change_the_peak():
    weight = torch.tensor([[1.0], [5.0]], dtype=torch.float64)
    times = torch.tensor([[0.5, 2.0 - 1e-9], [0.5, INF]], dtype=torch.float64)
    late, never = peak_potential(times, weight, 2.0)
    assert late.item() == pytest.approx(never.item(), abs=1e-7)
    for bad in (
        lambda: peak_potential(times, weight, 50.0),
        lambda: peak_potential(times, weight.float(), 2.0),
        lambda: peak_potential(times, weight[:1], 2.0),
    ):
        with pytest.raises(Refusal, match="peak_potential needs"):
            bad()


def test_counts_have_exact_gradients_on_either_side_of_the_birth_of_a_spike():
    net = ThetaNetwork((3, 4, 2)).double()
    rng = torch.Generator().manual_seed(3)
    for layer in net.layers:
        layer.weight.data = 1 + 3 * torch.randn(layer.weight.shape, generator=rng, dtype=torch.float64)
    times, labels = torch.rand(5, 3, generator=rng, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 0])

    def loss(weight):
        parameters = {**dict(net.named_parameters()), "layers.1.weight": weight}
        answer = torch.func.functional_call(net, parameters, (times,))
        counts = spike_count(answer.spikes[-1], answer.states[-1], net.neuron.period)
        return nn.functional.cross_entropy(counts, labels), counts

    direction = net.layers[1].weight.detach()
    fired, found = set(), []
    for size in torch.linspace(-2, 2, 41).tolist():
        weight = (size * direction).requires_grad_(True)
        value, counts = loss(weight)
        (slope,) = torch.autograd.grad(value, weight)
        ahead, behind = (loss((size + step) * direction)[0] for step in (1e-5, -1e-5))
        assert (slope * direction).sum().item() == pytest.approx((ahead - behind).item() / 2e-5, rel=1e-5, abs=1e-8)
        fired.add(tuple(counts.floor().flatten().int().tolist()))
        found.append(value.item())
    assert len(fired) > 1  # spikes were born on the way
    assert max(abs(a - b) for a, b in pairwise(found)) < 0.2
