"""QIF neurons with exponential currents over sorted input spikes, and the adjoint, as Triton kernels.

The laws are in `kernels.cpu.oscillator`. As for theta neurons, a program simulates a block of neurons. Steps are as
long as the largest current of the block allows; scalars are float64, blocks in the dtype of the weights.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropil.spiking.kernels.bundles import OutputGrads, Plan, QIFModel, with_room
from neuropil.spiking.kernels.cpu.qif import SLOTS, latest
from neuropil.spiking.kernels.gpu.launch import block_of, programs, terms
from neuropil.spiking.kernels.gpu.oscillator import (
    expm1,
    flow,
    flow_adjoint,
    log1p,
    max_step,
    next_spike,
    scalar,
    slopes,
)
from neuropil.spiking.times import Events


def simulate(events: Events, model: QIFModel, plan: Plan) -> tuple[Tensor, Tensor, int]:
    """What `kernels.cpu.qif.simulate` gives, but of all steps only the largest number that a block of neurons had."""
    (batch, width), weight, start = events.time.shape, model.weight, model.start
    neurons, block = weight.shape[1], block_of(weight.shape[1], plan.block)
    blocks, sizes = triton.cdiv(neurons, block), (batch, width, neurons, len(start[0]))
    end, given = start.new_empty(3, batch, neurons), _shared(events, model)
    steps = torch.empty(batch, blocks, dtype=torch.int32, device=weight.device)
    run, kinds = forward[(batch, blocks)], {"TERMS": terms(weight.dtype), "BLOCK": block}
    simulate_in = lambda times, numbers: run(*given, times, numbers, end, steps, *sizes, times.shape[2], **kinds)
    longest = lambda: steps.max() if steps.numel() else steps.sum()
    out, _, most = with_room(simulate_in, batch, neurons, plan.slots or SLOTS, weight, plan, longest)
    return out.contiguous(), end, most


def adjoint(
    events: Events, model: QIFModel, plan: Plan, times: Tensor, most: int, given: OutputGrads
) -> tuple[Tensor, Tensor, Tensor]:
    """What `kernels.cpu.qif.adjoint` gives."""
    (batch, width), weight, slots = events.time.shape, model.weight, times.shape[2]
    (inputs, neurons), block = weight.shape, block_of(weight.shape[1], plan.block)
    blocks = triton.cdiv(neurons, block)
    size = 4 * (most + 1) * blocks * block + inputs * neurons
    parts = programs(batch, weight.device, size * weight.element_size() + 12 * (most + 1) * blocks)
    space = weight.new_empty(parts, blocks, 4, most + 1, block)
    clock = torch.empty(parts, blocks, most + 1, dtype=torch.float64, device=weight.device)
    seen = torch.empty(parts, blocks, most + 1, dtype=torch.int32, device=weight.device)
    by_weight, by_start = weight.new_zeros(parts, inputs, neurons), torch.empty_like(given.state)
    by_event, spikes = weight.new_zeros(blocks, batch, width), times.isfinite().sum(-1, dtype=torch.int32)
    backward[(parts, blocks)](
        *_shared(events, model), times, spikes, *(part.contiguous() for part in given), space, clock, seen,
        by_weight, by_start, by_event, batch, width, neurons, len(model.start[0]), slots, inputs, most + 1,
        TERMS=terms(weight.dtype), BLOCK=block,
    )  # fmt: skip
    return by_weight.sum(0), by_start, by_event.sum(0)


def _shared(events: Events, model: QIFModel) -> tuple[Any, ...]:
    """What both kernels take first; of the numbers, the last is the largest time that is not after the end."""
    numbers = float(model.tau), float(model.t_end), latest(model.t_end, model.weight.dtype)
    return events.time, events.source, events.total, model.weight, model.start, *numbers


@triton.jit
def load_start(start, b, rows, neurons, j, here):  # type: ignore[no-untyped-def]
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
    time, source, count, weight, start, tau: tl.float64, t_end: tl.float64, final: tl.float64,
    out, spikes, end, steps, batch, width, neurons, rows, slots,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Spike times into `out` as far as there is room, their true number into `spikes`; state at the end, and steps."""
    b, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    j = block * BLOCK + tl.arange(0, BLOCK)
    here = j < neurons
    tau, t_end, final = scalar(tau, tl.float64), scalar(t_end, tl.float64), scalar(final, tl.float64)
    time += b * width
    source += b * width
    x, y, current = load_start(start, b, rows, neurons, j, here)
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
            spike = tl.minimum(now - tau * log1p(-tl.minimum(s, d)), final)
            tl.store(out + (b * neurons + j) * slots + fired, spike.to(x.dtype), mask=hit & (fired < slots))
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
def input_time_grad(y, row, grad_angle, grad_current):  # type: ignore[no-untyped-def]
    """An input's dL/dt times tau: the sum of w (2 dL/dI - dL/dangle y^2)."""
    return tl.sum(row * (grad_current + grad_current - grad_angle * y * y), 0)


@triton.jit
def recompute_states(  # type: ignore[no-untyped-def]
    time, source, n, weight, x, y, current, xs, factors, clock, seen, most, neurons, j, here, tau, t_end,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Simulate one sample again and keep its states step by step; the number of steps.

    A state is x, y, I and the factor, when the step began, and how many events were received by then.
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
def add_spike_grads(x, y, current, hit, grad_angle, grad_current, now, at, given, tau, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Add what the gradients `given` of the spikes `at` of one step mean for the state at its start."""
    s = tl.where(hit, tl.maximum(-expm1(tl.minimum((now - at.to(tl.float64)) / tau, 0.0)), 0.0), 0.0)
    u, v = tl.where(hit, x, 1.0).to(tl.float64), tl.where(hit, y, 1.0).to(tl.float64)
    by_angle, by_current = slopes(u, v, tl.where(hit, current, 1.0).to(tl.float64), s, TERMS)
    given = given.to(tl.float64) * tau
    grad_angle += tl.where(hit, given * by_angle, 0.0).to(x.dtype)
    grad_current += tl.where(hit, given * by_current, 0.0).to(x.dtype)
    return grad_angle, grad_current


@triton.jit
def spikes_adjoint(  # type: ignore[no-untyped-def]
    x, y, current, factor, now, left, out, by_out, grad_angle, grad_current, here, tau, TERMS: tl.constexpr
):  # fmt: skip
    """`add_spike_grads` for the spikes of one step, if there are any; `left` counts the spikes down."""
    hit = (factor < 0) & here
    if tl.max(hit.to(tl.int32), 0) > 0:
        left -= hit.to(tl.int32)
        at = tl.load(out + left, mask=hit, other=0.0)
        given = tl.load(by_out + left, mask=hit, other=0.0)
        grad_angle, grad_current = add_spike_grads(
            x, y, current, hit, grad_angle, grad_current, now, at, given, tau, TERMS
        )
    return grad_angle, grad_current, left


@triton.jit
def adjoint_sample(  # type: ignore[no-untyped-def]
    k, senders, weight, xs, factors, clock, seen, most, out, by_out, left, grad_angle, grad_current,
    by_weight, by_event, neurons, j, here, tau, TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Take the gradients of angle and current back over the `k` steps of one sample to its start."""
    while k > 0:
        k -= 1
        x, y = tl.load(xs + k * BLOCK), tl.load(xs + (most + k) * BLOCK)
        current = tl.load(xs + (2 * most + k) * BLOCK)
        factor, now = tl.load(factors + k * BLOCK), tl.load(clock + k)
        d = (-expm1((now - tl.load(clock + k + 1)) / tau)).to(x.dtype)
        grad_angle, grad_current = flow_adjoint(x, y, current, factor, grad_angle, grad_current, d, TERMS)
        grad_angle, grad_current, left = spikes_adjoint(
            x, y, current, factor, now, left, out, by_out, grad_angle, grad_current, here, tau, TERMS
        )
        earlier = tl.load(seen + k - 1, mask=k > 0, other=0)
        e = tl.load(seen + k)
        while e > earlier:
            e -= 1
            row = tl.load(senders + e) * neurons + j
            by_time = input_time_grad(y, tl.load(weight + row, mask=here, other=0.0), grad_angle, grad_current) / tau
            tl.store(by_event + e, by_time.to(x.dtype))
            tl.atomic_add(by_weight + row, grad_current, mask=here, sem="relaxed")
    return grad_angle, grad_current


@triton.jit
def backward(  # type: ignore[no-untyped-def]
    time, source, count, weight, start, tau: tl.float64, t_end: tl.float64, final: tl.float64,
    out, spikes, by_out, by_end, space, clock, seen,
    by_weight, by_start, by_event, batch, width, neurons, rows, slots, inputs, most,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of weights, one copy per program, of the start, and of the events' times, one per block."""
    part, block = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    j = block * BLOCK + lane
    here = j < neurons
    tau, t_end = scalar(tau, tl.float64), scalar(t_end, tl.float64)
    own, far = part * tl.num_programs(1) + block, (part * 0 + batch) * neurons
    xs = space + own * 4 * most * BLOCK + lane
    factors = xs + 3 * most * BLOCK
    clock += own * most
    seen += own * most
    b = part
    while b < batch:
        times, senders = time + b * width, source + b * width
        x, y, current = load_start(start, b, rows, neurons, j, here)
        k = recompute_states(
            times, senders, tl.load(count + b), weight, x, y, current, xs, factors, clock, seen, most,
            neurons, j, here, tau, t_end, TERMS, BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
        first = b * neurons + j
        grad_angle, grad_current = adjoint_sample(
            k, senders, weight, xs, factors, clock, seen, most, out + first * slots, by_out + first * slots,
            tl.load(spikes + first, mask=here, other=0), tl.load(by_end + first, mask=here, other=0.0),
            tl.load(by_end + far + first, mask=here, other=0.0), by_weight + part * inputs * neurons,
            by_event + (block * batch + b) * width, neurons, j, here, tau, TERMS, BLOCK,
        )  # fmt: skip
        tl.store(by_start + first, grad_angle, mask=here)
        tl.store(by_start + far + first, grad_current, mask=here)
        tl.debug_barrier()
        b += tl.num_programs(0)
