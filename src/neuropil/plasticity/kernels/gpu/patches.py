"""How a program of a GPU gathers patches: padding, stride, dilation and groups are arithmetic of addresses.

Positions have three axes; a convolution with fewer has axes of size 1.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

MODES = ("zeros", "reflect", "replicate", "circular")


class Images(NamedTuple):
    """What a convolution sees, as kernels take it.

    Attributes:
        pre: (batch, channels, *positions).
        hops: strides of its five axes.
        total: patches.
        form: channels of a group, six numbers for each axis, the number of the padding mode. Those of an axis are the
            positions of input and output, and size, stride, padding and dilation of the kernel.
        fan_in: entries of a patch.
        flat: fraction of its mean square below which the variance of a patch counts as none. None where patches are
            taken as they are; otherwise they lose their mean and get norm 1.
    """

    pre: Tensor
    hops: tuple[int, ...]
    total: int
    form: tuple[int, ...]
    fan_in: int
    flat: float | None


def images(layer: nn.Module, pre: Tensor, places: torch.Size, flat: float | None) -> Images:
    """What `layer`, a convolution whose output has positions `places`, sees of `pre`."""
    conv: nn.Conv2d = layer  # type: ignore[assignment]
    extra = 3 - len(places)
    sides = conv._reversed_padding_repeated_twice[::-1][1::2]
    axes = zip(pre.shape[2:], places, conv.kernel_size, conv.stride, sides, conv.dilation)
    flats = [entry for axis in [(1, 1, 1, 1, 0, 1)] * extra + [*axes] for entry in axis]
    form = (pre.shape[1] // conv.groups, *flats, MODES.index(conv.padding_mode))
    hops = (*pre.stride()[:2], *[0] * extra, *pre.stride()[2:])
    return Images(pre, hops, len(pre) * places.numel(), form, conv.weight[0].numel(), flat)


@triton.jit
def along(at, seen, start, step, hop, FORM: tl.constexpr, AXIS: tl.constexpr):  # type: ignore[no-untyped-def]
    """`at`, and what is `seen`, with what padding along an axis makes of the entries `start` + `step`, times `hop`."""
    SIZE: tl.constexpr = FORM[6 * AXIS + 1]
    LAST: tl.constexpr = (FORM[6 * AXIS + 2] - 1) * FORM[6 * AXIS + 4] + (FORM[6 * AXIS + 3] - 1) * FORM[6 * AXIS + 6]
    if FORM[6 * AXIS + 5] > 0 or LAST - FORM[6 * AXIS + 5] >= SIZE:
        z = start[:, None] + step[None, :]
        if FORM[19] == 0:
            seen = seen & (z >= 0) & (z < SIZE)
        elif FORM[19] == 1:
            at += (SIZE - 1 - tl.abs(SIZE - 1 - tl.abs(z)) - z) * hop
        elif FORM[19] == 2:
            at += (tl.minimum(tl.maximum(z, 0), SIZE - 1) - z) * hop
        else:
            at += ((z + SIZE) % SIZE - z) * hop
    return at, seen


@triton.jit
def gather(pre, hops, patch, here, entry, group, FORM: tl.constexpr, FAN_IN: tl.constexpr):  # type: ignore[no-untyped-def]
    """(patches, entries): the entries `entry` of the patches `patch`; 0 for those that are not `here` or not there."""
    row, inner = patch // FORM[14], entry // FORM[15]
    plane, deeper = row // FORM[8], inner // FORM[9]
    sample, channel = plane // FORM[2], group * FORM[0] + deeper // FORM[3]
    x, y, z = (
        (patch % FORM[14]) * FORM[16] - FORM[17],
        (row % FORM[8]) * FORM[10] - FORM[11],
        (plane % FORM[2]) * FORM[4] - FORM[5],
    )
    right, down, back = (entry % FORM[15]) * FORM[18], (inner % FORM[9]) * FORM[12], (deeper % FORM[3]) * FORM[6]
    begin = sample * hops[0] + z * hops[2] + y * hops[3] + x * hops[4]
    at = begin[:, None] + (channel * hops[1] + back * hops[2] + down * hops[3] + right * hops[4])[None, :]
    seen = here[:, None] & (entry < FAN_IN)[None, :]
    at, seen = along(at, seen, x, right, hops[4], FORM, 2)
    at, seen = along(at, seen, y, down, hops[3], FORM, 1)
    at, seen = along(at, seen, z, back, hops[2], FORM, 0)
    value = tl.load(pre + at, mask=seen, other=0.0)
    return value if value.dtype == tl.float64 else value.to(tl.float32)


@triton.jit
def normalised(x, entry, mean, scale, FAN_IN: tl.constexpr):  # type: ignore[no-untyped-def]
    """Patches without their mean, times `scale`."""
    return tl.where((entry < FAN_IN)[None, :], (x - mean[:, None]) * scale[:, None], 0.0)


@triton.jit
def moments(pre, hops, patch, here, flat, FORM: tl.constexpr, FAN_IN: tl.constexpr, DEEP: tl.constexpr):  # type: ignore[no-untyped-def]
    """The mean of every patch and one over the norm of what is left without it; 0 where the patch is flat."""
    lane = tl.arange(0, DEEP)
    total = tl.sum(gather(pre, hops, patch, here, lane, 0, FORM, FAN_IN), 1)
    for start in range(DEEP, FAN_IN, DEEP):
        total += tl.sum(gather(pre, hops, patch, here, start + lane, 0, FORM, FAN_IN), 1)
    mean = total / FAN_IN
    square, left = total * 0, total * 0
    for start in range(0, FAN_IN, DEEP):
        x = gather(pre, hops, patch, here, start + lane, 0, FORM, FAN_IN)
        square += tl.sum(x * x, 1)
        x = normalised(x, start + lane, mean, total * 0 + 1, FAN_IN)
        left += tl.sum(x * x, 1)
    return mean, tl.where(left <= tl.full([1], flat, left.dtype) * square, 0.0, 1 / tl.sqrt(left))
