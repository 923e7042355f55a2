"""What a rule says, apart from how it is computed: weights for the drive, and a post factor for every sample."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Dense(NamedTuple):
    r"""Every unit may learn from every sample: :math:`\Delta W = \sum_b g_b x_b^\top - (\sum_b g_b h_b) W - M W`.

    Attributes:
        gain: g, shaped like the drive u.
        decay: h, shaped like u, or a number. Give u itself where the decay is by the drive: it is then computed in
            the shorter way.
        mixing: M, (units, units), summed over samples; None for none.

    >>> import torch
    >>> Dense(gain=torch.ones(4, 2), decay=0.0).decay  # plain Hebb with outputs of 1, for 4 samples and 2 units
    0.0
    """

    gain: Tensor
    decay: Tensor | float = 0.0
    mixing: Tensor | None = None


class Chosen(NamedTuple):
    r"""A few units learn from each sample: :math:`\Delta W = \sum_b g_b x_b^\top - (\sum_b g_b h_b) W`, g mostly 0.

    Attributes:
        units: who learns, (samples, ranks, \*positions) int64: indices along axis 1 of the drive, as ``topk`` gives.
        gains: g of each rank, a number for each.
        decay: h, the drive u itself or a number. By u it is computed from the weights, so a drive in low precision
            loses nothing.
        finite: a tensor that is finite where the drive is; None if the engine has to look itself.
    """

    units: Tensor
    gains: tuple[float, ...]
    decay: Tensor | float = 0.0
    finite: Tensor | None = None


class Ranks(NamedTuple):
    """A competition in closed form, as kernels need it: first and k-th learn.

    Attributes:
        k: the rank of the second that learns; 1 for none.
        gains: g of the ranks, one or two numbers.
        decay: h, a number; None for the drive.
    """

    k: int
    gains: tuple[float, ...]
    decay: float | None = None


class Softmax(NamedTuple):
    """A competition in closed form: g is the softmax of the drives, h the drive.

    Attributes:
        tau: temperature of the softmax.
        anti: whether g is negative for all but the winner.
    """

    tau: float
    anti: bool


def closed_form(owner: object, says: str, form: str) -> Any:
    """What the method `form` of `owner` gives, or None: only the class that defines `says` knows its closed form.

    So a subclass that says something else is asked, and need not know that there is a closed form.
    """
    source: object = owner if says in vars(owner) else next((c for c in type(owner).__mro__ if says in vars(c)), owner)
    return getattr(owner, form)() if form in vars(source) else None


class Law(ABC):
    """What the engine asks of a rule. Subclass `Rule`, which can be called as well.

    Attributes:
        average: divide the change of each row by the number of samples that chose it. Where units are not chosen, it
            is the number of those with a gain other than 0.
        normalise: divide the change by its largest absolute entry.
        sparse: return only the rows that some sample chose, as a sparse tensor (`Chosen` on dense layers only).
        ranking_dtype: dtype of the drive that ranks the units; None for the dtype of the input.
        with_bias: whether the layer's bias belongs to the drive.
    """

    average: bool = False
    normalise: bool = False
    sparse: bool = False
    ranking_dtype: torch.dtype | None = None
    with_bias: bool = True

    def weights(self, weight: Tensor) -> Tensor:
        """The weights of the drive, (units, fan-in), for a weight of that shape.

        Return `weight` itself, as here, if the drive is the layer's output. Otherwise return a new tensor: the engine
        may write the change into its memory.
        """
        return weight

    @abstractmethod
    def post(self, u: Tensor, *third: Any, **named: Any) -> Dense | Chosen:
        r"""The post factor of every sample.

        Args:
            u: drives, (samples, units, \*positions). Units are axis 1, and every position is a sample of its own.
            third: by name, what else the rule is given, aligned with `u` so that it broadcasts along axis 1.
        """

    def check_units(self, units: int) -> None:  # noqa: B027  (most laws fit any number)
        """Refuse a layer with a number of units that the law cannot work with."""


def along_units(values: Tensor, u: Tensor) -> Tensor:
    """One value per unit, (units,), as a tensor that broadcasts against drives (samples, units, *positions)."""
    return values.view(-1, *[1] * (u.dim() - 2))
