"""What Krotov-Hopfield does to a whole weight on the CPU, compiled: its power, and the change of the chosen rows."""

import numpy as np
import torch
from torch import Tensor

from neuropil._threads import compiler, share_out
from neuropil.plasticity.law import Law
from neuropil.plasticity.plan import PLAN, Plan

compiled = compiler("contract", "reassoc", "nsz")


def compilable(pre: Tensor, weight: Tensor) -> bool:
    """Whether the functions of this file know these tensors."""
    known = weight.dtype in (torch.float32, torch.float64) and pre.dtype == weight.dtype
    return known and pre.device.type == weight.device.type == "cpu"


def sparse_rows(shape: torch.Size, touched: Tensor, change: Tensor) -> Tensor:
    """`change` of the rows `touched` (ascending) as a sparse tensor of that shape."""
    return torch.sparse_coo_tensor(touched[None], change, shape, is_coalesced=True, check_invariants=False)


def signed_square(weight: Tensor, plan: Plan = PLAN) -> Tensor:
    """w |w| in one pass instead of two."""
    flat, out = weight.contiguous().view(-1), torch.empty_like(weight, memory_format=torch.contiguous_format)
    share_out(_signed_square, len(flat), flat.numpy(), out.view(-1).numpy(), worth=len(flat) // plan.changes_per_thread)
    return out


def negated_(change: Tensor, out: Tensor) -> bool | None:
    """`out` becomes minus `change`: whether that is not zero, in the same pass; None where torch is as fast.

    That is where it has several threads, and for tensors that numba does not know.
    """
    if torch.get_num_threads() > 1 or not type(out) is type(change) is Tensor or not compilable(change, out):
        return None
    if not change.is_contiguous() or not out.is_contiguous() or change.is_neg() or out.is_neg():
        return None
    torch.autograd.graph.increment_version(out)  # which writing to its numbers alone does not
    return bool(_negated(change.numpy(), out.detach().numpy()))


@compiled
def _negated(change, out):  # type: ignore[no-untyped-def]
    old, new, some = change.reshape(-1), out.reshape(-1), np.int32(0)
    for i in range(len(old)):
        new[i] = -old[i]
        some += np.int32(old[i] != 0)
    return some


@compiled
def _signed_square(thread, start, stop, weight, out):  # type: ignore[no-untyped-def]
    old, new = weight[start:stop], out[start:stop]  # numba vectorises no loop that starts elsewhere than at 0
    for i in range(len(old)):
        new[i] = old[i] * abs(old[i])


def add_chosen_(
    hebbian: Tensor, counts: Tensor, pre: Tensor, chosen: Tensor, gains: tuple[float, ...], plan: Plan = PLAN
) -> None:
    """To every unit the samples that chose it, weighted by gain, and to `counts` how many they are.

    Args:
        hebbian: (units, in), float64.
        counts: (units,), int64.
        pre, chosen, gains: as in `row_change`.
        plan: how to go about it.
    """
    given = (pre.contiguous().numpy(), chosen.numpy(), np.array(gains, pre.numpy().dtype))
    worth = len(gains) * pre.numel() // plan.changes_per_thread
    share_out(_add_chosen, len(hebbian), *given, hebbian.numpy(), counts.numpy(), worth=worth)


@compiled
def _add_chosen(thread, start, stop, pre, chosen, gains, hebbian, counts):  # type: ignore[no-untyped-def]
    """The same to the units `start` to `stop`."""
    for rank, gain in enumerate(gains):
        for sample in range(len(pre)):
            unit = chosen[rank * len(pre) + sample]
            if unit < start or unit >= stop:
                continue  # numba vectorises no loop inside a branch
            row, sums = pre[sample], hebbian[unit]
            counts[unit] += 1
            for i in range(len(row)):
                sums[i] += gain * row[i]


def row_change(
    pre: Tensor, chosen: Tensor, gains: tuple[float, ...], weight: Tensor, drive_weight: Tensor, law: Law,
    divisor: int, plan: Plan,
) -> Tensor:  # fmt: skip
    """The change of a weight through the rows that some sample chose, with a decay by the drive.

    Args:
        pre: samples, (n, in).
        chosen: units, (ranks n,): the choice of every sample at the first rank, then at the second, and so on.
        gains: weight of each rank, of length ranks.
        weight: (units, in).
        drive_weight: weights of the drive, (units, in). Its memory becomes the change unless it is the weight's own.
        law: whether to average, to normalise and to leave out rows.
        divisor: of every row, unless the law averages.
        plan: how to go about it.
    """
    flat, gained = chosen.numpy(), np.array([*gains, 0], pre.numpy().dtype)
    order, counts = flat.argsort(kind="stable"), np.bincount(flat)
    touched = np.flatnonzero(counts)
    counts = counts[touched]
    pre, weight, drive_weight = pre.contiguous(), weight.contiguous(), drive_weight.contiguous()
    if law.sparse:
        change = weight.new_empty(len(touched), weight.shape[1])
    else:
        change = torch.empty_like(weight) if drive_weight.data_ptr() == weight.data_ptr() else drive_weight
    where = np.arange(len(touched)) if law.sparse else touched
    divisors = (counts if law.average else np.full(len(touched), divisor)).astype(gained.dtype)
    peaks = np.zeros(len(touched) + 1, gained.dtype)
    index = (where, touched, counts.cumsum(), order)
    values = (pre.numpy(), weight.numpy(), drive_weight.numpy(), gained, divisors)
    worth = change.numel() // plan.changes_per_thread
    share_out(_change, len(touched), index, values, (change.numpy(), peaks), worth=worth)
    if not len(touched):
        change.zero_()
    elif law.normalise and peaks.max() > 0:
        _divide(where, change.numpy(), peaks.max())
    return sparse_rows(weight.shape, torch.from_numpy(touched), change) if law.sparse else change


@compiled
def _change(thread, start, stop, index, values, out):  # type: ignore[no-untyped-def]
    """The change of the touched rows `start` to `stop`, into the rows `where`, and zero in the rows between them.

    `order` has the samples that chose the first touched row, then those of the second, and so on. To each is added
    the number of samples times the rank at which it chose. The largest of all `peaks` is that of the absolute entries.
    """
    where, touched, ends, order = index
    pre, weight, drive_weight, gains, divisors = values
    change, peaks = out
    samples, inputs = pre.shape
    zero = gains[-1]
    hebbian, high = np.empty(inputs, pre.dtype), np.zeros(inputs, pre.dtype)
    for turn in range(start, stop):
        hebbian[:] = zero
        for place in range(ends[turn - 1] if turn else 0, ends[turn]):
            rank, sample = divmod(order[place], samples)
            row, gain = pre[sample], gains[rank]
            for i in range(inputs):
                hebbian[i] += gain * row[i]
        old, drive, new = weight[touched[turn]], drive_weight[touched[turn]], change[where[turn]]
        lost, divisor = zero, divisors[turn]
        for i in range(inputs):
            lost += drive[i] * hebbian[i]
        for i in range(inputs):
            entry = (hebbian[i] - lost * old[i]) / divisor
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
