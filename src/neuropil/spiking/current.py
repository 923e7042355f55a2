"""What neurons with exponentially decaying currents share: layers with potential and current at time 0, and stacks."""

from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import nn

from neuropil.errors import require
from neuropil.spiking.kernels.bundles import Plan
from neuropil.spiking.network import Neuron, SpikingLayer, SpikingNetwork

__all__ = ["CurrentLayer", "CurrentNetwork", "check_dtype"]


class CurrentLayer(SpikingLayer):
    """Neurons whose inputs start decaying currents; `QIFLayer` and `LIFLayer` are finished ones.

    Args:
        inputs, outputs: numbers of neurons.
        neuron: the kind of neuron; one with its default settings if none is given.
        t_end: end of the trial, in the unit of ``neuron.tau``.
        dtype: float32 or float64.
        plan: how the kernels run.

    Attributes:
        weight: (inputs, neurons), 0 at first.
        potential, current: (neurons,), V and I at time 0, 0 at first.

    Raises:
        Refusal: a size below 1, no end, or another dtype.
    """

    kind: ClassVar[type[Any]]  # of neuron

    def __init__(
        self, inputs: int, outputs: int, *, neuron: Neuron | None = None, t_end: float,
        dtype: torch.dtype = torch.float32, plan: Plan | None = None,
    ):  # fmt: skip
        super().__init__(neuron or self.kind(), t_end, plan)
        check_dtype(dtype)
        require(inputs >= 1 and outputs >= 1, f"a layer needs neurons on both sides, got {inputs} and {outputs}.")
        self.weight = nn.Parameter(torch.zeros(inputs, outputs, dtype=dtype))
        self.potential = nn.Parameter(torch.zeros(outputs, dtype=dtype))
        self.current = nn.Parameter(torch.zeros(outputs, dtype=dtype))

    def init_(self, rng: torch.Generator, *, mean: float = 0.0, std: float = 1.0) -> Self:
        """Initialise the weights from a normal distribution, in place."""
        first = torch.empty_like(self.weight, device=rng.device).normal_(mean, std, generator=rng)
        self.weight.data.copy_(first)
        return self


class CurrentNetwork(SpikingNetwork):
    """Stacked layers of such neurons; `QIFNetwork` and `LIFNetwork` are finished ones.

    Args:
        sizes: numbers of neurons, from the inputs to the outputs.
        neuron, t_end, dtype, plan: as of `CurrentLayer`.

    Raises:
        Refusal: fewer than two sizes, a size below 1, no end, or another dtype.
    """

    kind: ClassVar[type[CurrentLayer]]  # of the layers

    def __init__(
        self, sizes: tuple[int, ...], *, neuron: Neuron | None = None, t_end: float,
        dtype: torch.dtype = torch.float32, plan: Plan | None = None,
    ):  # fmt: skip
        settings = {"neuron": neuron, "t_end": t_end, "dtype": dtype, "plan": plan}
        super().__init__([self.kind(*pair, **settings) for pair in pairwise(sizes)])  # type: ignore[arg-type]


def check_dtype(dtype: torch.dtype) -> None:
    """Refuse dtypes that the kernels do not know."""
    require(dtype in (torch.float32, torch.float64), f"spiking neurons need float32 or float64, got {dtype}.")
