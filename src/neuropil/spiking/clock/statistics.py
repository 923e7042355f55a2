"""What a raster says of a network: rates, how irregular its spikes are, and how synchronous."""

import math

import torch
from torch import Tensor

from neuropil.errors import require


def check_raster(raster: Tensor) -> Tensor:
    """A raster (time, units) in double precision."""
    got = tuple(raster.shape)
    require(raster.ndim == 2 and min(got) > 0, f"statistics need a raster (time, units) with both above 0, got {got}.")
    return raster.detach().double()


def firing_rates(raster: Tensor, dt: float) -> Tensor:
    """Spikes of each unit in a second, (units,).

    Args:
        raster: (time, units), numbers of spikes in each step.
        dt: length of a step, s.

    Raises:
        Refusal: another shape, or a step without length.

    Examples:
        >>> firing_rates(torch.tensor([[1, 0], [0, 0]]), dt=0.05)
        tensor([10.,  0.], dtype=torch.float64)
    """
    spikes = check_raster(raster)
    require(0 < dt < math.inf, f"firing_rates needs dt > 0, in s, got {dt}.")
    return spikes.sum(0) / (dt * len(spikes))


def interval_cv(raster: Tensor) -> Tensor:
    """Standard deviation over mean of the intervals between spikes of each unit, (units,): 0 for regular spikes.

    A Poisson process has 1. Units with fewer than three spikes have NaN.

    Args:
        raster: (time, units), 0 or 1.

    Raises:
        Refusal: another shape.

    Examples:
        >>> spikes = torch.zeros(8, 2)
        >>> spikes[[0, 3, 6], 0], spikes[[0, 1, 4], 1] = 1, 1
        >>> interval_cv(spikes)
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    spikes = check_raster(raster)
    unit, step = (spikes.T > 0).nonzero(as_tuple=True)
    same = unit[1:] == unit[:-1]
    between, unit = (step[1:] - step[:-1])[same].double(), unit[1:][same]
    count, total, squares = spikes.new_zeros(3, spikes.shape[1])
    count.index_add_(0, unit, torch.ones_like(between))
    mean = total.index_add_(0, unit, between) / count
    variance = squares.index_add_(0, unit, (between - mean[unit]).square()) / count
    return torch.where(count >= 2, variance.sqrt() / mean, math.nan)


def synchrony(raster: Tensor, dt: float, window: float = 5e-3) -> float:
    """Mean correlation of the spike counts of two units: 1 if all spike together, 0 if they are independent.

    Over all pairs of units whose counts vary; NaN if there are fewer than two of them.

    Args:
        raster: (time, units), numbers of spikes in each step.
        dt: length of a step, s.
        window: in which spikes are counted, s; the nearest number of steps.

    Raises:
        Refusal: another shape; fewer than two windows.

    Examples:
        >>> spikes = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 0]])
        >>> round(synchrony(spikes, dt=1e-3, window=1e-3), 3)
        -0.333
    """
    spikes, steps = check_raster(raster), max(1, round(window / dt)) if dt > 0 else 0
    many = len(spikes) // steps if steps else 0
    require(many >= 2, f"synchrony needs two windows or more, got {many} of {window} s in {len(spikes)} steps of {dt}.")
    counts = spikes[: many * steps].view(many, steps, -1).sum(1)
    varies = counts.var(0, correction=0) > 0
    units = int(varies.sum())
    if units < 2:
        return math.nan
    z = counts[:, varies]
    z = (z - z.mean(0)) / z.std(0, correction=0)
    return float((z.sum(1).square().mean() - units) / (units * (units - 1)))
