"""What an optimiser remembers of every weight, as tensors that a file of a model can hold."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from neuropil.models.description import savable


class OptimizerMemory(nn.Module):
    """Running means that an optimiser keeps, such as those of Adam; a model from a file goes on with them.

    Args:
        shapes: of the tensors, by name and number of their weight, such as "exp_avg_0".
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        super().__init__()
        self.shapes = dict(shapes)
        for name, shape in self.shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Self | None:
        """What `optimizer` remembers now, copied; None if that is nothing."""
        state = optimizer.state_dict()["state"]
        found = {f"{key}_{index}": part for index, kept in state.items() for key, part in kept.items()}
        if not found:
            return None
        memory = cls({name: tuple(part.shape) for name, part in found.items()})
        for name, part in found.items():
            memory.register_buffer(name, part.clone())
        return memory

    def into_(self, optimizer: torch.optim.Optimizer) -> None:
        """Let `optimizer`, of the same weights, remember it."""
        state: dict[int, dict[str, Any]] = {}
        for name, part in self.named_buffers():
            key, _, index = name.rpartition("_")
            state.setdefault(int(index), {})[key] = part.clone()
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


savable(OptimizerMemory)
