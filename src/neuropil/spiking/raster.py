"""Rasters, which tools that work in time steps use, and spike times, which this room uses."""

import math

import torch
from torch import Tensor

from neuropil._grid import step_count, step_of
from neuropil.errors import require
from neuropil.spiking.times import check_times

__all__ = ["from_raster", "to_raster"]


def to_raster(times: Tensor, dt: float, t_end: float) -> Tensor:
    r"""Spikes of every neuron in every step: step k holds those with :math:`k\,dt \le t < (k + 1)\,dt`.

    A time that is the border of two steps but for the rounding of its dtype is in the later one.

    Args:
        times: (batch, neurons, spikes) or (batch, neurons), ascending, inf where there is no spike.
        dt: length of a step, in the unit of the times.
        t_end: end of the trial; a spike right then is in the last step.

    Returns:
        (steps, batch, neurons) in the dtype of `times`, steps = ceil(t_end / dt). A number above 1 says that `dt` is
        too long to tell spikes of one neuron apart.

    Raises:
        Refusal: times that are none, or steps without length.

    Examples:
        >>> to_raster(torch.tensor([[[0.1, 0.6], [0.2, torch.inf]]]), dt=0.25, t_end=1.0).squeeze(1)
        tensor([[1., 1.],
                [0., 0.],
                [1., 0.],
                [0., 0.]])
    """
    steps = _steps(dt, t_end)
    trains = check_times(times, t_end)
    there = trains.isfinite()
    index = torch.where(there, step_of(torch.where(there, trains, 0), dt).clamp(max=steps - 1), steps)
    raster = trains.new_zeros(*trains.shape[:2], steps + 1)
    raster.scatter_add_(2, index, torch.ones_like(trains))
    return raster[..., :steps].permute(2, 0, 1).contiguous()


def from_raster(raster: Tensor, dt: float) -> Tensor:
    r"""Spike times (batch, neurons, spikes) in the middle of their steps: :math:`(k + 1/2)\,dt` for a spike in step k.

    So `to_raster` of these times is the raster again, and times that became a raster are off by dt / 2 at most.

    Args:
        raster: (steps, batch, neurons), bool or whole numbers of spikes in a step, of any dtype.
        dt: length of a step.

    Returns:
        times in float64 from a raster in float64, otherwise in float32.

    Raises:
        Refusal: another shape, or numbers of spikes that are none.

    Examples:
        >>> from_raster(torch.tensor([[[1, 1]], [[0, 0]], [[1, 0]]]), dt=0.5)
        tensor([[[0.2500, 1.2500],
                 [0.2500,    inf]]])
    """
    require(raster.ndim == 3, f"a raster is (steps, batch, neurons), got {tuple(raster.shape)}.")
    counts = raster if raster.is_floating_point() else raster.long()
    whole = bool(((counts >= 0) & (counts == counts.floor()) & counts.isfinite()).all())
    require(whole, "a raster holds numbers of spikes, 0 or more in a step, got others.")
    _steps(dt, dt * max(len(raster), 1))
    done = counts.permute(1, 2, 0).cumsum(2, dtype=torch.int64).contiguous()
    widest = int(done[..., -1].max()) if done.numel() else 0
    wanted = torch.arange(1, max(widest, 1) + 1, device=done.device).expand(*done.shape[:2], -1).contiguous()
    step = torch.searchsorted(done, wanted)  # the first step by which as many spikes were there
    exact = raster.dtype if raster.dtype == torch.float64 else torch.float32
    return torch.where(step < len(raster), (step + 0.5).to(torch.float64) * dt, math.inf).to(exact)


def _steps(dt: float, t_end: float) -> int:
    fits = 0 < dt < math.inf and 0 < t_end < math.inf
    require(fits, f"a raster needs a step dt > 0 and an end t_end > 0, got dt={dt} and t_end={t_end}.")
    return step_count(t_end, dt)
