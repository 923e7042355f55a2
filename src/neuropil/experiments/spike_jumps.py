"""A method whose hidden spikes are watched while it learns: how many does one update move by more than a little?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuropil.experiments.comparison import Method
from neuropil.runs import Row, Run, TaggedTracker
from neuropil.spiking import SpikingNetwork

JUMP = 0.25  # in the unit of times; a spike that one update moves by more has jumped


class JumpTracker(TaggedTracker):
    """Besides, watches the hidden spikes of some examples before and after an update, and logs how they moved.

    Args:
        times: of the input spikes of these examples, (examples, inputs).
        every: watches the first of so many updates.
    """

    def __init__(self, run: Run, *, times: Tensor, every: int, **columns: Any):
        super().__init__(run, **columns)
        self.times, self.every = times, every

    def loop(self, title: str, count: int, **state: Any) -> Iterator[int]:
        """See `Run.loop`."""
        network, optimizer = state.get("network"), state.get("optimizer")
        if isinstance(network, SpikingNetwork) and optimizer is not None:
            seen: dict[str, Any] = {"update": 0}

            def before(*_: Any) -> None:
                if seen["update"] % self.every == 0:
                    seen["spikes"] = hidden_spikes(network, self.times)

            def after(*_: Any) -> None:
                network.clamp_phases_()  # as training does after every step; LIF neurons need it before they run
                if seen["update"] % self.every == 0:
                    jumps = jumped(seen["spikes"], hidden_spikes(network, self.times), network.t_end)
                    self.log(Row(kind="jumps", metrics={"update": seen["update"], "jumps": jumps}))
                seen["update"] += 1

            optimizer.register_step_pre_hook(before)
            optimizer.register_step_post_hook(after)
        yield from super().loop(title, count, **state)


@torch.no_grad()
def hidden_spikes(network: SpikingNetwork, times: Tensor) -> Tensor:
    """Spikes of the first layer, (examples, neurons, spikes)."""
    spikes: Tensor = network.stack()[0].simulate(times)[0]
    return spikes


def jumped(before: Tensor, after: Tensor, t_end: float, least: float = JUMP) -> float:
    """Fraction of neurons, over examples, of which a spike moved by more than `least`; a missing one is at the end.

    Args:
        before, after: (examples, neurons, spikes), ascending, padded with inf.
        t_end: end of the trial.
        least: in the unit of times.
    """
    slots = max(before.shape[-1], after.shape[-1])
    wide = [torch.nn.functional.pad(part, (0, slots - part.shape[-1]), value=math.inf) for part in (before, after)]
    first, second = (part.clamp(max=t_end) for part in wide)
    return ((first - second).abs() > least).any(-1).double().mean().item()


@dataclass(frozen=True)
class Watched(Method):
    """A method whose hidden spikes are watched while it learns."""

    times: Tensor | None = None
    every: int = 1

    def tracker(self, run: Run, data: str, seed: int) -> TaggedTracker:
        """See `Method.tracker`."""
        columns: dict[str, Any] = {"learner": self.name, "family": self.family, "data": data, "seed": seed}
        return JumpTracker(run, times=self.times, every=self.every, **columns)  # type: ignore[arg-type]
