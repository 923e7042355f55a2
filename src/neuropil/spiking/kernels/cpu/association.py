"""Whole presentations to an associative network of spiking units, with its changes by pairs of spikes; compiled.

Units stand in the order pixels, label, always on, hidden where they send, and hidden, label where they receive. So the
partners of every unit stand in a row. In a step all units spike, then traces of earlier spikes meet these spikes, and
last the spikes reach the drives.
"""

from typing import NamedTuple

import numpy as np

from neuropil._threads import compiler, inlined
from neuropil.spiking.kernels.cpu.competition import hashed

compiled = compiler("contract", "reassoc", "nsz")


class Constants(NamedTuple):
    """Numbers of a presentation; those that meet activity are in the type of the weights."""

    probability: float  # of a spike in a step at an activity of 1
    free: int  # steps before the nudge
    nudged: int  # steps with it, in which synapses change
    control: int  # steps before it in which they change the other way
    read: int  # steps before it in which the label is read
    beta: float  # strength of the nudge
    keep: float  # what a step leaves of a drive
    gain: float  # what a spike adds to a drive at a weight of 1
    keep_x: float  # what a step leaves of a presynaptic trace
    keep_y: float  # and of a postsynaptic one


@inlined
def add(row, left, right, other, sign):  # type: ignore[no-untyped-def]
    """`sign` times `other` to the entries `left` to `right` of a row."""
    for j in range(left, right):
        row[j] += sign * other[j]


@inlined
def pairs(fired, count, trace, y, sign, pixels, always, hidden, earlier, later):  # type: ignore[no-untyped-def]
    """Spikes of a step with the traces of the spikes before: pre spikes with y, post spikes with `trace`."""
    for k in range(count):
        i = fired[k]
        add(later[i], 0 if i <= always else hidden, hidden if i < always else len(y), y, sign)
        if i > always:
            add(earlier[i - always - 1], 0, always + 1, trace, sign)
        elif pixels <= i < always:
            add(earlier[hidden + i - pixels], always, len(trace), trace, sign)


@inlined
def firing(likely, u, label, pull, pixels, always, hidden, probability):  # type: ignore[no-untyped-def]
    """Of a spike of each hidden unit, and of each label unit, which is pulled towards `label`."""
    zero, one = u.dtype.type(0), u.dtype.type(1)
    for j in range(hidden):
        likely[always + 1 + j] = probability * min(max(u[j], zero), one)
    for j in range(always - pixels):
        active = min(max(u[hidden + j], zero), one)
        likely[pixels + j] = probability * (active + pull * label[j]) / (one + pull)


@compiled
def present(part, first, last, x, label, nudges, keys, weight, c, earlier, later, drive):  # type: ignore[no-untyped-def]
    """Present the images `first` to `last`, each to a network at rest.

    Args:
        part: no matter.
        first, last: which images.
        x: (n, pixels) from 0 to 1.
        label: (n, classes), towards which label units are nudged.
        nudges: whether they are, and changes are wanted.
        keys: of spikes, (n,) uint32.
        weight: (senders, receivers).
        c: `Constants`.
        earlier: takes up what pairs add whose pre spike comes first, (receivers, senders), at an amplitude of 1.
        later: what pairs take whose pre spike comes last, (senders, receivers), at an amplitude of 1.
        drive: takes the mean drive of the label units, (n, classes).
    """
    senders, receivers = weight.shape
    pixels, hidden = x.shape[1], receivers - label.shape[1]
    always, kind = pixels + label.shape[1], weight.dtype.type
    steps, zero, one, scale = c.free + (c.nudged if nudges else 0), kind(0), kind(1), kind(2.0**-32)
    likely, salt = np.empty(senders, weight.dtype), np.arange(senders).astype(np.uint32) * np.uint32(0x9E3779B9)
    u, y, trace = np.empty(receivers, weight.dtype), np.empty(receivers, weight.dtype), np.empty(senders, weight.dtype)
    spiked, fired = np.empty(senders, np.bool_), np.empty(senders + 1, np.int64)
    for n in range(first, last):
        u[:], y[:], trace[:] = 0, 0, 0
        likely[:pixels], likely[always] = c.probability * x[n], c.probability
        for t in range(steps):
            pull = c.beta if nudges and t >= c.free else zero
            firing(likely, u, label[n], pull, pixels, always, hidden, c.probability)
            now, count = hashed(np.uint32(keys[n] + np.uint32(t))), 0
            for i in range(senders):
                spiked[i] = kind(hashed(np.uint32(now ^ salt[i]))) * scale < likely[i]
            for i in range(senders):
                fired[count] = i
                count += spiked[i]
            if nudges:
                for i in range(senders):
                    trace[i] *= c.keep_x
                for j in range(receivers):
                    y[j] *= c.keep_y
                if t >= c.free - c.control:
                    sign = one if t >= c.free else -one
                    pairs(fired, count, trace, y, sign, pixels, always, hidden, earlier, later)
                for i in range(senders):
                    trace[i] += kind(spiked[i])
                for j in range(hidden):
                    y[j] += kind(spiked[always + 1 + j])
                for j in range(hidden, receivers):
                    y[j] += kind(spiked[pixels + j - hidden])
            for j in range(receivers):
                u[j] *= c.keep
            for k in range(count):
                i = fired[k]
                add(u, 0 if i <= always else hidden, hidden if i < always else receivers, weight[i], c.gain)
            if c.free - c.read <= t < c.free:
                for j in range(always - pixels):
                    drive[n, j] += u[hidden + j] / kind(c.read)
