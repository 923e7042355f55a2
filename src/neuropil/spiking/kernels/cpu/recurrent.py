"""Compiled walks of a recurrent network of QIF neurons from event to event, forward and backward; no autograd.

Forward, every neuron's next spike is known in closed form; the earliest of them, or the next input, is the next event.
Where rounding carries a neuron over its spike before its turn, it waits at V = inf, so no spike is lost or doubled.
Backward, the logged events are walked again with the states of one sample kept. The cotangent of a spike's time is what
the losses give it and what its targets hand back; d angle / dt = 1 / tau at a spike, so nothing can blow up there.
"""

from math import inf, log1p
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropil._threads import share_out, shares
from neuropil.spiking.kernels.cpu.oscillator import TABLES, compiled, largest, max_step, next_spike, step, step_adjoint
from neuropil.spiking.kernels.cpu.qif import accumulate_input_grad, begin, latest
from neuropil.spiking.kernels.memory import check_room, silence

Weights = tuple[Tensor, Tensor, Tensor]


class Tape(NamedTuple):
    """The events of every sample in the order of time."""

    when: Tensor  # (batch, room) float64
    who: Tensor  # (batch, room) int64: a neuron, or -1 - i for input i
    total: Tensor  # (batch,) how many
    steps: Tensor  # (batch,) of the walk
    spikes: Tensor  # (batch, neurons) how many


def simulate(events: Any, weights: Weights, trial: tuple[float, float], room: int) -> tuple[Tensor, Tensor, Tape]:
    """Spike times, (batch, neurons, spikes) as many as the busiest neuron has, (x, y, I) at the end, and the tape.

    Args:
        events: the inputs, as `flatten_events` gives them.
        weights: from the inputs (inputs, neurons), among the neurons (neurons, neurons; rows are senders), and x, y
            and I at time 0, (3, 1 or batch, neurons).
        trial: membrane time constant and end of the trial.
        room: for events of a sample at first; doubled until they fit.
    """
    batch, neurons = len(events.time), weights[1].shape[1]
    end, counts = torch.empty(3, batch, neurons, dtype=weights[1].dtype), torch.empty(2, batch, dtype=torch.int64)
    while True:
        check_room(batch * room, 16, end.device)
        when, who = torch.empty(batch, room, dtype=torch.float64), torch.empty(batch, room, dtype=torch.int64)
        log = [part.numpy() for part in (when, who, *counts, end)]
        share_out(forward, batch, *_inputs(events), *_arrays(weights), *trial, TABLES[end.dtype], *log)
        if int(counts[0].max() if batch else 0) <= room:
            break
        room *= 2
    spikes = torch.zeros(batch, neurons, dtype=torch.int64)
    count_spikes(who.numpy(), counts[0].numpy(), spikes.numpy())
    out = silence(batch, neurons, max(int(spikes.max()) if batch else 0, 1), end)
    collect(when.numpy(), who.numpy(), counts[0].numpy(), latest(trial[1], end.numpy().dtype), out.numpy())
    return out, end, Tape(when, who, counts[0], counts[1], spikes)


def adjoint(
    events: Any, weights: Weights, trial: tuple[float, float], tape: Tape, given: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of both weights, of angle and current at time 0, (2, batch, neurons), and of the inputs' times.

    Args:
        events, weights, trial: as in `simulate`, which gave `tape`.
        given: gradients of the spike times, and of angle and current at the end, (2, batch, neurons).
    """
    batch, kind = len(tape.total), weights[1].dtype
    by_outer, by_inner = (torch.zeros(shares(batch), *part.shape, dtype=kind) for part in weights[:2])
    by_start, by_event = torch.empty_like(given[1]), torch.zeros(tape.when.shape, dtype=kind)
    log = [part.numpy() for part in tape[:4]]
    used = [part.numpy() for part in (tape.spikes.clone(), *given, by_outer, by_inner, by_event, by_start)]
    share_out(backward, batch, *log, *_arrays(weights), *trial, TABLES[kind], *used)
    return by_outer.sum(0), by_inner.sum(0), by_start, of_inputs(by_event, tape, events.time)


def of_inputs(by_event: Tensor, tape: Any, like: Tensor) -> Tensor:
    """What belongs to the events of the inputs only, in their own order, shaped like `like`."""
    out = torch.zeros_like(like)
    outside = (torch.arange(tape.who.shape[1], device=like.device) < tape.total[:, None]) & (tape.who < 0)
    sample, event = outside.nonzero(as_tuple=True)
    return out.index_put_((sample, (outside.cumsum(1) - 1)[sample, event]), by_event[sample, event])


def _inputs(events: Any) -> list[np.ndarray]:
    return [part.numpy() for part in (events.time, events.source, events.count)]


def _arrays(weights: Weights) -> list[np.ndarray]:
    return [part.numpy() for part in weights]


@compiled
def settle(state, factor, spiking):  # type: ignore[no-untyped-def]
    """Let `spiking` (-1: nobody) restart at V = -inf; whoever else was carried over the top waits there."""
    for j in range(len(factor)):
        if factor[j] < 0:
            state[0, j], state[1, j] = 1, 0
    if spiking >= 0:
        state[0, spiking], state[1, spiking] = -1, 0


@compiled
def predict(state, row, always, now, tau, upcoming):  # type: ignore[no-untyped-def]
    """Bring up to date the next spike time of every neuron whose current changed by `row`, and of neuron `always`."""
    for j in range(len(upcoming)):
        if row[j] != 0 or j == always:
            s = next_spike(state[0, j], state[1, j], state[2, j])
            upcoming[j] = now - tau * log1p(-s) if s < 1 else inf


@compiled
def receive(state, row):  # type: ignore[no-untyped-def]
    """Add the weights `row` to the currents."""
    current = state[2]
    for j in range(len(current)):
        current[j] += row[j]


@compiled
def travel(state, after, factor, now, until, spiking, tau, table):  # type: ignore[no-untyped-def]
    """One step from `now` towards `until`, where `spiking` is due; the time it reaches."""
    whole = (until - now) / tau
    rest = max_step(whole, largest(state[2]))
    step(state, after, factor, rest, table)
    settle(after, factor, spiking if rest == whole else -1)
    return until if rest == whole else now + rest * tau


@compiled
def go(time, source, count, outer, inner, state, after, tau, t_end, table, when, who):  # type: ignore[no-untyped-def]
    """One sample from `state`, which ends as the state at the end: (events, steps); over len(when) events it gives up.

    Args:
        time, source, count: input events.
        outer, inner: weights (inputs, neurons) and (neurons, neurons), rows are senders.
        when, who: takes time and sender of every event: a neuron, or -1 - i for input i.
    """
    neurons = state.shape[1]
    upcoming, factor = np.empty(neurons), np.empty(neurons, state.dtype)
    predict(state, np.ones(neurons), -1, 0.0, tau, upcoming)
    now, e, events, steps = 0.0, 0, 0, 0
    while True:
        neuron = int(np.argmin(upcoming))
        arriving = float(time[e]) if e < count else inf
        spiking = neuron if upcoming[neuron] <= min(arriving, t_end) else -1
        until = min(upcoming[neuron], arriving, t_end)
        while now < until:
            now = travel(state, after, factor, now, until, spiking, tau, table)
            state[:] = after
            steps += 1
        if spiking < 0 and e == count:
            return events, steps
        if events == len(when):
            return events + 1, steps
        if spiking >= 0:
            state[0, spiking], state[1, spiking] = -1, 0
            row = inner[spiking]
        else:
            row = outer[source[e]]
        when[events], who[events] = now, spiking if spiking >= 0 else -1 - source[e]
        e, events = e + (spiking < 0), events + 1
        receive(state, row)
        predict(state, row, spiking, now, tau, upcoming)


@compiled
def forward(  # type: ignore[no-untyped-def]
    part, first, last, time, source, count, outer, inner, start, tau, t_end, table, when, who, total, steps, end
):  # fmt: skip
    """`go` for every sample: `when`, `who` (batch, room), `total`, `steps` (batch,), `end` (3, batch, neurons)."""
    state, after = np.empty_like(end[:, 0]), np.empty_like(end[:, 0])
    for b in range(first, last):
        begin(state, start, b)
        total[b], steps[b] = go(
            time[b], source[b], count[b], outer, inner, state, after, tau, t_end, table, when[b], who[b]
        )
        end[:, b] = state


@compiled
def count_spikes(who, total, spikes):  # type: ignore[no-untyped-def]
    """Number of spikes of every neuron, (batch, neurons)."""
    for b in range(len(total)):
        for e in range(total[b]):
            if who[b, e] >= 0:
                spikes[b, who[b, e]] += 1


@compiled
def collect(when, who, total, latest, out):  # type: ignore[no-untyped-def]
    """The spikes of every neuron, out of the log, into `out` (batch, neurons, slots)."""
    for b in range(len(total)):
        found = np.zeros(out.shape[1], np.int64)
        for e in range(total[b]):
            j = who[b, e]
            if j >= 0:
                out[b, j, found[j]] = min(when[b, e], latest)
                found[j] += 1


@compiled
def recompute_states(when, who, total, outer, inner, states, factors, clock, seen, tau, t_end, table):  # type: ignore[no-untyped-def]
    """Walk one sample again from states[0], keeping the state at the start of every step; the number of steps."""
    k, e = 0, 0
    clock[0] = 0.0
    while True:
        now = clock[k]
        while e < total and when[e] <= now:
            if who[e] >= 0:
                states[k, 0, who[e]], states[k, 1, who[e]] = -1, 0
            receive(states[k], inner[who[e]] if who[e] >= 0 else outer[-1 - who[e]])
            e += 1
        seen[k] = e
        if now >= t_end:
            return k
        until, spiking = (when[e], max(who[e], -1)) if e < total else (t_end, -1)
        clock[k + 1] = travel(states[k], states[k + 1], factors[k], now, until, spiking, tau, table)
        k += 1


@compiled
def backward(  # type: ignore[no-untyped-def]
    part, first, last, when, who, total, steps, outer, inner, start, tau, t_end, table, spikes, by_out, by_end,
    by_outer, by_inner, by_event, by_start
):  # fmt: skip
    """Cotangents of the outputs to cotangents of the inputs.

    Args:
        when, who, total, steps: the log of `forward`.
        spikes: (batch, neurons), how many there are; used up.
        by_out, by_end: cotangents of the spikes (batch, neurons, slots), and of angle and current at the end.
        by_outer, by_inner: (parts, inputs, neurons) and (parts, neurons, neurons), one for every part.
        by_event: (batch, room), the cotangent of the time of every event.
        by_start: (2, batch, neurons), cotangents of angle and current at 0.
    """
    most, neurons = 0, inner.shape[1]
    for b in range(first, last):
        most = max(most, steps[b])
    states, factors = np.empty((most + 1, 3, neurons), inner.dtype), np.empty((most + 1, neurons), inner.dtype)
    clock, seen = np.empty(most + 1), np.empty(most + 1, np.int64)
    for b in range(first, last):
        begin(states[0], start, b)
        last_step = recompute_states(
            when[b], who[b], total[b], outer, inner, states, factors, clock, seen, tau, t_end, table
        )
        slope, grad_current = by_start[0, b], by_start[1, b]
        slope[:], grad_current[:] = by_end[0, b], by_end[1, b]
        for k in range(last_step, -1, -1):
            if k < last_step:
                step_adjoint(states[k], factors[k], slope, grad_current, (clock[k + 1] - clock[k]) / tau, table)
            for e in range(seen[k] - 1, seen[k - 1] - 1 if k > 0 else -1, -1):
                j = who[b, e]
                if j < 0:
                    i = -1 - j
                    by_event[b, e] = accumulate_input_grad(
                        states[k], outer[i], slope, grad_current, tau, by_outer[part, i]
                    )
                    continue
                spikes[b, j] -= 1
                by_event[b, e] = by_out[b, j, spikes[b, j]] + accumulate_input_grad(
                    states[k], inner[j], slope, grad_current, tau, by_inner[part, j]
                )
                slope[j] -= tau * by_event[b, e]
