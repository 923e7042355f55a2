"""Who wins: the first and the k-th of the units of every sample, in one pass over their drives."""

import numba
import numpy as np
import torch
from torch import Tensor

from neuropil.threads import share_out

compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
LANES = 128  # a row is seen as that many interleaved lanes
TILE = 16  # positions of a convolution that are turned into rows at once
WORTH = 1 << 18  # drives that are worth a thread of their own


def first_and_kth(drive: Tensor, k: int, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """The units with the largest and with the k-th largest drive along `axis`, each of length 1 along it.

    The third tensor is finite where the drives of a sample are. On the CPU the lower of two units with equal drives
    ranks first; elsewhere ``torch.topk`` has its own order.
    """
    if drive.device.type != "cpu":
        top = drive.topk(k, axis)
        return top.indices.narrow(axis, 0, 1), top.indices.narrow(axis, k - 1, 1), top.values
    dense = axis % drive.dim() == drive.dim() - 1
    cube = drive.flatten(0, -2)[..., None] if dense else drive.flatten(2)  # (batch, units, positions)
    cube = cube.to(torch.promote_types(cube.dtype, torch.float32)).contiguous()
    batch, _, positions = cube.shape
    chosen = torch.empty(2, batch, positions, dtype=torch.int64)
    largest = cube.new_empty(batch, positions)
    bits = np.empty(0, f"i{cube.itemsize}")
    given = (cube.numpy(), bits, k, chosen.numpy(), largest.numpy())
    share_out(_first_and_kth, batch, *given, worth=cube.numel() // WORTH)
    shape = [*drive.shape]
    shape[axis] = 1
    return chosen[0].view(shape), chosen[1].view(shape), largest


@compiled
def _first_and_kth(part, start, stop, drive, bits, k, chosen, largest):  # type: ignore[no-untyped-def]
    """The ranks of samples `start` to `stop` of (batch, units, positions) drives; `bits` has the type of their bits."""
    units, positions = drive.shape[1:]
    peaks, zeros = np.empty(LANES, drive.dtype), np.empty(LANES, drive.dtype)
    order, keys, reached = peaks.view(bits.dtype), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    best, who = np.empty(k, drive.dtype), np.empty(k, np.int64)
    tile = np.empty((min(TILE, positions), units), drive.dtype)
    for sample in range(start, stop):
        for left in range(0, positions, TILE):
            width = min(TILE, positions - left)
            if positions > 1:
                for unit in range(units):
                    for offset in range(width):
                        tile[offset, unit] = drive[sample, unit, left + offset]
            for offset in range(width):
                row = tile[offset] if positions > 1 else drive[sample].reshape(-1)
                _see(row, peaks, zeros)
                hits = _reach(order, k, keys, reached)
                _rank(row, peaks, reached[:hits], best, who)
                chosen[0, sample, left + offset] = who[0]
                chosen[1, sample, left + offset] = who[-1]
                largest[sample, left + offset] = best[0] + zeros.sum()


@compiled
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


@compiled
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


@compiled
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
