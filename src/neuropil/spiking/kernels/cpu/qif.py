"""Compiled walks of a feed-forward layer of QIF neurons over sorted input spikes, forward and backward.

No autograd, no checks. Every kernel works on the samples `first` to `last`; neurons are contiguous and vectorised over.
Scalars are computed in float64, arrays in the type of the weights. Backward, one sample's steps are walked again with
their states kept, so that memory goes with the longest sample, not with the batch.
"""

from math import expm1, log1p
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuropil._threads import share_out, shares
from neuropil.spiking.kernels.cpu.oscillator import (
    TABLES,
    compiled,
    largest,
    max_step,
    next_spike,
    sensitivity,
    step,
    step_adjoint,
)
from neuropil.spiking.kernels.memory import silence

Tape = tuple[Tensor, Tensor]  # number of spikes (batch, neurons), and steps of every sample


def latest(t_end: float, dtype: np.dtype) -> float:
    """The largest number of the type that is not after the end of the trial."""
    end = dtype.type(t_end)
    return float(end if float(end) <= t_end else np.nextafter(end, dtype.type(0)))


def simulate(
    events: Any, weight: Tensor, start: Tensor, trial: tuple[float, float], slots: int
) -> tuple[Tensor, Tensor, Tape]:
    """Spike times, (batch, neurons, spikes) as many as the busiest neuron has, (x, y, I) at the end, and the tape.

    Args:
        events: the inputs, as `flatten_events` gives them.
        weight: (inputs, neurons).
        start: x, y and I at time 0, (3, 1 or batch, neurons).
        trial: membrane time constant and end of the trial.
        slots: for spikes of a neuron at first; they grow to what is needed.
    """
    batch, neurons = len(events.time), weight.shape[1]
    end, steps = torch.empty(3, batch, neurons, dtype=weight.dtype), torch.empty(batch, dtype=torch.int64)
    final = latest(trial[1], weight.numpy().dtype)
    while True:
        out, spikes = silence(batch, neurons, slots, weight), torch.zeros(batch, neurons, dtype=torch.int64)
        found = [part.numpy() for part in (out, spikes, end, steps)]
        share_out(forward, batch, *_shared(events, weight, start), *trial, final, TABLES[weight.dtype], *found)
        most = max(int(spikes.max()) if spikes.numel() else 0, 1)
        if most <= slots:
            return out[..., :most].contiguous(), end, (spikes, steps)
        slots = most


def adjoint(
    events: Any, weight: Tensor, start: Tensor, trial: tuple[float, float], times: Tensor, tape: Tape,
    given: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the weights, of angle and current at time 0, (2, batch, neurons), and of the events' times.

    Args:
        events, weight, start, trial: as in `simulate`, which gave `times` and `tape`.
        given: gradients of the spike times, and of angle and current at the end, (2, batch, neurons).
    """
    batch, (spikes, steps) = len(times), tape
    by_weight = torch.zeros(shares(batch), *weight.shape, dtype=weight.dtype)
    by_start, by_event = torch.empty_like(given[1]), torch.zeros_like(events.time)
    used = [part.numpy() for part in (times, spikes.clone(), steps, *given, by_weight, by_event, by_start)]
    share_out(backward, batch, *_shared(events, weight, start), *trial, TABLES[weight.dtype], *used)
    return by_weight.sum(0), by_start, by_event


def _shared(events: Any, weight: Tensor, start: Tensor) -> list[np.ndarray]:
    """What both kernels take first."""
    return [part.numpy() for part in (events.time, events.source, events.count, weight, start)]


@compiled
def receive(state, weight, source, time, e, count, now):  # type: ignore[no-untyped-def]
    """Add to the currents the weights of all events at `now` from event `e` on; the first event after them."""
    current = state[2]
    while e < count and time[e] <= now:
        row = weight[source[e]]
        for j in range(len(current)):
            current[j] += row[j]
        e += 1
    return e


@compiled
def begin(state, start, b):  # type: ignore[no-untyped-def]
    """The state of sample `b` at time 0; `start` is (3, 1 or batch, neurons)."""
    state[:] = start[:, b % start.shape[1]]


@compiled
def emit(state, factor, now, rest, tau, latest, out, spikes):  # type: ignore[no-untyped-def]
    """Write the time of every spike of the step that begins with `state` at `now`; count even what finds no room."""
    room, d = out.shape[1], -expm1(-rest)
    for j in range(len(factor)):
        if factor[j] < 0:
            if spikes[j] < room:
                s = min(next_spike(state[0, j], state[1, j], state[2, j]), d)
                out[j, spikes[j]] = min(now - tau * log1p(-s), latest)
            spikes[j] += 1


@compiled
def forward(  # type: ignore[no-untyped-def]
    part, first, last, time, source, count, weight, start, tau, t_end, latest, table, out, spikes, end, steps
):  # fmt: skip
    """Spike times into `out` (batch, neurons, slots) as far as there is room, their true number into `spikes`.

    Args:
        time, source, count: events of every sample, (batch, events), (batch, events), (batch,).
        weight, start: (inputs, neurons), (3, 1 or batch, neurons).
        tau, t_end, latest: membrane time constant, end of the trial, and the largest time that `out` may hold.
        table: the series for this type.
        out, spikes, end, steps: (batch, neurons, slots), (batch, neurons), (3, batch, neurons), (batch,).
    """
    state, after, factor = np.empty_like(end[:, 0]), np.empty_like(end[:, 0]), np.empty_like(end[0, 0])
    for b in range(first, last):
        begin(state, start, b)
        now, e, done = 0.0, 0, 0
        while True:
            e = receive(state, weight, source[b], time[b], e, count[b], now)
            until = float(time[b, e]) if e < count[b] else t_end
            rest = max_step((until - now) / tau, largest(state[2]))
            if step(state, after, factor, rest, table) > 0:
                emit(state, factor, now, rest, tau, latest, out[b], spikes[b])
            state, after = after, state
            done += 1
            whole = rest == (until - now) / tau
            now = until if whole else now + rest * tau
            if whole and e == count[b]:
                break
        end[:, b], steps[b] = state, done


@compiled
def recompute_states(time, source, count, weight, states, factors, clock, seen, tau, t_end, table):  # type: ignore[no-untyped-def]
    """Walk one sample again from states[0], keeping the state at the start of every step; the number of steps.

    Args:
        states, factors: (steps + 1, 3, neurons) and (steps, neurons).
        clock, seen: (steps + 1,), when each step begins, and how many events were received by then.
    """
    e, k = 0, 0
    clock[0] = 0.0
    while True:
        now = clock[k]
        e = receive(states[k], weight, source, time, e, count, now)
        seen[k] = e
        until = float(time[e]) if e < count else t_end
        rest = max_step((until - now) / tau, largest(states[k, 2]))
        step(states[k], states[k + 1], factors[k], rest, table)
        whole = rest == (until - now) / tau
        k += 1
        clock[k] = until if whole else now + rest * tau
        if whole and e == count:
            return k


@compiled
def add_spike_grads(state, factor, now, tau, out, spikes, by_out, slope, grad_current, cube):  # type: ignore[no-untyped-def]
    """Hand the cotangents of the spikes of one step to the state at its start, last spikes first."""
    for j in range(len(factor)):
        if factor[j] < 0:
            spikes[j] -= 1
            s = max(-expm1((now - out[j, spikes[j]]) / tau), 0.0)
            by_angle, by_current = sensitivity(state[0, j], state[1, j], state[2, j], s, cube)
            slope[j] += tau * by_out[j, spikes[j]] * by_angle
            grad_current[j] += tau * by_out[j, spikes[j]] * by_current


@compiled
def accumulate_input_grad(state, row, slope, grad_current, tau, by_row):  # type: ignore[no-untyped-def]
    """An input's share: adds dL/dweight = dL/dI to `by_row`; returns dL/dt = sum w (2 dL/dI - dL/dangle y^2) / tau."""
    y, total = state[1], by_row.dtype.type(0)
    for j in range(len(grad_current)):
        by_row[j] += grad_current[j]
        total += row[j] * (grad_current[j] + grad_current[j] - slope[j] * y[j] * y[j])
    return total / tau


@compiled
def backward(  # type: ignore[no-untyped-def]
    part, first, last, time, source, count, weight, start, tau, t_end, table, out, spikes, steps, by_out, by_end,
    by_weight, by_time, by_start
):  # fmt: skip
    """Cotangents of the outputs to cotangents of the inputs.

    Args:
        out, spikes, by_out: (batch, neurons, slots), (batch, neurons) which is used up, and the cotangent of `out`.
        by_end: (2, batch, neurons), cotangents of the angle and the current at the end; `by_start`, the same at 0.
        by_weight: (parts, inputs, neurons), one for every part.
        by_time: (batch, events).
    """
    most, neurons = 0, weight.shape[1]
    for b in range(first, last):
        most = max(most, steps[b])
    states, factors = np.empty((most + 1, 3, neurons), weight.dtype), np.empty((most, neurons), weight.dtype)
    clock, seen = np.empty(most + 1), np.empty(most, np.int64)
    for b in range(first, last):
        begin(states[0], start, b)
        total = recompute_states(time[b], source[b], count[b], weight, states, factors, clock, seen, tau, t_end, table)
        slope, grad_current = by_start[0, b], by_start[1, b]
        slope[:], grad_current[:] = by_end[0, b], by_end[1, b]
        for k in range(total - 1, -1, -1):
            step_adjoint(states[k], factors[k], slope, grad_current, (clock[k + 1] - clock[k]) / tau, table)
            add_spike_grads(
                states[k], factors[k], clock[k], tau, out[b], spikes[b], by_out[b], slope, grad_current, table[2][2]
            )
            for e in range(seen[k] - 1, seen[k - 1] - 1 if k > 0 else -1, -1):
                i = source[b, e]
                by_time[b, e] = accumulate_input_grad(
                    states[k], weight[i], slope, grad_current, tau, by_weight[part, i]
                )
