"""Spiking networks in plain PyTorch: from event to event, all neurons of the network at once, under autograd.

What one writes without the projective form, and what the compiled kernels are measured against. The equations are those
of the paper, in the potential, so the tests use it as an oracle too.
"""

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

from neuropil.checks import require
from neuropil.events import Theta


def jump(phase: Tensor, weight: Tensor, neuron: Theta) -> Tensor:
    """H as the paper writes it: to the potential, add, and back to the phase."""
    scale = neuron.tau / neuron.r
    u = torch.tan(phase / scale - pi / 2) + weight / neuron.r
    return (torch.atan(u) + pi / 2) * scale


def joined(weights: Sequence[Tensor]) -> Tensor:
    """One matrix (inputs + all neurons, all neurons) from the weights (inputs, outputs) of stacked layers."""
    rows, columns = [len(weights[0])] + [w.shape[1] for w in weights], [w.shape[1] for w in weights]
    blank = [[torch.zeros(a, b, dtype=weights[0].dtype) for b in columns] for a in rows]
    for place, weight in enumerate(weights):
        blank[place][place] = weight
    return torch.cat([torch.cat(row, 1) for row in blank])


def theta_scan(
    trains: Tensor, weights: Sequence[Tensor], phases: Sequence[Tensor], neuron: Theta, horizon: float
) -> list[tuple[Tensor, Tensor]]:
    """A whole stack of theta layers from event to event, all neurons at once, under autograd.

    `trains` is (batch, inputs, spikes), float64: rounded to float32, the potential of a neuron that has just spiked may
    change its sign, and the neuron would spike for ever. Returns, layer by layer, spike times (batch, neurons, spikes)
    and end phases.
    """
    require(trains.dtype == torch.float64, f"the plain scan needs float64, got {trains.dtype}.")
    batch, inputs, slots = trains.shape
    matrix, phase = joined(weights), torch.cat([*phases]).expand(batch, -1)
    queue, order = trains.flatten(1).sort(dim=1, stable=True)
    queue = torch.cat([queue, torch.full_like(queue[:, :1], torch.inf)], 1)
    order = torch.cat([order // slots, torch.zeros_like(order[:, :1])], 1)
    pointer, now, rows = torch.zeros(batch, dtype=torch.long), trains.new_zeros(batch), torch.arange(batch)
    had, found = torch.zeros(phase.shape, dtype=torch.long), []
    while True:
        wait, first = (neuron.period - phase).min(1)
        arrival, spike = queue[rows, pointer], now + wait
        fires = spike <= arrival
        when = torch.where(fires, spike, arrival)
        alive = when <= horizon
        if not alive.any():
            break
        phase = phase + torch.where(alive, when - now, 0)[:, None]
        now = torch.where(alive, when, now)
        phase = torch.where((alive & fires)[:, None] & (torch.arange(phase.shape[1]) == first[:, None]), 0, phase)
        source = torch.where(fires, inputs + first, order[rows, pointer])
        phase = jump(phase, matrix[source] * alive[:, None], neuron)
        pointer = pointer + (alive & ~fires)
        found.append((when, torch.where(alive & fires, first, -1), had[rows, first]))
        had[rows, first] += alive & fires
    phase = phase + (horizon - now)[:, None]
    sizes = [w.shape[1] for w in weights]
    times = trains.new_full((batch, sum(sizes), max(1, int(had.max()))), torch.inf)
    if found:
        when, who, rank = (torch.stack(part, 1) for part in zip(*found))
        b, e = (who >= 0).nonzero(as_tuple=True)
        times = times.index_put((b, who[b, e], rank[b, e]), when[b, e])
    return list(zip(times.split(sizes, 1), phase.split(sizes, 1)))
