"""Spiking networks: whatever neurons get what they cannot use, they say so in one line, and all in the same words."""

import math

import pytest
import torch

from neuropil.errors import Refusal
from neuropil.spiking import (
    QIF,
    LIFLayer,
    Plan,
    QIFLayer,
    QIFNetwork,
    QIFState,
    RecurrentLIF,
    RecurrentQIF,
    Theta,
    ThetaLayer,
    ThetaNetwork,
    simulate_qif,
    simulate_recurrent_qif,
)
from neuropil.spiking.kernels.bundles import device_memory
from neuropil.spiking.kernels.dispatch import kernels

INF, T = math.inf, 2.0
FITS = torch.tensor([[0.1, 0.2]])


def layers(t_end=T, plan=None):
    """One of every kind, for two inputs."""
    return tuple(kind(2, 3, t_end=t_end, plan=plan) for kind in (ThetaLayer, QIFLayer, RecurrentQIF))


KINDS = pytest.mark.parametrize("kind", range(3), ids=("theta", "qif", "recurrent"))


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (torch.tensor([[0.1, math.nan]]), "got NaN, nan in sample 0, neuron 1, spike 0; a silent neuron is inf"),
        (torch.tensor([[-0.1, 0.2]]), "got a negative time, -0.1"),
        (torch.tensor([[-INF, 0.2]]), "got a negative time"),
        (torch.tensor([[[0.4, 0.2], [0.1, 0.2]]]), r"after the one that follows it.*sort the spikes"),
        (torch.tensor([[[INF, 0.2], [0.1, 0.2]]]), "after the one that follows it"),
        (torch.tensor([[0.1, 2.5]]), "got a time after the end, 2.5"),
        (torch.tensor([[0.1, 0.2, 0.3]]), r"inputs|2 neurons"),
        (torch.tensor([[0.1, 0.2]]).double(), "float64"),
        (torch.tensor([0.1, 0.2]), r"\(batch, neurons, spikes\) or \(batch, neurons\)"),
        (torch.tensor([[1, 2]]), "float32 or float64"),
        (FITS.half(), "float32 or float64"),
        (FITS.to("meta"), "the CPU and on CUDA GPUs, got times on meta"),
    ],
)
@KINDS
def test_bad_times_are_refused_in_one_line(kind, times, words):
    with pytest.raises(Refusal, match=words) as told:
        layers()[kind](times)
    assert "\n" not in str(told.value)


@KINDS
def test_good_times_are_taken(kind):
    for times in (FITS, torch.tensor([[0.0, T]]), torch.full((1, 2), INF), torch.tensor([[[0.1, INF], [0.2, 0.2]]])):
        layers()[kind](times)


@pytest.mark.parametrize("t_end", [0.0, -1.0, INF])
def test_a_trial_without_an_end_is_refused(t_end):
    for make in (ThetaLayer, QIFLayer, RecurrentQIF):
        with pytest.raises(Refusal, match="positive, finite end"):
            make(2, 3, t_end=t_end)
    start = torch.zeros(2, 3)
    with pytest.raises(Refusal, match="positive, finite end"):
        simulate_qif(FITS, torch.zeros(2, 3), *start, QIF(), math.nan)
    with pytest.raises(Refusal, match="positive, finite end"):
        simulate_qif(FITS, torch.zeros(2, 3), *start, QIF(), t_end)
    with pytest.raises(Refusal, match="positive, finite end"):
        simulate_recurrent_qif(FITS, torch.zeros(2, 3), torch.zeros(3, 3), *start, QIF(), t_end)


@pytest.mark.parametrize("tau", [0.0, -1.0, INF])
def test_a_time_constant_that_is_none_is_refused(tau):
    for neuron in (Theta, QIF):
        with pytest.raises(Refusal, match="finite tau > 0"):
            neuron(tau=tau)


@pytest.mark.parametrize("drive", [0.25, -1.0, INF])
def test_a_drive_of_a_quarter_or_less_is_refused(drive):
    with pytest.raises(Refusal, match="drive above 1/4"):
        Theta(drive=drive)


@KINDS
def test_weights_of_another_shape_are_refused(kind):
    layer = layers()[kind]
    layer.weight.data = torch.zeros(3, 2)
    with pytest.raises(Refusal, match=r"neurons|weights \(inputs, neurons\)"):
        layer(FITS)
    layer = layers()[kind]
    layer.weight.data = torch.zeros(2, 3).double()
    with pytest.raises(Refusal, match="float64"):
        layer(FITS)


@KINDS
def test_parameters_on_another_device_than_the_times_are_refused(kind):
    with pytest.raises(Refusal, match=r"one device, got cpu and meta; move one of them with .to\(\)"):
        layers()[kind].to("meta")(FITS)


@pytest.mark.parametrize("wrong", [math.nan, INF])
def test_weights_that_diverged_are_refused(wrong):
    for layer in layers():
        layer.weight.data.fill_(wrong)
        with pytest.raises(Refusal, match=r"weight has NaN or (inf|values beyond 1e\+12)"):
            layer(FITS)
    for layer in layers()[1:]:  # without a bound the simulation would take years before it ran out of memory
        layer.weight.data.fill_(-1e30)
        with pytest.raises(Refusal, match=r"values beyond 1e\+12"):
            layer(FITS)
    net = RecurrentQIF(2, 3, t_end=T)
    net.potential.data.fill_(-INF)
    net(FITS)
    for name in ("current", "potential", "recurrent"):
        getattr(net, name).data.fill_(wrong)
        with pytest.raises(Refusal, match=f"{name} has NaN or"):
            net(FITS)
    layer = ThetaLayer(2, 3)
    layer.weight.data.fill_(1e30)  # finite, but beyond what float32 can follow
    with pytest.raises(Refusal, match=r"up to 1e\+30 are too large for float32"):
        layer(FITS)


@pytest.mark.parametrize("t_end", [1e9, 1e15])
def test_a_trial_so_long_that_its_spikes_exceed_memory_is_refused(t_end):
    with pytest.raises(Refusal, match=r"GiB, more than half of the memory.*a smaller batch"):
        ThetaLayer(1, 1000, t_end=t_end)(torch.full((1000, 1), 0.1))


@KINDS
def test_spikes_beyond_memory_are_refused(kind):
    layer = layers(20.0, Plan(memory=20_000))[kind]
    layer(FITS)
    if kind == 2:
        layer.recurrent.data.fill_(1e3)  # they excite each other for ever
    layer.weight.data.fill_([0.0, 1e9, 1e3][kind])
    times = FITS.expand(2000 if kind == 0 else 1, -1)
    with pytest.raises(Refusal, match="more than half of the memory"):
        layer(times)


def test_the_memory_of_a_machine_is_known():
    assert 2**28 < device_memory(torch.device("cpu")) < 2**50


def test_a_gpu_without_triton_is_refused():
    with pytest.raises(Refusal, match="need triton"):
        kernels("theta", torch.device("cuda"), Plan(), gpu=dict)


def test_bad_sizes_and_masks_are_refused():
    for make in (
        lambda: ThetaLayer(0, 3),
        lambda: ThetaNetwork((3,)),
        lambda: QIF(softness=-1.0),
        lambda: QIFLayer(0, 3, t_end=T),
        lambda: QIFLayer(2, 3, t_end=T, dtype=torch.float16),
        lambda: QIFNetwork((3,), t_end=T),
        lambda: QIF().with_pseudospikes(torch.zeros(1, 1, 1), QIFState(*torch.zeros(2, 1, 1)), T, 0),
        lambda: RecurrentQIF(2, 0, t_end=T),
        lambda: RecurrentQIF(2, 3, t_end=T, mask=torch.ones(2, 3)),
        lambda: RecurrentQIF(2, 3, t_end=T, dtype=torch.int64),
    ):
        with pytest.raises(Refusal):
            make()


@pytest.mark.parametrize("kind", [ThetaLayer, QIFLayer, LIFLayer, RecurrentQIF, RecurrentLIF])
def test_one_bad_number_is_found_wherever_it_stands(kind):
    fine = torch.tensor([[[0.2, 0.7], [0.3, INF]], [[0.1, 0.9], [INF, INF]], [[0.4, 0.5], [0.6, 0.8]]])
    layer = kind(2, 3, t_end=T)
    layer(fine)
    for place in range(fine.numel()):
        for bad in (math.nan, -0.1, T + 0.1):
            times = fine.clone()
            times.view(-1)[place] = bad
            with pytest.raises(Refusal, match=r"NaN|negative|after the"):
                layer(times)
    for name, one in layer.named_parameters():
        for place in range(one.numel() * (name != "phase")):
            old = one.data.clone()
            one.data.view(-1)[place] = math.nan
            with pytest.raises(Refusal, match=f"{name} has NaN"):
                layer(fine)
            one.data = old
    layer(fine)
