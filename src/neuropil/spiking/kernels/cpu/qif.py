"""Compiled simulation of a feed-forward layer of QIF neurons over sorted input spikes, and its adjoint.

Every kernel works on the samples `first` to `last`. Neurons are contiguous and vectorised over. Scalars are computed in
float64, arrays in the dtype of the weights. Backward, one sample is simulated again with the states of its steps kept,
so that memory goes with the longest sample, not with the batch.
"""

from math import expm1, log1p
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropil._threads import inlined, share_out, shares
from neuropil.spiking.kernels.bundles import InputGrads, OutputGrads, Plan, QIFModel, arrays, with_room
from neuropil.spiking.kernels.cpu.oscillator import TABLES, compiled, max_step, next_spike, slopes, step, step_adjoint
from neuropil.spiking.times import Events

SLOTS = 8  # room for the spikes of a neuron at first


class States(NamedTuple):
    """The steps of one sample."""

    states: Any  # (steps + 1, 3, neurons), at the start of every step
    factors: Any  # (steps + 1, neurons), see `flow`
    clock: Any  # (steps + 1,), when each step begins
    seen: Any  # (steps + 1,), how many events were received by then


def latest(t_end: float, dtype: torch.dtype) -> float:
    """The largest number of the dtype that is not after the end of the trial."""
    end = torch.tensor(t_end, dtype=dtype)
    return float(end if float(end) <= t_end else torch.nextafter(end, torch.zeros_like(end)))


def simulate(events: Events, model: QIFModel, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Spike times, (batch, neurons, spikes) as many as the busiest neuron has, (x, y, I) at the end, and the steps."""
    batch, neurons, kind = len(events.time), model.weight.shape[1], model.weight.dtype
    end, steps = torch.empty(3, batch, neurons, dtype=kind), torch.empty(batch, dtype=torch.int64)
    given = arrays(events), arrays(model), TABLES[kind], latest(model.t_end, kind)
    found = end.numpy(), steps.numpy()
    run = lambda times, numbers: share_out(forward, batch, *given, times.numpy(), numbers.numpy(), *found)
    out, *_ = with_room(run, batch, neurons, plan.slots or SLOTS, model.weight, plan)
    return out.contiguous(), end, steps


def adjoint(
    events: Events, model: QIFModel, plan: Plan, times: Tensor, steps: Tensor, given: OutputGrads
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the weights, of angle and current at time 0, (2, batch, neurons), and of the events' times.

    Args:
        events, model, plan: as in `simulate`, which gave `times` and `steps`.
        given: gradients of its outputs.
    """
    batch, weight, spikes = len(times), model.weight, times.isfinite().sum(-1)
    by_weight = torch.zeros(shares(batch), *weight.shape, dtype=weight.dtype)
    wanted = InputGrads(by_weight, torch.empty_like(given.state), torch.zeros_like(events.time))
    found = times.numpy(), spikes.numpy(), steps.numpy()
    bundles = arrays(given), arrays(wanted)
    share_out(backward, batch, arrays(events), arrays(model), TABLES[weight.dtype], *found, *bundles)
    return by_weight.sum(0), wanted.start, wanted.time


@inlined
def receive(state, weight, events, b, e, now):  # type: ignore[no-untyped-def]
    """Add to the currents the weights of all events at `now` from event `e` on; the first event after them."""
    current = state[2]
    while e < events.total[b] and events.time[b, e] <= now:
        row = weight[events.source[b, e]]
        for j in range(len(current)):
            current[j] += row[j]
        e += 1
    return e


@inlined
def load_start(state, start, b):  # type: ignore[no-untyped-def]
    """The state of sample `b` at time 0; `start` is (3, 1 or batch, neurons)."""
    state[:] = start[:, b % start.shape[1]]


@inlined
def record_spikes(state, factor, now, rest, tau, latest, out, spikes):  # type: ignore[no-untyped-def]
    """Write the time of every spike of the step that begins with `state` at `now`; count even what finds no room."""
    room, d = out.shape[1], -expm1(-rest)
    for j in range(len(factor)):
        if factor[j] < 0:
            if spikes[j] < room:
                s = min(next_spike(state[0, j], state[1, j], state[2, j]), d)
                out[j, spikes[j]] = min(now - tau * log1p(-s), latest)
            spikes[j] += 1


@compiled
def forward(part, first, last, events, model, table, latest, out, spikes, end, steps):  # type: ignore[no-untyped-def]
    """Simulate the samples `first` to `last`.

    Args:
        events, model: an `Events` and a `QIFModel`, of NumPy arrays.
        table: the power series for this dtype.
        latest: the largest time that a spike may have.
        out, spikes: filled in: spike times (batch, neurons, slots) as far as there is room, and their true numbers.
        end, steps: filled in: x, y and I at the end (3, batch, neurons), and how many steps it took (batch,).
    """
    tau, neurons, kind = model.tau, model.weight.shape[1], model.weight.dtype
    state, after, factor = np.empty((3, neurons), kind), np.empty((3, neurons), kind), np.empty(neurons, kind)
    for b in range(first, last):
        load_start(state, model.start, b)
        now, e, done = 0.0, 0, 0
        while True:
            e = receive(state, model.weight, events, b, e, now)
            until = float(events.time[b, e]) if e < events.total[b] else model.t_end
            rest = max_step((until - now) / tau, state[2])
            if step(state, after, factor, rest, table) > 0:
                record_spikes(state, factor, now, rest, tau, latest, out[b], spikes[b])
            state, after = after, state
            done += 1
            whole = rest == (until - now) / tau
            now = until if whole else now + rest * tau
            if whole and e == events.total[b]:
                break
        end[:, b], steps[b] = state, done


@inlined
def recompute_states(events, b, model, table, tape):  # type: ignore[no-untyped-def]
    """Simulate sample `b` again from the first state of `tape`, a `States`, and fill it; the number of steps."""
    e, k, tau = 0, 0, model.tau
    tape.clock[0] = 0.0
    while True:
        now, state = tape.clock[k], tape.states[k]
        e = receive(state, model.weight, events, b, e, now)
        tape.seen[k] = e
        until = float(events.time[b, e]) if e < events.total[b] else model.t_end
        rest = max_step((until - now) / tau, state[2])
        step(state, tape.states[k + 1], tape.factors[k], rest, table)
        whole = rest == (until - now) / tau
        k += 1
        tape.clock[k] = until if whole else now + rest * tau
        if whole and e == events.total[b]:
            return k


@inlined
def add_spike_grads(state, factor, now, tau, out, spikes, by_out, grad_angle, grad_current, cube):  # type: ignore[no-untyped-def]
    """Add what the gradients of the spikes of one step mean for the state at its start, last spikes first."""
    for j in range(len(factor)):
        if factor[j] < 0:
            spikes[j] -= 1
            s = max(-expm1((now - out[j, spikes[j]]) / tau), 0.0)
            by_angle, by_current = slopes(state[0, j], state[1, j], state[2, j], s, cube)
            grad_angle[j] += tau * by_out[j, spikes[j]] * by_angle
            grad_current[j] += tau * by_out[j, spikes[j]] * by_current


@inlined
def accumulate_input_grad(state, row, grad_angle, grad_current, tau, by_row):  # type: ignore[no-untyped-def]
    """Add dL/dweight = dL/dI of an input to `by_row`; returns its dL/dt = sum w (2 dL/dI - dL/dangle y^2) / tau."""
    y, total = state[1], by_row.dtype.type(0)
    for j in range(len(grad_current)):
        by_row[j] += grad_current[j]
        total += row[j] * (grad_current[j] + grad_current[j] - grad_angle[j] * y[j] * y[j])
    return total / tau


@inlined
def room_for_states(steps, first, last, neurons, kind):  # type: ignore[no-untyped-def]
    """A `States` that has room for each of the samples `first` to `last`."""
    n = 1
    for b in range(first, last):
        n = max(n, steps[b] + 1)
    return States(np.empty((n, 3, neurons), kind), np.empty((n, neurons), kind), np.empty(n), np.empty(n, np.int64))


@compiled
def backward(part, first, last, events, model, table, out, spikes, steps, given, wanted):  # type: ignore[no-untyped-def]
    """Gradients of the outputs, `given`, an `OutputGrads`, to those of the inputs, `wanted`, an `InputGrads`.

    `out`, `spikes` (which is used up) and `steps` are what `forward` found.
    """
    tau, weight, cube = model.tau, model.weight, table[2][2]
    tape = room_for_states(steps, first, last, weight.shape[1], weight.dtype)
    for b in range(first, last):
        load_start(tape.states[0], model.start, b)
        total = recompute_states(events, b, model, table, tape)
        angle, current = wanted.start[0, b], wanted.start[1, b]
        angle[:], current[:] = given.state[0, b], given.state[1, b]
        for k in range(total - 1, -1, -1):
            state, factor, now = tape.states[k], tape.factors[k], tape.clock[k]
            step_adjoint(state, factor, angle, current, (tape.clock[k + 1] - now) / tau, table)
            add_spike_grads(state, factor, now, tau, out[b], spikes[b], given.times[b], angle, current, cube)
            for e in range(tape.seen[k] - 1, tape.seen[k - 1] - 1 if k > 0 else -1, -1):
                i = events.source[b, e]
                by_row = wanted.weight[part, i]
                wanted.time[b, e] = accumulate_input_grad(state, weight[i], angle, current, tau, by_row)
