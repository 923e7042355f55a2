"""Triton walks of a recurrent network of QIF neurons from event to event; the laws are in `events.recurrent_kernel`.

One program walks all neurons of a sample, which therefore have to fit into one block.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropil.spiking.kernels.cpu.qif import latest
from neuropil.spiking.kernels.cpu.recurrent import Weights, of_inputs
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
    terms,
)
from neuropil.spiking.kernels.gpu.qif import accumulate_input_grad, begin
from neuropil.spiking.kernels.memory import check_room, silence


class Tape(NamedTuple):
    """The events of every sample in the order of time."""

    when: Tensor  # (batch, room) float64
    who: Tensor  # (batch, room) int32: a neuron, or -1 - i for input i
    total: Tensor  # (batch,) how many
    steps: Tensor  # (batch,) of the walk
    rank: Tensor  # (batch, room) how many spikes its neuron had before; -1 for inputs


def simulate(events: Any, weights: Weights, trial: tuple[float, float], room: int) -> tuple[Tensor, Tensor, Tape]:
    """What `recurrent_kernel.walk` gives."""
    outer, inner, start = weights
    (batch, width), neurons, device = events.time.shape, len(inner), inner.device
    end = start.new_empty(3, batch, neurons)
    total, steps = torch.empty(2, batch, dtype=torch.int32, device=device)
    while True:
        check_room(batch * room, 12, device)
        when = torch.empty(batch, room, dtype=torch.float64, device=device)
        who = torch.empty(batch, room, dtype=torch.int32, device=device)
        forward[(batch,)](
            events.time, events.source, events.count, outer, inner, start, _trial(trial, inner),
            when, who, total, steps, end, batch, width, neurons, len(start[0]), room,
            TERMS=terms(inner.dtype), BLOCK=block_of(neurons, neurons * 2),
        )  # fmt: skip
        if int(total.max() if batch else 0) <= room:
            break
        room *= 2
    spiked = (torch.arange(room, device=device) < total[:, None]) & (who >= 0)
    rank, most = _ranks(torch.where(spiked, who, neurons).long(), neurons)
    out = silence(batch, neurons, most, end)
    sample, event = spiked.nonzero(as_tuple=True)
    final = latest(trial[1], end.new_zeros(0, device="cpu").numpy().dtype)
    out[sample, who[sample, event].long(), rank[sample, event]] = when[sample, event].clamp(max=final).to(out.dtype)
    return out, end, Tape(when, who, total, steps, torch.where(spiked, rank, -1))


def adjoint(
    events: Any, weights: Weights, trial: tuple[float, float], tape: Tape, given: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `recurrent_kernel.adjoint` gives."""
    outer, inner, start = weights
    (batch, room), neurons = tape.when.shape, len(inner)
    block, most = block_of(neurons, neurons * 2), int(tape.steps.max()) + 1 if batch else 1
    size = (4 * most * block + (len(outer) + neurons) * neurons) * inner.element_size() + 12 * most
    parts = programs(batch, inner.device, size)
    space = inner.new_empty(parts, 4, most, block)
    clock = torch.empty(parts, most, dtype=torch.float64, device=inner.device)
    seen = torch.empty(parts, most, dtype=torch.int32, device=inner.device)
    sample = torch.arange(batch, device=inner.device)[:, None]
    due = given[0][sample, tape.who.clamp(0, neurons - 1).long(), tape.rank.clamp(min=0)]
    by_event = torch.where(tape.rank >= 0, due, 0).contiguous()  # what the losses give; then what targets hand back too
    by_outer, by_inner = (part.new_zeros(parts, *part.shape) for part in (outer, inner))
    by_start = torch.empty_like(given[1])
    backward[(parts,)](
        tape.when, tape.who, tape.total, outer, inner, start, _trial(trial, inner), given[1].contiguous(),
        space, clock, seen, by_outer, by_inner, by_event, by_start,
        batch, len(outer), neurons, len(start[0]), room, most, TERMS=terms(inner.dtype), BLOCK=block,
    )  # fmt: skip
    return by_outer.sum(0), by_inner.sum(0), by_start, of_inputs(by_event, tape, events.time)


def _trial(trial: tuple[float, float], like: Tensor) -> Tensor:
    """tau and the end of the trial, float64."""
    return numbers(trial, like.new_empty(0, dtype=torch.float64))


def _ranks(who: Tensor, neurons: int) -> tuple[Tensor, int]:
    """How often the neuron of every event came before it, and the largest number of spikes, at least 1.

    Args:
        who: (batch, room), `neurons` where there is no spike.
    """
    counts = torch.zeros(len(who), neurons + 1, dtype=torch.long, device=who.device)
    counts.scatter_add_(1, who, torch.ones_like(who))
    sorted_who, order = who.sort(dim=1, stable=True)
    place = torch.arange(who.shape[1], device=who.device) - (counts.cumsum(1) - counts).gather(1, sorted_who)
    return torch.empty_like(who).scatter_(1, order, place), max(int(counts[:, :neurons].max()) if len(who) else 0, 1)


@triton.jit
def travel(x, y, current, now, until, spiking, j, tau, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """One step from `now` towards `until`, where `spiking` is due: the state, the factor and the time it reaches.

    Whoever else was carried over the top waits there.
    """
    whole = (until - now) / tau
    rest = max_step(whole, tl.max(tl.abs(current), 0).to(tl.float64))
    d = (-expm1(rest * -1)).to(x.dtype)
    x, y, current, factor = flow(x, y, current, d, TERMS)
    reached = rest == whole
    restarts = j == tl.where(reached, spiking, -1)
    x = tl.where(restarts, -1.0, tl.where(factor < 0, 1.0, x))
    y = tl.where(restarts | (factor < 0), 0.0, y)
    return x, y, current, factor, tl.where(reached, until, now + rest * tau)


@triton.jit
def predict(x, y, current, now, tau):  # type: ignore[no-untyped-def]
    """The time of the next spike of every neuron, float64."""
    s = next_spike(x.to(tl.float64), y.to(tl.float64), current.to(tl.float64))
    return tl.where(s < 1, now - tau * log1p(-tl.where(s < 1, s, 0.0)), float("inf"))


@triton.jit
def forward(  # type: ignore[no-untyped-def]
    time, source, count, outer, inner, start, trial, when, who, total, steps, end,
    batch, width, neurons, rows, room, TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The events of a sample into `when` and `who`, their number into `total`; more than `room`, and it gives up."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    here = j < neurons
    tau, t_end = tl.load(trial), tl.load(trial + 1)
    time += b * width
    source += b * width
    when += b * room
    who += b * room
    x, y, current = begin(start, b, rows, neurons, j, here)
    n = tl.load(count + b)
    now, e, events, done = tau * 0, n * 0, n * 0, n * 0
    upcoming = tl.where(here, predict(x, y, current, now, tau), float("inf"))
    more = now == now
    while more:
        neuron, soonest = tl.argmin(upcoming, 0), tl.min(upcoming, 0)
        limit = tl.minimum(tl.load(time + e).to(tl.float64), t_end)
        fires = soonest <= limit
        spiking = tl.where(fires, neuron, -1)
        until = tl.minimum(soonest, limit)
        while now < until:
            x, y, current, _, now = travel(x, y, current, now, until, spiking, j, tau, TERMS)
            done += 1
        more = fires | (e < n)
        if more:
            i = tl.load(source + e)
            tl.store(when + events, now, mask=events < room)
            tl.store(who + events, tl.where(fires, neuron, -1 - i), mask=events < room)
            x = tl.where(j == spiking, -1.0, x)
            y = tl.where(j == spiking, 0.0, y)
            if fires:
                row = tl.load(inner + neuron * neurons + j, mask=here, other=0.0)
            else:
                row = tl.load(outer + i * neurons + j, mask=here, other=0.0)
                e += 1
            current += row
            changed = (row != 0) | (j == spiking)
            upcoming = tl.where(changed & here, predict(x, y, current, now, tau), upcoming)
            events += 1
            more = events <= room
    tl.store(total + b, events)
    tl.store(steps + b, done)
    first, far = b * neurons + j, (b * 0 + batch) * neurons
    tl.store(end + first, x, mask=here)
    tl.store(end + far + first, y, mask=here)
    tl.store(end + 2 * far + first, current, mask=here)


@triton.jit
def recompute_states(  # type: ignore[no-untyped-def]
    when, who, n, outer, inner, x, y, current, xs, factors, clock, seen, most, neurons, j, here, tau, t_end,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk one sample again and keep the state at the start of every step, as for a layer; the number of steps."""
    now, e, k = tau * 0, n * 0, n * 0
    tl.store(clock, now)
    more = now == now
    while more:
        while tl.load(when + e, mask=e < n, other=float("inf")) <= now:
            sender = tl.load(who + e)
            x = tl.where(j == sender, -1.0, x)
            y = tl.where(j == sender, 0.0, y)
            if sender >= 0:
                current += tl.load(inner + sender * neurons + j, mask=here, other=0.0)
            else:
                current += tl.load(outer + (-1 - sender) * neurons + j, mask=here, other=0.0)
            e += 1
        tl.store(seen + k, e)
        tl.store(xs + k * BLOCK, x)
        tl.store(xs + (most + k) * BLOCK, y)
        tl.store(xs + (2 * most + k) * BLOCK, current)
        more = now < t_end
        if more:
            until = tl.minimum(tl.load(when + e, mask=e < n, other=float("inf")), t_end)
            spiking = tl.load(who + e, mask=e < n, other=-1)
            x, y, current, factor, now = travel(x, y, current, now, until, spiking, j, tau, TERMS)
            tl.store(factors + k * BLOCK, factor)
            k += 1
            tl.store(clock + k, now)
    return k


@triton.jit
def backward(  # type: ignore[no-untyped-def]
    when, who, total, outer, inner, start, trial, by_end, space, clock, seen, by_outer, by_inner, by_event, by_start,
    batch, inputs, neurons, rows, room, most, TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of both weights, one copy per program, of the start, and of the time of every event."""
    part = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    here = j < neurons
    tau, t_end = tl.load(trial), tl.load(trial + 1)
    far = (part * 0 + batch) * neurons
    xs = space + part * 4 * most * BLOCK + j
    factors = xs + 3 * most * BLOCK
    clock += part * most
    seen += part * most
    by_outer += part * inputs * neurons
    by_inner += part * neurons * neurons
    b = part
    while b < batch:
        at, whose, due = when + b * room, who + b * room, by_event + b * room
        x, y, current = begin(start, b, rows, neurons, j, here)
        last = recompute_states(
            at, whose, tl.load(total + b), outer, inner, x, y, current, xs, factors, clock, seen, most,
            neurons, j, here, tau, t_end, TERMS, BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
        first, k = b * neurons + j, last
        slope = tl.load(by_end + first, mask=here, other=0.0)
        grad_current = tl.load(by_end + far + first, mask=here, other=0.0)
        while k >= 0:
            x, y = tl.load(xs + k * BLOCK), tl.load(xs + (most + k) * BLOCK)
            if k < last:
                current, factor = tl.load(xs + (2 * most + k) * BLOCK), tl.load(factors + k * BLOCK)
                d = (-expm1((tl.load(clock + k) - tl.load(clock + k + 1)) / tau)).to(x.dtype)
                slope, grad_current = flow_adjoint(x, y, current, factor, slope, grad_current, d, TERMS)
            earlier = tl.load(seen + k - 1, mask=k > 0, other=0)
            e = tl.load(seen + k)
            while e > earlier:
                e -= 1
                sender = tl.load(whose + e)
                if sender >= 0:
                    row = tl.load(inner + sender * neurons + j, mask=here, other=0.0)
                    tl.atomic_add(by_inner + sender * neurons + j, grad_current, mask=here, sem="relaxed")
                else:
                    row = tl.load(outer + (-1 - sender) * neurons + j, mask=here, other=0.0)
                    tl.atomic_add(by_outer + (-1 - sender) * neurons + j, grad_current, mask=here, sem="relaxed")
                given = tl.load(due + e) + (accumulate_input_grad(y, row, slope, grad_current) / tau).to(x.dtype)
                tl.store(due + e, given)
                slope -= tl.where(j == sender, (tau * given).to(x.dtype), 0.0)
            k -= 1
        tl.store(by_start + first, slope, mask=here)
        tl.store(by_start + far + first, grad_current, mask=here)
        tl.debug_barrier()
        b += tl.num_programs(0)
