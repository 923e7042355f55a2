"""The QIF neuron with exponentially decaying current: flow, time to spike, pseudospikes, in plain torch."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from neuropil.errors import require

TERMS = 10  # of each power series, exact to rounding for |z| <= 1/4


@dataclass(frozen=True)
class QIF:
    r"""The neuron :math:`\tau \dot V = V (V - 1) + I`, :math:`\tau \dot I = -2 I`, seen as an angle.

    It fires when V diverges and restarts at minus infinity; an input of weight w adds w to I. Its state is (angle, I)
    with V = tan(angle), -pi/2 <= angle <= pi/2, finite even at a spike; V and I have no unit. Klos & Memmesheimer 2025,
    Phys. Rev. Lett. 134, 027301 (arXiv 2309.14523).

    Attributes:
        tau: membrane time constant, twice the synaptic one; its unit is the unit of all times.
        softness: alpha of the current alpha softplus(I / alpha) that drives pseudospikes, in the unit of I.
    """

    tau: float = 1.0
    softness: float = 10.0

    def __post_init__(self) -> None:
        fine = 0 < self.tau < math.inf and 0 < self.softness < math.inf
        require(fine, f"a QIF neuron needs finite tau > 0 and softness > 0, got {self}.")

    def flow(self, angle: Tensor, current: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        r"""State (angle, current) after `time` without input, through however many spikes.

        With q = exp(-time / tau), D = 1 - q and V = x / y: x' = q (x c + y I S), y' = y c - x S, I' = q^2 I, where
        c = cos(sqrt(I) D) and S = sin(sqrt(I) D) / sqrt(I), for every sign of I.

        Args:
            angle, current: any shape.
            time: >= 0, broadcastable to that shape.
        """
        q, d = torch.exp(-time / self.tau), -torch.expm1(-time / self.tau)
        c, s = _entire(current * d * d)
        x, y = torch.sin(angle), torch.cos(angle)
        ahead, up = q * (x * c + y * current * d * s), y * c - x * d * s
        return torch.atan2(torch.where(up < 0, -ahead, ahead), up.abs()), q * q * current

    def time_to_spike(self, angle: Tensor, current: Tensor) -> Tensor:
        r"""Time until the next spike without further input, inf if there is none.

        -tau log(1 - s), where s is the smallest solution of tan(sqrt(I) s) = sqrt(I) y / x with y / x = 1 / V: an arc
        tangent for I > 0, an area tangent for I < 0, 1 / V at I = 0. It spikes if s < 1.

        Args:
            angle, current: any shape.
        """
        s = _Crossing.apply(angle, current)
        fires = s < 1
        return torch.where(fires, -self.tau * torch.log1p(-torch.where(fires, s, 0)), math.inf)

    def normalised_phase(self, angle: Tensor, current: Tensor, drive: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """How far a neuron has come from one spike (0) to the next (1) at the end of the trial, and how long that is.

        From the end on it goes by tau dV/dt = (V - 1/2)^2 + I_p with I_p = alpha softplus((I + drive) / alpha), a theta
        neuron, whose phase is tau (atan((V - 1/2) / sqrt(I_p)) + pi / 2) / sqrt(I_p), of tau pi / sqrt(I_p) altogether.

        Args:
            angle, current: state at the end of the trial.
            drive: what the layer below adds to the current: its phases times the weights; 0 from inputs of the network.

        Returns:
            The share, in [0, 1] ("rate"), and pi / sqrt(I_p), the interval between pseudospikes in units of tau.
        """
        root = (self.softness * softplus((current + drive) / self.softness)).sqrt()
        x, y = torch.sin(angle), torch.cos(angle).clamp(min=0)
        return torch.atan2(root * y, y / 2 - x) / math.pi, math.pi / root

    def with_pseudospikes(self, times: Tensor, share: Tensor, period: Tensor, t_end: float, spikes: int = 1) -> Tensor:
        """The first `spikes` spikes of every neuron; pseudospikes continue smoothly what the trial did not bring.

        The k-th spike after the end is at T + tau period (k - share); when a spike is born at T or vanishes there, the
        ordinary and the pseudospike agree.

        Args:
            times: (..., neurons, slots), ordinary spikes, inf where there is none.
            share, period: (..., neurons), see `normalised_phase`.
            t_end: end of the trial, T.
            spikes: how many are wanted, >= 1.
        """
        require(spikes >= 1, f"with_pseudospikes needs spikes >= 1, got {spikes}.")
        wide = pad(times, (0, max(0, spikes - times.shape[-1])), value=math.inf)[..., :spikes]
        ordinary = torch.isfinite(wide)
        number = torch.arange(1, spikes + 1).to(wide) - ordinary.sum(-1, keepdim=True)
        later = t_end + self.tau * period[..., None] * (number - share[..., None])
        return torch.where(ordinary, wide, later)


def _entire(z: Tensor) -> tuple[Tensor, Tensor]:
    """(cosine, sine): the series at z / 4^n, then n doublings of the argument of cos and sin."""
    peak = float(z.detach().abs().max()) if z.numel() else 0.0
    n = max(0, math.ceil(math.log(max(4 * peak, 1.0), 4)))
    small = z / 4**n
    c, s = torch.ones_like(z), torch.ones_like(z)
    for k in range(TERMS, 0, -1):
        c, s = 1 - small / (2 * k * (2 * k - 1)) * c, 1 - small / (2 * k * (2 * k + 1)) * s
    for _ in range(n):
        c, s = 2 * c * c - 1, s * c
    return c, s


def _cube(z: Tensor) -> Tensor:
    """(1 - sin(2 sqrt z) / (2 sqrt z)) / (2 z), an entire function of z, 1/3 at 0."""
    near = z.abs() < 0.25
    c, s = _entire(z)
    series = sum((-4 * torch.where(near, z, 0)) ** k * (2 / math.factorial(2 * k + 3)) for k in range(TERMS))
    return torch.where(near, series, (1 - c * s) / torch.where(near, 1, 2 * z))


class _Crossing(torch.autograd.Function):
    """The smallest s >= 0 at which y cos(sqrt(I) s) = x sin(sqrt(I) s) / sqrt(I); inf if there is none.

    With A = |dy/ds| there, A^2 = x^2 + I y^2: ds/dangle = -1 / A^2 and ds/dI = -s^3 cube(I s^2).
    """

    @staticmethod
    def forward(ctx: Any, angle: Tensor, current: Tensor) -> Tensor:
        x, y = torch.sin(angle), torch.cos(angle).clamp(min=0)
        root = current.abs().sqrt()
        safe = torch.where(current == 0, 1, root)
        above = x > root * y
        ratio = torch.where(above, y, 0) / torch.where(above, x, 1)
        falling = torch.where(current == 0, ratio, torch.atanh(torch.where(current < 0, root * ratio, 0)) / safe)
        s = torch.where(current > 0, torch.atan2(root * y, x) / safe, torch.where(above, falling, math.inf))
        ctx.save_for_backward(x, y, current, s)
        return s

    @staticmethod
    def backward(ctx: Any, by_s: Tensor) -> tuple[Tensor, Tensor]:
        x, y, current, s = ctx.saved_tensors
        fires = s < 1
        s, by_s = torch.where(fires, s, 0), torch.where(fires, by_s, 0)
        square = torch.where(fires, x * x + current * y * y, 1)
        return -by_s / square, -by_s * s**3 * _cube(current * s * s)
