"""How a change depends on the weight it changes, and the one place where weights are kept within bounds."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, needs_numbers, require
from neuropil.plasticity.geometry import from_rows, rows, weight_of


class WeightDependence(Protocol):
    """Two factors of a weight: of potentiation, and of depression."""

    def up(self, weight: Tensor) -> Tensor:
        """The factor of potentiation, shaped like the weight."""

    def down(self, weight: Tensor) -> Tensor:
        """The factor of depression, shaped like the weight."""


@dataclass(frozen=True)
class SoftBounds:
    r"""The nearer a bound, the smaller the step to it: :math:`f_+ = (h - w)^\mu,\ f_- = (w - l)^\mu`.

    mu = 1 is the multiplicative rule, 0 the additive one, and what lies between is the power law of Gütig et al. 2003
    (J. Neurosci. 23). A weight at a bound or beyond it makes no step further, if mu > 0.

    Attributes:
        low, high: the bounds l and h.
        mu: the power, from 0 on.

    Examples:
        >>> SoftBounds(high=2.0).up(torch.tensor([0.5, 2.5]))
        tensor([1.5000, 0.0000])
    """

    low: float = 0.0
    high: float = 1.0
    mu: float = 1.0

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.low < self.high and self.mu >= 0, f"SoftBounds needs low < high and mu >= 0, got {self}.")

    def up(self, weight: Tensor) -> Tensor:
        """(h - w)^mu."""
        return (self.high - weight).clamp_min_(0).pow_(self.mu)

    def down(self, weight: Tensor) -> Tensor:
        """(w - l)^mu."""
        return (weight - self.low).clamp_min_(0).pow_(self.mu)


@dataclass(frozen=True)
class LogisticBounds:
    r"""Fastest half-way between the bounds, and at rest on both: :math:`f_+ = f_- = (w - l)(h - w)`.

    A weight that is always pushed the same way follows a logistic curve, so weights end near one bound or the other.
    A weight at a bound never leaves it, so start between them.

    Kheradpisheh et al. 2018 (Neural Networks 99), who have it with `PostSTDP`.

    Attributes:
        low, high: the bounds l and h.

    Examples:
        >>> LogisticBounds(high=2.0).up(torch.tensor([0.5, 1.0, 2.5]))
        tensor([0.7500, 1.0000, 0.0000])
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.low < self.high, f"LogisticBounds needs low < high, got {self}.")

    def up(self, weight: Tensor) -> Tensor:
        """(w - l)(h - w), and 0 beyond the bounds."""
        return ((weight - self.low) * (self.high - weight)).clamp_min_(0)

    def down(self, weight: Tensor) -> Tensor:
        """The same."""
        return self.up(weight)


@dataclass(frozen=True)
class PowerLaw:
    r"""Potentiation by a power of the weight, depression by the weight: :math:`f_+ = w_0^{1-\mu} w^\mu,\ f_- = w`.

    Morrison, Aertsen & Diesmann 2007 (Neural Comput. 19), who have mu = 0.4. Weights below 0 count as 0.

    Attributes:
        w_0: the reference weight.
        mu: the power, from 0 to 1.

    Examples:
        >>> PowerLaw(mu=0.5).up(torch.tensor([0.25]))
        tensor([0.5000])
    """

    w_0: float = 1.0
    mu: float = 0.4

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.w_0 > 0 and 0 <= self.mu <= 1, f"PowerLaw needs w_0 > 0 and 0 <= mu <= 1, got {self}.")

    def up(self, weight: Tensor) -> Tensor:
        """w_0^(1 - mu) w^mu."""
        return weight.clamp_min(0).pow_(self.mu).mul_(self.w_0 ** (1 - self.mu))

    def down(self, weight: Tensor) -> Tensor:
        """w."""
        return weight.clamp_min(0)


@torch.no_grad()
def constrain_(
    layer: nn.Module, *, low: float | None = None, high: float | None = None, total: float | None = None
) -> None:
    """Normalise the weights of each unit, then bound them, in place: the last line of a learning step.

    Call it after ``optimizer.step()``. No rule bounds a weight itself.

    Args:
        layer: that learned.
        low, high: bounds of each weight; None for none.
        total: what the absolute weights of each unit add up to before they are bounded; None to leave their sum.

    Raises:
        Refusal: low >= high, a total that is not positive, or a unit whose weights are all 0, which no factor changes.

    Examples:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.ones_(layer.weight)
        >>> constrain_(layer, low=0.0, high=1.0, total=0.5)
        >>> layer.weight.tolist()
        [[0.25, 0.25]]
    """
    weight = weight_of(layer)
    if low is not None and high is not None and low >= high:
        raise Refusal(f"constrain_ needs low < high, got low={low} and high={high}.")
    if total is not None:
        require(total > 0, f"constrain_ needs total > 0, got {total}.")
        sums = rows(layer, weight).abs().sum(1)
        if not bool((sums > 0).all()):
            silent = int((sums == 0).sum())
            raise Refusal(f"{silent} units have weights of 0 only, which no factor brings to {total}; initialise them.")
        per_weight = (total / sums)[:, None].expand_as(rows(layer, weight))
        weight.mul_(from_rows(layer, per_weight.contiguous()))
    if low is not None or high is not None:
        weight.clamp_(low, high)
