"""A recurrent network of QIF neurons from event to event, and the adjoint, as Triton kernels.

The laws are in `kernels.cpu.recurrent`. One program simulates all neurons of a sample, so they have to fit into one
block.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from neuropil.spiking.kernels.bundles import OutputGrads, Plan, RecurrentModel, check_room, no_spikes
from neuropil.spiking.kernels.cpu.qif import latest
from neuropil.spiking.kernels.cpu.recurrent import select_inputs
from neuropil.spiking.kernels.gpu.launch import block_of, programs, terms
from neuropil.spiking.kernels.gpu.oscillator import expm1, flow, flow_adjoint, log1p, max_step, next_spike, scalar
from neuropil.spiking.kernels.gpu.qif import input_time_grad, load_start
from neuropil.spiking.times import Events


class Log(NamedTuple):
    """The events of every sample in the order of time."""

    time: Tensor  # (batch, room) float64
    sender: Tensor  # (batch, room) int32: a neuron, or -1 - i for input i
    total: Tensor  # (batch,) how many
    steps: Tensor  # (batch,) of the simulation
    place: Tensor  # (batch, room) how many spikes its neuron had before; -1 for inputs


def simulate(events: Events, model: RecurrentModel, plan: Plan) -> tuple[Tensor, Tensor, Log]:
    """What `kernels.cpu.recurrent.simulate` gives."""
    kind, device = model.recurrent.dtype, model.recurrent.device
    (batch, width), neurons = events.time.shape, len(model.recurrent)
    end, room = model.start.new_empty(3, batch, neurons), plan.events + width
    total, steps = torch.empty(2, batch, dtype=torch.int32, device=device)
    while True:
        check_room(batch * room, 12, device, plan)
        log = torch.empty(batch, room, dtype=torch.float64, device=device)
        sender = torch.empty(batch, room, dtype=torch.int32, device=device)
        forward[(batch,)](
            events.time, events.source, events.total, *_shared(model), log, sender, total, steps, end,
            batch, width, neurons, len(model.start[0]), room, TERMS=terms(kind), BLOCK=block_of(neurons, neurons * 2),
        )  # fmt: skip
        if int(total.max() if batch else 0) <= room:
            break
        room *= 2
    spiked = (torch.arange(room, device=device) < total[:, None]) & (sender >= 0)
    place, most = _places(torch.where(spiked, sender, neurons).long(), neurons)
    out = no_spikes(batch, neurons, most, end, plan)
    sample, event = spiked.nonzero(as_tuple=True)
    late = log[sample, event].clamp(max=latest(model.t_end, kind)).to(out.dtype)
    out[sample, sender[sample, event].long(), place[sample, event]] = late
    return out, end, Log(log, sender, total, steps, torch.where(spiked, place, -1))


def adjoint(
    events: Events, model: RecurrentModel, plan: Plan, times: Tensor, tape: Log, given: OutputGrads
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `kernels.cpu.recurrent.adjoint` gives."""
    weight, inner = model.weight, model.recurrent
    (batch, room), neurons = tape.time.shape, len(inner)
    block, most = block_of(neurons, neurons * 2), int(tape.steps.max()) + 1 if batch else 1
    size = (4 * most * block + (len(weight) + neurons) * neurons) * inner.element_size() + 12 * most
    parts = programs(batch, inner.device, size)
    space = inner.new_empty(parts, 4, most, block)
    clock = torch.empty(parts, most, dtype=torch.float64, device=inner.device)
    seen = torch.empty(parts, most, dtype=torch.int32, device=inner.device)
    sample = torch.arange(batch, device=inner.device)[:, None]
    due = given.times[sample, tape.sender.clamp(0, neurons - 1).long(), tape.place.clamp(min=0)]
    by_event = torch.where(tape.place >= 0, due, 0).contiguous()  # of the losses; then of the targets too
    by_weight, by_inner = (part.new_zeros(parts, *part.shape) for part in (weight, inner))
    by_start = torch.empty_like(given.state)
    backward[(parts,)](
        tape.time, tape.sender, tape.total, *_shared(model), given.state.contiguous(),
        space, clock, seen, by_weight, by_inner, by_event, by_start,
        batch, len(weight), neurons, len(model.start[0]), room, most, TERMS=terms(inner.dtype), BLOCK=block,
    )  # fmt: skip
    by_input = select_inputs(by_event, tape.sender, tape.total, events.time)
    return by_weight.sum(0), by_inner.sum(0), by_start, by_input


def _shared(model: RecurrentModel) -> tuple[Any, ...]:
    """What both kernels take of the model; tau and the end of the trial are float64."""
    return model.weight, model.recurrent, model.start, float(model.tau), float(model.t_end)


def _places(sender: Tensor, neurons: int) -> tuple[Tensor, int]:
    """How often the neuron of every event came before it, and the largest number of spikes, at least 1.

    Args:
        sender: (batch, room), `neurons` where there is no spike.
    """
    counts = torch.zeros(len(sender), neurons + 1, dtype=torch.long, device=sender.device)
    counts.scatter_add_(1, sender, torch.ones_like(sender))
    sorted_senders, order = sender.sort(dim=1, stable=True)
    most = int(counts[:, :neurons].max()) if len(sender) else 0
    place = torch.arange(sender.shape[1], device=sender.device) - (counts.cumsum(1) - counts).gather(1, sorted_senders)
    return torch.empty_like(sender).scatter_(1, order, place), max(most, 1)


@triton.jit
def advance(x, y, current, now, until, spiking, j, tau, TERMS: tl.constexpr):  # type: ignore[no-untyped-def]
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
    time, source, count, weight, inner, start, tau: tl.float64, t_end: tl.float64, log, senders, total, steps, end,
    batch, width, neurons, rows, room, TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The events of a sample into `log` and `senders`, their number into `total`; more than `room`, and it gives up."""
    b = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    here = j < neurons
    tau, t_end = scalar(tau, tl.float64), scalar(t_end, tl.float64)
    time += b * width
    source += b * width
    log += b * room
    senders += b * room
    x, y, current = load_start(start, b, rows, neurons, j, here)
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
            x, y, current, _, now = advance(x, y, current, now, until, spiking, j, tau, TERMS)
            done += 1
        more = fires | (e < n)
        if more:
            i = tl.load(source + e)
            tl.store(log + events, now, mask=events < room)
            tl.store(senders + events, tl.where(fires, neuron, -1 - i), mask=events < room)
            x = tl.where(j == spiking, -1.0, x)
            y = tl.where(j == spiking, 0.0, y)
            if fires:
                row = tl.load(inner + neuron * neurons + j, mask=here, other=0.0)
            else:
                row = tl.load(weight + i * neurons + j, mask=here, other=0.0)
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
    log, senders, n, weight, inner, x, y, current, xs, factors, clock, seen, most, neurons, j, here, tau, t_end,
    TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Simulate one sample again and keep the state at the start of every step, as for a layer; the number of steps."""
    now, e, k = tau * 0, n * 0, n * 0
    tl.store(clock, now)
    more = now == now
    while more:
        while tl.load(log + e, mask=e < n, other=float("inf")) <= now:
            sender = tl.load(senders + e)
            x = tl.where(j == sender, -1.0, x)
            y = tl.where(j == sender, 0.0, y)
            if sender >= 0:
                current += tl.load(inner + sender * neurons + j, mask=here, other=0.0)
            else:
                current += tl.load(weight + (-1 - sender) * neurons + j, mask=here, other=0.0)
            e += 1
        tl.store(seen + k, e)
        tl.store(xs + k * BLOCK, x)
        tl.store(xs + (most + k) * BLOCK, y)
        tl.store(xs + (2 * most + k) * BLOCK, current)
        more = now < t_end
        if more:
            until = tl.minimum(tl.load(log + e, mask=e < n, other=float("inf")), t_end)
            spiking = tl.load(senders + e, mask=e < n, other=-1)
            x, y, current, factor, now = advance(x, y, current, now, until, spiking, j, tau, TERMS)
            tl.store(factors + k * BLOCK, factor)
            k += 1
            tl.store(clock + k, now)
    return k


@triton.jit
def input_adjoint(  # type: ignore[no-untyped-def]
    e, senders, due, y, weight, inner, by_weight, by_inner, grad_angle, grad_current, neurons, j, here, tau
):  # fmt: skip
    """Take the gradients back over event `e`: add those of its weights, complete that of its time."""
    sender = tl.load(senders + e)
    if sender >= 0:
        row = tl.load(inner + sender * neurons + j, mask=here, other=0.0)
        tl.atomic_add(by_inner + sender * neurons + j, grad_current, mask=here, sem="relaxed")
    else:
        row = tl.load(weight + (-1 - sender) * neurons + j, mask=here, other=0.0)
        tl.atomic_add(by_weight + (-1 - sender) * neurons + j, grad_current, mask=here, sem="relaxed")
    given = tl.load(due + e) + (input_time_grad(y, row, grad_angle, grad_current) / tau).to(y.dtype)
    tl.store(due + e, given)
    return grad_angle - tl.where(j == sender, (tau * given).to(y.dtype), 0.0)


@triton.jit
def backward(  # type: ignore[no-untyped-def]
    log, senders, total, weight, inner, start, tau: tl.float64, t_end: tl.float64,
    by_end, space, clock, seen, by_weight, by_inner, by_event,
    by_start, batch, inputs, neurons, rows, room, most, TERMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of both weights, one copy per program, of the start, and of the time of every event."""
    part, j = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    here = j < neurons
    tau, t_end, far = scalar(tau, tl.float64), scalar(t_end, tl.float64), (part * 0 + batch) * neurons
    xs = space + part * 4 * most * BLOCK + j
    factors = xs + 3 * most * BLOCK
    clock += part * most
    seen += part * most
    by_weight += part * inputs * neurons
    by_inner += part * neurons * neurons
    b = part
    while b < batch:
        x, y, current = load_start(start, b, rows, neurons, j, here)
        last = recompute_states(
            log + b * room, senders + b * room, tl.load(total + b), weight, inner, x, y, current, xs, factors,
            clock, seen, most, neurons, j, here, tau, t_end, TERMS, BLOCK,
        )  # fmt: skip
        tl.debug_barrier()
        first, k = b * neurons + j, last
        grad_angle = tl.load(by_end + first, mask=here, other=0.0)
        grad_current = tl.load(by_end + far + first, mask=here, other=0.0)
        while k >= 0:
            x, y = tl.load(xs + k * BLOCK), tl.load(xs + (most + k) * BLOCK)
            if k < last:
                current, factor = tl.load(xs + (2 * most + k) * BLOCK), tl.load(factors + k * BLOCK)
                d = (-expm1((tl.load(clock + k) - tl.load(clock + k + 1)) / tau)).to(x.dtype)
                grad_angle, grad_current = flow_adjoint(x, y, current, factor, grad_angle, grad_current, d, TERMS)
            earlier = tl.load(seen + k - 1, mask=k > 0, other=0)
            e = tl.load(seen + k)
            while e > earlier:
                e -= 1
                grad_angle = input_adjoint(
                    e, senders + b * room, by_event + b * room, y, weight, inner, by_weight, by_inner,
                    grad_angle, grad_current, neurons, j, here, tau,
                )  # fmt: skip
            k -= 1
        tl.store(by_start + first, grad_angle, mask=here)
        tl.store(by_start + far + first, grad_current, mask=here)
        tl.debug_barrier()
        b += tl.num_programs(0)
