"""The theta neuron: a quadratic integrate-and-fire neuron with a constant drive and inputs that act at once."""

from dataclasses import dataclass
from math import inf, pi, sqrt
from typing import Any

import torch
from torch import Tensor

from neuropil.errors import require


@dataclass(frozen=True)
class Theta:
    r"""The neuron :math:`\tau \dot V = V (V - 1) + I_0 + \tau \sum_i w_i \delta(t - t_i)`, seen as a phase.

    It fires when V diverges and restarts at minus infinity. With :math:`r = \sqrt{I_0 - 1/4}` the phase
    :math:`\phi = (\tau / r) (\arctan((V - 1/2) / r) + \pi / 2)` advances by 1 per unit of time, from 0 to
    :math:`\Theta = \pi \tau / r`, where the neuron fires and starts again from 0. An input of weight w takes it to
    :math:`H(\phi, w) = \Phi(\Phi^{-1}(\phi) + w)`. Klos & Memmesheimer 2025, Phys. Rev. Lett. 134.

    Attributes:
        tau: membrane time constant; its unit is the unit of all times.
        drive: constant input :math:`I_0`, above 1/4, so that the neuron fires by itself; dimensionless, like V and w.
    """

    tau: float = 6 / pi
    drive: float = 5 / 4

    def __post_init__(self) -> None:
        require(0 < self.tau < inf, f"a theta neuron needs finite tau > 0, got tau={self.tau}.")
        require(0.25 < self.drive < inf, f"a theta neuron needs a finite drive above 1/4, got drive={self.drive}.")

    @property
    def r(self) -> float:
        """Half the distance, in V, over which the phase is spread: sqrt(I0 - 1/4)."""
        return sqrt(self.drive - 0.25)

    @property
    def period(self) -> float:
        """Time from spike to spike without input, and the largest phase."""
        return pi * self.tau / self.r

    def phase(self, potential: Tensor) -> Tensor:
        """Phi: the phase (0 to `period`) at a potential V (minus to plus infinity), any shape."""
        return (torch.atan((potential - 0.5) / self.r) + pi / 2) * (self.tau / self.r)

    def potential(self, phase: Tensor) -> Tensor:
        """The inverse of Phi: V at a phase strictly between 0 and `period`, any shape."""
        return 0.5 + self.r * torch.tan(phase * (self.r / self.tau) - pi / 2)

    def flow(self, phase: Tensor, time: Tensor | float) -> Tensor:
        """The phase after `time` without input; the neuron may have fired on the way."""
        return torch.remainder(phase + time, self.period)

    def time_to_spike(self, phase: Tensor) -> Tensor:
        """Time until the next spike without input, any shape."""
        return self.period - phase

    def jump(self, phase: Tensor, weight: Tensor) -> Tensor:
        """H: the phase right after an input of `weight`, both of any shapes that broadcast, with exact gradients.

        The ends stay where they are: a neuron at phase 0 (V = -inf) or `period` (V = inf) feels no input.
        """
        return _Jump.apply(phase, weight, self.r, self.tau / self.r)

    def with_pseudospikes(self, trains: Tensor, phase: Tensor, t_end: float, spikes: int = 1) -> Tensor:
        r"""The first `spikes` output times, :math:`T + k \Theta - \phi` standing in for the k-th after the end T.

        These pseudospikes are where the neuron would fire if it were left alone. A spike that is pushed out of the
        trial becomes one, and the other way round, without a jump.

        Args:
            trains: spikes of the trial, (batch, neurons, slots), padded with inf.
            phase: at the end, (batch, neurons), after the input that stands for the pseudospikes of the layer below.
            t_end: end of the trial T.
            spikes: how many times to give per neuron, ordinary spikes first.

        Returns:
            (batch, neurons, spikes), all finite, ascending.
        """
        had = trains.isfinite().sum(-1, keepdim=True)
        missing = torch.arange(1, spikes + 1, device=trains.device) - had
        pseudo = t_end + missing * self.period - phase[..., None]
        if trains.shape[-1] < spikes:
            trains = torch.nn.functional.pad(trains, (0, spikes - trains.shape[-1]), value=torch.inf)
        return torch.where(missing > 0, pseudo, trains[..., :spikes])


class _Jump(torch.autograd.Function):
    """With psi = phase / scale, s = sin psi, c = cos psi - (w / r) s: psi' = atan2(s, c), dpsi' = (dpsi + s^2 dw / r) /
    (s^2 + c^2).
    """

    @staticmethod
    def forward(ctx: Any, phase: Tensor, weight: Tensor, r: float, scale: float) -> Tensor:
        psi = phase / scale
        s = psi.sin().clamp_(min=0)  # psi may be rounded to above pi, where the neuron is at V = +inf
        c = psi.cos() - weight / r * s
        ctx.save_for_backward(s, c)
        ctx.r, ctx.scale, ctx.shapes = r, scale, (phase.shape, weight.shape)
        return torch.atan2(s, c) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        s, c = ctx.saved_tensors
        by_phase = gradient / (s.square() + c.square())
        by_weight = by_phase * s.square() * (ctx.scale / ctx.r)
        return by_phase.sum_to_size(ctx.shapes[0]), by_weight.sum_to_size(ctx.shapes[1]), None, None
