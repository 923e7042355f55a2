"""Several steps of leaky integrate-and-fire neurons in one launch; the laws are in `kernels.cpu.clocked`.

A program takes a block of neurons through all steps, with their state in registers. Products and sums are rounded one
by one, as operations of torch round them: none becomes a fused multiply-add.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from neuropil.spiking.kernels.cpu.clocked import KINDS, Constants, Steps

BLOCK = 128  # neurons of a program, one for each of its threads


def advance(
    kind: str, drive: Tensor, numbers: Sequence[Tensor], resting: Tensor, constants: Constants, traced: bool
) -> Steps:
    """What `kernels.cpu.clocked.advance` gives; the host waits for nothing."""
    (steps, *units), size, kept = drive.shape, resting.numel(), len(drive) * traced
    spikes, left, rested = drive.new_empty(drive.shape), resting.new_empty(units), resting.new_empty(kept, *units)
    now, trace = (drive.new_empty(len(numbers), *shape) for shape in (units, (kept, *units)))
    before = [part.contiguous() for part in numbers]
    before += before[:1] * (4 - len(before))  # for what this kind does not have, and does not read
    if size:
        advance_block[(triton.cdiv(size, BLOCK),)](
            drive.contiguous(), spikes, *before, resting.contiguous(), now, left, trace, rested,
            steps, size, steps * size, *constants, KIND=KINDS.index(kind), TRACED=traced, BLOCK=BLOCK,
            num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return spikes, now, left, trace, rested


@triton.jit
def one(number, D: tl.constexpr):  # type: ignore[no-untyped-def]
    """A number in the type of the state."""
    return tl.full([1], number, D)


@triton.jit
def keep(numbers, left, at, plane, here, v, i, w, theta, resting, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    """The state of a block into `left` and the planes of `numbers`, as many as this kind of neuron has."""
    tl.store(left + at, resting, mask=here)
    tl.store(numbers + at, v, mask=here)
    if KIND > 0:
        tl.store(numbers + plane + at, i, mask=here)
    if KIND > 1:
        tl.store(numbers + 2 * plane + at, w, mask=here)
        tl.store(numbers + 3 * plane + at, theta, mask=here)


@triton.jit(do_not_specialize=["steps", "size", "plane", "rest"])
def advance_block(  # type: ignore[no-untyped-def]
    drive, spikes, v_at, i_at, w_at, theta_at, resting_at, now, left, trace, rested, steps, size, plane,
    vv: tl.float64, vi: tl.float64, vw: tl.float64, v1: tl.float64, ii: tl.float64, wv: tl.float64, wi: tl.float64,
    ww: tl.float64, w1: tl.float64, hold: tl.float64, held: tl.float64, calm: tl.float64, threshold: tl.float64,
    reset: tl.float64, b: tl.float64, theta_plus: tl.float64, rest,
    KIND: tl.constexpr, TRACED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All steps of a block of neurons; `plane` is how many numbers `drive` has, KIND a place in `KINDS`."""
    D: tl.constexpr = drive.dtype.element_ty
    vv, vi, vw, v1, ii = one(vv, D), one(vi, D), one(vw, D), one(v1, D), one(ii, D)
    wv, wi, ww, w1, hold, held = one(wv, D), one(wi, D), one(ww, D), one(w1, D), one(hold, D), one(held, D)
    calm, threshold, reset, b, up = one(calm, D), one(threshold, D), one(reset, D), one(b, D), one(theta_plus, D)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    first = at
    resting, v = tl.load(resting_at + at, mask=here, other=0), tl.load(v_at + at, mask=here, other=0.0)
    i, w, theta = v, v, v
    if KIND > 0:
        i = tl.load(i_at + at, mask=here, other=0.0)
    if KIND > 1:
        w, theta = tl.load(w_at + at, mask=here, other=0.0), tl.load(theta_at + at, mask=here, other=0.0)
    for _ in tl.range(steps, num_stages=4):
        given, still, high = tl.load(drive + at, mask=here, other=0.0), resting > 0, threshold
        if KIND == 0:
            free = vv * v + v1 + given
        else:
            i += given
            free = vv * v + vi * i
            if KIND == 2:
                theta *= calm
                high = threshold + theta
                free += vw * w
                w = tl.where(still, hold * w + held, wv * v + wi * i + ww * w + w1)
            free += v1
            i *= ii
        v = tl.where(still, reset, free)
        fired = v >= high
        out = fired.to(D)
        if KIND == 2:
            w, theta = w + b * out, theta + up * out
        v, resting = tl.where(fired, reset, v), tl.where(fired, rest, tl.maximum(resting - 1, 0))
        tl.store(spikes + at, out, mask=here)
        if TRACED:
            keep(trace, rested, at, plane, here, v, i, w, theta, resting, KIND)
        at += size
    keep(now, left, first, size, here, v, i, w, theta, resting, KIND)
