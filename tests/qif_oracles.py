"""Oracles for QIF neurons: an ODE solver in the angle, which knows no closed form, and a search for jumps."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp

from neuropil.spiking import QIFState, simulate_qif, simulate_recurrent_qif


class Simulated(NamedTuple):
    """What `simulate_qif` and `simulate_recurrent_qif` return, flat."""

    times: torch.Tensor
    angle: torch.Tensor
    current: torch.Tensor


def qif(*args, **settings):
    """`simulate_qif`, flat."""
    spikes, state = simulate_qif(*args, **settings)
    return Simulated(spikes, state.angle, state.current)


def recurrent_qif(*args, **settings):
    """`simulate_recurrent_qif`, flat."""
    spikes, state = simulate_recurrent_qif(*args, **settings)
    return Simulated(spikes, state.angle, state.current)


def output_times(neuron, trial, t_end, n_spikes):
    """Its spikes and the pseudospikes that follow, without a drive from below."""
    return neuron.with_pseudospikes(trial.times, QIFState(trial.angle, trial.current), t_end, n_spikes)


def solve(times, outer, inner, potential, current, t_end, tau=1.0):
    """One trial by an ODE solver: spike times of every neuron, angles and currents at the end.

    Args:
        times: (inputs, spikes); outer, inner: weights, rows are senders; potential, current: at time 0.
    """
    neurons = len(potential)
    events = sorted((t, i) for i, train in enumerate(times) for t in train if math.isfinite(t))
    angle, i, now, spikes = np.arctan(potential), np.array(current, float), 0.0, [[] for _ in potential]

    def slope(_, z):
        a, c = z[:neurons], z[neurons:]
        return np.r_[np.sin(a) ** 2 - np.sin(a) * np.cos(a) + c * np.cos(a) ** 2, -2 * c] / tau

    def through(j):
        event = lambda _, z: z[j] - math.pi / 2
        event.terminal, event.direction = True, 1
        return event

    for until, source in [*events, (t_end, None)]:
        while now < until:
            path = solve_ivp(
                slope,
                (now, until),
                np.r_[angle, i],
                method="DOP853",
                events=[through(j) for j in range(neurons)],
                rtol=1e-12,
                atol=1e-13,
            )
            now, angle, i = path.t[-1], path.y[:neurons, -1].copy(), path.y[neurons:, -1].copy()
            for j in range(neurons):
                if len(path.t_events[j]):
                    spikes[j].append(now)
                    angle[j] = -math.pi / 2
                    i += inner[j]
        if source is not None:
            i += outer[source]
    return spikes, angle, i


def no_jumps(at, start, end, *, points):
    """Assert that outputs move continuously on the straight path between the parameters of two networks.

    `at` maps parameters to (numbers of spikes, outputs). Wherever the numbers change, the change is cornered in a
    piece of 1e-11 of the path, over which the outputs must hardly move; and where they move most, they must move in
    proportion to the step. Returns how often the numbers changed.
    """
    here, there = ({name: part.detach() for name, part in net.named_parameters()} for net in (start, end))

    def look(share):
        with torch.no_grad():
            return at({name: here[name] + share * (there[name] - here[name]) for name in here})

    grid = [k / points for k in range(points + 1)]
    seen = [look(share) for share in grid]
    moves = [float((b[1] - a[1]).abs().max()) for a, b in pairwise(seen)]
    steepest = moves.index(max(moves))
    low, high, jumps = grid[steepest], grid[steepest + 1], [max(moves)]
    for _ in range(4):
        fine = [low + (high - low) * k / 4 for k in range(5)]
        moves = [float((look(b)[1] - look(a)[1]).abs().max()) for a, b in pairwise(fine)]
        steepest = moves.index(max(moves))
        low, high = fine[steepest], fine[steepest + 1]
        jumps.append(max(moves))
    assert jumps[-1] < 0.3 * jumps[-2], jumps
    births = 0
    for k in range(points):
        low, high, first, last = grid[k], grid[k + 1], seen[k], seen[k + 1]
        if first[0] == last[0]:
            continue
        births += 1
        while high - low > 1e-11:
            middle = look((low + high) / 2)
            if middle[0] == first[0]:
                low, first = (low + high) / 2, middle
            else:
                high, last = (low + high) / 2, middle
        torch.testing.assert_close(first[1], last[1], rtol=0, atol=1e-7)
    return births
