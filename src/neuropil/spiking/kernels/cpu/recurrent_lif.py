"""Compiled simulation of a recurrent network of LIF neurons from event to event, and its adjoint.

As in `kernels.cpu.recurrent`, with the parabola of `kernels.cpu.lif` between events. Backward, the state at every event
is kept. Where a neuron fires, dt/dV = -tau / (I - 1), without bound where V only touches the threshold. A spike that
moves takes along what it sends, and the restart of V, whose slope then is I / tau.
"""

from math import expm1, inf, log1p

import numpy as np
from torch import Tensor

from neuropil._threads import compiler, inlined
from neuropil.spiking.kernels.bundles import OutputGrads, Plan, RecurrentModel
from neuropil.spiking.kernels.cpu.lif import crossing
from neuropil.spiking.kernels.cpu.recurrent import Log, run, run_back
from neuropil.spiking.times import Events

compiled = compiler()


def simulate(events: Events, model: RecurrentModel, plan: Plan) -> tuple[Tensor, Tensor, Log]:
    """Spike times, (batch, neurons, spikes) as many as the busiest neuron has, V and I at the end, and the log."""
    return run(forward, events, model, plan, 2)


def adjoint(
    events: Events, model: RecurrentModel, plan: Plan, times: Tensor, log: Log, given: OutputGrads
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of both weights, of V and I at time 0, (2, batch, neurons), and of the inputs' times.

    Args:
        events, model, plan: as in `simulate`, which gave `times` and `log`.
        given: gradients of its outputs.
    """
    return run_back(backward, events, model, times, log, given)


@inlined
def flow(state, d):  # type: ignore[no-untyped-def]
    """Move all neurons on in place to D = `d`; none of them fires on the way, and rounding takes none over 1."""
    kind = state.dtype.type
    one, d = kind(1), kind(d)
    q = one - d
    for j in range(state.shape[1]):
        i = state[1, j]
        state[0, j] = min(state[0, j] * q + i * q * d, one)
        state[1, j] = i * q * q


@inlined
def receive(state, model, sender):  # type: ignore[no-untyped-def]
    """Add to the currents what a neuron sends, which restarts, or input -1 - `sender`."""
    row = model.recurrent[sender] if sender >= 0 else model.weight[-1 - sender]
    if sender >= 0:
        state[0, sender] = 0
    for j in range(state.shape[1]):
        state[1, j] += row[j]


@inlined
def predict(state, row, always, now, tau, upcoming):  # type: ignore[no-untyped-def]
    """Bring up to date the next spike time of every neuron whose current changed by `row`, and of neuron `always`."""
    for j in range(len(upcoming)):
        if row[j] != 0 or j == always:
            d, _ = crossing(float(state[0, j]), float(state[1, j]))
            upcoming[j] = now - tau * log1p(-d) if d < 1 else inf


@compiled
def forward(part, first, last, events, model, log, end):  # type: ignore[no-untyped-def]
    """Simulate the samples `first` to `last` into `log`, a `Log`, and `end` (2, batch, neurons); it ends a full one."""
    tau, neurons, all_of_them = model.tau, model.recurrent.shape[1], np.ones(model.recurrent.shape[1])
    for b in range(first, last):
        state, upcoming = model.start[:, b % model.start.shape[1]].copy(), np.empty(neurons)
        predict(state, all_of_them, -1, 0.0, tau, upcoming)
        now, e, logged = 0.0, 0, 0
        while True:
            neuron = int(np.argmin(upcoming))
            arriving = float(events.time[b, e]) if e < events.total[b] else inf
            spiking = upcoming[neuron] <= min(arriving, model.t_end)
            until = max(min(upcoming[neuron], arriving, model.t_end), now)
            flow(state, -expm1((now - until) / tau))
            now = until
            if not spiking and e == events.total[b]:
                break
            logged += 1
            if logged > log.time.shape[1]:
                break
            sender = neuron if spiking else -1 - events.source[b, e]
            e += not spiking
            log.time[b, logged - 1], log.sender[b, logged - 1] = now, sender
            receive(state, model, sender)
            row = model.recurrent[sender] if spiking else model.weight[-1 - sender]
            predict(state, row, neuron if spiking else -1, now, tau, upcoming)
        log.total[b] = logged
        end[:, b] = state


@compiled
def backward(part, first, last, log, model, spikes, given, wanted):  # type: ignore[no-untyped-def]
    """Gradients of the outputs, `given`, an `OutputGrads`, to those of the inputs, `wanted`, an `InputGrads`.

    `log` is that of `forward`; `spikes` (batch, neurons) says how many there are, and is used up.
    """
    tau, neurons = model.tau, model.recurrent.shape[1]
    for b in range(first, last):
        total = log.total[b]
        after = np.empty((total + 1, 2, neurons), model.recurrent.dtype)  # every event, the start before all of them
        after[0] = model.start[:, b % model.start.shape[1]]
        for e in range(total):
            after[e + 1] = after[e]
            flow(after[e + 1], -expm1(((log.time[b, e - 1] if e > 0 else 0.0) - log.time[b, e]) / tau))
            receive(after[e + 1], model, log.sender[b, e])
        by_v, by_i, until = wanted.start[0, b], wanted.start[1, b], model.t_end
        by_v[:], by_i[:] = given.state[0, b], given.state[1, b]
        for e in range(total - 1, -2, -1):
            now = log.time[b, e] if e >= 0 else 0.0
            d = -expm1((now - until) / tau)
            for j in range(neurons):
                by_i[j] = (1 - d) * ((1 - d) * by_i[j] + d * by_v[j])
                by_v[j] *= 1 - d
            if e >= 0:
                event_adjoint(
                    log.sender[b, e], after[e + 1], model, by_v, by_i, spikes[b], given.times[b], part, b, e, wanted
                )
            until = now


@inlined
def event_adjoint(sender, state, model, by_v, by_i, spikes, by_times, part, b, e, wanted):  # type: ignore[no-untyped-def]
    """Take the gradients by (V, I) right after event `e` of sample `b` to those right before it.

    `state` is that after the event. An input of weight w that moves by dt moves V by -w dt / tau and I by 2 w dt / tau.
    """
    tau, moved = model.tau, 0.0
    row = model.recurrent[sender] if sender >= 0 else model.weight[-1 - sender]
    by_row = wanted.recurrent[part, sender] if sender >= 0 else wanted.weight[part, -1 - sender]
    for j in range(len(row)):
        by_row[j] += by_i[j]
        moved += row[j] * (by_i[j] + by_i[j] - by_v[j]) / tau
    if sender >= 0:
        spikes[sender] -= 1
        own = float(state[1, sender] - row[sender])  # the current just before the spike
        moved += by_times[sender, spikes[sender]] - by_v[sender] * own / tau
        by_v[sender] = -tau * moved / (own - 1)
    wanted.time[b, e] = moved
