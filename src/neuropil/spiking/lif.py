"""The leaky integrate-and-fire neuron with exponential currents, for contrast: its spikes come and go with a jump."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.errors import require

__all__ = ["LIF"]


@dataclass(frozen=True)
class LIF:
    r"""The neuron :math:`\tau \dot V = -V + I`, :math:`\tau \dot I = -2 I`, that fires when V reaches 1.

    A weight or a time that lowers the peak of V below 1 takes the spike away at once, in the middle of the trial, with
    an infinite slope just before: :math:`dt / dw = -(\partial V / \partial w) / \dot V`, and V rests at a peak.

    Attributes:
        tau: membrane time constant, twice the synaptic one; its unit is the unit of all times.

    Raises:
        Refusal: tau is not positive and finite.

    >>> LIF().first_spike(torch.tensor([[0.5]]), torch.tensor([[5.0]]), t_end=2.0)  # one input of weight 5 at 0.5
    tensor([0.8235])
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.tau < math.inf, f"a LIF neuron needs finite tau > 0, got tau={self.tau}.")

    def flow(self, potential: Tensor, current: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        r"""State (V, I) after `time` without input and without a threshold.

        With q = exp(-time / tau): V' = (V + I) q - I q^2 and I' = I q^2.
        """
        q = torch.exp(-time / self.tau)
        return (potential + current) * q - current * q * q, current * q * q

    def time_to_spike(self, potential: Tensor, current: Tensor) -> Tensor:
        """Time until V reaches 1 from below without further input, inf if it never does.

        V = 1 is a quadratic equation in q; the earliest time is its larger root, 2 / (s - root) with s = V + I.
        """
        total = potential + current
        square = total * total - 4 * current
        fires = (potential < 1) & (current > 1) & (total > 0) & (square > 0)
        root = torch.where(fires, square, 1).sqrt()
        q = torch.where(fires, (total + root) / (2 * torch.where(fires, current, 1)), 0.5)
        time = -self.tau * torch.log(q)
        return torch.where(fires & (q < 1) & (q > 0), time, math.inf)

    def first_spike(self, times: Tensor, weights: Tensor, t_end: float) -> Tensor:
        """The first spike time of a neuron at rest, inf if there is none up to `t_end`: (batch,).

        Args:
            times: (batch, inputs), one spike each; inf where there is none.
            weights: (batch, inputs).
            t_end: end of the trial.
        """
        times, order = times.sort(dim=1, stable=True)
        weights = weights.gather(1, order)
        potential = current = now = torch.zeros_like(times[:, 0])
        first = torch.full_like(now, math.inf)
        for k in range(times.shape[1] + 1):
            until = times[:, k].clamp(max=t_end) if k < times.shape[1] else torch.full_like(now, t_end)
            wait = self.time_to_spike(potential, current)
            fires = (now + wait <= until) & first.isinf()
            first = torch.where(fires, now + torch.where(fires, wait, 0), first)
            potential, current = self.flow(potential, current, until - now)
            if k < times.shape[1]:
                current = current + torch.where(times[:, k] <= t_end, weights[:, k], 0)
            now = until
        return first
