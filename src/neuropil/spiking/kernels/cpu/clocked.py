"""Several steps of leaky integrate-and-fire neurons at once, bit for bit as their `step` does them; compiled.

Every neuron goes on by itself. So a block of them takes all steps while its state is in the cache. Each kind has a loop
of its own. One that asks for the kind in every step is not vectorised, and takes two to four times as long.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropil._threads import compiler, inlined, share_out

compiled = compiler()  # no liberties: what is rounded in torch is rounded here
BLOCK = 2048  # neurons
WORTH = 2**17  # numbers that a thread should have for itself
KINDS = ("delta", "current", "adaptive")
Steps = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Constants(NamedTuple):
    """Numbers of a neuron in the type of its state, the refractory time in steps; those of absent currents are 0."""

    vv: float  # what a step makes of the potential, of the synaptic current, of the adaptation, of 1: for the potential
    vi: float
    vw: float
    v1: float
    ii: float  # for the synaptic current
    wv: float  # for the adaptation
    wi: float
    ww: float
    w1: float
    hold: float  # for the adaptation of a neuron that is held
    held: float
    calm: float  # for the threshold
    threshold: float
    reset: float
    b: float  # what a spike adds to the adaptation and to the threshold
    theta_plus: float
    resting: int

    def typed(self, kind: Any) -> "Constants":
        """The same in a type of NumPy."""
        return Constants._make([*map(kind, self[:-1]), np.int32(self.resting)])


def advance(
    kind: str, drive: Tensor, numbers: Sequence[Tensor], resting: Tensor, constants: Constants, traced: bool
) -> Steps:
    """Several steps of neurons.

    Args:
        kind: one of `KINDS`.
        drive: their input, (time, batch, *units).
        numbers: their state, each (batch, *units): v, for "current" also the synaptic current, for "adaptive" also w
            and theta.
        resting: steps that are left of the refractory time, (batch, *units) int32.
        constants: of these neurons.
        traced: whether the state after each step is wanted.

    Returns:
        spikes, (time, batch, *units); `numbers` in one tensor, and `resting`, after the last step. Then the same after
        each step, (numbers, time, batch, *units) and (time, batch, *units); of no step unless `traced`.
    """
    given, units = drive.detach().reshape(len(drive), -1).contiguous().numpy(), resting.shape
    steps, size = len(given) if traced else 0, given.shape[1]
    now = np.stack([one.detach().reshape(-1).numpy() for one in numbers])
    left = resting.reshape(-1).numpy().astype(np.int32)
    spikes, trace = np.empty_like(given), np.empty((len(now), steps, size), given.dtype)
    rested = np.empty((steps, size), np.int32)
    loop = (delta, current, adaptive)[KINDS.index(kind)]
    arrays = given, spikes, now, left, trace, rested
    share_out(loop, size, *arrays, constants.typed(given.dtype.type), worth=1 + given.size // WORTH)
    shapes = drive.shape, (len(now), *units), units, (len(now), steps, *units), (steps, *units)
    out = [torch.from_numpy(one).view(shape) for one, shape in zip((spikes, now, left, trace, rested), shapes)]
    return out[0], out[1], out[2], out[3], out[4]


@inlined
def delta_step(given, sent, v, resting, c):  # type: ignore[no-untyped-def]
    """A step of `DeltaLIF`: inputs, what comes out, potentials, steps that are left of the refractory time."""
    zero, one, none, step = v.dtype.type(0), v.dtype.type(1), np.int32(0), np.int32(1)
    for j in range(len(v)):
        free = c.vv * v[j] + c.v1 + given[j]
        u = c.reset if resting[j] > none else free
        fired, left = u >= c.threshold, resting[j] - step
        left = left if left > none else none
        sent[j] = one if fired else zero
        resting[j] = c.resting if fired else left
        v[j] = c.reset if fired else u


@inlined
def current_step(given, sent, v, i, resting, c):  # type: ignore[no-untyped-def]
    """A step of `CurrentLIF`; i is the synaptic current."""
    zero, one, none, step = v.dtype.type(0), v.dtype.type(1), np.int32(0), np.int32(1)
    for j in range(len(v)):
        now = i[j] + given[j]
        free = c.vv * v[j] + c.vi * now + c.v1
        u = c.reset if resting[j] > none else free
        fired, left = u >= c.threshold, resting[j] - step
        left = left if left > none else none
        sent[j] = one if fired else zero
        resting[j] = c.resting if fired else left
        v[j] = c.reset if fired else u
        i[j] = c.ii * now


@inlined
def adaptive_step(given, sent, v, i, w, theta, resting, c):  # type: ignore[no-untyped-def]
    """A step of `AdaptiveLIF`; w is the adaptation current, theta what the threshold is higher by."""
    zero, one, none, step = v.dtype.type(0), v.dtype.type(1), np.int32(0), np.int32(1)
    for j in range(len(v)):
        now, high = i[j] + given[j], c.calm * theta[j]
        free = c.vv * v[j] + c.vi * now + c.vw * w[j] + c.v1
        loose = c.wv * v[j] + c.wi * now + c.ww * w[j] + c.w1
        tired = c.hold * w[j] + c.held
        u = c.reset if resting[j] > none else free
        tired = tired if resting[j] > none else loose
        fired, left = u >= c.threshold + high, resting[j] - step
        left = left if left > none else none
        out = one if fired else zero
        sent[j] = out
        resting[j] = c.resting if fired else left
        v[j] = c.reset if fired else u
        i[j] = c.ii * now
        w[j] = tired + c.b * out
        theta[j] = high + c.theta_plus * out


@compiled
def delta(part, first, last, drive, spikes, state, resting, trace, rested, c):  # type: ignore[no-untyped-def]
    """Steps of `DeltaLIF`.

    Args:
        part: no matter.
        first, last: which neurons.
        drive: (time, neurons).
        spikes: takes what comes out, (time, neurons).
        state: v, (1, neurons); changed.
        resting: steps that are left of the refractory time, (neurons,) int32; changed.
        trace: takes the state after each step, (1, time, neurons), or no step.
        rested: takes `resting` after each step, (time, neurons), or no step.
        c: `Constants`.
    """
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        v, left = state[0, start:stop], resting[start:stop]
        for t in range(len(drive)):
            delta_step(drive[t, start:stop], spikes[t, start:stop], v, left, c)
            if len(rested):
                trace[:, t, start:stop], rested[t, start:stop] = state[:, start:stop], left


@compiled
def current(part, first, last, drive, spikes, state, resting, trace, rested, c):  # type: ignore[no-untyped-def]
    """Steps of `CurrentLIF`; arguments as of `delta`, but `state` and `trace` have v and the current."""
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        v, i, left = state[0, start:stop], state[1, start:stop], resting[start:stop]
        for t in range(len(drive)):
            current_step(drive[t, start:stop], spikes[t, start:stop], v, i, left, c)
            if len(rested):
                trace[:, t, start:stop], rested[t, start:stop] = state[:, start:stop], left


@compiled
def adaptive(part, first, last, drive, spikes, state, resting, trace, rested, c):  # type: ignore[no-untyped-def]
    """Steps of `AdaptiveLIF`; arguments as of `delta`, but `state` and `trace` have v, current, w and theta."""
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        v, i, left = state[0, start:stop], state[1, start:stop], resting[start:stop]
        w, theta = state[2, start:stop], state[3, start:stop]
        for t in range(len(drive)):
            adaptive_step(drive[t, start:stop], spikes[t, start:stop], v, i, w, theta, left, c)
            if len(rested):
                trace[:, t, start:stop], rested[t, start:stop] = state[:, start:stop], left
