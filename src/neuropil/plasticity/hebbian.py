"""Hebbian rules whose units do not compete: Hebb, Oja, Sanger, BCM."""

from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import needs_numbers, require
from neuropil.plasticity.engine import Rule
from neuropil.plasticity.geometry import Conv, per_sample
from neuropil.plasticity.job import Third, start
from neuropil.plasticity.law import Dense, along_units
from neuropil.plasticity.patches import pieces, sample_count
from neuropil.plasticity.plan import PLAN, Plan
from neuropil.plasticity.precision import full_precision
from neuropil.plasticity.sharing import sharing


@dataclass(frozen=True)
class Hebb(Rule):
    r"""Cells that fire together wire together: :math:`\Delta W = \sum_b u_b x_b^\top`. Hebb 1949, in its plain form.

    Nothing bounds the weights; combine it with weight decay or a norm constraint.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import Hebb
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> Hebb()(layer, torch.tensor([[1.0, 2.0]]))
        tensor([[3., 6.]])
    """

    def post(self, u: Tensor) -> Dense:
        """g = u."""
        return Dense(u)


@dataclass(frozen=True)
class Oja(Rule):
    r"""Hebb with a decay: :math:`\Delta W = \sum_b u_b x_b^\top - u_b^2 W`. Oja 1982, J. Math. Biol. 15.

    A single linear unit converges to the unit-norm first principal component of its (centred) input.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import Oja
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> Oja()(layer, torch.tensor([[1.0, 2.0]]))
        tensor([[-6., -3.]])
    """

    def post(self, u: Tensor) -> Dense:
        """g = h = u."""
        return Dense(u, decay=u)


@dataclass(frozen=True)
class Sanger(Rule):
    r"""Generalised Hebbian algorithm: :math:`\Delta W = \sum_b u_b x_b^\top - \mathrm{tril}(u_b u_b^\top) W`.

    The units converge to the principal components in order. In a grouped convolution every group has its own order.
    Sanger 1989, Neural Networks 2.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import Sanger
        >>> layer = torch.nn.Linear(2, 2, bias=False)
        >>> _ = torch.nn.init.eye_(layer.weight)
        >>> Sanger()(layer, torch.tensor([[1.0, 2.0]]))
        tensor([[0., 2.],
                [0., 0.]])
    """

    def post(self, u: Tensor) -> Dense:
        """g = u; units mix by the lower triangle."""
        samples = u.movedim(1, -1).flatten(0, -2)
        return Dense(u, mixing=(samples.T @ samples).tril())


class Threshold(NamedTuple):
    """What a BCM unit remembers: the running mean of its squared output, (units,)."""

    theta: Tensor


@dataclass(frozen=True)
class BCM(Rule):
    r"""Sliding threshold: :math:`\Delta W = \sum_b u_b (u_b - \theta) x_b^\top`, :math:`\theta = \langle u^2 \rangle`.

    Bienenstock, Cooper & Munro 1982, J. Neurosci. 2, with the threshold of Intrator & Cooper 1992. Called as a
    function, theta is the mean of u^2 over the batch; `step` slides it from batch to batch.

    Attributes:
        momentum: fraction of the old threshold that is kept in a `step`, in [0, 1).

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import BCM
        >>> layer = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> BCM()(layer, torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
        tensor([[-2., -9.]])
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(0 <= self.momentum < 1, f"BCM needs 0 <= momentum < 1, got {self.momentum}.")

    def post(self, u: Tensor, theta: Tensor) -> Dense:
        """g = u (u - theta) with a theta for each unit."""
        return Dense(u * (u - along_units(theta, u)))

    @full_precision
    def __call__(
        self, layer: nn.Module, pre: Tensor, post: Tensor | None = None, *,
        reduction: str = "mean", plan: Plan = PLAN, **third: Tensor,
    ) -> Tensor:  # fmt: skip
        """The change, under the threshold of this batch or under a given ``theta`` (1, units)."""
        post = self._once(layer, pre, post)
        third = third or self.own_third(layer, pre, post, plan)
        return super().__call__(layer, pre, post, reduction=reduction, plan=plan, **third)

    def own_third(self, layer: nn.Module, pre: Tensor, post: Tensor | None, plan: Plan = PLAN) -> Third:
        """The threshold of this batch."""
        return {"theta": self._mean_square(layer, pre, post, plan)[0][None]}

    @full_precision
    def init(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Threshold:
        """The memory to start from: the mean of u^2 over a first batch."""
        return Threshold(self._mean_square(layer, pre, post)[0])

    @full_precision
    def step(
        self, layer: nn.Module, pre: Tensor, post: Tensor | None, old: Threshold, *, reduction: str = "mean"
    ) -> tuple[Tensor, Threshold]:
        """The change under the old threshold, and the threshold after this batch."""
        post = self._once(layer, pre, post)
        mean, samples = self._mean_square(layer, pre, post)
        kept = self.momentum if samples else 1.0
        slid = kept * old.theta + (1 - kept) * mean
        return self(layer, pre, post, reduction=reduction, theta=old.theta[None]), Threshold(slid)

    def _once(self, layer: nn.Module, pre: Tensor, post: Tensor | None) -> Tensor | None:
        """The output, which is needed twice; None where it is not given and too large to be kept."""
        if post is not None or isinstance(layer, Conv):
            return post
        job, pre, _ = start(self, layer, pre, None, PLAN, {})
        return job.drive(pre)

    def _mean_square(self, layer: nn.Module, pre: Tensor, post: Tensor | None, plan: Plan = PLAN) -> tuple[Tensor, int]:
        """The mean of u^2 over the batch, (units,), and of how many samples; of all processes that share the layer."""
        job, pre, post = start(self, layer, pre, post, plan, {})
        processes, samples = sharing(layer.get_parameter("weight")), sample_count(layer, pre)
        if not samples:
            mean = torch.zeros_like(job.weight[:, 0])
        elif post is not None:
            mean = per_sample(layer, post).square().mean(0)
        else:
            parts = pieces(layer, pre, plan)
            means = [per_sample(layer, job.drive(part)).square().mean(0) * (len(part) / len(pre)) for part in parts]
            mean = reduce(torch.add, means)
        if processes is None:
            return mean, samples
        wide = mean.to(torch.promote_types(mean.dtype, torch.float32))  # sums overflow in float16
        total, n = processes.sum(wide * samples, wide.new_tensor(samples))
        return (total / n.clamp_min(1)).to(mean), int(n)
