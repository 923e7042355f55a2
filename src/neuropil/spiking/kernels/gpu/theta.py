"""Theta neurons over sorted input spikes, and the adjoint, as Triton kernels; the laws are in `kernels.cpu.theta`.

A program simulates a block of neurons through one sample after the other. The backward pass simulates forward once
more, keeps what it needs of one sample in a workspace of the program, and comes back. Gradients of weights are added up
in one copy per program, so that the sum has one order and comes out the same every time.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropil.spiking.kernels.bundles import OutputGrads, Plan, ThetaModel, counted, refuse_uncounted, with_room
from neuropil.spiking.kernels.gpu.launch import block_of, programs
from neuropil.spiking.kernels.gpu.oscillator import arc, scalar
from neuropil.spiking.times import Events


def simulate(events: Events, model: ThetaModel, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """What `kernels.cpu.theta.simulate` gives."""
    (batch, width), neurons, weight = events.time.shape, model.weight.shape[1], model.weight
    end, block, given = model.start.new_empty(2, batch, neurons), block_of(neurons, plan.block), _shared(events, model)
    run, sizes = forward[(batch, triton.cdiv(neurons, block))], (batch, width, neurons)
    simulate_in = lambda times, numbers: run(*given, times, numbers, end, *sizes, times.shape[2], BLOCK=block)
    found = with_room(simulate_in, batch, neurons, plan.slots, weight, plan, lambda: counted(end))
    refuse_uncounted(found[2], weight)
    return found[0], found[1], end


def adjoint(
    events: Events, model: ThetaModel, plan: Plan, spikes: Tensor, given: OutputGrads, by_time: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What `kernels.cpu.theta.adjoint` gives."""
    (batch, width), weight, slots = events.time.shape, model.weight, given.times.shape[2]
    (inputs, neurons), block = weight.shape, block_of(weight.shape[1], plan.block)
    blocks = triton.cdiv(neurons, block)
    work = 3 * width + slots  # rows of `block` numbers
    parts = programs(batch, weight.device, (work * blocks * block + inputs * neurons) * weight.element_size())
    space = weight.new_empty(parts, blocks, work, block)
    at = torch.empty(parts, blocks, slots, block, dtype=torch.int32, device=weight.device)
    by_weight, by_start = weight.new_zeros(parts, inputs, neurons), weight.new_empty(parts, neurons)
    by_event = weight.new_zeros(blocks, batch, width if by_time else 0)
    backward[(parts, blocks)](
        *_shared(events, model), *(part.contiguous() for part in given), space, at, by_weight, by_start, by_event,
        batch, width, inputs, neurons, slots, TIMES=by_time, BLOCK=block,
    )  # fmt: skip
    return by_weight.sum(0), by_start.sum(0), by_event.sum(0)


def _shared(events: Events, model: ThetaModel) -> tuple[Any, ...]:
    """What both kernels take first."""
    numbers = float(model.speed), float(model.r), float(model.t_end)
    return events.time, events.source, events.total, model.weight.contiguous(), model.start.contiguous(), *numbers


@triton.jit
def rotate(x, y, angle):  # type: ignore[no-untyped-def]
    """(x, y) after a rotation, in the half plane y >= 0, and which neurons spiked."""
    c, s = tl.cos(angle), tl.sin(angle)
    ahead, up = x * c + y * s, y * c - x * s
    return tl.where(up < 0, -ahead, ahead), tl.abs(up), up < 0


@triton.jit
def forward(  # type: ignore[no-untyped-def]
    time, source, count, weight, start, speed: tl.float64, r: tl.float64, t_end: tl.float64, out, spikes, end,
    batch, width, neurons, slots, BLOCK: tl.constexpr,
):  # fmt: skip
    """Spike times into `out` as far as there is room, their number into `spikes`, (x, y) at the end into `end`."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = j < neurons
    D: tl.constexpr = weight.dtype.element_ty
    speed, r, t_end = scalar(speed, D), scalar(r, D), scalar(t_end, D)
    x = tl.load(start + j, mask=here, other=1.0)
    y = tl.load(start + neurons + j, mask=here, other=0.0)
    n = tl.load(count + b)
    total, before = x * 0, t_end * 0
    fired = tl.zeros([BLOCK], tl.int32)
    for e in range(n + 1):
        now = tl.minimum(tl.load(time + b * width + e), t_end)
        left = (now - before) * speed
        while left > 0:
            angle = tl.minimum(left, 3.0)
            left -= angle
            x, y, hit = rotate(x, y, angle)
            spike = tl.maximum(now - (left + arc(y, -x)) / speed, before)
            tl.store(out + (b * neurons + j) * slots + fired, spike, mask=hit & here & (fired < slots))
            fired += (hit & here).to(tl.int32)
        if e < n:
            total += tl.load(weight + tl.load(source + b * width + e) * neurons + j, mask=here, other=0.0)
            if tl.load(time + b * width + e + 1) != now:
                x += total / r * y
                total = x * 0
            if e % 4 == 3:
                root = 1 / tl.sqrt(x * x + y * y)
                x, y = x * root, y * root
        before = now
    tl.store(spikes + b * neurons + j, fired, mask=here)
    tl.store(end + b * neurons + j, x, mask=here)
    tl.store(end + (batch + b) * neurons + j, y, mask=here)


@triton.jit
def recompute_states(  # type: ignore[no-untyped-def]
    time, source, n, weight, start, sums, ys, scales, lengths, at, neurons, j, here, speed, r, t_end,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Simulate one sample again and keep what the adjoint needs; (x, y) at the end and the numbers of spikes.

    That is x before plus x after an input, y at it, and the factors of normalising. For every spike it is x^2 + y^2 and
    the event that follows.
    """
    x = tl.load(start + j, mask=here, other=1.0)
    y = tl.load(start + neurons + j, mask=here, other=0.0)
    total, before = x * 0, t_end * 0
    fired = tl.zeros([BLOCK], tl.int32)
    for e in range(n + 1):
        now = tl.minimum(tl.load(time + e), t_end)
        left = (now - before) * speed
        while left > 0:
            angle = tl.minimum(left, 3.0)
            left -= angle
            x, y, hit = rotate(x, y, angle)
            tl.store(lengths + fired * BLOCK, x * x + y * y, mask=hit & here)
            tl.store(at + fired * BLOCK, e + tl.zeros([BLOCK], tl.int32), mask=hit & here)
            fired += (hit & here).to(tl.int32)
        if e < n:
            total += tl.load(weight + tl.load(source + e) * neurons + j, mask=here, other=0.0)
            if tl.load(time + e + 1) != now:
                jump = total / r * y
                tl.store(sums + e * BLOCK, x + x + jump)
                tl.store(ys + e * BLOCK, y)
                x += jump
                total = x * 0
            if e % 4 == 3:
                scale = 1 / (x * x + y * y)
                tl.store(scales + e * BLOCK, scale)
                x, y = x * tl.sqrt(scale), y * tl.sqrt(scale)
        before = now
    return x, y, fired


@triton.jit
def adjoint_sample(  # type: ignore[no-untyped-def]
    time, source, n, weight, sums, ys, scales, lengths, at, d_out, d_weight, d_time, beta, fired,
    neurons, j, here, speed, r, TIMES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take `beta`, b at the end of a sample, back to its start; coincident inputs share what the last of them has."""
    by_weight, by_time = beta * 0, beta * 0
    for k in range(n + 1):
        e = n - k
        mine = (fired > 0) & (tl.load(at + (fired - 1) * BLOCK, mask=fired > 0, other=-1) == e)
        while tl.max(mine.to(tl.int32), 0) > 0:
            fired -= mine.to(tl.int32)
            given = tl.load(d_out + fired, mask=mine, other=0.0)
            beta -= given / speed / tl.load(lengths + fired * BLOCK, mask=mine, other=1.0)
            mine = (fired > 0) & (tl.load(at + (fired - 1) * BLOCK, mask=fired > 0, other=-1) == e)
        if e > 0:
            e -= 1
            if e % 4 == 3:
                beta *= tl.load(scales + e * BLOCK)
            if tl.load(time + e + 1) != tl.load(time + e):
                y = tl.load(ys + e * BLOCK)
                by_weight, by_time = beta * y * y / r, beta * y * tl.load(sums + e * BLOCK)
            row = tl.load(source + e) * neurons + j
            tl.atomic_add(d_weight + row, by_weight, mask=here, sem="relaxed")
            if TIMES:
                late = tl.sum(tl.load(weight + row, mask=here, other=0.0) * by_time, 0)
                tl.store(d_time + e, -late * speed / r)
    return beta


@triton.jit
def backward(  # type: ignore[no-untyped-def]
    time, source, count, weight, start, speed: tl.float64, r: tl.float64, t_end: tl.float64,
    d_out, d_end, space, at, d_weight, d_start, d_time,
    batch, width, inputs, neurons, slots, TIMES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of weights and of the first angle, one copy per program, and of the events' times, one per block."""
    part, block = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    j = block * BLOCK + lane
    here = j < neurons
    D: tl.constexpr = weight.dtype.element_ty
    speed, r, t_end = scalar(speed, D), scalar(r, D), scalar(t_end, D)
    own = part * tl.num_programs(1) + block
    sums = space + own * (3 * width + slots) * BLOCK + lane
    ys, scales, lengths = sums + width * BLOCK, sums + 2 * width * BLOCK, sums + 3 * width * BLOCK
    at += own * slots * BLOCK + lane
    mine = d_weight + part * inputs * neurons
    begun = tl.load(start + j, mask=here, other=1.0) * 0
    b = part
    while b < batch:
        times, senders, n = time + b * width, source + b * width, tl.load(count + b)
        x, y, fired = recompute_states(
            times, senders, n, weight, start, sums, ys, scales, lengths, at, neurons, j, here, speed, r, t_end, BLOCK
        )
        tl.debug_barrier()
        beta = tl.load(d_end + b * neurons + j, mask=here, other=0.0) / (x * x + y * y)
        due, late = d_out + (b * neurons + j) * slots, d_time + (block * batch + b) * width
        begun += adjoint_sample(
            times, senders, n, weight, sums, ys, scales, lengths, at, due, mine, late, beta, fired,
            neurons, j, here, speed, r, TIMES, BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
        b += tl.num_programs(0)
    tl.store(d_start + part * neurons + j, begun, mask=here)
