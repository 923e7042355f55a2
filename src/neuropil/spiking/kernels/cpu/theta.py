"""Compiled walks of theta neurons over sorted input spikes, forward and backward; no autograd, no checks.

With r = sqrt(I0 - 1/4) and (V - 1/2) / r = x / y, the neuron between its inputs is a rotation of (x, y) by
d = r dt / tau, the same for the whole layer; an input of weight w adds (w / r) y to x; and it has spiked if and only if
y came out negative, whereupon (-x, -y), the same state, goes on. Nothing here has a singularity.

Backward, b = (dL/d angle) / (x^2 + y^2) passes rotations and inputs unchanged. Every spike adds (dL/dt) (-tau / r) /
(x^2 + y^2) to it; each weight gets b y^2 / r, and the time of each input -1 / tau sum_j w_j b_j y_j (x_j + x'_j) with
x before and x' after it. Coincident inputs act as one, and if the derivatives by the time of one of them to either side
differ, it gets their mean.

Kernels work on the samples `first` to `last`, neurons are contiguous and vectorised over, and all arrays and scalars
are of one dtype. `source` and `time` are (batch, events), `weight` (inputs, neurons), `start` (2, neurons) holds x and
y at time 0, and `speed` is r / tau.
"""

from math import atan2, cos, sin, sqrt
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from neuropil._threads import share_out, shares
from neuropil.spiking.kernels.memory import silence

compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
inlined = numba.njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"}, forceinline=True)

STEP = np.float32(3.0)  # largest rotation at once: below pi, so that no spike hides behind another
KEEP = 4  # times at which inputs arrive between two normalisations of (x, y)


def simulate(
    events: Any, weight: Tensor, start: Tensor, trial: tuple[float, float, float], slots: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Spike times, (batch, neurons, spikes) as many as the busiest neuron has, their numbers, and (x, y) at the end.

    Args:
        events: the inputs, as `flatten_events` gives them.
        weight: (inputs, neurons).
        start: x and y at time 0, (2, neurons).
        trial: r / tau, r and the end of the trial.
        slots: for spikes of a neuron at first; they grow to what is needed.
    """
    batch, neurons = len(events.time), weight.shape[1]
    end = torch.empty(2, batch, neurons, dtype=weight.dtype)
    while True:
        out, spikes = silence(batch, neurons, slots, weight), np.zeros((batch, neurons), np.int32)
        share_out(forward, batch, *_shared(events, weight, start, trial), out.numpy(), spikes, end.numpy())
        most = int(spikes.max(initial=1))
        if most <= slots:
            return out[:, :, :most], torch.from_numpy(spikes), end
        slots = most


def adjoint(
    events: Any, weight: Tensor, start: Tensor, trial: tuple[float, float, float], spikes: Tensor,
    given: tuple[Tensor, Tensor], by_time: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the weights, of the first angle and of the events' times (no columns unless `by_time`).

    Args:
        events, weight, start, trial: as in `simulate`, which counted `spikes`.
        given: gradients of the spike times and of the angle at the end.
    """
    batch, neurons = spikes.shape
    kind = start.numpy().dtype
    by_weight, by_start = np.zeros((shares(batch), *weight.shape), kind), np.zeros((shares(batch), neurons), kind)
    by_event = np.zeros((batch, events.time.shape[1] if by_time else 0), kind)
    given_arrays = [part.numpy() for part in given]
    wanted = by_weight, by_start, by_event
    share_out(backward, batch, *_shared(events, weight, start, trial), spikes.numpy(), *given_arrays, *wanted)
    return torch.from_numpy(by_weight.sum(0)), torch.from_numpy(by_start.sum(0)), torch.from_numpy(by_event)


def _shared(events: Any, weight: Tensor, start: Tensor, trial: tuple[float, float, float]) -> list[Any]:
    """What both kernels take first."""
    parts = [part.numpy() for part in (events.time, events.source, events.count, weight, start)]
    return parts + [parts[3].dtype.type(number) for number in trial]


@inlined
def rotate(x, y, angle, who, n):  # type: ignore[no-untyped-def]
    """Rotate every (x, y) in place; the number of neurons that spiked, which `who` lists from `n` on."""
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
            x[j], y[j], who[n] = -x[j], -y[j], j
            n += 1
        j += 1
    return spiked


@inlined
def gather(total, weight, source, time, b, e, count):  # type: ignore[no-untyped-def]
    """Add up in `total` the weights of event `e` of sample `b` and of all at its time; the first event after them."""
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
def forward(part, first, last, time, source, count, weight, start, speed, r, t_end, out, spikes, end):  # type: ignore[no-untyped-def]
    """Spike times into `out` (batch, neurons, slots) as far as there is room, their number into `spikes` (batch,
    neurons), (x, y) at the end into `end` (2, batch, neurons).
    """
    neurons = weight.shape[1]
    total, scale = np.empty(neurons, time.dtype), np.empty((1, neurons), time.dtype)
    who, room = np.empty(neurons, np.int32), out.shape[2]
    for b in range(first, last):
        x, y = end[0, b], end[1, b]
        x[:], y[:] = start[0], start[1]
        before, e, groups = t_end - t_end, 0, 0
        while True:
            now = time[b, e] if e < count[b] else t_end
            left = (now - before) * speed
            while left > 0:
                angle = min(left, STEP)
                left -= angle
                for n in range(rotate(x, y, angle, who, 0)):
                    j = who[n]
                    if spikes[b, j] < room:
                        out[b, j, spikes[b, j]] = max(now - (left + atan2(y[j], -x[j])) / speed, before)
                    spikes[b, j] += 1
            if e == count[b]:
                break
            e = gather(total, weight, source, time, b, e, count[b])
            for j in range(neurons):
                x[j] += total[j] / r * y[j]
            before = now
            groups += 1
            if groups % KEEP == 0:
                normalise(x, y, scale, 0)


@inlined
def recompute_states(  # type: ignore[no-untyped-def]
    time, source, b, count, weight, start, speed, r, t_end, x, y, total, sums, ys, scales, opens, fired, who, lengths
):
    """Walk sample `b` again and remember, for group g of coincident inputs, what `backward` needs on its way back.

    `sums[g]` is x before plus x after it, `ys[g]` y at it, `opens[g]` its first event, `fired[g]` the number of spikes
    before it; spike by spike, `who` is the neuron and `lengths` its x^2 + y^2. The number of groups.
    """
    x[:], y[:] = start[0], start[1]
    before, e, g, fires = t_end - t_end, 0, 0, 0
    while True:
        left = ((time[b, e] if e < count else t_end) - before) * speed
        while left > 0:
            angle = min(left, STEP)
            left -= angle
            spiked = rotate(x, y, angle, who, fires)
            for n in range(fires, fires + spiked):
                lengths[n] = x[who[n]] * x[who[n]] + y[who[n]] * y[who[n]]
            fires += spiked
        opens[g], fired[g] = e, fires
        if e == count:
            return g
        before = time[b, e]
        e = gather(total, weight, source, time, b, e, count)
        for j in range(len(x)):
            jump = total[j] / r * y[j]
            sums[g, j] = x[j] + x[j] + jump
            ys[g, j] = y[j]
            x[j] += jump
        g += 1
        if g % KEEP == 0:
            normalise(x, y, scales, g // KEEP - 1)


@inlined
def share(beta, ys, sums, g, r, tau, weight, source, b, first, last, part, d_weight, d_time):  # type: ignore[no-untyped-def]
    """Hand what group `g` of coincident inputs, events `first` to `last`, is due to its weights and, if there is room,
    to its times.

    The factors are not multiplied in advance: reading back what was just written costs more than it saves.
    """
    for e in range(first, last):
        i = source[b, e]
        for j in range(len(beta)):
            d_weight[part, i, j] += beta[j] * ys[g, j] * ys[g, j] / r
    if d_time.shape[1] == 0:
        return
    for e in range(first, last):
        i, late = source[b, e], tau - tau
        for j in range(len(beta)):
            late += weight[i, j] * beta[j] * ys[g, j] * sums[g, j]
        d_time[b, e] = -late / tau


@inlined
def reverse(  # type: ignore[no-untyped-def]
    b, g, beta, left, weight, source, speed, r, sums, ys, scales, opens, fired, who, lengths, d_out,
    part, d_weight, d_time,
):  # fmt: skip
    """Take `beta`, which is b at the end of sample `b`, back over its `g` groups of inputs to the start; `left` counts
    the spikes of every neuron down.
    """
    n = fired[g]
    while True:
        while n > (fired[g - 1] if g > 0 else 0):
            n -= 1
            j = who[n]
            left[j] -= 1
            beta[j] -= d_out[b, j, left[j]] / speed / lengths[n]
        if g == 0:
            return
        if g % KEEP == 0:
            for j in range(len(beta)):
                beta[j] *= scales[g // KEEP - 1, j]
        g -= 1
        share(beta, ys, sums, g, r, r / speed, weight, source, b, opens[g], opens[g + 1], part, d_weight, d_time)


@compiled
def backward(  # type: ignore[no-untyped-def]
    part, first, last, time, source, count, weight, start, speed, r, t_end, spikes, d_out, d_end,
    d_weight, d_start, d_time,
):  # fmt: skip
    """Add the gradient of the weights to `d_weight[part]` and that of the first angle to `d_start[part]`, and write
    that of the input times into `d_time` (batch, events; no columns if nobody asks).

    `spikes` is what `forward` counted, `d_out` (batch, neurons, slots) the gradient of the spike times, and `d_end`
    (batch, neurons) that of the angle at the end.
    """
    most, neurons = time.shape[1], weight.shape[1]
    sums, ys = np.empty((most, neurons), time.dtype), np.empty((most, neurons), time.dtype)
    scales, state = np.empty((most // KEEP, neurons), time.dtype), np.empty((4, neurons), time.dtype)
    opens, fired = np.empty(most + 1, np.int32), np.empty(most + 1, np.int32)
    x, y, total, beta = state[0], state[1], state[2], state[3]
    fires = 0
    for b in range(first, last):
        fires = max(fires, spikes[b].sum())
    who, lengths, left = np.empty(fires + neurons, np.int32), np.empty(fires, time.dtype), np.empty(neurons, np.int32)
    for b in range(first, last):
        g = recompute_states(
            time, source, b, count[b], weight, start, speed, r, t_end, x, y, total,
            sums, ys, scales, opens, fired, who, lengths,
        )  # fmt: skip
        for j in range(neurons):
            left[j] = spikes[b, j]
            beta[j] = d_end[b, j] / (x[j] * x[j] + y[j] * y[j])
        reverse(
            b, g, beta, left, weight, source, speed, r, sums, ys, scales, opens, fired, who, lengths, d_out,
            part, d_weight, d_time,
        )  # fmt: skip
        for j in range(neurons):
            d_start[part, j] += beta[j]
