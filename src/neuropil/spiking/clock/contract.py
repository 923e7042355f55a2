"""What a clock drives."""

from inspect import Parameter, signature
from typing import Any, Protocol

from torch import Tensor

from neuropil.errors import require


class Network(Protocol):
    """What `simulate` runs, step by step; a neuron is one, and so is a class of your own."""

    def init(self, like: Tensor) -> Any:
        """The state before the first step, for inputs shaped like this, (batch, *in)."""

    def step(self, spikes: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What comes out in a step, (batch, *out), and the state after it."""


def check_step(who: str, layer: Any) -> None:
    """Refuse neurons whose step takes more than one input besides the state.

    Raises:
        Refusal: such as `ConductanceLIF`, which takes excitation and inhibition.
    """
    kinds = Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD
    try:
        given = signature(layer.step).parameters.values()
    except (TypeError, ValueError):  # no function of Python, which says nothing of what it takes
        return
    needed = [one.name for one in given if one.kind in kinds and one.default is Parameter.empty]
    cure = "put it into a class of your own with init(like) and step(spikes, state)"
    got = f"{type(layer).__name__} takes {', '.join(needed)}"
    require(len(needed) <= 2, f"{who} needs a step that takes spikes and a state, but {got}; {cure}.")


def check_state(network: Network, like: Tensor, state: Any) -> None:
    """Refuse a state of another network, or of another batch: neurons that are compiled would read what is not theirs.

    Raises:
        Refusal: another kind or number of what ``network.init(like)`` gives, or a shape that does not broadcast to it.
    """
    wrong = _difference(network.init(like), state)
    cure = "give the state of a simulation of this network with as many samples, or none to start anew"
    require(not wrong, f"simulate needs a state of this network, {wrong}; {cure}.")


def _difference(fresh: Any, state: Any) -> str:
    """How a state is not like a fresh one; empty if it is."""
    if isinstance(fresh, Tensor):
        need, got = tuple(fresh.shape), tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
        fits = isinstance(got, tuple) and len(got) == len(need) and all(a in (1, b) for a, b in zip(got, need))
        return "" if fits else f"got {got} in place of {need}"
    if type(fresh) is not type(state):
        return f"got {type(state).__name__} in place of {type(fresh).__name__}"
    if not isinstance(fresh, tuple | list):
        return ""
    if len(fresh) != len(state):
        return f"got {len(state)} parts of a {type(fresh).__name__} in place of {len(fresh)}"
    return next(filter(None, map(_difference, fresh, state)), "")
