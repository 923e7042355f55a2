"""Soft competition of the units of a convolution on a GPU, in two kernels, as in `competition`.

The first keeps the largest drive of a patch and the normaliser of the softmax. From these the second makes post
factors.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropil.plasticity.kernels.gpu.competition import depth, power, shared_out
from neuropil.plasticity.kernels.gpu.patches import Images, gather, moments, normalised


def soften_patches(seen: Images, matrix: Tensor, bias: Tensor | None, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """What every patch needs for a softmax of its drives over `tau`, unit blocks one after the other.

    Args:
        seen, matrix, bias: as for `rank_patches`.
        tau: temperature.

    Returns:
        winner: (patches,) int32; -1 for flat patches.
        peaks: (2, patches): the largest drive over tau, and the sum of exponentials above it.
        moments: as `rank_patches` gives them.
    """
    units, count, new = len(matrix), seen.total, seen.pre.new_empty
    tall, deep, wide = 64, depth(seen.fan_in, 2), min(128, power(units))
    kind = torch.promote_types(seen.pre.dtype, torch.float32)
    winner, peaks = new(count, dtype=torch.int32), new(2, count, dtype=kind)
    about = new(2, count if seen.flat is not None else 0, dtype=kind)
    soften_tile[(triton.cdiv(count, tall),)](
        seen.pre, seen.hops, matrix.T.contiguous(), matrix if bias is None else bias, winner, peaks, about,
        count, units, seen.flat or 0.0, tau,
        FORM=seen.form, FAN_IN=seen.fan_in, NORMED=seen.flat is not None, BIASED=bias is not None,
        TALL=tall, DEEP=deep, WIDE=wide, num_warps=8,
    )  # fmt: skip
    return winner, peaks, about


@triton.jit
def soften_tile(  # type: ignore[no-untyped-def]
    pre, hops, matrix, bias, winner, peaks, about, count, units, flat: tl.float64, tau: tl.float64,
    FORM: tl.constexpr, FAN_IN: tl.constexpr, NORMED: tl.constexpr, BIASED: tl.constexpr,
    TALL: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """TALL patches against WIDE units at a time."""
    patch = tl.program_id(0) * TALL + tl.arange(0, TALL)
    here = patch < count
    KIND: tl.constexpr = about.dtype.element_ty
    wanted = here
    if NORMED:
        mean, scale = moments(pre, hops, patch, here, flat, FORM, FAN_IN, DEEP)
        tl.store(about + patch, mean, mask=here)
        tl.store(about + count + patch, scale, mask=here)
        wanted = here & (scale > 0)
    peak, total = tl.full([TALL], -float("inf"), KIND), tl.zeros([TALL], KIND)
    first = tl.zeros([TALL], tl.int32)
    for begin in range(0, units, WIDE):
        unit = begin + tl.arange(0, WIDE)
        drive = tl.zeros([TALL, WIDE], KIND)
        for start in range(0, FAN_IN, DEEP):
            entry = start + tl.arange(0, DEEP)
            x = gather(pre, hops, patch, here, entry, 0, FORM, FAN_IN)
            if NORMED:
                x = normalised(x, entry, mean, scale, FAN_IN)
            there = (entry < FAN_IN)[:, None] & (unit < units)[None, :]
            w = tl.load(matrix + entry[:, None] * units + unit[None, :], mask=there, other=0.0).to(KIND)
            drive = tl.dot(x, w, drive, input_precision="ieee", out_dtype=KIND)
        if BIASED:
            drive += tl.load(bias + unit, mask=unit < units, other=0.0).to(KIND)[None, :]
        drive = tl.where((unit < units)[None, :], drive / tl.full([1, 1], tau, KIND), -float("inf"))
        high = tl.max(drive, 1)
        lead = tl.min(tl.where(drive == high[:, None], unit[None, :], units - 1), 1)
        first, above = tl.where(high > peak, lead, first), tl.maximum(peak, high)
        total = total * tl.exp(peak - above) + tl.sum(tl.exp(drive - above[:, None]), 1)
        peak = above
    tl.store(winner + patch, tl.where(wanted, first, -1), mask=here)
    tl.store(peaks + patch, peak, mask=here)
    tl.store(peaks + count + patch, total, mask=here)


def sum_soft(
    seen: Images, matrix: Tensor, bias: Tensor | None, tau: float, anti: bool, winner: Tensor, peaks: Tensor,
    about: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The sum of all patches for each unit, weighted by its softmax, (units, fan-in), and of the weights, (units,).

    Args:
        seen, matrix, bias, tau: as for `soften_patches`.
        anti: whether the weights of all but the winner are negative.
        winner, peaks, about: as `soften_patches` gives them.
    """
    units = len(matrix)
    tall, deep, wide = min(64, power(units)), power(seen.fan_in), 32
    step = depth(seen.fan_in, 2)
    blocks = triton.cdiv(units, tall)
    splits, length = shared_out(seen.total, blocks, wide)
    sums, gained = about.new_empty(splits, units, seen.fan_in), about.new_empty(splits, units)
    soft_tile[(blocks, splits)](
        seen.pre, seen.hops, matrix.contiguous(), matrix if bias is None else bias, winner, peaks, about, sums, gained,
        seen.total, units, length, tau,
        FORM=seen.form, FAN_IN=seen.fan_in, NORMED=seen.flat is not None, BIASED=bias is not None, ANTI=anti,
        TALL=tall, STEP=step, DEEP=deep, WIDE=wide, num_warps=4 if deep <= 64 else 8,
    )  # fmt: skip
    return sums.sum(0), gained.sum(0)


@triton.jit
def soft_tile(  # type: ignore[no-untyped-def]
    pre, hops, matrix, bias, winner, peaks, about, sums, gained, count, units, length, tau: tl.float64,
    FORM: tl.constexpr, FAN_IN: tl.constexpr, NORMED: tl.constexpr, BIASED: tl.constexpr, ANTI: tl.constexpr,
    TALL: tl.constexpr, STEP: tl.constexpr, DEEP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """TALL units and the patches of one part, WIDE at a time: their drives once more, their factors, the product."""
    split = tl.program_id(1)
    unit, entry = tl.program_id(0) * TALL + tl.arange(0, TALL), tl.arange(0, DEEP)
    there = (unit < units)[:, None] & (entry < FAN_IN)[None, :]
    KIND: tl.constexpr = sums.dtype.element_ty
    total, weight = tl.zeros([TALL, DEEP], KIND), tl.zeros([TALL], KIND)
    for start in range(0, length, WIDE):
        patch = split * length + start + tl.arange(0, WIDE)
        here = patch < count
        mean, scale = tl.zeros([WIDE], KIND), tl.zeros([WIDE], KIND)
        if NORMED:
            mean = tl.load(about + patch, mask=here, other=0.0)
            scale = tl.load(about + count + patch, mask=here, other=0.0)
        drive = tl.zeros([TALL, WIDE], KIND)
        for begin in range(0, FAN_IN, STEP):
            some = begin + tl.arange(0, STEP)
            x = gather(pre, hops, patch, here, some, 0, FORM, FAN_IN)
            if NORMED:
                x = normalised(x, some, mean, scale, FAN_IN)
            inside = (unit < units)[:, None] & (some < FAN_IN)[None, :]
            w = tl.load(matrix + unit[:, None] * FAN_IN + some[None, :], mask=inside, other=0.0).to(KIND)
            drive = tl.dot(w, tl.trans(x), drive, input_precision="ieee", out_dtype=KIND)
        if BIASED:
            drive += tl.load(bias + unit, mask=unit < units, other=0.0).to(KIND)[:, None]
        first = tl.load(winner + patch, mask=here, other=-1)
        above = drive / tl.full([1, 1], tau, KIND) - tl.load(peaks + patch, mask=here, other=0.0)[None, :]
        y = tl.exp(above) / tl.load(peaks + count + patch, mask=here, other=1.0)[None, :]
        if ANTI:
            y = tl.where(unit[:, None] == first[None, :], y, -y)
        y = tl.where((first >= 0)[None, :], y, 0.0)
        if BIASED:
            weight += tl.sum(y, 1)
        x = gather(pre, hops, patch, here, entry, 0, FORM, FAN_IN)
        if NORMED:
            x = normalised(x, entry, mean, scale, FAN_IN)
        total = tl.dot(y, x, total, input_precision="ieee", out_dtype=KIND)
    row = (split * units + unit).to(tl.int64)
    tl.store(sums + row[:, None] * FAN_IN + entry[None, :], total, mask=there)
    tl.store(gained + row, weight, mask=unit < units)
