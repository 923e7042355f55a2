"""What a clock drives."""

from typing import Any, Protocol

from torch import Tensor


class Network(Protocol):
    """What `simulate` runs, step by step; a neuron is one, and so is a class of your own."""

    def init(self, like: Tensor) -> Any:
        """The state before the first step, for inputs shaped like this, (batch, *in)."""

    def step(self, spikes: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What comes out in a step, (batch, *out), and the state after it."""
