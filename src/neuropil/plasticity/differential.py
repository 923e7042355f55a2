"""STDP read as a rate rule: presynaptic activity times the change of postsynaptic activity."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.errors import require
from neuropil.plasticity.correlate import correlate
from neuropil.plasticity.geometry import check_alike, check_finite, check_input, check_output


@dataclass(frozen=True)
class DifferentialHebb:
    r"""Potentiate what fires before a rise, depress what fires before a fall: :math:`\Delta W = \sum x\, \delta s`.

    Averaged over spike pairs, spike-timing-dependent plasticity is the presynaptic rate times the rate of change of
    the postsynaptic activity, :math:`\dot W_{ij} \propto x_j \dot s_i` (Bengio et al. 2015, arXiv 1509.05936). A
    teacher event moves activity from `before` to `after`; the presynaptic trace is that of the moment before it.

    Attributes:
        scale: factor of every change, for example one over the batch.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        require(self.scale > 0, f"DifferentialHebb needs scale > 0, got {self.scale}.")

    def __call__(self, layer: nn.Module, pre: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """The change for presynaptic `pre` (batch, *in) and postsynaptic activity (batch, *out) before and after."""
        check_input(layer, pre)
        check_output(layer, pre, before)
        check_output(layer, pre, after)
        check_alike(layer, pre, before, after)
        rise = torch.sub(after, before).mul_(self.scale)
        check_finite(layer, pre, rise)
        return correlate(layer, pre, rise)
