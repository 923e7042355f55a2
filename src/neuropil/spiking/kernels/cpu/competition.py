"""Whole presentations of images to spiking units that compete and learn by pairs of spikes; compiled.

A step is one of `PoissonEncoding`, `ConductanceLIF` and `PairSTDP` with nearest spikes. First inputs spike, then
conductances jump and potentials flow. At most one unit spikes, the one that is furthest above its threshold, and
inhibits all others. Last, weights change: those of the unit that spikes to 1 at most, none to below 0.
"""

from math import exp, expm1
from typing import NamedTuple

import numpy as np

from neuropil._threads import compiler, inlined

compiled = compiler("contract", "reassoc", "nsz")
STEEPEST = 16.0  # exp(-16) of a change of the potential is no change that counts


class Constants(NamedTuple):
    """Numbers of a presentation, all in the type of the weights but for those that count."""

    probability: float  # rate dt of an input of 1
    boost: float  # by what fraction of this a presentation that was answered too little is stronger
    steps: int
    min_spikes: int
    attempts: int
    keep_e: float  # what a step leaves of a conductance, of a trace, of the threshold
    keep_i: float
    keep_x: float
    keep_y: float
    keep_theta: float
    rest: float
    threshold: float
    reset: float
    resting: int
    theta_plus: float
    excitation: float
    inhibition: float
    a_plus: float
    a_minus: float
    total: float  # of the weights of each unit before a presentation


@inlined
def hashed(x):  # type: ignore[no-untyped-def]
    """The hash lowbias32 of 32 bits."""
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@inlined
def normalise(weight, total, sums):  # type: ignore[no-untyped-def]
    """The weights of each unit, (inputs, units), add up to `total`."""
    sums[:] = 0
    for i in range(len(weight)):
        row = weight[i]
        for j in range(len(row)):
            sums[j] += row[j]
    for j in range(len(sums)):
        sums[j] = total / sums[j]
    for i in range(len(weight)):
        row = weight[i]
        for j in range(len(row)):
            row[j] *= sums[j]


@inlined
def steep(v, end_e, end_i, law, nodes):  # type: ignore[no-untyped-def]
    """A potential at the end of a step with these conductances there, see `ConductanceLIF`, where it moves far."""
    tau, tau_e, tau_i, dt, rest, e_rev, i_rev, reach = law
    one = v - v + 1
    whole = (dt + end_e * tau_e * expm1(dt / tau_e) + end_i * tau_i * expm1(dt / tau_i)) / tau
    end, left, pull, rate = min(reach * tau / (one + end_e + end_i), dt), exp(-whole), one - one, one - one
    for k in range(nodes.shape[1]):
        r = end * nodes[0, k]
        grown_e, grown_i = expm1(r / tau_e), expm1(r / tau_i)
        now_e, now_i = end_e * (one + grown_e), end_i * (one + grown_i)
        kept = nodes[1, k] * exp(-(r + end_e * tau_e * grown_e + end_i * tau_i * grown_i) / tau)
        pull += kept * (rest + now_e * e_rev + now_i * i_rev)
        rate += kept * (one + now_e + now_i)
    return v * left + (one - left) * pull / rate


@inlined
def flow(v, g_e, g_i, work, resting, table, law, nodes, c):  # type: ignore[no-untyped-def]
    """The potentials and conductances at the end of a step; `table` has a row of constants for each node."""
    zero, one, most = v.dtype.type(0), v.dtype.type(1), v.dtype.type(STEEPEST)
    for j in range(len(v)):
        work[j] = zero
    for k in range(len(table)):
        w, leak, e, i, drive_e, drive_i = table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4], table[k, 5]
        for j in range(len(v)):
            z = min(leak + g_e[j] * e + g_i[j] * i, most) * v.dtype.type(-0.125)
            p = one + z / v.dtype.type(7)
            p = one + z * p / v.dtype.type(6)
            p = one + z * p / v.dtype.type(5)
            p = one + z * p / v.dtype.type(4)
            p = one + z * p / v.dtype.type(3)
            p = one + z * p / v.dtype.type(2)
            p = one + z * p
            p = p * p
            p = p * p
            pull = v[j] if k == 0 else w * (c.rest + g_e[j] * drive_e + g_i[j] * drive_i)
            work[j] += pull * p * p
    far, leak, e, i = 0, table[0, 1], table[0, 2], table[0, 3]
    for j in range(len(v)):
        far += leak + g_e[j] * e + g_i[j] * i > one
    if far:
        for j in range(len(v)):
            if leak + g_e[j] * e + g_i[j] * i > one:
                work[j] = steep(v[j], g_e[j] * c.keep_e, g_i[j] * c.keep_i, law, nodes)
    for j in range(len(v)):
        v[j] = c.reset if resting[j] > 0 else work[j]
        resting[j] -= resting[j] > 0
        g_e[j] *= c.keep_e
        g_i[j] *= c.keep_i


@inlined
def furthest(v, theta, threshold):  # type: ignore[no-untyped-def]
    """The unit that is furthest above its threshold, the first of equals; -1 if none is."""
    above = 0
    for j in range(len(v)):
        above += v[j] > threshold + theta[j]
    winner = -1
    if above:
        best = v.dtype.type(0)
        for j in range(len(v)):
            margin = v[j] - (threshold + theta[j])
            if margin > best:
                winner, best = j, margin
    return winner


@inlined
def learn(weight, x, y, fired, n, winner, c):  # type: ignore[no-untyped-def]
    """Pairs of nearest spikes: a post spike adds a_plus x, up to 1; a pre spike takes a_minus y, down to 0."""
    zero, one = weight.dtype.type(0), weight.dtype.type(1)
    if winner >= 0:
        for i in range(len(weight)):
            weight[i, winner] += c.a_plus * x[i]
    for k in range(n):
        row = weight[fired[k]]
        for j in range(len(row)):
            row[j] = max(zero, row[j] - c.a_minus * y[j])
    if winner >= 0:
        for i in range(len(weight)):
            weight[i, winner] = min(one, weight[i, winner])


@inlined
def limits(image, rate, line, salt, limit):  # type: ignore[no-untyped-def]
    """Inputs that are not 0, what tells their hashes apart, and below which hash each spikes; returns how many."""
    active = 0
    for i in range(len(image)):
        if image[i] > 0:
            line[active], salt[active] = i, np.uint32(np.uint32(i) * np.uint32(0x9E3779B9))
            limit[active] = np.uint64(np.rint((1 - exp(-image[i] * rate)) * 4294967296.0))
            active += 1
    return active


@inlined
def forget(theta, x, y, c):  # type: ignore[no-untyped-def]
    """Thresholds and traces after a step without a spike."""
    for j in range(len(y)):
        theta[j] *= c.keep_theta
        y[j] *= c.keep_y
    for i in range(len(x)):
        x[i] *= c.keep_x


@compiled
def present(part, first, last, images, keys, weight, theta, table, law, nodes, c, learns, counts):  # type: ignore[no-untyped-def]
    """Show the images `first` to `last` one after the other, each to units at rest.

    Args:
        part: no matter.
        first, last: which images.
        images: (n, inputs), from 0 to 1.
        keys: of their spikes, (n,) uint32.
        weight: (inputs, units); changed where `learns`, as is `theta`.
        theta: (units,).
        table: constants of a step, (nodes, 6).
        law, nodes: numbers of `steep`, and the nodes and weights of a step that takes it, (2, many).
        c: `Constants`.
        learns: whether weights and thresholds change.
        counts: takes the spikes of each unit, (n, units).
    """
    inputs, units = weight.shape
    states, resting = np.empty((5, units), weight.dtype), np.empty(units, np.int32)
    v, g_e, g_i, work, y = states[0], states[1], states[2], states[3], states[4]
    x, line, fired = np.empty(inputs, weight.dtype), np.empty(inputs, np.int64), np.empty(inputs + 1, np.int64)
    limit, salt = np.empty(inputs, np.uint64), np.empty(inputs, np.uint32)
    for n in range(first, last):
        if learns:
            normalise(weight, c.total, work)
        for attempt in range(c.attempts):
            active, total = limits(images[n], c.probability * (1 + c.boost * attempt), line, salt, limit), 0
            states[:], x[:], resting[:], counts[n] = 0, 0, 0, 0
            v[:] = c.rest
            for t in range(attempt * c.steps, (attempt + 1) * c.steps):
                now, many = hashed(np.uint32(keys[n] + np.uint32(t))), 0
                for k in range(active):
                    fired[many] = line[k]
                    many += np.uint64(hashed(np.uint32(now ^ salt[k]))) < limit[k]
                for k in range(many):
                    row = weight[fired[k]]
                    for j in range(units):
                        g_e[j] += c.excitation * row[j]
                flow(v, g_e, g_i, work, resting, table, law, nodes, c)
                if learns:
                    forget(theta, x, y, c)
                winner = furthest(v, theta, c.threshold)
                if learns:
                    learn(weight, x, y, fired, many, winner, c)
                if winner >= 0:
                    counts[n, winner] += 1
                    total += 1
                    v[winner], resting[winner] = c.reset, c.resting
                    for j in range(units):
                        g_i[j] += c.inhibition
                    g_i[winner] -= c.inhibition
                    if learns:
                        theta[winner] += c.theta_plus
                        y[winner] = 1
                for k in range(many):
                    x[fired[k]] = 1
            if total >= c.min_spikes:
                break
