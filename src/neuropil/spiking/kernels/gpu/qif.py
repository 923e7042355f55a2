"""Triton walks of QIF neurons with exponential currents over sorted input spikes; the laws are in `events.oscillator`.

As for theta neurons, a program walks a block of neurons. Steps are as long as the largest current of the block allows;
scalars are float64, blocks in the type of the weights.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropil.spiking.kernels.cpu.qif import latest
from neuropil.spiking.kernels.gpu.oscillator import (
    block_of,
    expm1,
    flow,
    flow_adjoint,
    log1p,
    max_step,
    next_spike,
    numbers,
    programs,
    sensitivity,
    terms,
)
from neuropil.spiking.kernels.memory import silence

Tape = tuple[Tensor, Tensor]  # number of spikes (batch, neurons), and steps (batch, blocks)


def simulate(
    events: Any, weight: Tensor, start: Tensor, trial: tuple[float, float], slots: int
) -> tuple[Tensor, Tensor, Tape]:
    """What `qif_kernel.walk` gives."""
    (batch, width), neurons, block = events.time.shape, weight.shape[1], block_of(weight.shape[1])
    blocks = triton.cdiv(neurons, block)
    end = start.new_empty(3, batch, neurons)
    steps = torch.empty(batch, blocks, dtype=torch.int32, device=weight.device)
    shared = (events.time, events.source, events.count, weight, start, _trial(trial, weight))
    sizes = batch, width, neurons, len(start[0])
    while True:
        out = silence(batch, neurons, slots, weight)
        spikes = torch.zeros(batch, neurons, dtype=torch.int32, device=weight.device)
        forward[(batch, blocks)](
            *shared, out, spikes, end, steps, *sizes, slots, TERMS=terms(weight.dtype), BLOCK=block
        )  # fmt: skip
        most = max(int(spikes.max()) if spikes.numel() else 0, 1)
        if most <= slots:
            return out[..., :most].contiguous(), end, (spikes, steps)
        slots = most


def adjoint(
    events: Any, weight: Tensor, start: Tensor, trial: tuple[float, float], times: Tensor, tape: Tape,
    given: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """What `qif_kernel.adjoint` gives."""
    (batch, width), (inputs, neurons), slots = events.time.shape, weight.shape, times.shape[2]
    block, most = block_of(neurons), int(tape[1].max()) if batch else 0
    blocks = triton.cdiv(neurons, block)
    size = 4 * (most + 1) * blocks * block + inputs * neurons
    parts = programs(batch, weight.device, size * weight.element_size() + 12 * (most + 1) * blocks)
    space = weight.new_empty(parts, blocks, 4, most + 1, block)
    clock = torch.empty(parts, blocks, most + 1, dtype=torch.float64, device=weight.device)
    seen = torch.empty(parts, blocks, most + 1, dtype=torch.int32, device=weight.device)
    by_weight, by_start = weight.new_zeros(parts, inputs, neurons), torch.empty_like(given[1])
    by_event = weight.new_zeros(blocks, batch, width)
    backward[(parts, blocks)](
        events.time, events.source, events.count, weight, start, _trial(trial, weight),
        times, tape[0], *(part.contiguous() for part in given), space, clock, seen, by_weight, by_start, by_event,
        batch, width, neurons, len(start[0]), slots, inputs, most + 1, TERMS=terms(weight.dtype), BLOCK=block,
    )  # fmt: skip
    return by_weight.sum(0), by_start, by_event.sum(0)


def _trial(trial: tuple[float, float], weight: Tensor) -> Tensor:
    """tau, the end of the trial and the largest time that is not after it, float64."""
    final = latest(trial[1], weight.new_zeros(0, device="cpu").numpy().dtype)
    return numbers((*trial, final), weight.new_empty(0, dtype=torch.float64))


@triton.jit
def begin(start, b, rows, neurons, j, here):  # type: ignore[no-untyped-def]
    """x, y and I of sample `b` at time 0; neurons that are not there rest."""
    first = start + (b % rows) * neurons + j
    far = rows * neurons
    x = tl.load(first, mask=here, other=0.0)
    y = tl.load(first + far, mask=here, other=1.0)
    return x, y, tl.load(first + 2 * far, mask=here, other=0.0)


@triton.jit
def receive(current, time, source, weight, e, now, neurons, j, here):  # type: ignore[no-untyped-def]
    """Add to the currents the weights of all events at `now` from event `e` on; the first event after them."""
    while tl.load(time + e) <= now:
        current += tl.load(weight + tl.load(source + e) * neurons + j, mask=here, other=0.0)
        e += 1
    return current, e


@triton.jit
def ahead(time, e, now, current, tau, t_end):  # type: ignore[no-untyped-def]
    """How far the next step goes: its length in tau, where it ends, and whether it reaches the next event."""
    until = tl.minimum(tl.load(time + e).to(tl.float64), t_end)
    rest = (until - now) / tau
    step = max_step(rest, tl.max(tl.abs(current), 0).to(tl.float64))
    whole = step == rest
    return step, tl.where(whole, until, now + step * tau), whole


@triton.jit
def forward(  # type: ignore[no-untyped-def]
    time, source, count, weight, start, trial, out, spikes, end, steps, batch, width, neurons, rows, slots,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Spike times into `out` as far as there is room, their true number into `spikes`; state at the end, and steps."""
    b, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    j = block * BLOCK + tl.arange(0, BLOCK)
    here = j < neurons
    tau, t_end, final = tl.load(trial), tl.load(trial + 1), tl.load(trial + 2)
    time += b * width
    source += b * width
    x, y, current = begin(start, b, rows, neurons, j, here)
    n = tl.load(count + b)
    fired = tl.zeros([BLOCK], tl.int32)
    now, e, done = tau * 0, n * 0, n * 0
    more = now == now
    while more:
        current, e = receive(current, time, source, weight, e, now, neurons, j, here)
        rest, until, whole = ahead(time, e, now, current, tau, t_end)
        d = -expm1(rest * -1)
        x_after, y_after, i_after, factor = flow(x, y, current, d.to(x.dtype), TERMS)
        hit = (factor < 0) & here
        if tl.max(hit.to(tl.int32), 0) > 0:
            s = next_spike(x.to(tl.float64), y.to(tl.float64), current.to(tl.float64))
            when = tl.minimum(now - tau * log1p(-tl.minimum(s, d)), final)
            tl.store(out + (b * neurons + j) * slots + fired, when.to(x.dtype), mask=hit & (fired < slots))
            fired += hit.to(tl.int32)
        x, y, current = x_after, y_after, i_after
        done += 1
        now = until
        more = (whole & (e == n)) == 0
    first = (b * neurons) + j
    tl.store(spikes + first, fired, mask=here)
    tl.store(steps + b * tl.num_programs(1) + block, done)
    far = (b * 0 + batch) * neurons
    tl.store(end + first, x, mask=here)
    tl.store(end + far + first, y, mask=here)
    tl.store(end + 2 * far + first, current, mask=here)


@triton.jit
def accumulate_input_grad(y, row, slope, grad_current):  # type: ignore[no-untyped-def]
    """An input's dL/dt times tau: the sum of w (2 dL/dI - dL/dangle y^2)."""
    return tl.sum(row * (grad_current + grad_current - slope * y * y), 0)


@triton.jit
def recompute_states(  # type: ignore[no-untyped-def]
    time, source, n, weight, x, y, current, xs, factors, clock, seen, most, neurons, j, here, tau, t_end,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk one sample again and keep, step by step, x, y, I and the factor, when it began and how many events were
    received by then; the number of steps.
    """
    now, e, k = tau * 0, n * 0, n * 0
    tl.store(clock, now)
    more = now == now
    while more:
        current, e = receive(current, time, source, weight, e, now, neurons, j, here)
        tl.store(seen + k, e)
        tl.store(xs + k * BLOCK, x)
        tl.store(xs + (most + k) * BLOCK, y)
        tl.store(xs + (2 * most + k) * BLOCK, current)
        rest, now, whole = ahead(time, e, now, current, tau, t_end)
        d = (-expm1(rest * -1)).to(x.dtype)
        x, y, current, factor = flow(x, y, current, d, TERMS)
        tl.store(factors + k * BLOCK, factor)
        k += 1
        tl.store(clock + k, now)
        more = (whole & (e == n)) == 0
    return k


@triton.jit
def add_spike_grads(x, y, current, hit, slope, grad_current, now, at, given, tau, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Hand the cotangents `given` of the spikes `at` of one step to the state at its start."""
    s = tl.where(hit, tl.maximum(-expm1(tl.minimum((now - at.to(tl.float64)) / tau, 0.0)), 0.0), 0.0)
    u, v = tl.where(hit, x, 1.0).to(tl.float64), tl.where(hit, y, 1.0).to(tl.float64)
    by_angle, by_current = sensitivity(u, v, tl.where(hit, current, 1.0).to(tl.float64), s, TERMS)
    given = given.to(tl.float64) * tau
    slope += tl.where(hit, given * by_angle, 0.0).to(x.dtype)
    grad_current += tl.where(hit, given * by_current, 0.0).to(x.dtype)
    return slope, grad_current


@triton.jit
def backward(  # type: ignore[no-untyped-def]
    time, source, count, weight, start, trial, out, spikes, by_out, by_end, space, clock, seen,
    by_weight, by_start, by_event, batch, width, neurons, rows, slots, inputs, most,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of weights, one copy per program, of the start, and of the events' times, one per block."""
    part, block = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    j = block * BLOCK + lane
    here = j < neurons
    tau, t_end = tl.load(trial), tl.load(trial + 1)
    own, far = part * tl.num_programs(1) + block, (part * 0 + batch) * neurons
    xs = space + own * 4 * most * BLOCK + lane
    factors = xs + 3 * most * BLOCK
    clock += own * most
    seen += own * most
    by_weight += part * inputs * neurons
    b = part
    while b < batch:
        when, who, late = time + b * width, source + b * width, by_event + (block * batch + b) * width
        x, y, current = begin(start, b, rows, neurons, j, here)
        k = recompute_states(
            when, who, tl.load(count + b), weight, x, y, current, xs, factors, clock, seen, most,
            neurons, j, here, tau, t_end, TERMS, BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
        first = b * neurons + j
        slope = tl.load(by_end + first, mask=here, other=0.0)
        grad_current = tl.load(by_end + far + first, mask=here, other=0.0)
        left = tl.load(spikes + first, mask=here, other=0)
        while k > 0:
            k -= 1
            x, y = tl.load(xs + k * BLOCK), tl.load(xs + (most + k) * BLOCK)
            current = tl.load(xs + (2 * most + k) * BLOCK)
            factor, now = tl.load(factors + k * BLOCK), tl.load(clock + k)
            d = (-expm1((now - tl.load(clock + k + 1)) / tau)).to(x.dtype)
            slope, grad_current = flow_adjoint(x, y, current, factor, slope, grad_current, d, TERMS)
            hit = (factor < 0) & here
            if tl.max(hit.to(tl.int32), 0) > 0:
                left -= hit.to(tl.int32)
                at = tl.load(out + first * slots + left, mask=hit, other=0.0)
                given = tl.load(by_out + first * slots + left, mask=hit, other=0.0)
                slope, grad_current = add_spike_grads(
                    x, y, current, hit, slope, grad_current, now, at, given, tau, TERMS
                )
            earlier = tl.load(seen + k - 1, mask=k > 0, other=0)
            e = tl.load(seen + k)
            while e > earlier:
                e -= 1
                row = tl.load(who + e) * neurons + j
                due = accumulate_input_grad(y, tl.load(weight + row, mask=here, other=0.0), slope, grad_current) / tau
                tl.store(late + e, due.to(x.dtype))
                tl.atomic_add(by_weight + row, grad_current, mask=here, sem="relaxed")
        tl.store(by_start + first, slope, mask=here)
        tl.store(by_start + far + first, grad_current, mask=here)
        tl.debug_barrier()
        b += tl.num_programs(0)
