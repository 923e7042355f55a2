"""Spiking networks at their ends: no samples, times and weights beyond all measure, every digit of float64."""

import math

import pytest
import torch

from neuropil.errors import Diverged, Refusal
from neuropil.models import AdaBelief
from neuropil.models.training.adabelief import descend_
from neuropil.spiking import (
    LIF,
    QIF,
    LatencyEncoding,
    LinearTimeEncoding,
    QIFNetwork,
    QIFState,
    RecurrentQIF,
    Theta,
    ThetaNetwork,
    ThresholdEncoding,
    simulate_lif,
    simulate_qif,
    simulate_recurrent_lif,
    simulate_recurrent_qif,
)
from neuropil.spiking.losses import first_spike_loss, first_to_fire, peak_potential, spike_time_loss

DTYPES = torch.float32, torch.float64
NETWORKS = {
    "theta": lambda: ThetaNetwork((4, 5, 3), neuron=Theta(0.9, 0.31)),
    "QIF": lambda: QIFNetwork((4, 5, 3), t_end=2.7),
    "recurrent": lambda: RecurrentQIF(4, 3, t_end=2.7),
}

SIMULATIONS = {
    "QIF": (simulate_qif, QIF()),
    "LIF": (simulate_lif, LIF()),
    "recurrent QIF": (simulate_recurrent_qif, QIF()),
    "recurrent LIF": (simulate_recurrent_lif, LIF()),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 2), (0, 4, 0), (3, 4, 0)])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_an_empty_batch_has_an_empty_answer_and_a_gradient_of_zero(make, shape, dtype):
    network, times = make().to(dtype), torch.zeros(shape, dtype=dtype, requires_grad=True)
    output = network(times, n_spikes=2)
    assert output.times.shape == (shape[0], 3, 2)
    assert output.times.dtype == dtype
    output.times.sum().backward()
    assert times.grad.shape == shape
    assert all(part.grad.isfinite().all() for part in network.parameters())
    assert shape[0] or not any(part.grad.any() for part in network.parameters())


def first_spikes(kind, current, dtype, t_end):
    """When one neuron fires that a decaying current drives from V = 0."""
    none, rest = torch.full((1, 1, 1), math.inf, dtype=dtype), torch.zeros(1, dtype=dtype)
    simulate, neuron = SIMULATIONS[kind]
    weights = [torch.zeros(1, 1, dtype=dtype)] * (2 if "recurrent" in kind else 1)
    times = simulate(none, *weights, rest, torch.tensor([current], dtype=dtype), neuron, t_end)[0].flatten()
    return times[times.isfinite()].double()


@pytest.mark.parametrize("kind", SIMULATIONS)
def test_no_spike_is_rounded_to_behind_the_end_of_the_trial(kind):
    """Trials that end right after a spike: to the nearest number of float32 it would often come after the end."""
    spikes, nearest = 0, 0
    for current in torch.linspace(5, 60, 60).tolist():
        first = first_spikes(kind, current, torch.float64, 9.0)[0].item()
        for t_end in first * (1 + 1e-9), first * (1 + 3e-8):
            found = first_spikes(kind, current, torch.float32, t_end)
            assert not (found > t_end).any()
            spikes += len(found)
            nearest += len(found) and torch.tensor(first).double().item() > t_end
    assert spikes > 40
    assert nearest >= 5


def test_losses_and_readouts_of_nothing():
    times, none = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    first_spike_loss(times, none, 2.7).backward()
    assert first_spike_loss(times, none, 2.7) == spike_time_loss(times, torch.full((3,), math.nan)) == 0
    assert spike_time_loss(torch.ones(2, 3, 2), torch.full((3, 2), math.nan)) == 0
    weight = torch.ones(4, 3, requires_grad=True)
    for shape in (0, 4), (2, 4, 0):
        peak = peak_potential(torch.zeros(shape), weight, 2.7)
        assert peak.tolist() == [[0, 0, 0]] * shape[0]
        peak.sum().backward()
    assert not weight.grad.any()
    assert first_to_fire(torch.zeros(2, 3, 0)).tolist() == [-1, -1]
    assert first_to_fire(torch.zeros(0, 3, 1)).tolist() == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_of_a_late_first_spike_is_finite_and_rises(dtype):
    late = torch.tensor([0.3, 1.0, 9.9, 10.1, 1e2, 1e4, 1e30], dtype=dtype) * 2.7
    losses, slopes = [], []
    for time in late:
        times = torch.stack([time, torch.ones_like(time)])[None].requires_grad_()
        loss = first_spike_loss(times, torch.tensor([0]), 2.7)
        (slope,) = torch.autograd.grad(loss, times)
        losses.append(loss.item())
        slopes.append(slope[0, 0].item())
    assert losses == sorted(set(losses))
    assert math.isfinite(losses[-1])
    assert slopes[-1] == pytest.approx(1 + 0.01 * math.exp(10) / 2.7, rel=1e-5)
    alone = [
        time + math.log(math.exp(-time) + math.exp(-1)) + 0.01 * math.expm1(time / 2.7) for time in late.tolist()[:3]
    ]
    assert losses[:3] == pytest.approx(alone, rel=1e-5)  # the law of the paper up to t = 10 T


@pytest.mark.parametrize("bad", [-2.0, -3.5, math.inf])
def test_targets_without_an_error_are_refused(bad):
    with pytest.raises(Refusal, match="finite targets above -offset"):
        spike_time_loss(torch.ones(2, 3), torch.tensor([1.0, 0.5, bad]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [-500.0, -1e4, -1e6, -1e11])
def test_a_silenced_qif_network_has_finite_times_and_gradients(weight, dtype):
    network = QIFNetwork((4, 3), t_end=2.7, dtype=dtype)
    torch.nn.init.constant_(network.layers[0].weight, weight)
    times = network(torch.tensor([[0.3, 1.1, 1.9, 2.6]], dtype=dtype)).times[..., 0]
    first_spike_loss(times, torch.tensor([1]), 2.7).backward()
    assert times.isfinite().all()
    assert (times > 2.7).all()
    assert all(part.grad.isfinite().all() for part in network.parameters())


def test_the_current_of_pseudospikes_is_softplus_and_goes_on_without_a_jump_where_that_is_zero():
    current = torch.tensor([[-1e5, -400.0, -201.0, -200.001, -199.999, -35.0, 12.0]], dtype=torch.float64)
    _, period = QIF().normalised_phase(QIFState(torch.zeros_like(current), current))
    law = math.pi / (10 * torch.nn.functional.softplus(current / 10)).sqrt()
    assert period[0, 4:].tolist() == pytest.approx(law[0, 4:].tolist(), rel=1e-12)
    assert period[0, 2:4].tolist() == pytest.approx(law[0, 2:4].tolist(), rel=1e-2)
    assert (period[0, 1:] < period[0, :-1]).all()
    assert period[0, 0] < 100 * period[0, 4]


@pytest.mark.parametrize("weight", [1e6, -1e6])
def test_theta_neurons_with_weights_beyond_float32_are_refused_and_not_wrong(weight):
    network = ThetaNetwork((4, 3), neuron=Theta(0.9, 0.31))
    torch.nn.init.constant_(network.layers[0].weight, weight)
    with pytest.raises(Refusal, match="weights up to 1e\\+06 are too large for float32"):
        network(torch.tensor([[0.3, 0.7, 1.1, 1.6]]))


@pytest.mark.parametrize("clip", [1.3, math.inf])
def test_a_gradient_that_is_not_finite_is_refused_before_anything_is_written(clip):
    weight = torch.tensor([0.7, -1.3], requires_grad=True)
    optimizer = AdaBelief([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    with pytest.raises(Diverged, match="norm of its gradient is nan; lower its learning rate"):
        descend_((weight * math.nan).sum(), optimizer, schedule, clip)
    assert weight.tolist() == torch.tensor([0.7, -1.3]).tolist()
    assert not optimizer.state
    assert descend_((weight * 3).sum(), optimizer, schedule, clip) == pytest.approx(3 * math.sqrt(2))
    assert weight.isfinite().all()


def test_pseudospikes_of_theta_neurons_have_all_digits_of_float64():
    neuron, state = Theta(0.9, 0.31), torch.tensor([[0.1, 0.7]], dtype=torch.float64)
    silent = torch.full((1, 2, 1), math.inf, dtype=torch.float64)
    times = neuron.with_pseudospikes(silent, state, t_end=2.7, n_spikes=5)
    period = math.pi * 0.9 / math.sqrt(0.31 - 0.25)
    want = [[2.7 + k * period - phase for k in range(1, 6)] for phase in (0.1, 0.7)]
    assert times[0].flatten().tolist() == pytest.approx([*want[0], *want[1]], rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize(
    "encode",
    [ThresholdEncoding(0.3, 0.0201), LatencyEncoding(1.7), LatencyEncoding(1.7, levels=3), LinearTimeEncoding(1.7)],
    ids=repr,
)
def test_encodings_keep_the_dtype_and_all_digits(encode, dtype):
    x = torch.tensor([[[0.1, 0.9]]], dtype=dtype)
    assert encode(x).dtype == dtype
    assert encode(x[:0]).shape == (0, encode(x).shape[1])
    assert ThresholdEncoding(0.3, 0.0201)(x)[0, 1] == torch.tensor(0.0201, dtype=dtype)
