"""Losses and readouts of spike times; all are smooth where spikes come and go, if pseudospikes continue the trains."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil.checks import require


def first_spike_loss(times: Tensor, labels: Tensor, horizon: float, *, early: float = 0.01) -> Tensor:
    r"""Cross entropy of who fires first: :math:`-\log \mathrm{softmax}(-t)_y + \gamma (e^{t_y / T} - 1)`, mean.

    The second term asks the neuron of the label to be early, not only earlier than the others.
    Klos & Memmesheimer 2025; Goltz et al. 2021, Nat. Mach. Intell. 3.

    Args:
        times: first output times with pseudospikes, so all finite, (batch, classes).
        labels: (batch,) int64.
        horizon: end of the trial T, in the unit of `times`.
        early: gamma.
    """
    require(times.ndim == 2, f"first_spike_loss needs one time per class, (batch, classes), got {tuple(times.shape)}.")
    own = times.gather(1, labels[:, None])
    return F.cross_entropy(-times, labels) + early * torch.expm1(own / horizon).mean()


def spike_time_loss(times: Tensor, targets: Tensor, *, one_sided: Tensor | None = None, offset: float = 2.0) -> Tensor:
    r"""Mean of :math:`((t - t^*) / (t^* + c))^2`: the k-th spike of every neuron is pulled to its k-th target.

    Where `one_sided` is set, a spike after its target is as good as one at it: a target after the end of the trial
    then removes a spike and asks for no more. Klos & Memmesheimer 2025.

    Args:
        times: output times with pseudospikes, (..., spikes).
        targets: t*, of the same shape or one that broadcasts to it; NaN where nothing is asked of a spike.
        one_sided: bool, like `targets`.
        offset: c, in the unit of `times`; makes errors of early and late spikes comparable.
    """
    require(
        targets.ndim <= times.ndim
        and all(goal in (1, time) for goal, time in zip(targets.shape[::-1], times.shape[::-1])),
        f"spike_time_loss needs targets that broadcast to the times, got {tuple(targets.shape)} for "
        f"{tuple(times.shape)}; ask the network for as many spikes as there are targets.",
    )
    asked = ~targets.isnan()
    goal = torch.where(asked, targets, 0)
    error = torch.where(asked, (times - goal) / (goal + offset), 0)
    if one_sided is not None:
        error = torch.where(one_sided, error.clamp(max=0), error)
    return error.square().sum() / asked.expand_as(error).sum()


def spike_count(trains: Tensor, phase: Tensor, period: float) -> Tensor:
    r"""How many spikes and how far to the next: n + :math:`\phi(T) / \Theta`, (batch, neurons).

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
    time, neuron = trains[..., 0].min(1)
    return torch.where(time.isfinite(), neuron, -1)
