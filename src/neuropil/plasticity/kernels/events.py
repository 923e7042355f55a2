"""The sum over samples of post times pre of a dense layer where few neurons spike: spike by spike, on the CPU."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neuropil._threads import compiler, share_out
from neuropil.plasticity.kernels.rows import compilable
from neuropil.plasticity.kernels.tiles import BYTES, WIDE, Events, add_tiles, lowest, not_zero

compiled = compiler("contract", "reassoc", "nsz")
FEW = 0.2  # fraction of entries that are not zero up to which these loops are faster than a product
TURNED = 7  # samples that it takes to make up for the turned layout in which lines are added
PER_THREAD = 1 << 19  # multiply-adds that are worth a thread


class Few(NamedTuple):
    """A product that is to be taken entry by entry of one of its sides.

    Attributes:
        of_units: which side that is.
        events: the entries, and the other side.
        bound: no less than the sum of all absolute entries of the product.
    """

    of_units: bool
    events: Events
    bound: float


def are_spikes(activity: Tensor) -> bool:
    """Whether all entries are 0 or 1."""
    activity = activity.detach()
    if compilable(activity, activity):
        return bool(_others(activity.numpy().reshape(-1)) == 0)
    return not bool((activity * (1 - activity)).any())


@compiled
def _others(entries):  # type: ignore[no-untyped-def]
    """How many entries are neither 0 nor 1."""
    others = np.int32(0)
    for k in range(len(entries)):
        others += np.int32((entries[k] != 0) & (entries[k] != 1))
    return others


def few_events(pre: Tensor, post: Tensor, gain: float) -> Few | None:
    """What ``gain post.T @ pre`` is made of where one side is mostly zero; None if a product of matrices is faster.

    Args:
        pre: (samples, in).
        post: (samples, units).
        gain: a number.
    """
    if not compilable(pre, post) or not pre.numel() or not post.numel():
        return None
    x, y = pre.contiguous().numpy(), post.contiguous().numpy()
    inputs, units = x.shape[1], y.shape[1]
    most = FEW * x.size * units  # multiply-adds
    of_units = _count(y, most / inputs)
    most = min(most, of_units * inputs) / units - TURNED * inputs
    of_inputs = _count(x, most) if most > 0 else x.size
    if of_inputs <= most:
        return Few(False, *_in_order(x, of_inputs, y, gain, (BYTES // x.itemsize).bit_length() - 1))
    return Few(True, *_in_order(y, of_units, x, gain, 0)) if of_units <= FEW * y.size else None


@compiled
def _count(entries, most):  # type: ignore[no-untyped-def]
    """How many entries (samples, lines) are not 0, or some number above `most`; ends soon where many are not."""
    count, flat = np.int32(0), entries.reshape(-1)
    for start in range(0, len(flat), 1024):
        part = flat[start : start + 1024]
        for k in range(len(part)):
            count += np.int32(part[k] != 0)
        if count > most:
            break
    return count


@compiled
def _in_order(x, count, others, gain, shift):  # type: ignore[no-untyped-def]
    """The `count` entries of x (samples, lines) that are not 0: `Events` of groups of 1 << shift lines, and a bound."""
    lines, many, found = x.shape[1], BYTES // x.itemsize, 0
    ends, where = np.zeros(((lines - 1) >> shift) + 2, np.int64), np.empty((count, 2), np.int64)
    for s in range(len(x)):
        for start in range(0, lines - many + 1, many):
            bits = not_zero(x, s, start)  # type: ignore[call-arg, var-annotated]
            while bits:
                i = start + lowest(bits)
                where[found, 0], where[found, 1] = s, i
                ends[(i >> shift) + 1] += 1
                found += 1
                bits &= bits - 1
        for i in range(lines // many * many, lines):
            if x[s, i] != 0:
                where[found, 0], where[found, 1] = s, i
                ends[(i >> shift) + 1] += 1
                found += 1
    for i in range(1, len(ends)):
        ends[i] += ends[i - 1]
    sample, line, value = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, x.dtype)
    to = ends[:-1].copy()
    for k in range(count):
        s, i = where[k]
        place = to[i >> shift]
        sample[place], line[place], value[place] = s, i & ((1 << shift) - 1), x[s, i] * x.dtype.type(gain)
        to[i >> shift] += 1
    sizes, bound = np.empty(len(others), x.dtype), 0.0
    for s in range(len(others)):
        row, size = others[s], x.dtype.type(0)
        for i in range(len(row)):
            size += abs(row[i])
        sizes[s] = size
    for k in range(count):
        bound += abs(value[k]) * sizes[sample[k]]
    return Events(ends, sample, line, value, others), bound


def add_events_(out: NDArray[np.floating], terms: Sequence[Few], add: bool) -> None:
    """`out` (units, in) with the sum of all `terms`; the order of its sums is that of the samples.

    Args:
        out: contiguous.
        terms: one or more.
        add: to what is in `out`; False begins with zeros.
    """
    groups = -(-out.shape[1] * out.itemsize // BYTES)
    sides = ([term.events for term in terms if term.of_units is side] for side in (True, False))
    for of_units, of_inputs in zip_longest(*sides):
        of_units = of_units or _none(len(out), out.shape[1], of_inputs)
        of_inputs = of_inputs or _none(groups, len(out), of_units)
        work = len(of_units.sample) * out.shape[1] + len(of_inputs.sample) * len(out)
        tiles = -(-len(out) * out.itemsize // (WIDE * BYTES))
        share_out(add_tiles, tiles, out, of_units, of_inputs, add, worth=work // PER_THREAD)
        add = True


def _none(groups: int, others: int, like: Events) -> Events:
    """No entry of so many groups."""
    ends, empty = np.zeros(groups + 1, np.int64), np.empty((0, others), like.value.dtype)
    return Events(ends, like.sample[:0], like.line[:0], like.value[:0], empty)
