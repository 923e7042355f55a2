"""The change of a dense layer on the CPU, compiled: one walk over the rows that some sample chose."""

import numba
import numpy as np
import torch
from torch import Tensor

from neuropil.plasticity.threads import share_out

compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
WORTH = 1 << 19  # entries of the change that are worth a thread of their own


def compilable(pre: Tensor, weight: Tensor) -> bool:
    """Whether `row_change` knows these tensors."""
    known = weight.dtype in (torch.float32, torch.float64) and pre.dtype == weight.dtype
    return known and pre.device.type == weight.device.type == "cpu"


def row_change(
    pre: Tensor,
    chosen: Tensor,
    weight: Tensor,
    powered: Tensor,
    delta: float,
    *,
    average: bool,
    normalise: bool,
    sparse: bool,
) -> tuple[Tensor, Tensor]:
    """The touched rows (ascending) and their change; the change of the whole weight unless `sparse`.

    Args:
        pre: samples, (n, in).
        chosen: the first and the k-th unit of every sample, (2, n).
        weight: (units, in).
        powered: sign(w) |w|^(p-1), (units, in). Its memory becomes the change unless it is the weight's own.
        delta: strength of unlearning.
        average, normalise, sparse: see `KrotovHopfield`.
    """
    units, inputs = weight.shape
    pre, weight = pre.contiguous(), weight.contiguous()
    touched, starts, order = _sorted(chosen.numpy(), units)
    spare = powered.is_contiguous() and powered.data_ptr() != weight.data_ptr()
    if sparse:
        change = weight.new_empty(len(touched), inputs)
    else:
        change = powered if spare else torch.empty_like(weight)
    where = np.arange(len(touched)) if sparse else touched
    shares = np.array([1, -delta, 0], pre.numpy().dtype)
    counts = (np.diff(starts) if average else np.ones(len(touched))).astype(shares.dtype)
    peaks = np.zeros(len(touched), shares.dtype)
    rows = (where, touched, starts, order)
    arrays = (pre.numpy(), weight.numpy(), powered.contiguous().numpy(), change.numpy(), peaks)
    share_out(_change, len(touched), change.numel() // WORTH, *rows, *arrays, shares, counts)
    if not len(touched):
        change.zero_()
    elif normalise:
        _divide(where, change.numpy(), peaks.max())
    return torch.from_numpy(touched), change


@compiled
def _sorted(chosen, units):  # type: ignore[no-untyped-def]
    """The units that were chosen, where the samples of each begin, and the samples: s as the first, ~s as the k-th."""
    counts = np.zeros(units + 1, np.int64)
    samples = chosen.shape[1]
    for rank in range(2):
        for sample in range(samples):
            counts[chosen[rank, sample] + 1] += 1
    touched = np.flatnonzero(counts[1:])
    ends = counts.cumsum()
    starts = np.append(ends[touched], 2 * samples)
    order = np.empty(2 * samples, np.int64)
    for rank in range(2):
        for sample in range(samples):
            unit = chosen[rank, sample]
            order[ends[unit]] = ~sample if rank else sample
            ends[unit] += 1
    return touched, starts, order


@compiled
def _change(start, stop, where, touched, starts, order, pre, weight, powered, change, peaks, shares, counts):  # type: ignore[no-untyped-def]
    """Rows `start` to `stop` of those that were touched, and zero in the rows around them."""
    inputs = pre.shape[1]
    grow = np.empty(inputs, pre.dtype)
    for turn in range(start, stop):
        unit = touched[turn]
        grow[:] = 0
        for place in range(starts[turn], starts[turn + 1]):
            sample = order[place]
            share = shares[0] if sample >= 0 else shares[1]
            row = pre[sample if sample >= 0 else ~sample]
            for i in range(inputs):
                grow[i] += share * row[i]
        lost = shares[2]
        old, power, new = weight[unit], powered[unit], change[where[turn]]
        for i in range(inputs):
            lost += power[i] * grow[i]
        count = counts[turn]
        peak = peaks[turn]
        for i in range(inputs):
            entry = (grow[i] - lost * old[i]) / count
            new[i] = entry
            peak = max(peak, abs(entry))
        peaks[turn] = peak
        if len(change) == len(weight):
            change[where[turn - 1] + 1 if turn else 0 : where[turn]] = 0
            if turn == len(touched) - 1:
                change[where[turn] + 1 :] = 0


@compiled
def _divide(where, change, largest):  # type: ignore[no-untyped-def]
    """The rows `where` divided by `largest`, unless that is zero."""
    if largest > 0:
        for row in where:
            change[row] /= largest
