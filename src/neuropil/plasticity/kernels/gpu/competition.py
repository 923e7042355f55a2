"""Competitions of the units of a convolution on a GPU, in two kernels each, without a copy of the patches.

The first gathers a tile of patches and multiplies it with the weights of all units. It keeps who wins. The second makes
the post factors of a tile of patches again and multiplies them with the patches, gathered again. Each of its programs
has a part of the patches. The parts are added up at the end, so that sums have one order and come out the same every
time. Soft competition is in `soft`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropil.plasticity.kernels.gpu.patches import Images, gather, moments, normalised
from neuropil.plasticity.kernels.gpu.patches import images as images
from neuropil.plasticity.kernels.gpu.ranking import first_and_kth as first_and_kth
from neuropil.plasticity.kernels.gpu.ranking import first_and_kth_of

PROGRAMS = 1024  # that share the patches out
DRIVES = 16384  # that one program makes at a time


def power(size: int, least: int = 16) -> int:
    """The next power of two; a tile of a product has 16 entries at least on each side."""
    return max(least, int(triton.next_power_of_2(size)))


def depth(fan_in: int, extra: int, most: int = 32) -> int:
    """Entries of a patch at a time: few are left over, and what every turn costs besides is made up for.

    More than 32 to sum over in a product would not fit into the registers.
    """
    sizes = [size for size in (64, 32, 16) if size <= most]
    return min(sizes, key=lambda size: triton.cdiv(fan_in, size) * (size + extra))


def rank_patches(
    seen: Images, matrix: Tensor, bias: Tensor | None, k: int, tf32: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Who wins and who comes k-th on every patch.

    Args:
        seen: the patches.
        matrix: weights of the drive, (units, fan-in), in the dtype to which factors are rounded.
        bias: of the drive, (units,), or None.
        k: the rank.
        tf32: whether to round factors to tf32.

    Returns:
        units: (1 or 2, patches) int32: the winners, and the k-th where k > 1; -1 for flat patches.
        moments: (2, patches): mean and one over the norm of each patch, where patches are normalised.
        finite: of some patches together: 0, or NaN where a drive is not finite.
    """
    units, count, new = len(matrix), seen.total, seen.pre.new_empty
    wide, low = power(units), matrix.element_size() == 2
    deep = depth(seen.fan_in, 2, 32 if wide * seen.pre.element_size() <= 2048 else 16)
    tall = max(16, min(64, DRIVES // wide))
    kind = torch.promote_types(seen.pre.dtype, torch.float32)
    chosen = new(min(k, 2), count, dtype=torch.int32)
    about, finite = new(2, count if seen.flat is not None else 0, dtype=kind), new(triton.cdiv(count, tall), dtype=kind)
    rank_tile[(len(finite),)](
        seen.pre, seen.hops, matrix.T.contiguous(), matrix if bias is None else bias, chosen, about, finite,
        count, units, seen.flat or 0.0,
        FORM=seen.form, FAN_IN=seen.fan_in, K=k, NORMED=seen.flat is not None, BIASED=bias is not None,
        LOW=low, PRECISION="tf32" if tf32 or low else "ieee", TALL=tall, DEEP=deep, WIDE=wide,
        num_warps=8, num_stages=1,
    )  # fmt: skip
    return chosen, about, finite


@triton.jit
def rank_tile(  # type: ignore[no-untyped-def]
    pre, hops, matrix, bias, chosen, about, finite, count, units, flat: tl.float64,
    FORM: tl.constexpr, FAN_IN: tl.constexpr, K: tl.constexpr, NORMED: tl.constexpr, BIASED: tl.constexpr,
    LOW: tl.constexpr, PRECISION: tl.constexpr, TALL: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """TALL patches against all units."""
    patch, unit = tl.program_id(0) * TALL + tl.arange(0, TALL), tl.arange(0, WIDE)
    here, real = patch < count, unit < units
    KIND: tl.constexpr = tl.float64 if matrix.dtype.element_ty == tl.float64 else tl.float32
    drive = tl.zeros([TALL, WIDE], KIND)
    wanted = here
    if NORMED:
        mean, scale = moments(pre, hops, patch, here, flat, FORM, FAN_IN, DEEP)
        tl.store(about + patch, mean, mask=here)
        tl.store(about + count + patch, scale, mask=here)
        wanted = here & (scale > 0)
    for start in range(0, FAN_IN, DEEP):
        entry = start + tl.arange(0, DEEP)
        x = gather(pre, hops, patch, here, entry, 0, FORM, FAN_IN)
        if NORMED:
            x = normalised(x, entry, mean, scale, FAN_IN)
        there = (entry < FAN_IN)[:, None] & real[None, :]
        w = tl.load(matrix + entry[:, None] * units + unit[None, :], mask=there, other=0.0)
        if LOW:  # exact in tf32
            x, w = x.to(tl.float32).to(w.dtype).to(tl.float32), w.to(tl.float32)
        drive = tl.dot(x, w, drive, input_precision=PRECISION, out_dtype=KIND)
    if BIASED:
        drive += tl.load(bias + unit, mask=real, other=0.0).to(KIND)[None, :]
    tl.store(finite + tl.program_id(0), tl.sum(tl.sum(drive - drive, 1), 0))
    drive = tl.where(real[None, :], drive, -float("inf"))
    first, kth = first_and_kth_of(drive, unit, wanted, K, units - 1)
    tl.store(chosen + patch, tl.where(wanted, first, -1), mask=here)
    if K > 1:
        tl.store(chosen + count + patch, tl.where(wanted, kth, -1), mask=here)


def sum_chosen(
    seen: Images, chosen: Tensor, about: Tensor, gains: tuple[float, ...], units: int, groups: int, counted: bool
) -> tuple[Tensor, Tensor]:
    """The sum of the patches that chose each unit, weighted by gain, (units, fan-in), and how many, (ranks, units).

    Args:
        seen: the patches.
        chosen, about: as `rank_patches` gives them.
        gains: of each rank.
        units, groups: of the layer.
        counted: whether the numbers are wanted; otherwise they are arbitrary.
    """
    each = units // groups
    tall, deep, wide = min(128, power(each)), depth(seen.fan_in, 8, 64), 32
    blocks, columns = triton.cdiv(each, tall), triton.cdiv(seen.fan_in, deep)
    splits, length = shared_out(seen.total, blocks * groups * columns, wide)
    sums = about.new_empty(splits, units, seen.fan_in)
    counts = chosen.new_empty(splits, len(gains), units)
    sum_tile[(blocks * groups, columns, splits)](
        seen.pre, seen.hops, chosen, about, sums, counts, seen.total, units, length, float(gains[0]), float(gains[-1]),
        FORM=seen.form, FAN_IN=seen.fan_in, RANKS=len(gains), NORMED=seen.flat is not None, EACH=each, BLOCKS=blocks,
        TALL=tall, DEEP=deep, WIDE=wide, COUNTED=counted, num_warps=8 if tall * deep > 4096 else 4,
    )  # fmt: skip
    return sums.sum(0), counts.sum(0)


def shared_out(count: int, programs: int, tile: int) -> tuple[int, int]:
    """Into how many parts of how many patches each, in whole tiles, so many programs share the patches out."""
    tiles = triton.cdiv(count, tile)
    length = triton.cdiv(tiles, max(1, min(tiles, PROGRAMS // programs))) * tile
    return triton.cdiv(count, length), length


@triton.jit
def sum_tile(  # type: ignore[no-untyped-def]
    pre, hops, chosen, about, sums, counts, count, units, length, first_gain: tl.float64, last_gain: tl.float64,
    FORM: tl.constexpr, FAN_IN: tl.constexpr, RANKS: tl.constexpr, NORMED: tl.constexpr, EACH: tl.constexpr,
    BLOCKS: tl.constexpr, COUNTED: tl.constexpr, TALL: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """TALL units of one group and DEEP entries of the patches of one part, WIDE patches at a time."""
    group, split = tl.program_id(0) // BLOCKS, tl.program_id(2)
    own = tl.program_id(0) % BLOCKS * TALL + tl.arange(0, TALL)
    real, unit = own < EACH, group * EACH + own
    entry = tl.program_id(1) * DEEP + tl.arange(0, DEEP)
    KIND: tl.constexpr = sums.dtype.element_ty
    first, last = tl.full([1, 1], first_gain, KIND), tl.full([1, 1], last_gain, KIND)
    total, won, came = tl.zeros([TALL, DEEP], KIND), tl.zeros([TALL], tl.int32), tl.zeros([TALL], tl.int32)
    for start in range(0, length, WIDE):
        patch = split * length + start + tl.arange(0, WIDE)
        here = patch < count
        x = gather(pre, hops, patch, here, entry, group, FORM, FAN_IN)
        if NORMED:
            mean = tl.load(about + patch, mask=here, other=0.0)
            x = normalised(x, entry, mean, tl.load(about + count + patch, mask=here, other=0.0), FAN_IN)
        hit = unit[:, None] == tl.load(chosen + patch, mask=here, other=-1)[None, :]
        if COUNTED:
            won += tl.sum(hit.to(tl.int32), 1)
        factor = tl.where(hit, first, 0.0)
        if RANKS == 2:
            hit = unit[:, None] == tl.load(chosen + count + patch, mask=here, other=-1)[None, :]
            if COUNTED:
                came += tl.sum(hit.to(tl.int32), 1)
            factor += tl.where(hit, last, 0.0)
        total = tl.dot(factor, x, total, input_precision="ieee", out_dtype=KIND)
    row = (split * units + unit).to(tl.int64)
    there = real[:, None] & (entry < FAN_IN)[None, :]
    tl.store(sums + row[:, None] * FAN_IN + entry[None, :], total, mask=there)
    if COUNTED and tl.program_id(1) == 0:
        tl.store(counts + split * RANKS * units + unit, won, mask=real)
        if RANKS == 2:
            tl.store(counts + (split * RANKS + 1) * units + unit, came, mask=real)
