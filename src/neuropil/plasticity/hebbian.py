"""Hebbian rules whose units do not compete: Hebb, Oja, Sanger, BCM."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import require
from neuropil.plasticity.correlate import correlate
from neuropil.plasticity.geometry import (
    Conv,
    check_alike,
    check_finite,
    check_input,
    check_output,
    from_rows,
    per_sample,
    per_unit,
    respond,
    rows,
    units,
    weight_of,
)
from neuropil.plasticity.patches import parts

Law = Callable[[nn.Module, Tensor, Tensor], Tensor]  # a layer, its input and its output to a change of its weight


def two_factor(layer: nn.Module, pre: Tensor, factor: Tensor, decay: Tensor | None = None) -> Tensor:
    r"""The common form :math:`\Delta W = \sum_b g_b x_b^\top - (\sum_b g_b h_b)\, W`, row by row.

    Args:
        layer: the layer that learns.
        pre: its input x, (batch, *in).
        factor: the post factor g, shaped like the layer's output.
        decay: what is summed over samples to weigh the forgetting (g h), same shape; None for no forgetting.

    NaN and infinity in `pre` or `factor` are refused, at the price of one sum over both or over what they grow, where
    either shows (on a GPU: of one synchronisation).
    """
    grow = correlate(layer, pre, factor)
    check_finite(layer, *([grow] if grow.numel() < factor.numel() else [pre, factor]))
    if decay is None:
        return grow
    forget = per_unit(layer, decay)[:, None]
    return from_rows(layer, torch.addcmul(rows(layer, grow), forget, rows(layer, weight_of(layer)), value=-1))


def output(layer: nn.Module, pre: Tensor, post: Tensor | None) -> Tensor:
    """The layer's output: `post` if the caller has it, otherwise computed without autograd."""
    check_input(layer, pre)
    check_alike(layer, pre, post)
    if post is None and type(layer) is nn.Linear and layer.bias is None:
        post = respond(layer, pre, layer.weight)
    elif post is None:
        with torch.no_grad():
            post = layer(pre)
    check_output(layer, pre, post)
    return post.detach()


def in_parts(law: Law, layer: nn.Module, pre: Tensor, post: Tensor | None) -> Tensor:
    """What a law that is a sum over samples makes of the output `post`, or of the layer's own if it is not given.

    The output of a convolution is then computed a few examples at a time and never kept whole.
    """
    if post is not None:
        return law(layer, pre, output(layer, pre, post))
    return reduce(torch.add, (law(layer, part, output(layer, part, None)) for part in parts(layer, pre)))


def at_once(layer: nn.Module, pre: Tensor, post: Tensor | None) -> Tensor | None:
    """The output for laws that need it twice, or None where it is not given and too large to be kept."""
    return None if post is None and isinstance(layer, Conv) else output(layer, pre, post)


@dataclass(frozen=True)
class Hebb:
    r"""Cells that fire together wire together: :math:`\Delta W = \sum_b u_b x_b^\top`. Hebb 1949, in its plain form.

    Nothing bounds the weights; combine it with weight decay or a norm constraint.
    """

    def __call__(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """The change for `pre` (batch, *in) and the layer's output `post` (batch, *out; computed if not given)."""
        return in_parts(two_factor, layer, pre, post)


@dataclass(frozen=True)
class Oja:
    r"""Hebb with forgetting: :math:`\Delta W = \sum_b u_b x_b^\top - u_b^2 W`. Oja 1982, J. Math. Biol. 15.

    A single linear unit converges to the unit-norm first principal component of its (centred) input.
    """

    def __call__(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """The change for `pre` (batch, *in) and the layer's output `post` (batch, *out; computed if not given)."""
        return in_parts(lambda layer, x, u: two_factor(layer, x, u, u.square()), layer, pre, post)


@dataclass(frozen=True)
class Sanger:
    r"""Generalised Hebbian algorithm: :math:`\Delta W = \sum_b u_b x_b^\top - \mathrm{tril}(u_b u_b^\top) W`.

    The units converge to the principal components in order. In a grouped convolution every group has its own order.
    Sanger 1989, Neural Networks 2.
    """

    def __call__(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """The change for `pre` (batch, *in) and the layer's output `post` (batch, *out; computed if not given)."""
        return in_parts(self._change, layer, pre, post)

    def _change(self, layer: nn.Module, pre: Tensor, u: Tensor) -> Tensor:
        grow = two_factor(layer, pre, u)
        samples = per_sample(layer, u)
        group = torch.arange(units(layer), device=u.device) * getattr(layer, "groups", 1) // units(layer)
        together = (samples.T @ samples).tril() * (group[:, None] == group)
        return grow - from_rows(layer, together @ rows(layer, weight_of(layer)))


class Threshold(NamedTuple):
    """What a BCM unit remembers: the running mean of its squared output, (units,)."""

    theta: Tensor


@dataclass(frozen=True)
class BCM:
    r"""Sliding threshold: :math:`\Delta W = \sum_b u_b (u_b - \theta) x_b^\top`, :math:`\theta = \langle u^2 \rangle`.

    Bienenstock, Cooper & Munro 1982, J. Neurosci. 2, with the threshold of Intrator & Cooper 1992. Called as a
    function, theta is the mean of u^2 over the batch; `step` slides it from batch to batch.

    Attributes:
        momentum: share of the old threshold that is kept in a `step`, in [0, 1).
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        require(0 <= self.momentum < 1, f"BCM needs 0 <= momentum < 1, got {self.momentum}.")

    def __call__(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """The change for `pre` (batch, *in) and the layer's output `post` (batch, *out; computed if not given)."""
        post = at_once(layer, pre, post)
        return self._change(layer, pre, post, _mean_square(layer, pre, post))

    def init(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Threshold:
        """The memory to start from: the mean of u^2 over a first batch."""
        return Threshold(_mean_square(layer, pre, post))

    def step(self, layer: nn.Module, pre: Tensor, post: Tensor | None, old: Threshold) -> tuple[Tensor, Threshold]:
        """The change under the old threshold, and the threshold after this batch."""
        post = at_once(layer, pre, post)
        slid = self.momentum * old.theta + (1 - self.momentum) * _mean_square(layer, pre, post)
        return self._change(layer, pre, post, old.theta), Threshold(slid)

    def _change(self, layer: nn.Module, pre: Tensor, post: Tensor | None, theta: Tensor) -> Tensor:
        def law(layer: nn.Module, pre: Tensor, u: Tensor) -> Tensor:
            column = theta if isinstance(layer, nn.Linear) else theta.view(-1, *[1] * (u.dim() - 2))
            return two_factor(layer, pre, u * (u - column))

        return in_parts(law, layer, pre, post)


def _mean_square(layer: nn.Module, pre: Tensor, post: Tensor | None) -> Tensor:
    def law(layer: nn.Module, part: Tensor, u: Tensor) -> Tensor:
        return per_sample(layer, u).square().mean(0) * (len(part) / len(pre))

    return in_parts(law, layer, pre, post)
