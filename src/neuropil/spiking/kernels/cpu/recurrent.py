"""Compiled simulation of a recurrent network of QIF neurons from event to event, and its adjoint.

Forward, every neuron's next spike is known in closed form; the earliest of them, or the next input, is the next event.
Where rounding carries a neuron over its spike before its turn, it waits at V = inf, so no spike is lost or doubled.
Backward, the logged events are simulated again with the states of one sample kept. The gradient of a spike's time is
what the losses give it and what its targets add. At a spike d angle / dt = 1 / tau, so nothing diverges there.
"""

from math import inf, log1p
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropil._threads import inlined, share_out, shares
from neuropil.spiking.kernels.bundles import OutputGrads, Plan, RecurrentModel, arrays, check_room, no_spikes
from neuropil.spiking.kernels.cpu.oscillator import TABLES, compiled, max_step, next_spike, step, step_adjoint
from neuropil.spiking.kernels.cpu.qif import accumulate_input_grad, latest, load_start, room_for_states
from neuropil.spiking.times import Events


class Log(NamedTuple):
    """The events of every sample in the order of time."""

    time: Any  # (batch, room) float64
    sender: Any  # (batch, room) int64: a neuron, or -1 - i for input i
    total: Any  # (batch,) how many
    steps: Any  # (batch,) of the simulation


class InputGrads(NamedTuple):
    """What `backward` writes; weights have one copy per thread."""

    weight: Any  # (threads, inputs, neurons)
    recurrent: Any  # (threads, neurons, neurons)
    start: Any  # (2, batch, neurons), of angle and current at time 0
    time: Any  # (batch, room), of every logged event


def simulate(events: Events, model: RecurrentModel, plan: Plan) -> tuple[Tensor, Tensor, Log]:
    """Spike times, (batch, neurons, spikes) as many as the busiest neuron has, (x, y, I) at the end, and the log."""
    return run(forward, events, model, plan, 3, TABLES[model.recurrent.dtype])


def run(
    kernel: Any, events: Events, model: RecurrentModel, plan: Plan, numbers: int, *constants: Any
) -> tuple[Tensor, Tensor, Log]:
    """What `kernel` makes of the events: spike times, the `numbers` of each neuron at the end, and the log.

    It runs with ever more room until the log of every sample fits; `constants` are its own.
    """
    batch, neurons, kind = len(events.time), model.recurrent.shape[1], model.recurrent.dtype
    end, counts = torch.empty(numbers, batch, neurons, dtype=kind), torch.zeros(2, batch, dtype=torch.int64)
    room = plan.events + events.time.shape[1]
    while True:
        check_room(batch * room, 16, end.device, plan)
        logged = (torch.empty(batch, room, dtype=dtype) for dtype in (torch.float64, torch.int64))
        log = Log(*logged, *counts)
        share_out(kernel, batch, arrays(events), arrays(model), *constants, arrays(log), end.numpy())
        if int(log.total.max() if batch else 0) <= room:
            break
        room *= 2
    spikes = torch.zeros(batch, neurons, dtype=torch.int64)
    count_spikes(arrays(log), spikes.numpy())
    out = no_spikes(batch, neurons, max(int(spikes.max()) if batch else 0, 1), end, plan)
    collect_spikes(arrays(log), latest(model.t_end, kind), out.numpy())
    return out, end, log


def adjoint(
    events: Events, model: RecurrentModel, plan: Plan, times: Tensor, log: Log, given: OutputGrads
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of both weights, of angle and current at time 0, (2, batch, neurons), and of the inputs' times.

    Args:
        events, model, plan: as in `simulate`, which gave `times` and `log`.
        given: gradients of its outputs.
    """
    return run_back(backward, events, model, times, log, given, TABLES[model.weight.dtype])


def run_back(
    kernel: Any, events: Events, model: RecurrentModel, times: Tensor, log: Log, given: OutputGrads, *constants: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients that `kernel` finds, as of `adjoint`; `constants` are its own."""
    batch, kind, spikes = len(times), model.weight.dtype, times.isfinite().sum(-1)
    outer, inner = (torch.zeros(shares(batch), *part.shape, dtype=kind) for part in (model.weight, model.recurrent))
    wanted = InputGrads(outer, inner, torch.empty_like(given.state), torch.zeros(log.time.shape, dtype=kind))
    bundles = arrays(given), arrays(wanted)
    share_out(kernel, batch, arrays(log), arrays(model), *constants, spikes.numpy(), *bundles)
    by_input = select_inputs(wanted.time, log.sender, log.total, events.time)
    return wanted.weight.sum(0), wanted.recurrent.sum(0), wanted.start, by_input


def select_inputs(by_event: Tensor, sender: Tensor, total: Tensor, like: Tensor) -> Tensor:
    """What belongs to the events of the inputs only, in their own order, shaped like `like`."""
    out = torch.zeros_like(like)
    from_input = (torch.arange(sender.shape[1], device=like.device) < total[:, None]) & (sender < 0)
    sample, event = from_input.nonzero(as_tuple=True)
    return out.index_put_((sample, (from_input.cumsum(1) - 1)[sample, event]), by_event[sample, event])


@inlined
def reset_spiking(state, factor, spiking):  # type: ignore[no-untyped-def]
    """Let `spiking` (-1: none) restart at V = -inf; any other that was carried over the top waits there."""
    for j in range(len(factor)):
        if factor[j] < 0:
            state[0, j], state[1, j] = 1, 0
    if spiking >= 0:
        state[0, spiking], state[1, spiking] = -1, 0


@inlined
def predict(state, row, always, now, tau, upcoming):  # type: ignore[no-untyped-def]
    """Bring up to date the next spike time of every neuron whose current changed by `row`, and of neuron `always`."""
    for j in range(len(upcoming)):
        if row[j] != 0 or j == always:
            s = next_spike(state[0, j], state[1, j], state[2, j])
            upcoming[j] = now - tau * log1p(-s) if s < 1 else inf


@inlined
def receive(state, row):  # type: ignore[no-untyped-def]
    """Add the weights `row` to the currents."""
    current = state[2]
    for j in range(len(current)):
        current[j] += row[j]


@inlined
def advance(state, after, factor, now, until, spiking, tau, table):  # type: ignore[no-untyped-def]
    """One step from `now` towards `until`, where `spiking` is due; the time it reaches."""
    whole = (until - now) / tau
    rest = max_step(whole, state[2])
    step(state, after, factor, rest, table)
    reset_spiking(after, factor, spiking if rest == whole else -1)
    return until if rest == whole else now + rest * tau


@inlined
def simulate_sample(events, b, model, state, after, table, log):  # type: ignore[no-untyped-def]
    """Sample `b` from `state`, which ends as the state at the end: (events, steps); it gives up when `log` is full."""
    tau, t_end, neurons, count = model.tau, model.t_end, state.shape[1], events.total[b]
    upcoming, factor = np.empty(neurons), np.empty(neurons, state.dtype)
    predict(state, np.ones(neurons), -1, 0.0, tau, upcoming)
    now, e, logged, steps = 0.0, 0, 0, 0
    while True:
        neuron = int(np.argmin(upcoming))
        arriving = float(events.time[b, e]) if e < count else inf
        spiking = neuron if upcoming[neuron] <= min(arriving, t_end) else -1
        until = min(upcoming[neuron], arriving, t_end)
        while now < until:
            now = advance(state, after, factor, now, until, spiking, tau, table)
            state[:] = after
            steps += 1
        if spiking < 0 and e == count:
            return logged, steps
        if logged == log.time.shape[1]:
            return logged + 1, steps
        if spiking >= 0:
            state[0, spiking], state[1, spiking] = -1, 0
            row = model.recurrent[spiking]
        else:
            row = model.weight[events.source[b, e]]
        log.time[b, logged], log.sender[b, logged] = now, spiking if spiking >= 0 else -1 - events.source[b, e]
        e, logged = e + (spiking < 0), logged + 1
        receive(state, row)
        predict(state, row, spiking, now, tau, upcoming)


@compiled
def forward(part, first, last, events, model, table, log, end):  # type: ignore[no-untyped-def]
    """Simulate the samples `first` to `last` into `log`, a `Log`, and `end` (3, batch, neurons)."""
    neurons, kind = model.recurrent.shape[1], model.recurrent.dtype
    state, after = np.empty((3, neurons), kind), np.empty((3, neurons), kind)
    for b in range(first, last):
        load_start(state, model.start, b)
        log.total[b], log.steps[b] = simulate_sample(events, b, model, state, after, table, log)
        end[:, b] = state


@compiled
def count_spikes(log, spikes):  # type: ignore[no-untyped-def]
    """Number of spikes of every neuron, (batch, neurons)."""
    for b in range(len(log.total)):
        for e in range(log.total[b]):
            if log.sender[b, e] >= 0:
                spikes[b, log.sender[b, e]] += 1


@compiled
def collect_spikes(log, latest, out):  # type: ignore[no-untyped-def]
    """The spikes of every neuron, out of the log, into `out` (batch, neurons, slots)."""
    for b in range(len(log.total)):
        found = np.zeros(out.shape[1], np.int64)
        for e in range(log.total[b]):
            j = log.sender[b, e]
            if j >= 0:
                out[b, j, found[j]] = min(log.time[b, e], latest)
                found[j] += 1


@inlined
def recompute_states(log, b, model, table, tape):  # type: ignore[no-untyped-def]
    """Simulate sample `b` again from the first state of `tape`, a `States`, and fill it; the number of steps."""
    k, e, total = 0, 0, log.total[b]
    tape.clock[0] = 0.0
    while True:
        now, state = tape.clock[k], tape.states[k]
        while e < total and log.time[b, e] <= now:
            j = log.sender[b, e]
            if j >= 0:
                state[0, j], state[1, j] = -1, 0
            receive(state, model.recurrent[j] if j >= 0 else model.weight[-1 - j])
            e += 1
        tape.seen[k] = e
        if now >= model.t_end:
            return k
        until, spiking = (log.time[b, e], max(log.sender[b, e], -1)) if e < total else (model.t_end, -1)
        tape.clock[k + 1] = advance(state, tape.states[k + 1], tape.factors[k], now, until, spiking, model.tau, table)
        k += 1


@compiled
def backward(part, first, last, log, model, table, spikes, given, wanted):  # type: ignore[no-untyped-def]
    """Gradients of the outputs, `given`, an `OutputGrads`, to those of the inputs, `wanted`, an `InputGrads`.

    `log` is that of `forward`; `spikes` (batch, neurons) says how many there are, and is used up.
    """
    tau = model.tau
    tape = room_for_states(log.steps, first, last, model.recurrent.shape[1], model.recurrent.dtype)
    for b in range(first, last):
        load_start(tape.states[0], model.start, b)
        last_step = recompute_states(log, b, model, table, tape)
        angle, current = wanted.start[0, b], wanted.start[1, b]
        angle[:], current[:] = given.state[0, b], given.state[1, b]
        for k in range(last_step, -1, -1):
            state = tape.states[k]
            if k < last_step:
                rest = (tape.clock[k + 1] - tape.clock[k]) / tau
                step_adjoint(state, tape.factors[k], angle, current, rest, table)
            for e in range(tape.seen[k] - 1, tape.seen[k - 1] - 1 if k > 0 else -1, -1):
                j = log.sender[b, e]
                if j < 0:
                    i = -1 - j
                    by_row = wanted.weight[part, i]
                    wanted.time[b, e] = accumulate_input_grad(state, model.weight[i], angle, current, tau, by_row)
                    continue
                spikes[b, j] -= 1
                by_row = wanted.recurrent[part, j]
                received = accumulate_input_grad(state, model.recurrent[j], angle, current, tau, by_row)
                wanted.time[b, e] = given.times[b, j, spikes[b, j]] + received
                angle[j] -= tau * wanted.time[b, e]
