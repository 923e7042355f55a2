"""Time steps of a dense layer, its neurons and pair STDP in one loop, which takes spikes one by one; compiled."""

from typing import NamedTuple

import numpy as np

from neuropil._threads import compiler, inlined
from neuropil.spiking.kernels.cpu.clocked import current_step, delta_step

compiled = compiler("contract", "nsz")
MANY = 16  # a product with all spikes of a sample is faster where more than a unit in so many has one


class Law(NamedTuple):
    """Numbers of the rule, in the type of the weight."""

    keep_pre: float  # what a step leaves of a presynaptic trace, and of a postsynaptic one
    keep_post: float
    up: float  # change by a postsynaptic spike times the trace of a presynaptic one, and the other way round
    down: float
    low: float  # bounds of each weight
    high: float
    nearest: bool
    learns: bool  # whether weights change at all; traces do in any case
    lag: bool  # whether the rule meets the spikes of the neurons a step later


@inlined
def send(spikes, weight, bias, drive):  # type: ignore[no-untyped-def]
    """What the spikes of a step (batch, in) make of the weight (in, units): `drive` (batch, units)."""
    for b in range(len(spikes)):
        row, given = drive[b], spikes[b]
        row[:] = bias
        for i in range(len(given)):
            if given[i] != 0:
                line = weight[i]
                for u in range(len(row)):
                    row[u] += line[u]


@inlined
def learn(spikes, out, weight, x, y, whole, ends, unit, law):  # type: ignore[no-untyped-def]
    """The change of the weight (in, units) by a step, then that of the traces x (batch, in) and y (batch, units).

    All weights are brought within bounds if they are to be as a `whole`, else those that change. Where changes have one
    sign it makes no difference whether bounds are kept after each or after all.
    """
    count, units = 0, out.shape[1]
    for b in range(len(out)):
        for u in range(units):
            if out[b, u] != 0:
                unit[count] = u
                count += 1
        ends[b + 1] = count
        whole |= MANY * (count - ends[b]) > units
    for i in range(len(weight) if law.learns else 0):
        line, all_of_it = weight[i], whole
        for b in range(len(spikes)):
            all_of_it |= spikes[b, i] != 0
        for b in range(len(spikes)):
            gain = law.up * x[b, i]
            if MANY * (ends[b + 1] - ends[b]) > units:
                fired = out[b]
                for u in range(units):
                    line[u] += gain * fired[u]
            elif all_of_it:
                for k in range(ends[b], ends[b + 1]):
                    line[unit[k]] += gain
            else:
                for k in range(ends[b], ends[b + 1]):
                    new = line[unit[k]] + gain
                    new = law.low if new < law.low else new
                    line[unit[k]] = law.high if new > law.high else new
            if spikes[b, i] != 0:
                trace = y[b]
                for u in range(units):
                    line[u] -= law.down * trace[u]
        if all_of_it:
            for u in range(units):
                new = law.low if line[u] < law.low else line[u]
                line[u] = law.high if new > law.high else new
    for b in range(len(x)):
        follow(x[b], spikes[b], law.keep_pre, law.nearest)
        follow(y[b], out[b], law.keep_post, law.nearest)


@inlined
def follow(trace, spikes, keep, nearest):  # type: ignore[no-untyped-def]
    """A trace after a step: it decays, and a spike adds 1, or makes it 1."""
    if nearest:
        for j in range(len(trace)):
            old = keep * trace[j]
            trace[j] = spikes[j] if spikes[j] > old else old
    else:
        for j in range(len(trace)):
            trace[j] = keep * trace[j] + spikes[j]


@compiled
def delta(spikes, out, before, weight, bias, state, resting, x, y, c, law):  # type: ignore[no-untyped-def]
    """Steps of a layer of `DeltaLIF`.

    Args:
        spikes: (time, batch, in), 0 or 1.
        out: takes the spikes of the neurons, (time, batch, units).
        before: those of the step before the first, (batch, units), which a rule with a lag meets.
        weight: (in, units); changed, as is all below but `bias`.
        bias: (units,).
        state: of the neurons, (1, batch, units).
        resting: steps that are left of the refractory time, (batch, units), int32.
        x, y: traces of the rule, (batch, in) and (batch, units).
        c: `Constants` of the neurons.
        law: `Law` of the rule.
    """
    drive = np.empty(y.shape, y.dtype)
    ends, unit = np.zeros(len(y) + 1, np.int64), np.empty(y.size, np.int64)
    for t in range(len(spikes)):
        send(spikes[t], weight, bias, drive)
        for b in range(len(drive)):
            delta_step(drive[b], out[t, b], state[0, b], resting[b], c)
        post = out[t] if not law.lag else out[t - 1] if t else before
        learn(spikes[t], post, weight, x, y, t == 0, ends, unit, law)


@compiled
def current(spikes, out, before, weight, bias, state, resting, x, y, c, law):  # type: ignore[no-untyped-def]
    """Steps of a layer of `CurrentLIF`; arguments as of `delta`, but `state` has v and the current."""
    drive = np.empty(y.shape, y.dtype)
    ends, unit = np.zeros(len(y) + 1, np.int64), np.empty(y.size, np.int64)
    for t in range(len(spikes)):
        send(spikes[t], weight, bias, drive)
        for b in range(len(drive)):
            current_step(drive[b], out[t, b], state[0, b], state[1, b], resting[b], c)
        post = out[t] if not law.lag else out[t - 1] if t else before
        learn(spikes[t], post, weight, x, y, t == 0, ends, unit, law)
