"""Layers and neurons in a row, driven by a clock."""

from typing import Any

import torch
from torch import Tensor, nn

from neuropil.errors import OUT_OF_MEMORY, Refusal, require
from neuropil.spiking.clock.contract import Network, check_step

__all__ = ["SpikingSequential"]


class SpikingSequential(nn.Module):
    """Layers and neurons in a row, for `simulate`. A spike reaches all layers above in the step in which it falls.

    Layers such as ``nn.Linear`` and ``nn.Conv2d`` make the input of the neurons above them; their parameters are those
    of this module. Neurons are what has ``init`` and ``step``, such as `CurrentLIF`.

    The bias of a layer is added in each step, as if a spike came: with steps half as long it counts twice. So take
    ``bias=False``, and the ``bias=`` of neurons for a constant input.

    Args:
        layers: at least one of them neurons.

    Raises:
        Refusal: something else, or no neurons; neurons with steps of different length or with several inputs.

    Examples:
        >>> from neuropil.spiking import CurrentLIF, simulate
        >>> first, last = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
        >>> network = SpikingSequential(first, CurrentLIF(), last, CurrentLIF())
        >>> simulate(network, torch.ones(50, 5, 3)).counts.shape
        torch.Size([5, 2])
    """

    def __init__(self, *layers: nn.Module | Network):
        super().__init__()
        for name, layer in enumerate(layers):
            if isinstance(layer, nn.Module):
                self.add_module(str(name), layer)
            else:
                fits = hasattr(layer, "init") and hasattr(layer, "step")
                require(fits, f"a layer is a module or has init and step, got {type(layer).__name__} as {name}.")
        neurons = any(hasattr(layer, "step") for layer in layers)
        require(neurons, "SpikingSequential needs neurons, such as CurrentLIF, got none.")
        for layer in layers:
            if hasattr(layer, "step"):
                check_step("SpikingSequential", layer)
        steps = {dt for dt in map(_dt, layers) if dt is not None}
        got = " and ".join(f"{dt:g}" for dt in sorted(steps))
        require(len(steps) < 2, f"SpikingSequential needs one step for all, got dt={got}, in s.")
        self._given: tuple[Any, ...] = tuple(None if isinstance(one, nn.Module) else one for one in layers)

    @property
    def layers(self) -> tuple[Any, ...]:
        """Layers and neurons from below; a submodule that was put in the place of another one is among them."""
        mine = self._modules
        return tuple(mine[str(k)] if one is None else one for k, one in enumerate(self._given))

    def init(self, like: Tensor) -> tuple[Any, ...]:
        """The state before the first step, one for each layer, for inputs shaped like this, (batch, *in)."""
        x, states = torch.zeros_like(like), []
        for name, layer in enumerate(self.layers):
            states.append(layer.init(x) if hasattr(layer, "init") else None)
            x = layer.silence(x) if hasattr(layer, "silence") else _first(name, layer, x) if states[-1] is None else x
        return tuple(states)

    def step(self, spikes: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """One step: what the last layer gives, (batch, *out), and the state after it."""
        layers, got, after = self.layers, len(state), []
        require(got == len(layers), f"a network of {len(layers)} layers needs a state of each, got {got}.")
        for layer, old in zip(layers, state):
            spikes, new = layer.step(spikes, old) if hasattr(layer, "step") else (layer(spikes), None)
            after.append(new)
        return spikes, tuple(after)

    def extra_repr(self) -> str:
        """Neurons, which are no modules."""
        return "\n".join(f"({k}): {one}" for k, one in enumerate(self.layers) if not isinstance(one, nn.Module))


def _dt(layer: Any) -> float | None:
    """The length of a step of neurons or of a layer with neurons, s; None where there is none."""
    dt = getattr(layer, "dt", getattr(getattr(layer, "neuron", None), "dt", None)) if hasattr(layer, "step") else None
    return dt if isinstance(dt, float) else None


def _first(name: int, layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer makes of no spike; what torch's own layers cannot take is refused in one line."""
    try:
        out: Tensor = layer(x)
        return out
    except RuntimeError as error:
        why = str(error).partition("\n")[0].rstrip(".!")
        if not type(layer).__module__.startswith("torch.nn") or any(word in why.lower() for word in OUT_OF_MEMORY):
            raise
        got = f"layer {name} of a network, {layer}, cannot take {x.dtype} of shape {tuple(x.shape)} on {x.device}"
        raise Refusal(f"{got}: {why}; change the layer, or what is below it.") from error
