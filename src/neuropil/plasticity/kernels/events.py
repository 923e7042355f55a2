"""The sum over samples of post times pre of a dense layer where few neurons spike: spike by spike, on the CPU."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neuropil._threads import compiler, share_out
from neuropil.plasticity.kernels.rows import compilable

compiled = compiler("contract", "reassoc", "nsz")
FEW = 0.2  # fraction of entries that are not zero up to which these loops are faster than a product
TURNED = 7  # samples that it takes to make up for the turned layout in which lines are added
PER_THREAD = 1 << 19  # multiply-adds that are worth a thread
LINES = 16  # of a block: as many as one line of the cache has numbers


def are_spikes(activity: Tensor) -> bool:
    """Whether all entries are 0 or 1."""
    activity = activity.detach()
    if compilable(activity, activity):
        return bool(_others(activity.contiguous().view(-1).numpy()) == 0)
    return not bool((activity * (1 - activity)).any())


@compiled
def _others(entries):  # type: ignore[no-untyped-def]
    """How many entries are neither 0 nor 1."""
    others = np.int32(0)
    for k in range(len(entries)):
        others += np.int32((entries[k] != 0) & (entries[k] != 1))
    return others


@compiled
def _count(entries, most):  # type: ignore[no-untyped-def]
    """How many entries are not 0, or some number above `most`; ends soon where many are not."""
    count = np.int32(0)
    for start in range(0, len(entries), 1024):
        part = entries[start : start + 1024]
        for k in range(len(part)):
            count += np.int32(part[k] != 0)
        if count > most:
            break
    return count


def add_events_(out: Tensor, pre: Tensor, post: Tensor, gain: float) -> bool:
    """Add ``gain post.T @ pre`` to `out` (units, in) where one side is mostly zero; False if nothing was done.

    The order of the sums is that of the samples, however many threads there are.

    Args:
        out: (units, in), contiguous.
        pre: (samples, in).
        post: (samples, units).
        gain: a number.
    """
    if not (compilable(pre, out) and compilable(post, out)) or not pre.numel() or not post.numel():
        return False
    rows, x, y = out.numpy(), pre.contiguous().numpy(), post.contiguous().numpy()
    by_rows = _count(y.reshape(-1), FEW * y.size) * x.shape[1]
    by_columns = (_count(x.reshape(-1), FEW * x.size) + TURNED * x.shape[1]) * y.shape[1]
    if min(by_rows, by_columns) > FEW * x.size * y.shape[1]:
        return False
    if by_rows <= by_columns:
        ends, sample, value = _by_line(y, np.flatnonzero(y != 0))
        share_out(_add_rows, len(rows), rows, ends, sample, value * rows.dtype.type(gain), x, worth=_worth(ends, x))
    else:
        ends, sample, value = _by_line(x, np.flatnonzero(x != 0))  # of bools, which is fast
        blocks = -(-rows.shape[1] // LINES)
        share_out(_add_columns, blocks, rows, ends, sample, value * rows.dtype.type(gain), y, worth=_worth(ends, y))
    return True


def _worth(ends: NDArray[np.int64], others: NDArray[np.floating]) -> int:
    """How many threads so many spikes are worth, each with a row of the other side."""
    return int(ends[-1] * others.shape[1]) // PER_THREAD


@compiled
def _by_line(x, where):  # type: ignore[no-untyped-def]
    """Entries of x (samples, lines) at `where`, line by line: where those of a line end, their samples, values."""
    lines = x.shape[1]
    ends = np.zeros(lines + 1, np.int64)
    for k in range(len(where)):
        ends[where[k] % lines + 1] += 1
    for i in range(lines):
        ends[i + 1] += ends[i]
    place, sample, value = ends[:-1].copy(), np.empty(len(where), np.int64), np.empty(len(where), x.dtype)
    for k in range(len(where)):
        s, i = divmod(where[k], lines)
        sample[place[i]], value[place[i]] = s, x[s, i]
        place[i] += 1
    return ends, sample, value


@compiled
def _add_rows(thread, first, last, sums, ends, sample, value, x):  # type: ignore[no-untyped-def]
    """To the units `first` to `last` the samples in which they spiked."""
    for unit in range(first, last):
        row = sums[unit]
        for k in range(ends[unit], ends[unit + 1]):
            values, factor = x[sample[k]], value[k]
            for i in range(len(row)):
                row[i] += factor * values[i]


@compiled
def _add_columns(thread, first, last, sums, ends, sample, value, y):  # type: ignore[no-untyped-def]
    """To the lines of the blocks `first` to `last` the samples in which they spiked."""
    units, lines = sums.shape
    block = np.empty((LINES, units), sums.dtype)
    for start in range(first * LINES, min(last * LINES, lines), LINES):
        stop = min(start + LINES, lines)
        if ends[start] == ends[stop]:
            continue
        block[:] = 0
        for i in range(start, stop):
            line = block[i - start]
            for k in range(ends[i], ends[i + 1]):
                values, factor = y[sample[k]], value[k]
                for unit in range(units):
                    line[unit] += factor * values[unit]
        for unit in range(units):
            row = sums[unit, start:stop]
            for i in range(len(row)):
                row[i] += block[i, unit]
