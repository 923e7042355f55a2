"""A network over time: memory is that of one step, unless more is asked for."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from neuropil.errors import Refusal, require

Record = Callable[[Tensor, Any], dict[str, Tensor]]


class Network(Protocol):
    """What `simulate` runs, step by step; a neuron is one, and so is a class of your own."""

    def init(self, like: Tensor) -> Any:
        """The state before the first step, for inputs shaped like this, (batch, *in)."""

    def step(self, spikes: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What comes out in a step, (batch, *out), and the state after it."""


class Simulation(NamedTuple):
    """What is left of a simulation by `simulate`."""

    counts: Tensor  # sum of the output over time: spikes of each unit, (batch, *out)
    state: Any  # after the last step
    recorded: dict[str, Tensor]  # what was asked for, each (time, ...)


@torch.no_grad()
def simulate(
    network: Network, spikes: Iterable[Tensor], state: Any = None, *, record: Record | None = None
) -> Simulation:
    """Run a network over time steps.

    Args:
        network: has ``init`` and ``step``.
        spikes: input of each step, (time, batch, *in), or anything that yields (batch, *in), such as an encoding that
            makes them one at a time.
        state: to start from; None for ``network.init``.
        record: called with the output and the state of each step, gives what is to be kept by name. Without it the
            memory does not grow with time.

    Raises:
        Refusal: there is no step.

    Examples:
        >>> from neuropil.spiking import CurrentLIF
        >>> drive = torch.full((100, 1, 1), 0.4)
        >>> run = simulate(CurrentLIF(), drive, record=lambda spikes, state: {"v": state.v})
        >>> run.counts.item(), run.recorded["v"].shape
        (6.0, torch.Size([100, 1, 1]))
    """
    counts: Tensor | None = None
    kept: dict[str, list[Tensor]] = {}
    for x in spikes:
        if not isinstance(x, Tensor):
            raise Refusal(f"simulate needs a tensor of spikes for each step, got {type(x).__name__}.")
        state = network.init(x) if state is None else state
        out, state = network.step(x, state)
        counts = out.clone() if counts is None else counts.add_(out)
        for name, value in (record(out, state) if record else {}).items():
            kept.setdefault(name, []).append(value.clone())
    require(counts is not None, "simulate needs at least one step of spikes, got none.")
    assert counts is not None
    return Simulation(counts, state, {name: torch.stack(values) for name, values in kept.items()})
