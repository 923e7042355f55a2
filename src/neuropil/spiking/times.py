"""Spike times as tensors: (batch, neurons, spikes), ascending, padded with inf; and the events they make.

A silent neuron is all inf. (batch, neurons) is one spike per neuron at most.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor, nn

from neuropil._threads import compiler, share_out
from neuropil.errors import Refusal

__all__ = ["Events", "check_times", "flatten_events", "scatter_events"]

compiled = compiler()

SHORT = 200  # spikes of a sample up to which sorting by insertion is fastest; input spikes often come sorted
UNSORTED = "a spike after the one that follows it"
FAULTS = ("NaN", "a negative time", UNSORTED, "a time after the end")
CURES = (
    "a silent neuron is inf",
    "times count from 0, the start of the trial",
    "sort the spikes of every neuron (times.sort(-1))",
    "leave it out (inf) or take a later end",
)


class Events(NamedTuple):
    """The finite spikes of every sample in the order of time, then of `slot`. `flatten_events` makes them."""

    time: Tensor  # (batch, events), ascending, inf beyond `total`, which is below `events`
    source: Tensor  # (batch, events) int32, the neuron; 0 beyond `total`
    slot: Tensor  # (batch, events) int32, where the spike stands in times.flatten(1); 0 beyond `total`
    total: Tensor  # (batch,) int32, events of the sample


def check_times(times: Tensor, t_end: float) -> Tensor:
    """`times` as (batch, neurons, spikes), if they are spike times of a trial from 0 to `t_end`.

    Args:
        times: (batch, neurons, spikes) or (batch, neurons), float32 or float64.
        t_end: end of the trial, in the unit of the times.

    Raises:
        Refusal: another shape or dtype, NaN, negative or unsorted times, or finite ones after the end.
    """
    trains = as_trains(times)
    if not (_sound(*_in_numpy(trains, t_end)) if trains.device.type == "cpu" else bool(fine(trains, t_end))):
        fault, *place = _first_fault(trains.detach(), t_end)
        where = f"sample {place[0]}, neuron {place[1]}, spike {place[2]}"
        got = f"{FAULTS[fault]}, {trains[tuple(place)]:.6g} in {where}"
        raise Refusal(f"spike times need 0 <= t <= {t_end:g}, ascending, or inf, got {got}; {CURES[fault]}.")
    return trains


def as_trains(times: Tensor) -> Tensor:
    """`times` as (batch, neurons, spikes), by shape and dtype alone."""
    if times.ndim not in (2, 3) or times.dtype not in (torch.float32, torch.float64):
        needed, dtype = "(batch, neurons, spikes) or (batch, neurons) in float32 or float64", str(times.dtype)
        raise Refusal(f"spike times need {needed}, got {tuple(times.shape)} in {dtype.removeprefix('torch.')}.")
    return times if times.ndim == 3 else times[..., None]


def fine(trains: Tensor, t_end: float) -> Tensor:
    """`_sound` in torch, for other devices: one truth value, not read yet."""
    inside = (trains >= 0) & ((trains <= t_end) | trains.isinf())
    return inside.all() & (trains[..., 1:] >= trains[..., :-1]).all()


def flatten_events(trains: Tensor, most: int | None = None) -> Events:
    """All finite spikes of every sample, sorted by time.

    Args:
        trains: (batch, neurons, spikes) as `check_times` returns them.
        most: the largest number of them in a sample, where it is known; a GPU is then not waited for.
    """
    if trains.device.type != "cpu":
        return _flatten(trains.detach(), most)
    array = trains.detach().numpy()
    batch = len(array)
    count = np.zeros(batch, np.int32)
    share_out(_count, batch, array, count)
    shape = (batch, int(count.max(initial=0)) + 1)  # one to spare: `_fill` writes before it looks
    time, source, slot = np.empty(shape, array.dtype), np.empty(shape, np.int32), np.empty(shape, np.int32)
    share_out(_fill, batch, array, time, source, slot)
    return Events(*(torch.from_numpy(part) for part in (time, source, slot, count)))


def scatter_events(values: Tensor, events: Events, shape: torch.Size) -> Tensor:
    """What belongs to each event, (batch, events), put where its spike stands in `shape`; 0 elsewhere."""
    out = torch.zeros(shape, dtype=values.dtype, device=values.device)
    if values.device.type != "cpu":
        return _spread(values, events, out)
    _scatter(values.numpy(), events.slot.numpy(), events.total.numpy(), out.flatten(1).numpy())
    return out


def _in_numpy(trains: Tensor, t_end: float) -> tuple[Any, Any]:
    """Both in one precision: a float32 that is as near to the end as can be may be above it."""
    array = trains.detach().numpy()
    return array, array.dtype.type(t_end)


def most_events(trains: Tensor) -> Tensor:
    """The largest number of finite spikes in a sample, int32, not read yet."""
    count = trains.isfinite().sum((1, 2), dtype=torch.int32)
    return count.max() if len(count) else count.sum()


def _flatten(trains: Tensor, most: int | None = None) -> Events:
    """`flatten_events` in torch, for other devices."""
    count = trains.isfinite().sum((1, 2), dtype=torch.int32)
    time, slot = nn.functional.pad(trains.flatten(1), (0, 1), value=torch.inf).sort(dim=1, stable=True)
    width = 1 + (int(most_events(trains)) if most is None else most)
    time, slot = time[:, :width].contiguous(), torch.where(time.isfinite(), slot, 0)[:, :width].int().contiguous()
    return Events(time, slot // trains.shape[2], slot, count)


def _spread(values: Tensor, events: Events, out: Tensor) -> Tensor:
    """`_scatter` in torch, for other devices."""
    given = torch.arange(values.shape[1], device=values.device) < events.total[:, None]
    return out.flatten(1).scatter_add_(1, events.slot.long(), torch.where(given, values, 0)).view(out.shape)


@compiled
def _sound(trains, t_end):  # type: ignore[no-untyped-def]
    """Whether every spike is in [0, t_end] or inf, and none before the one that precedes it; fast, so in one go."""
    spikes = trains.shape[2]
    for b in range(len(trains)):
        wrong = np.int32(0)
        for s in range(spikes):
            for j in range(trains.shape[1]):
                t = trains[b, j, s]
                wrong += np.int32(not ((t >= 0) & ((t <= t_end) | (t == np.inf))))
        for s in range(1, spikes):
            for j in range(trains.shape[1]):
                wrong += np.int32(not trains[b, j, s] >= trains[b, j, s - 1])
        if wrong > 0:
            return False
    return True


def _first_fault(trains: Tensor, t_end: float) -> tuple[int, ...]:
    """(kind of fault, sample, neuron, spike) of the first spike that is not as it should be."""
    unsorted = nn.functional.pad(trains[..., 1:] < trains[..., :-1], (1, 0))
    wrong = torch.stack((trains.isnan(), trains < 0, unsorted, (trains > t_end) & ~trains.isinf()), -1)
    b, j, s, fault = wrong.nonzero()[0].tolist()
    return fault, b, j, s - (FAULTS[fault] == UNSORTED)


@compiled
def _count(part, first, last, trains, count):  # type: ignore[no-untyped-def]
    """Number of finite spikes of every sample, into `count` (batch,)."""
    for b in range(first, last):
        n = np.int32(0)
        for s in range(trains.shape[2]):
            for j in range(trains.shape[1]):
                n += np.int32(trains[b, j, s] < np.inf)
        count[b] = n


@compiled
def _fill(part, first, last, trains, time, source, slot):  # type: ignore[no-untyped-def]
    """Write the finite spikes of every sample into its row of `time`, `source`, `slot`, in the order of time."""
    neurons, spikes = trains.shape[1:]
    for b in range(first, last):
        n = 0
        for j in range(neurons):
            for s in range(spikes):
                t = trains[b, j, s]
                time[b, n], source[b, n], slot[b, n] = t, j, j * spikes + s
                n += t < np.inf
        if n <= SHORT:
            _insert(time, source, slot, b, n)
        else:
            order = np.argsort(time[b, :n], kind="mergesort")
            time[b, :n], source[b, :n], slot[b, :n] = time[b, :n][order], source[b, :n][order], slot[b, :n][order]
        time[b, n:], source[b, n:], slot[b, n:] = np.inf, 0, 0


@numba.njit(forceinline=True)
def _insert(time, source, slot, b, n):  # type: ignore[no-untyped-def]
    """Sort the first `n` entries of row `b` of all three by time, those at the same time in the order they are in."""
    for e in range(1, n):
        t, j, k = time[b, e], source[b, e], slot[b, e]
        d = e
        while d > 0 and time[b, d - 1] > t:
            time[b, d], source[b, d], slot[b, d] = time[b, d - 1], source[b, d - 1], slot[b, d - 1]
            d -= 1
        time[b, d], source[b, d], slot[b, d] = t, j, k


@compiled
def _scatter(values, slot, count, out):  # type: ignore[no-untyped-def]
    """out[b, slot[b, e]] = values[b, e] for every event."""
    for b in range(len(values)):
        for e in range(count[b]):
            out[b, slot[b, e]] = values[b, e]
