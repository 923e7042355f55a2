"""What Krotov-Hopfield does to a whole weight on the CPU, compiled: its power, and the change of the chosen rows."""

import numba
import numpy as np
import torch
from torch import Tensor

from neuropil._threads import share_out

compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
WORTH = 1 << 19  # entries of the change that are worth a thread of their own


def compilable(pre: Tensor, weight: Tensor) -> bool:
    """Whether the functions of this file know these tensors."""
    known = weight.dtype in (torch.float32, torch.float64) and pre.dtype == weight.dtype
    return known and pre.device.type == weight.device.type == "cpu"


def some_rows(shape: torch.Size, touched: Tensor, change: Tensor) -> Tensor:
    """`change` of the rows `touched` (ascending) as a sparse tensor of that shape."""
    return torch.sparse_coo_tensor(touched[None], change, shape, is_coalesced=True, check_invariants=False)


def signed_square(weight: Tensor) -> Tensor:
    """w |w| in one pass instead of two."""
    flat, out = weight.contiguous().view(-1), torch.empty_like(weight, memory_format=torch.contiguous_format)
    share_out(_signed_square, len(flat), flat.numpy(), out.view(-1).numpy(), worth=len(flat) // WORTH)
    return out


@compiled
def _signed_square(part, start, stop, weight, out):  # type: ignore[no-untyped-def]
    old, new = weight[start:stop], out[start:stop]  # numba vectorises no loop that starts elsewhere than at 0
    for i in range(len(old)):
        new[i] = old[i] * abs(old[i])


def add_chosen_(grow: Tensor, counts: Tensor, pre: Tensor, chosen: Tensor, share: tuple[float, ...]) -> None:
    """To every unit the samples that chose it, weighed by share, and to `counts` how many they are.

    Args:
        grow: (units, in), float64.
        counts: (units,), int64.
        pre, chosen, share: as in `row_change`.
    """
    given = (pre.contiguous().numpy(), chosen.numpy(), np.array(share, pre.numpy().dtype))
    share_out(_add_chosen, len(grow), *given, grow.numpy(), counts.numpy(), worth=len(share) * pre.numel() // WORTH)


@compiled
def _add_chosen(part, start, stop, pre, chosen, shares, grow, counts):  # type: ignore[no-untyped-def]
    """The same to the units `start` to `stop`."""
    for rank, share in enumerate(shares):
        for sample in range(len(pre)):
            unit = chosen[rank * len(pre) + sample]
            if unit < start or unit >= stop:
                continue  # numba vectorises no loop inside a branch
            row, sums = pre[sample], grow[unit]
            counts[unit] += 1
            for i in range(len(row)):
                sums[i] += share * row[i]


def row_change(
    pre: Tensor,
    chosen: Tensor,
    share: tuple[float, ...],
    weight: Tensor,
    powered: Tensor,
    *,
    average: bool,
    normalise: bool,
    sparse: bool,
) -> Tensor:
    """The change of a weight by the law of `KrotovHopfield`, whose options the last three are.

    Args:
        pre: samples, (n, in).
        chosen: units, (ranks n,): the choice of every sample at the first rank, then at the second, and so on.
        share: weight of each rank, of length ranks.
        weight: (units, in).
        powered: sign(w) |w|^(p-1), (units, in). Its memory becomes the change unless it is the weight's own.
    """
    flat, shares = chosen.numpy(), np.array([*share, 0], pre.numpy().dtype)
    order, counts = flat.argsort(kind="stable"), np.bincount(flat)
    touched = np.flatnonzero(counts)
    counts = counts[touched]
    ends = counts.cumsum()
    pre, weight, powered = pre.contiguous(), weight.contiguous(), powered.contiguous()
    if sparse:
        change = weight.new_empty(len(touched), weight.shape[1])
    else:
        change = torch.empty_like(weight) if powered.data_ptr() == weight.data_ptr() else powered
    where = np.arange(len(touched)) if sparse else touched
    divisors = (counts if average else np.ones(len(touched))).astype(shares.dtype)
    peaks = np.zeros(len(touched) + 1, shares.dtype)
    index = (where, touched, ends, order)
    values = (pre.numpy(), weight.numpy(), powered.numpy(), shares, divisors)
    share_out(_change, len(touched), *index, *values, change.numpy(), peaks, worth=change.numel() // WORTH)
    if not len(touched):
        change.zero_()
    elif normalise and peaks.max() > 0:
        _divide(where, change.numpy(), peaks.max())
    return some_rows(weight.shape, torch.from_numpy(touched), change) if sparse else change


@compiled
def _change(part, start, stop, where, touched, ends, order, pre, weight, powered, shares, divisors, change, peaks):  # type: ignore[no-untyped-def]
    """The change of the touched rows `start` to `stop`, into the rows `where`, and zero in the rows between them.

    `order` has the samples that chose the first touched row, then those of the second, and so on, each plus the
    number of samples times the rank at which it chose. The largest of all `peaks` is that of the absolute entries.
    """
    samples, inputs = pre.shape
    zero = shares[-1]
    grow, high = np.empty(inputs, pre.dtype), np.zeros(inputs, pre.dtype)
    for turn in range(start, stop):
        grow[:] = zero
        for place in range(ends[turn - 1] if turn else 0, ends[turn]):
            rank, sample = divmod(order[place], samples)
            row, share = pre[sample], shares[rank]
            for i in range(inputs):
                grow[i] += share * row[i]
        old, power, new = weight[touched[turn]], powered[touched[turn]], change[where[turn]]
        lost, divisor = zero, divisors[turn]
        for i in range(inputs):
            lost += power[i] * grow[i]
        for i in range(inputs):
            entry = (grow[i] - lost * old[i]) / divisor
            new[i] = entry
            high[i] = abs(entry) if abs(entry) > high[i] else high[i]
        change[where[turn - 1] + 1 if turn else 0 : where[turn]] = 0
        if turn == len(touched) - 1:
            change[where[turn] + 1 :] = 0
    for size in high:
        peaks[start] = max(peaks[start], size)


@compiled
def _divide(where, change, largest):  # type: ignore[no-untyped-def]
    """The rows `where` divided by `largest`."""
    for row in where:
        change[row] /= largest
