"""STDP read as a rate rule: presynaptic activity times the change of postsynaptic activity."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.errors import needs_numbers, require
from neuropil.plasticity.engine import Rule
from neuropil.plasticity.law import Dense


@dataclass(frozen=True)
class DifferentialHebb(Rule):
    r"""Potentiate what fires before a rise, depress what fires before a fall: :math:`\Delta W = \sum x\, \delta s`.

    Call it as ``rule(layer, pre, post_before, post_after=...)``. Averaged over spike pairs, spike-timing-dependent
    plasticity is the presynaptic rate times the rate of change of the postsynaptic activity,
    :math:`\dot W_{ij} \propto x_j \dot s_i` (Kosko 1986; Bengio et al. 2015, arXiv 1509.05936). A nudge moves activity
    from `post_before` to `post_after`; `pre` is that of the moment before it.

    Attributes:
        scale: factor of every change, for example one over the batch.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import DifferentialHebb
        >>> before, after = torch.tensor([[0.5]]), torch.tensor([[1.0]])
        >>> DifferentialHebb()(torch.nn.Linear(2, 1), torch.tensor([[1.0, 2.0]]), before, post_after=after)
        tensor([[0.5000, 1.0000]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.scale > 0, f"DifferentialHebb needs scale > 0, got {self.scale}.")

    def post(self, u: Tensor, *, post_after: Tensor) -> Dense:
        """g is the rise from the given activity to `post_after`."""
        return Dense(torch.sub(post_after, u).mul_(self.scale))
