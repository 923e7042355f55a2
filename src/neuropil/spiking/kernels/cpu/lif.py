"""Compiled simulation of a feed-forward layer of LIF neurons over sorted input spikes, and its adjoint.

tau dV/dt = I - V, with I = I0 q^2 and q = exp(-t / tau). With D = 1 - q after a time t, V = V0 + (I0 - V0) D - I0 D^2:
a parabola, which meets the threshold 1 at the smaller solution D = 2 (1 - V0) / (I0 - V0 + root), where root^2 =
(I0 - V0)^2 - 4 I0 (1 - V0). There root = dV/dD, so the spike time has the slopes -tau / root and -tau D / root by V0
and I0, without bound where the parabola only touches the threshold. V restarts at 0, the current goes on.

Every kernel works on the samples `first` to `last`. Backward, one sample is simulated again with its states kept. Both
passes must find the same spikes, so the compiler has no liberties here.
"""

from math import expm1, log1p, sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropil._threads import compiler, inlined, share_out, shares
from neuropil.spiking.kernels.bundles import InputGrads, LIFModel, OutputGrads, Plan, arrays, with_room
from neuropil.spiking.kernels.cpu.qif import latest
from neuropil.spiking.times import Events

compiled = compiler()
SLOTS = 4  # room for the spikes of a neuron at first


class States(NamedTuple):
    """The intervals of one sample, from one input to the next."""

    states: Any  # (intervals + 1, 2, neurons), V and I at the start of each
    fired: Any  # (intervals, neurons), how often each neuron fires in it
    clock: Any  # (intervals + 1,), when each begins
    seen: Any  # (intervals + 1,), how many events were received by then


def simulate(events: Events, model: LIFModel, plan: Plan) -> tuple[Tensor, Tensor]:
    """Spike times, (batch, neurons, spikes) as many as the busiest neuron has, and V and I at the end."""
    batch, neurons, kind = len(events.time), model.weight.shape[1], model.weight.dtype
    end = torch.empty(2, batch, neurons, dtype=kind)
    given = arrays(events), arrays(model), latest(model.t_end, kind)
    run = lambda times, numbers: share_out(forward, batch, *given, times.numpy(), numbers.numpy(), end.numpy())
    out, *_ = with_room(run, batch, neurons, plan.slots or SLOTS, model.weight, plan)
    return out.contiguous(), end


def adjoint(
    events: Events, model: LIFModel, times: Tensor, given: OutputGrads, by_time: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the weights, of V and I at time 0, (2, batch, neurons), and of the events' times.

    Args:
        events, model: as in `simulate`, which gave `times`.
        given: gradients of its outputs.
        by_time: whether the last of them is wanted; it stays 0 otherwise.
    """
    batch, weight, spikes = len(times), model.weight, times.isfinite().sum(-1)
    by_weight = torch.zeros(shares(batch), *weight.shape, dtype=weight.dtype)
    wanted = InputGrads(by_weight, torch.empty_like(given.state), torch.zeros_like(events.time))
    found = times.numpy(), spikes.numpy()
    share_out(backward, batch, arrays(events), arrays(model), *found, arrays(given), arrays(wanted), by_time)
    return by_weight.sum(0), wanted.start, wanted.time


@inlined
def receive(current, weight, events, b, e, now):  # type: ignore[no-untyped-def]
    """Add to the currents the weights of all events at `now` from event `e` on; the first event after them."""
    while e < events.total[b] and events.time[b, e] <= now:
        row = weight[events.source[b, e]]
        for j in range(len(current)):
            current[j] += row[j]
        e += 1
    return e


@inlined
def crossing(v, i):  # type: ignore[no-untyped-def]
    """D of the next spike, inf if there is none, and dV/dD there."""
    rise = i - v
    square = rise * rise - 4 * i * (1 - v)
    root = sqrt(max(square, 0.0))
    return (2 * (1 - v) / (rise + root) if rise > 0 and square > 0 else np.inf), root


@inlined
def flow(state, fired, d):  # type: ignore[no-untyped-def]
    """Move all neurons on in place; those that reach the threshold by D = `d` stay, and `fired` is 1. How many do."""
    kind, total = state.dtype.type, 0
    one, two, four, zero, d = kind(1), kind(2), kind(4), kind(0), kind(d)
    q = one - d
    for j in range(state.shape[1]):
        v, i = min(state[0, j], one), state[1, j]
        rise = i - v
        square = rise * rise - four * i * (one - v)
        fires = (rise > zero) & (square > zero) & (two * (one - v) <= d * (rise + sqrt(max(square, zero))))
        fired[j] = fires
        total += fires
        state[0, j] = v if fires else v * q + i * q * d
        state[1, j] = i if fires else i * q * q
    return total


@inlined
def flow_through_spikes(state, j, d, now, tau, latest, out, count):  # type: ignore[no-untyped-def]
    """Move neuron `j` on through its spikes; writes their times, as far as there is room, and gives their number."""
    v, i, n = float(state[0, j]), float(state[1, j]), count
    while True:
        first, _ = crossing(v, i)
        if not first <= d:
            break
        now -= tau * log1p(-first)
        if n < len(out):
            out[n] = min(now, latest)
        n += 1
        v, i, d = 0.0, i * (1 - first) * (1 - first), (d - first) / (1 - first)
    state[0, j], state[1, j] = v * (1 - d) + i * (1 - d) * d, i * (1 - d) * (1 - d)
    return n


@compiled
def forward(part, first, last, events, model, latest, out, spikes, end):  # type: ignore[no-untyped-def]
    """Simulate the samples `first` to `last`.

    Args:
        events, model: an `Events` and a `LIFModel`, of NumPy arrays.
        latest: the largest time that a spike may have.
        out, spikes: filled in: spike times (batch, neurons, slots) as far as there is room, and their true numbers.
        end: filled in: V and I at the end (2, batch, neurons).
    """
    tau, neurons = model.tau, model.weight.shape[1]
    state, fired = np.empty((2, neurons), model.weight.dtype), np.empty(neurons, np.int32)
    for b in range(first, last):
        state[:] = model.start[:, b % model.start.shape[1]]
        now, e = 0.0, 0
        while True:
            e = receive(state[1], model.weight, events, b, e, now)
            until = float(events.time[b, e]) if e < events.total[b] else model.t_end
            d = -expm1((now - until) / tau)
            if flow(state, fired, d) > 0:
                for j in range(neurons):
                    if fired[j]:
                        spikes[b, j] = flow_through_spikes(state, j, d, now, tau, latest, out[b, j], spikes[b, j])
            if e == events.total[b]:
                break
            now = until
        end[:, b] = state


@inlined
def recompute_states(events, b, model, nowhere, tape):  # type: ignore[no-untyped-def]
    """Simulate sample `b` again from the first state of `tape`, a `States`, and fill it; the number of intervals."""
    e, k = 0, 0
    tape.clock[0] = 0.0
    while True:
        now, state, fired = tape.clock[k], tape.states[k + 1], tape.fired[k]
        e = receive(tape.states[k, 1], model.weight, events, b, e, now)
        tape.seen[k] = e
        until = float(events.time[b, e]) if e < events.total[b] else model.t_end
        d = -expm1((now - until) / model.tau)
        state[:] = tape.states[k]
        if flow(state, fired, d) > 0:
            for j in range(len(fired)):
                if fired[j]:
                    fired[j] = flow_through_spikes(state, j, d, now, model.tau, until, nowhere, 0)
        k += 1
        tape.clock[k] = until
        if e == events.total[b]:
            return k


@inlined
def spikes_adjoint(v, i, d, tau, by_times, found, by_v, by_i):  # type: ignore[no-untyped-def]
    """Gradients by (V, I) of a neuron that fires and then moves on to D = `d`, where they are `by_v` and `by_i`.

    A later spike moves the restart of V, whose slope then is I / tau. `found` (3, slots) is used for D of each spike,
    dV/dD there and the current after it.
    """
    n = len(by_times)
    for s in range(n):
        first, root = crossing(v, i)
        v, i, d = 0.0, i * (1 - first) * (1 - first), (d - first) / (1 - first)
        found[0, s], found[1, s], found[2, s] = first, root, i
    by_v, by_i = (1 - d) * by_v, (1 - d) * ((1 - d) * by_i + d * by_v)
    for s in range(n - 1, -1, -1):
        first, q = found[0, s], 1 - found[0, s]
        by_spike = (tau * by_times[s] - by_v * found[2, s]) / found[1, s]
        by_v, by_i = -by_spike, q * q * by_i - first * by_spike
    return by_v, by_i


@inlined
def accumulate_input_grad(row, by_v, by_i, tau, by_row, by_time):  # type: ignore[no-untyped-def]
    """Add dL/dweight = dL/dI of an input to `by_row`; returns its dL/dt = sum w (2 dL/dI - dL/dV) / tau, if wanted."""
    total = by_row.dtype.type(0)
    for j in range(len(row)):
        by_row[j] += by_i[j]
    if by_time:
        for j in range(len(row)):
            total += row[j] * (by_i[j] + by_i[j] - by_v[j])
    return total / tau


@compiled
def backward(part, first, last, events, model, out, spikes, given, wanted, by_time):  # type: ignore[no-untyped-def]
    """Gradients of the outputs, `given`, an `OutputGrads`, to those of the inputs, `wanted`, an `InputGrads`.

    `out` and `spikes` (which is used up) are what `forward` found.
    """
    tau, weight, most, neurons = model.tau, model.weight, 1, model.weight.shape[1]
    for b in range(first, last):
        most = max(most, events.total[b] + 2)
    states, fired = np.empty((most, 2, neurons), weight.dtype), np.empty((most, neurons), np.int32)
    tape, nowhere = States(states, fired, np.empty(most), np.empty(most, np.int64)), np.empty(0, out.dtype)
    found = np.empty((3, out.shape[2]))
    for b in range(first, last):
        states[0] = model.start[:, b % model.start.shape[1]]
        by_v, by_i = wanted.start[0, b], wanted.start[1, b]
        by_v[:], by_i[:] = given.state[0, b], given.state[1, b]
        for k in range(recompute_states(events, b, model, nowhere, tape) - 1, -1, -1):
            now, until = tape.clock[k], tape.clock[k + 1]
            d = -expm1((now - until) / tau)
            q = 1 - d
            for j in range(neurons):
                if fired[k, j]:
                    v, i, end = min(float(states[k, 0, j]), 1.0), float(states[k, 1, j]), spikes[b, j]
                    spikes[b, j] = end - fired[k, j]
                    grads = given.times[b, j, spikes[b, j] : end]
                    by_v[j], by_i[j] = spikes_adjoint(v, i, d, tau, grads, found, by_v[j], by_i[j])
                else:
                    by_v[j], by_i[j] = q * by_v[j], q * q * by_i[j] + q * d * by_v[j]
            for e in range(tape.seen[k] - 1, tape.seen[k - 1] - 1 if k > 0 else -1, -1):
                i = events.source[b, e]
                wanted.time[b, e] = accumulate_input_grad(weight[i], by_v, by_i, tau, wanted.weight[part, i], by_time)
