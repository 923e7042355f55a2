"""Spiking networks in plain PyTorch: from event to event, all neurons of the network at once, under autograd.

What one writes without the projective form, and what the compiled kernels are measured against. The equations are those
of the paper, in the potential or the angle, so the tests use it as an oracle too. Everything is float64. In float32
rounding may change the sign of the potential of a neuron that has just spiked, and it would spike for ever.
"""

from collections.abc import Callable, Sequence
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.errors import require
from neuropil.spiking import QIF, Theta

State = tuple[Tensor, ...]  # each (batch, neurons)


class Model(NamedTuple):
    """What a scan has to know of its neurons."""

    wait: Callable[[State], Tensor]  # time to the next spike
    flow: Callable[[State, Tensor], State]  # the state after a time, (batch, 1)
    receive: Callable[[State, Tensor], State]  # the state after an input of these weights
    restart: float  # what a spike makes of the first part of the state


def theta_model(neuron: Theta) -> Model:
    """The state is the phase."""
    return Model(
        lambda state: neuron.period - state[0],
        lambda state, time: (state[0] + time,),
        lambda state, weight: (jump(state[0], weight, neuron),),
        0.0,
    )


def qif_model(neuron: QIF) -> Model:
    """The state is angle and current."""
    return Model(
        lambda state: neuron.time_to_spike(state[0], state[1]),
        lambda state, time: neuron.flow(state[0], state[1], time),
        lambda state, weight: (state[0], state[1] + weight),
        -pi / 2,
    )


def jump(phase: Tensor, weight: Tensor, neuron: Theta) -> Tensor:
    """H as the paper writes it: to the potential, add, and back to the phase."""
    scale = neuron.tau / neuron.r
    u = torch.tan(phase / scale - pi / 2) + weight / neuron.r
    return (torch.atan(u) + pi / 2) * scale


def joined(weights: Sequence[Tensor]) -> Tensor:
    """One matrix (inputs + all neurons, all neurons) from the weights (inputs, outputs) of stacked layers."""
    columns = [w.shape[1] for w in weights]
    blank = [[torch.zeros(a, b, dtype=weights[0].dtype) for b in columns] for a in (len(weights[0]), *columns)]
    for place, weight in enumerate(weights):
        blank[place][place] = weight
    return torch.cat([torch.cat(row, 1) for row in blank])


def theta_scan(
    trains: Tensor, weights: Sequence[Tensor], phases: Sequence[Tensor], neuron: Theta, t_end: float
) -> list[tuple[Tensor, Tensor]]:
    """A whole stack of theta layers at once: layer by layer, spike times (batch, neurons, spikes) and end phases."""
    phase = torch.cat([*phases]).expand(len(trains), -1)
    times, (phase,) = scan(trains, joined(weights), (phase,), theta_model(neuron), t_end)
    sizes = [w.shape[1] for w in weights]
    return list(zip(times.split(sizes, 1), phase.split(sizes, 1)))


def qif_scan(
    trains: Tensor, outer: Tensor, inner: Tensor, potential: Tensor, current: Tensor, neuron: QIF, t_end: float
) -> tuple[Tensor, Tensor, Tensor]:
    """A recurrent network of QIF neurons: spike times (batch, neurons, spikes), angles and currents at the end."""
    state = tuple(part.expand(len(trains), -1) for part in (torch.atan(potential), current))
    times, (angle, current) = scan(trains, torch.cat([outer, inner]), state, qif_model(neuron), t_end)
    return times, angle, current


def scan(trains: Tensor, matrix: Tensor, state: State, model: Model, t_end: float) -> tuple[Tensor, State]:
    """From event to event: spike times (batch, neurons, spikes) and the state at the end.

    Args:
        trains: spike times of the inputs, (batch, inputs, spikes).
        matrix: (inputs + neurons, neurons), rows are senders.
        state: at time 0.
        model: of the neurons.
        t_end: end of the trial.
    """
    require(trains.dtype == torch.float64, f"the plain scan needs float64, got {trains.dtype}.")
    batch, inputs, slots = trains.shape
    queue, order = trains.flatten(1).sort(dim=1, stable=True)
    queue = torch.cat([queue, torch.full_like(queue[:, :1], torch.inf)], 1)
    order = torch.cat([order // slots, torch.zeros_like(order[:, :1])], 1)
    pointer, now, rows = torch.zeros(batch, dtype=torch.long), trains.new_zeros(batch), torch.arange(batch)
    had, found = torch.zeros(state[0].shape, dtype=torch.long), []
    while True:
        wait, first = model.wait(state).min(1)
        arrival, spike = queue[rows, pointer], now + wait
        fires = spike <= arrival
        time = torch.where(fires, spike, arrival)
        alive = time <= t_end
        if not alive.any():
            break
        state = model.flow(state, torch.where(alive, time - now, 0)[:, None])
        now = torch.where(alive, time, now)
        fresh = (alive & fires)[:, None] & (torch.arange(had.shape[1]) == first[:, None])
        state = torch.where(fresh, model.restart, state[0]), *state[1:]
        source = torch.where(fires, inputs + first, order[rows, pointer])
        state = model.receive(state, matrix[source] * alive[:, None])
        pointer = pointer + (alive & ~fires)
        found.append((time, torch.where(alive & fires, first, -1), had[rows, first]))
        had[rows, first] += alive & fires
    times = trains.new_full((*had.shape, max(1, int(had.max()))), torch.inf)
    if found:
        time, neuron, place = (torch.stack(part, 1) for part in zip(*found))
        b, e = (neuron >= 0).nonzero(as_tuple=True)
        times = times.index_put((b, neuron[b, e], place[b, e]), time[b, e])
    return times, model.flow(state, (t_end - now)[:, None])
