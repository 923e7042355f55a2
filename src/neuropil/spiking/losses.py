"""Losses and readouts of spike times; all are smooth where spikes come and go, if pseudospikes continue the trains."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil.errors import Refusal, require
from neuropil.spiking.network import check_inputs

__all__ = ["first_spike_loss", "first_to_fire", "peak_potential", "spike_count", "spike_time_loss"]

STEEPEST = 10.0  # time in units of the trial from which the exponential of the first-spike loss is a straight line


def first_spike_loss(times: Tensor, labels: Tensor, t_end: float, *, early_weight: float = 0.01) -> Tensor:
    r"""Cross entropy of the first spike: :math:`-\log \mathrm{softmax}(-t)_y + \gamma (e^{t_y / T} - 1)`, mean.

    The second term asks the neuron of the label to be early, not only earlier than the others. From t = 10 T on it goes
    on along its tangent, so that the loss of a late spike is finite. An empty batch has a loss of 0.
    Klos & Memmesheimer 2025; Goltz et al. 2021, Nat. Mach. Intell. 3.

    Args:
        times: first output times with pseudospikes, so all finite, (batch, classes).
        labels: (batch,) int64.
        t_end: end of the trial T, in the unit of `times`.
        early_weight: gamma.

    Raises:
        Refusal: not one time per class.

    >>> first_spike_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([0]), t_end=2.0, early_weight=0.0)
    tensor(0.3133)
    """
    require(times.ndim == 2, f"first_spike_loss needs one time per class, (batch, classes), got {tuple(times.shape)}.")
    if not len(times):
        return times.sum()
    late = times.gather(1, labels[:, None]) / t_end
    bent = late  # where no spike is late, which is nearly always, nothing bends
    if late.device.type != "cpu" or not late.detach().max().item() <= STEEPEST:  # a GPU would have to be waited for
        bent = late.clamp(max=STEEPEST)
    early = torch.expm1(bent)
    if bent is not late:
        early = early + math.exp(STEEPEST) * (late - bent)
    return F.cross_entropy(-times, labels) + early_weight * early.mean()


def spike_time_loss(times: Tensor, targets: Tensor, *, one_sided: Tensor | None = None, offset: float = 2.0) -> Tensor:
    r"""Mean of :math:`((t - t^*) / (t^* + c))^2`: the k-th spike of every neuron has its k-th target.

    Where `one_sided` is set, a spike after its target is as good as one at it. A target after the end of the trial
    then removes a spike and asks for no more. Klos & Memmesheimer 2025.

    Args:
        times: output times with pseudospikes, (..., spikes).
        targets: t*, of the same shape or one that broadcasts to it; NaN where nothing is asked of a spike.
        one_sided: bool, like `targets`.
        offset: c > 0, in the unit of `times`; makes errors of early and late spikes comparable.

    Returns:
        The mean; 0 where nothing is asked of any spike.
    """
    sizes = zip(targets.shape[::-1], times.shape[::-1])
    if targets.ndim > times.ndim or not all(goal in (1, time) for goal, time in sizes):
        got = f"got {tuple(targets.shape)} for {tuple(times.shape)}"
        cure = "ask the network for as many spikes as there are targets."
        raise Refusal(f"spike_time_loss needs targets that broadcast to the times, {got}; {cure}")
    asked = ~targets.isnan()
    goal = torch.where(asked, targets, 0)
    span = goal + offset
    least, most = span.detach().aminmax() if span.numel() else (span.new_ones(()), span.new_ones(()))
    if not bool((least > 0) & (most < math.inf)):
        raise Refusal(f"spike_time_loss needs finite targets above -offset, and offset > 0, got offset={offset}.")
    error = torch.where(asked, (times - goal) / span, 0)
    if one_sided is not None:
        error = torch.where(one_sided, error.clamp(max=0), error)
    return error.square().sum() / asked.expand_as(error).sum().clamp(min=1)


def spike_count(trains: Tensor, phase: Tensor, period: float) -> Tensor:
    r"""Number of spikes and the phase since the last: n + :math:`\phi(T) / \Theta`, (batch, neurons).

    It changes without a jump when a spike appears or vanishes at the end of the trial.

    Args:
        trains: ordinary spikes, (batch, neurons, spikes), padded with inf.
        phase: at the end, (batch, neurons).
        period: the largest phase, Theta.
    """
    return trains.isfinite().sum(-1) + phase / period


def first_to_fire(trains: Tensor) -> Tensor:
    """The neuron with the earliest ordinary spike of every sample, (batch,) int64; -1 where all are silent.

    Args:
        trains: ordinary spikes, (batch, neurons, spikes), padded with inf.
    """
    time, neuron = F.pad(trains[..., :1], (0, 1), value=math.inf)[..., 0].min(1)
    return torch.where(time.isfinite(), neuron, -1)


def peak_potential(times: Tensor, weight: Tensor, t_end: float, *, tau: float = 1.0) -> Tensor:
    r"""The largest potential, between 0 and the end T, of readout neurons that integrate and do not fire.

    :math:`\tau \dot V = -V + I`, :math:`\tau \dot I = -2 I + \tau \sum_i w_i \delta(t - t_i)`, both 0 at first, so
    :math:`V = \sum_i w_i (e^{-(t - t_i) / \tau} - e^{-2 (t - t_i) / \tau})`: between two inputs it is a parabola in
    exp(-t / tau), whose top is known in closed form. A spike that appears or vanishes at T changes nothing before it,
    so the peak is smooth there. Where no input arrives, or all inhibit, it is 0, without a gradient.

    Args:
        times: spikes of the layer below, (batch, inputs, spikes) or (batch, inputs), ascending, padded with inf.
        weight: (inputs, neurons).
        t_end: end of the trial T, at most 40 `tau`.
        tau: membrane time constant, twice the synaptic one, in the unit of `times`.

    Returns:
        (batch, neurons), in units of the weights; as logits of a cross entropy it is a max-over-time readout.
    """
    trains, events = check_inputs(times, weight, t_end, "peak_potential needs")
    require(t_end <= 40 * tau, f"peak_potential needs 0 < t_end <= 40 tau, got {t_end:g} and tau={tau:g}.")
    if not trains.numel():
        return weight[:0].sum(0).expand(len(trains), -1)
    here = torch.arange(events.time.shape[1], device=events.time.device) < events.total[:, None]
    when = torch.where(here, trains.flatten(1).gather(1, events.slot.long()), t_end)
    start = torch.exp((t_end - when) / tau)  # exp((T - t) / tau) where an interval begins
    end = torch.cat([start[:, 1:], torch.ones_like(start[:, :1])], 1)[..., None]
    kick = weight[events.source.long()] * here[..., None]
    up, down = (kick / start[..., None]).cumsum(1), (kick / start[..., None].square()).cumsum(1)
    potential: Callable[[Tensor], Tensor] = lambda q: q * up - q.square() * down
    top = (up / torch.where(down > 0, 2 * down, 1)).detach()  # the slope is 0 there, so it need not be followed
    inside = (down > 0) & (top > end) & (top < start[..., None])
    edge = torch.maximum(potential(start[..., None]), potential(end))
    return torch.where(inside, potential(torch.where(inside, top, torch.ones_like(top))), edge).amax(1).clamp(min=0)
