"""QIF neurons as harmonic oscillators in plain torch: power series, the time of the next spike, first states."""

import math
from typing import Any

import torch
from torch import Tensor

TERMS = 10  # of each power series, exact to rounding for |z| <= 1/4


def entire(z: Tensor) -> tuple[Tensor, Tensor]:
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
    c, s = entire(z)
    series = sum((-4 * torch.where(near, z, 0)) ** k * (2 / math.factorial(2 * k + 3)) for k in range(TERMS))
    return torch.where(near, series, (1 - c * s) / torch.where(near, 1, 2 * z))


class NextSpike(torch.autograd.Function):
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


def projective(potential: Tensor, current: Tensor) -> Tensor:
    """V and I, (neurons,) or (batch, neurons), to (x, y, I) with V = x / y, x^2 + y^2 = 1 and y >= 0.

    Returns:
        (3, 1 or batch, neurons).
    """
    potential, current = torch.atleast_2d(potential.detach(), current.detach())
    angle = torch.atan(potential)
    y = torch.where(potential.isinf(), 0, torch.cos(angle))
    return torch.stack(torch.broadcast_tensors(torch.sin(angle), y, current))


def start_grads(by_start: Tensor, potential: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of angle and current at time 0, (2, batch, neurons), as those of `potential` and `current`."""
    by_potential = by_start[0] * torch.cos(torch.atan(potential)) ** 2
    return by_potential.sum_to_size(potential.shape), by_start[1].sum_to_size(current.shape)
