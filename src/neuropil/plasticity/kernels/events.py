"""The sum over samples of post times pre of a dense layer where few neurons spike: spike by spike, on the CPU."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neuropil._threads import compiler, share_out
from neuropil.plasticity.kernels.rows import compilable
from neuropil.plasticity.kernels.tiles import BYTES, WIDE, Events, add_tiles

compiled = compiler("contract", "reassoc", "nsz")
FEW = 0.2  # fraction of entries that are not zero up to which these loops are faster than a product
TURNED = 7  # samples that it takes to make up for the turned layout in which lines are added
PER_THREAD = 1 << 19  # multiply-adds that are worth a thread
CHUNK = 32  # entries that are looked at together


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
        return bool(_others(activity.contiguous().view(-1).numpy()) == 0)
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
        return Few(False, *_in_order(x, of_inputs, y, gain, BYTES // x.itemsize))
    return Few(True, *_in_order(y, of_units, x, gain, 1)) if of_units <= FEW * y.size else None


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
def _in_order(x, count, others, gain, wide):  # type: ignore[no-untyped-def]
    """The `count` entries of x (samples, lines) that are not 0: `Events` of so `wide` groups of lines, and a bound."""
    lines, flat, found = x.shape[1], x.reshape(-1), 0
    ends, where = np.zeros(-(-lines // wide) + 1, np.int64), np.empty(count, np.int64)
    for start in range(0, len(flat), CHUNK):
        part, some = flat[start : start + CHUNK], np.int32(0)
        for k in range(len(part)):
            some += np.int32(part[k] != 0)
        if some:
            for k in range(len(part)):
                if part[k] != 0:
                    where[found] = start + k
                    ends[(start + k) % lines // wide + 1] += 1
                    found += 1
    for i in range(1, len(ends)):
        ends[i] += ends[i - 1]
    to, sample, line, value = ends[:-1].copy(), np.empty(count, np.int64), where.copy(), np.empty(count, x.dtype)
    for k in range(count):
        s, i = divmod(where[k], lines)
        group, rest = divmod(i, wide)
        place = to[group]
        sample[place], line[place], value[place] = s, rest, x[s, i] * x.dtype.type(gain)
        to[group] += 1
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
