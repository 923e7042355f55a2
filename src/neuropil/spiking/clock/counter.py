"""Spikes of hidden layers, counted on their way."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CounterState", "SpikeCounter"]


class CounterState(NamedTuple):
    """State of `SpikeCounter`; both (batch, *units)."""

    spikes: Tensor  # of this step
    counts: Tensor  # of all steps so far; int64 for integers and booleans


@dataclass(frozen=True)
class SpikeCounter:
    """Lets spikes pass, and counts those of each unit: a place in a row where one wants to look.

    Its state after a simulation has the counts. With ``record=`` it shows the spikes of each step, too. Counts times
    the synapses that a unit sends to are synaptic operations, which neuromorphic hardware pays for.

    Examples:
        >>> from neuropil.spiking import CurrentLIF, SpikingSequential, simulate
        >>> first, last = torch.nn.Linear(3, 4, bias=False), torch.nn.Linear(4, 2, bias=False)
        >>> _ = torch.nn.init.ones_(first.weight)
        >>> network = SpikingSequential(first, CurrentLIF(), SpikeCounter(), last, CurrentLIF())
        >>> run = simulate(network, torch.ones(50, 1, 3), record=lambda out, state: {"hidden": state[2].spikes})
        >>> run.state[2].counts, run.recorded["hidden"].shape
        (tensor([[12., 12., 12., 12.]]), torch.Size([50, 1, 4]))
    """

    def init(self, like: Tensor) -> CounterState:
        """No spike yet, of units shaped like this, (batch, *units)."""
        zero = torch.zeros_like(like)
        return CounterState(zero, _exact(zero))

    def step(self, spikes: Tensor, state: CounterState) -> tuple[Tensor, CounterState]:
        """One step: the spikes as they came, (batch, *units), and the state after it."""
        return spikes, CounterState(spikes, state.counts + _exact(spikes))


def _exact(spikes: Tensor) -> Tensor:
    """In a dtype that counts to millions."""
    if spikes.dtype in (torch.float16, torch.bfloat16):
        return spikes.float()
    return spikes if spikes.is_floating_point() else spikes.long()
