"""Compiled simulation of theta neurons over sorted input spikes, and its adjoint.

With r = sqrt(I0 - 1/4) and (V - 1/2) / r = x / y, the neuron between its inputs is a rotation of (x, y) by
d = r dt / tau, the same for the whole layer. An input of weight w adds (w / r) y to x. The neuron has spiked if and
only if y came out negative; then (-x, -y), the same state, goes on. Nothing here has a singularity.

Backward, b = (dL/d angle) / (x^2 + y^2) passes rotations and inputs unchanged. Every spike adds (dL/dt) (-tau / r) /
(x^2 + y^2) to it. Each weight gets b y^2 / r. The time of each input gets -1 / tau sum_j w_j b_j y_j (x_j + x'_j) with
x before and x' after it. Coincident inputs act as one, and if the derivatives by the time of one of them to either side
differ, it gets their mean.

Kernels work on the samples `first` to `last`. Neurons are contiguous and vectorised over. All arrays and scalars are of
one dtype. `events` is an `Events` and `model` a `ThetaModel`, both of NumPy arrays.
"""

from math import atan2, cos, sin, sqrt
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from neuropil._threads import compiler, share_out, shares
from neuropil.spiking.kernels.bundles import (
    InputGrads,
    OutputGrads,
    Plan,
    ThetaModel,
    arrays,
    counted,
    refuse_uncounted,
    with_room,
)
from neuropil.spiking.times import Events

compiled = compiler("contract", "reassoc", "nsz", "arcp")
inlined = numba.njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, forceinline=True)

MAX_ANGLE = np.float32(3.0)  # largest rotation at once: below pi, so that no spike hides behind another
NORMALISE_EVERY = 4  # times at which inputs arrive between two normalisations of (x, y)


class States(NamedTuple):
    """What the adjoint needs of one sample, by group g of coincident inputs and by spike n."""

    sums: Any  # (groups, neurons), x before plus x after the inputs
    ys: Any  # (groups, neurons), y at the inputs
    scales: Any  # (groups // NORMALISE_EVERY, neurons), 1 / length^2 at every normalisation
    opens: Any  # (groups + 1,), first event of the group
    fired: Any  # (groups + 1,), number of spikes before the group
    neuron: Any  # (spikes + neurons,), which neuron spiked
    lengths: Any  # (spikes,), its x^2 + y^2


def simulate(events: Events, model: ThetaModel, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Spike times, their numbers, and (x, y) at the end.

    Returns:
        (batch, neurons, spikes), as many as the busiest neuron has; (batch, neurons); (2, batch, neurons).
    """
    batch, neurons = len(events.time), model.weight.shape[1]
    end, given = torch.empty(2, batch, neurons, dtype=model.weight.dtype), (arrays(events), _compiled(model))
    run = lambda times, numbers: share_out(forward, batch, *given, times.numpy(), numbers.numpy(), end.numpy())
    times, numbers, _ = with_room(run, batch, neurons, plan.slots, model.weight, plan)
    refuse_uncounted(counted(end), model.weight)
    return times, numbers, end


def adjoint(
    events: Events, model: ThetaModel, plan: Plan, spikes: Tensor, given: OutputGrads, by_time: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the weights, of the angle at time 0 and of the events' times (no columns unless `by_time`).

    Args:
        events, model, plan: as in `simulate`, which counted `spikes`.
        given: gradients of its outputs.
        by_time: whether gradients of the events' times are wanted.
    """
    batch, neurons = spikes.shape
    kind, threads = model.weight.numpy().dtype, shares(batch)
    shapes = (threads, *model.weight.shape), (threads, neurons), (batch, events.time.shape[1] if by_time else 0)
    wanted = InputGrads(*(np.zeros(shape, kind) for shape in shapes))
    share_out(backward, batch, arrays(events), _compiled(model), spikes.numpy(), arrays(given), wanted)
    return torch.from_numpy(wanted.weight.sum(0)), torch.from_numpy(wanted.start.sum(0)), torch.from_numpy(wanted.time)


def _compiled(model: ThetaModel) -> Any:
    """The model as arrays and scalars of one dtype."""
    weight, start, *scalars = model
    kind: Any = weight.numpy().dtype.type
    return ThetaModel(weight.numpy(), start.numpy(), *[kind(scalar) for scalar in scalars])  # type: ignore[arg-type]


@inlined
def rotate(x, y, angle, neuron, n):  # type: ignore[no-untyped-def]
    """Rotate every (x, y) in place; the number of neurons that spiked, which `neuron` lists from `n` on."""
    c, s = cos(angle), sin(angle)
    spiked = np.int32(0)
    for j in range(len(x)):
        ahead = y[j] * c - x[j] * s
        x[j] = x[j] * c + y[j] * s
        y[j] = ahead
        spiked += np.int32(ahead < 0)
    j, last = 0, n + spiked
    while n < last:
        if y[j] < 0:
            x[j], y[j], neuron[n] = -x[j], -y[j], j
            n += 1
        j += 1
    return spiked


@inlined
def sum_weights(total, weight, events, b, e):  # type: ignore[no-untyped-def]
    """Add up in `total` the weights of event `e` of sample `b` and of all at its time; the first event after them."""
    time, source, count = events.time, events.source, events.total[b]
    now, i = time[b, e], source[b, e]
    for j in range(len(total)):
        total[j] = weight[i, j]
    e += 1
    while e < count and time[b, e] == now:
        i = source[b, e]
        for j in range(len(total)):
            total[j] += weight[i, j]
        e += 1
    return e


@inlined
def normalise(x, y, scales, g):  # type: ignore[no-untyped-def]
    """Divide every (x, y) by its length in place; `scales[g]` takes 1 / length^2."""
    for j in range(len(x)):
        scale = x.dtype.type(1) / (x[j] * x[j] + y[j] * y[j])
        root = sqrt(scale)
        scales[g, j] = scale
        x[j] *= root
        y[j] *= root


@compiled
def forward(part, first, last, events, model, out, spikes, end):  # type: ignore[no-untyped-def]
    """Write spike times into `out` (batch, neurons, slots) as far as there is room, and their number into `spikes`.

    `spikes` is (batch, neurons). The state (x, y) at the end goes into `end` (2, batch, neurons).
    """
    weight, start, speed, r, t_end = model
    room, neurons = out.shape[2], weight.shape[1]
    total, scale = np.empty(neurons, out.dtype), np.empty((1, neurons), out.dtype)
    neuron = np.empty(neurons, np.int32)
    for b in range(first, last):
        x, y = end[0, b], end[1, b]
        x[:], y[:] = start[0], start[1]
        before, e, groups, count = t_end - t_end, 0, 0, events.total[b]
        while True:
            now = events.time[b, e] if e < count else t_end
            left = (now - before) * speed
            while left > 0:
                angle = min(left, MAX_ANGLE)
                left -= angle
                for n in range(rotate(x, y, angle, neuron, 0)):
                    j = neuron[n]
                    if spikes[b, j] < room:
                        out[b, j, spikes[b, j]] = max(now - (left + atan2(y[j], -x[j])) / speed, before)
                    spikes[b, j] += 1
            if e == count:
                break
            e = sum_weights(total, weight, events, b, e)
            for j in range(neurons):
                x[j] += total[j] / r * y[j]
            before = now
            groups += 1
            if groups % NORMALISE_EVERY == 0:
                normalise(x, y, scale, 0)


@inlined
def recompute_states(events, b, model, x, y, total, states):  # type: ignore[no-untyped-def]
    """Simulate sample `b` again and fill `states`; the number of groups of coincident inputs."""
    weight, start, speed, r, t_end = model
    sums, ys, _, opens, fired, neuron, lengths = states
    x[:], y[:] = start[0], start[1]
    before, e, g, fires, count = t_end - t_end, 0, 0, 0, events.total[b]
    while True:
        left = ((events.time[b, e] if e < count else t_end) - before) * speed
        while left > 0:
            angle = min(left, MAX_ANGLE)
            left -= angle
            spiked = rotate(x, y, angle, neuron, fires)
            for n in range(fires, fires + spiked):
                lengths[n] = x[neuron[n]] * x[neuron[n]] + y[neuron[n]] * y[neuron[n]]
            fires += spiked
        opens[g], fired[g] = e, fires
        if e == count:
            return g
        before = events.time[b, e]
        e = sum_weights(total, weight, events, b, e)
        for j in range(len(x)):
            jump = total[j] / r * y[j]
            sums[g, j] = x[j] + x[j] + jump
            ys[g, j] = y[j]
            x[j] += jump
        g += 1
        if g % NORMALISE_EVERY == 0:
            normalise(x, y, states.scales, g // NORMALISE_EVERY - 1)


@inlined
def accumulate_input_grad(beta, g, states, events, b, model, part, wanted):  # type: ignore[no-untyped-def]
    """Add the gradients of the weights of group `g`, and write those of its times if there is room for them.

    The factors are not multiplied in advance: reading back what was just written costs more than it saves.
    """
    weight, _, speed, r, _ = model
    by_weight, _, by_time = wanted
    ys, sums, source, tau = states.ys, states.sums, events.source, r / speed
    first, last = states.opens[g], states.opens[g + 1]
    for e in range(first, last):
        i = source[b, e]
        for j in range(len(beta)):
            by_weight[part, i, j] += beta[j] * ys[g, j] * ys[g, j] / r
    if by_time.shape[1] == 0:
        return
    for e in range(first, last):
        i, late = source[b, e], tau - tau
        for j in range(len(beta)):
            late += weight[i, j] * beta[j] * ys[g, j] * sums[g, j]
        by_time[b, e] = -late / tau


@inlined
def step_adjoint(beta, left, g, states, by_out, speed):  # type: ignore[no-untyped-def]
    """Take `beta`, which is b, back over the spikes between group `g - 1` and group `g`; `left` counts them down."""
    n = states.fired[g]
    while n > (states.fired[g - 1] if g > 0 else 0):
        n -= 1
        j = states.neuron[n]
        left[j] -= 1
        beta[j] -= by_out[j, left[j]] / speed / states.lengths[n]
    if g > 0 and g % NORMALISE_EVERY == 0:
        for j in range(len(beta)):
            beta[j] *= states.scales[g // NORMALISE_EVERY - 1, j]


@compiled
def backward(part, first, last, events, model, spikes, given, wanted):  # type: ignore[no-untyped-def]
    """Add to `wanted`, an `InputGrads`, what `given`, an `OutputGrads`, means for the samples `first` to `last`.

    `spikes` (batch, neurons) is what `forward` counted.
    """
    most, neurons, kind = events.time.shape[1], model.weight.shape[1], model.weight.dtype
    fires = 0
    for b in range(first, last):
        fires = max(fires, spikes[b].sum())
    inputs, counts = np.empty((2, most, neurons), kind), np.empty((2, most + 1), np.int32)
    scales = np.empty((most // NORMALISE_EVERY, neurons), kind)
    neuron, lengths = np.empty(fires + neurons, np.int32), np.empty(fires, kind)
    states = States(inputs[0], inputs[1], scales, counts[0], counts[1], neuron, lengths)
    buffer, left = np.empty((4, neurons), kind), np.empty(neurons, np.int32)
    x, y, total, beta = buffer[0], buffer[1], buffer[2], buffer[3]
    for b in range(first, last):
        g = recompute_states(events, b, model, x, y, total, states)
        for j in range(neurons):
            left[j] = spikes[b, j]
            beta[j] = given.state[b, j] / (x[j] * x[j] + y[j] * y[j])
        while True:
            step_adjoint(beta, left, g, states, given.times[b], model.speed)
            if g == 0:
                break
            g -= 1
            accumulate_input_grad(beta, g, states, events, b, model, part, wanted)
        for j in range(neurons):
            wanted.start[part, j] += beta[j]
