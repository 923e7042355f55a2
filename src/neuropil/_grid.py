"""Times on a grid of steps: in which step a time is, and how many steps a while has."""

import math

import torch
from torch import Tensor


def step_count(t_end: float, dt: float) -> int:
    """How many steps of `dt` reach from 0 to `t_end`; a part of a step is one.

    >>> step_count(0.3, 0.1), step_count(0.31, 0.1)
    (3, 4)
    """
    return math.ceil(round(t_end / dt, 9))


def step_of(times: Tensor, dt: float) -> Tensor:
    r"""The step k with :math:`k\,dt \le t < (k + 1)\,dt` of each finite time, int64.

    A time that is a border but for the rounding of its dtype counts as that border. So 0.009 s, of which float32 knows
    0.00899999961, is in step 9 of steps of 1 ms.

    >>> step_of(torch.tensor([0.0, 0.009, 0.0095]), 1e-3)
    tensor([0, 9, 9])
    """
    place = times.double() / dt
    border = place.round()
    rounding = torch.finfo(times.dtype).eps * border.abs().clamp_min(1)
    return torch.where((place - border).abs() <= rounding, border, place.floor()).long()
