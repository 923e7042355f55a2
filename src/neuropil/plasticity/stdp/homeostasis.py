"""Slow scaling of all synapses of a neuron that brings its rate to a target."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.errors import check_seconds, needs, needs_numbers
from neuropil.plasticity.stdp.pair import decayed
from neuropil.plasticity.stdp.rule import TraceRule
from neuropil.plasticity.stdp.terms import Term


def itself(weight: Tensor) -> Tensor:
    """The factor of a change that is proportional to the weight."""
    return weight.clone()


@dataclass(frozen=True)
class SynapticScaling(TraceRule):
    r"""All synapses of a neuron grow or shrink in proportion: :math:`\dot w = \beta w (\rho_0 - a)`.

    a is the rate of the neuron, :math:`\tau \dot a = -a + \sum_k \delta(t - t_k)`. Below rho_0 the neuron becomes
    more excitable, above it less, and the ratios of its weights stay.

    Turrigiano et al. 1998, Nature 391; van Rossum, Bi & Turrigiano 2000, J. Neurosci. 20.

    Attributes:
        rate: rho_0, Hz.
        beta: speed, per spike: the weight changes by the fraction beta for each spike too few or too many.
        tau: time constant of the rate, s.
        dt: length of a step, s.

    Raises:
        Refusal: times that are not positive or below dt; a negative rate or speed.

    Examples:
        >>> layer, rule = torch.nn.Linear(1, 1, bias=False), SynapticScaling(rate=10.0, beta=0.1)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> silent = torch.zeros(1, 1)
        >>> rule.step(layer, silent, silent, rule.init(layer, silent, silent))[0]  # 0.1 of 10 Hz in 1 ms
        tensor([[0.0010]])
    """

    rate: float = 5.0
    beta: float = 1e-3
    tau: float = 10.0
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, slow=("tau",), tau=self.tau)
        needs(self, self.rate >= 0 and self.beta >= 0, "rate >= 0, in Hz, and beta >= 0")

    def memory(self, pre: Tensor, post: Tensor) -> Tensor:
        """A rate of 0."""
        return torch.zeros_like(post)

    def terms(self, pre: Tensor, post: Tensor, old: Tensor) -> tuple[Sequence[Term], Tensor]:  # type: ignore[override]
        """What the rate before this step says."""
        a = decayed(old, self.dt, self.tau)
        return [Term(None, self.rate - a, self.beta * self.dt, itself)], a + post / self.tau
