"""Who wins: the first and the k-th of the units of every sample, in one pass over their drives."""

import numpy as np
import torch
from torch import Tensor

from neuropil._threads import compiler, inlined, share_out
from neuropil.errors import require
from neuropil.plasticity.geometry import product
from neuropil.plasticity.kernels.dispatch import on_gpu
from neuropil.plasticity.plan import IN_USE, PLAN, Plan

compiled = compiler()
LANES = 128  # a long row is seen as that many interleaved lanes
TILE = 128  # samples side by side
SWEEP = 4  # ranks that the units of a tile go through at once
WIDEST = 1 << 15  # units that a GPU ranks in one program


def first_and_kth(drive: Tensor, k: int, plan: Plan | None = None) -> tuple[Tensor, Tensor]:
    r"""The units with the largest and with the k-th largest drive of every sample.

    The lower of two units with equal drives ranks first. Where neither compiled code nor Triton's kernels serve,
    ``torch.topk`` has its own order.

    Args:
        drive: (samples, units, \*positions).
        k: a rank from 1 to the number of units.
        plan: how to go about it; None for that of the rule at work.

    Returns:
        the two units, (samples, 2, \*positions) int64, and a tensor that is finite where the drives of a sample are.

    Raises:
        Refusal: another rank.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import first_and_kth
        >>> first_and_kth(torch.tensor([[0.1, 0.9, 0.5]]), 2)[0]
        tensor([[1, 2]])
    """
    units = drive.shape[1]
    require(1 <= k <= units, f"first_and_kth needs a rank k from 1 to {units}, the number of units, got {k}.")
    plan = plan or IN_USE.get()
    gpu = on_gpu("ranking", drive, plan)
    if gpu and drive.numel() and k <= plan.most_ranks and drive.shape[1] <= WIDEST:
        ranked: tuple[Tensor, Tensor] = gpu.first_and_kth(drive, k)
        return ranked
    if drive.device.type != "cpu":
        top = drive.topk(k, 1)
        return torch.cat([top.indices[:, :1], top.indices[:, k - 1 :]], 1), top.values
    drive = drive.to(torch.promote_types(drive.dtype, torch.float32))
    samples, places = drive.numel() // max(1, drive.shape[1]), drive.shape[2:]
    chosen, largest = torch.empty(2, samples, dtype=torch.int64), drive.new_empty(samples)
    given, worth = (k, chosen.numpy(), largest.numpy()), drive.numel() // plan.drives_per_thread
    if drive.shape[1] >= plan.long_row:
        row = drive.movedim(1, -1).flatten(0, -2).contiguous().numpy()
        share_out(_along, samples, row, np.empty(0, f"i{drive.itemsize}"), *given, worth=worth)
    else:
        cube = (drive.flatten(2) if places else drive.T[None]).contiguous().numpy()
        share_out(_abreast, len(cube) * -(-cube.shape[2] // TILE), cube, *given, worth=worth)
    return chosen.view(2, len(drive), *places).movedim(0, 1), largest


def winner(drive: Tensor, plan: Plan | None = None) -> tuple[Tensor, Tensor]:
    r"""The unit with the largest drive, (samples, 1, \*positions), and what is finite where drives are; as above.

    >>> import torch
    >>> winner(torch.tensor([[0.1, 0.9, 0.9]]))[0]
    tensor([[1]])
    """
    units, finite = first_and_kth(drive, 1, plan)
    return units[:, :1], finite


def rankable(pre: Tensor, weight: Tensor, plan: Plan = PLAN) -> Tensor:
    """pre @ weight.T for pre (n, in) and weight (units, in), so laid out that `first_and_kth` need not copy it."""
    if len(weight) >= plan.long_row or pre.device.type != "cpu":
        return product(pre, weight, plan)
    return product(weight, pre, plan).T


@compiled
def _abreast(thread, start, stop, drive, k, chosen, largest):  # type: ignore[no-untyped-def]
    """The ranks of the tiles `start` to `stop` of (batch, units, positions) drives, TILE positions side by side."""
    units, positions = drive.shape[1:]
    tiles = -(-positions // TILE)
    tile, best = np.zeros(units * TILE, drive.dtype), np.empty(-(-k // SWEEP) * SWEEP * TILE, drive.dtype)
    zeros, carry = np.empty(TILE, drive.dtype), np.empty(TILE, drive.dtype)
    first, kth, left = np.empty(TILE, np.int32), np.empty(TILE, np.int32), np.empty(TILE, np.int32)
    for turn in range(start, stop):
        sample, begin = turn // tiles, turn % tiles * TILE
        width = min(TILE, positions - begin)
        _copy(drive[sample], begin, begin + width, tile, zeros)
        _insert(tile, best, carry)
        _find(tile, best, k, first, kth, left)
        at = sample * positions + begin
        for lane in range(width):
            chosen[0, at + lane], chosen[1, at + lane] = first[lane], kth[lane]
            largest[at + lane] = best[lane] + zeros[lane]


@inlined
def _copy(drive, start, stop, tile, zeros):  # type: ignore[no-untyped-def]
    """The positions `start` to `stop` into `tile`; `zeros` are NaN where a drive of the lane is not finite."""
    zeros[:] = 0
    for unit in range(len(drive)):
        row, copy = drive[unit, start:stop], tile[unit * TILE :]
        for lane in range(len(row)):
            copy[lane] = row[lane]
            zeros[lane] += row[lane] - row[lane]


@inlined
def _insert(tile, best, carry):  # type: ignore[no-untyped-def]
    """The largest drives of every lane in descending order into `best`; no branch depends on the data."""
    best[:] = -np.inf
    for unit in range(len(tile) // TILE):
        row = tile[unit * TILE : (unit + 1) * TILE]
        for lane in range(TILE):
            carry[lane] = row[lane]
        for rank in range(0, len(best), SWEEP * TILE):
            some = best[rank : rank + SWEEP * TILE]
            for lane in range(TILE):
                new = carry[lane]
                a, b, c, d = some[lane], some[TILE + lane], some[2 * TILE + lane], some[3 * TILE + lane]
                some[lane] = new if new > a else a
                new = a if new > a else new
                some[TILE + lane] = new if new > b else b
                new = b if new > b else new
                some[2 * TILE + lane] = new if new > c else c
                new = c if new > c else new
                some[3 * TILE + lane] = new if new > d else d
                carry[lane] = d if new > d else new


@inlined
def _find(tile, best, k, first, kth, left):  # type: ignore[no-untyped-def]
    """The places of the largest and of the k-th largest drive of every lane, whose values are in `best`.

    `left` counts how many more drives like the k-th have to come until the k-th is there.
    """
    top, low = best[:TILE], best[(k - 1) * TILE : k * TILE]
    first[:] = len(tile) // TILE - 1
    kth[:] = len(tile) // TILE - 1
    left[:] = k
    for rank in range(k - 1):
        above = best[rank * TILE : (rank + 1) * TILE]
        for lane in range(TILE):
            left[lane] -= above[lane] > low[lane]
    for unit in range(len(tile) // TILE):
        row = tile[unit * TILE : (unit + 1) * TILE]
        for lane in range(TILE):
            entry = row[lane]
            first[lane] = min(first[lane], unit) if entry == top[lane] else first[lane]
            kth[lane] = unit if (entry == low[lane]) & (left[lane] > 0) else kth[lane]
            left[lane] -= entry == low[lane]


@compiled
def _along(thread, start, stop, drive, bits, k, chosen, largest):  # type: ignore[no-untyped-def]
    """The ranks of samples `start` to `stop` of (samples, units) drives; `bits` has the type of their bits."""
    peaks, zeros = np.empty(LANES, drive.dtype), np.empty(LANES, drive.dtype)
    order, keys, reached = peaks.view(bits.dtype), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    best, who = np.empty(k, drive.dtype), np.empty(k, np.int64)
    for sample in range(start, stop):
        row = drive[sample]
        _see(row, peaks, zeros)
        hits = _reach(order, k, keys, reached)
        _rank(row, peaks, reached[:hits], best, who)
        chosen[0, sample], chosen[1, sample] = who[0], who[-1]
        largest[sample] = best[0] + zeros.sum()


@inlined
def _see(row, peaks, zeros):  # type: ignore[no-untyped-def]
    """The largest entry of every lane of `row` into `peaks`; `zeros` are NaN where an entry of it is not finite."""
    whole = len(row) - len(row) % LANES
    peaks[:] = -np.inf
    zeros[:] = 0
    for left in range(0, whole, LANES):
        for lane in range(LANES):
            entry = row[left + lane]
            peaks[lane] = entry if entry > peaks[lane] else peaks[lane]
            zeros[lane] += entry - entry
    for lane in range(len(row) - whole):
        entry = row[whole + lane]
        peaks[lane] = entry if entry > peaks[lane] else peaks[lane]
        zeros[lane] += entry - entry


@inlined
def _reach(order, k, keys, reached):  # type: ignore[no-untyped-def]
    """The lanes that reach the k-th largest peak into `reached`, and how many they are, from the bits of the peaks.

    Bits of floats rank like the floats once the lower bits of negative ones are flipped. No branch depends on the data:
    most would be guessed wrong.
    """
    least = np.int64(1) << 63
    bar, hits = ~least, 0
    for lane in range(LANES):
        keys[lane] = np.int64(order[lane]) ^ ((np.int64(order[lane]) >> 63) & ~least)
    for _ in range(k):
        peak = least
        for lane in range(LANES):
            peak = max(peak, keys[lane] if keys[lane] < bar else least)
        bar = peak
    for lane in range(LANES):
        reached[hits] = lane
        hits += keys[lane] >= bar
    return hits


@inlined
def _rank(row, peaks, reached, best, who):  # type: ignore[no-untyped-def]
    """The largest entries of `row` in descending order into `best`, their places into `who`.

    The k-th largest peak is at most the k-th largest entry, so lanes that do not reach it need no second look.
    """
    floor = peaks[reached[0]]
    for lane in reached:
        floor = min(floor, peaks[lane]) if len(best) <= LANES else -np.inf
    best[:] = -np.inf
    who[:] = len(row) - 1
    for lane in reached:
        for place in range(lane, len(row), LANES):
            entry, rank = row[place], len(best)
            if entry < floor:
                continue
            while rank > 0 and (entry > best[rank - 1] or (entry == best[rank - 1] and place < who[rank - 1])):
                rank -= 1
                if rank + 1 < len(best):
                    best[rank + 1] = best[rank]
                    who[rank + 1] = who[rank]
            if rank < len(best):
                best[rank] = entry
                who[rank] = place
