"""Hebbian rules whose units compete for every sample: hard winner-take-all, Krotov-Hopfield, SoftHebb."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil.errors import require
from neuropil.plasticity.correlate import correlate
from neuropil.plasticity.geometry import (
    Conv,
    check_alike,
    check_finite,
    check_input,
    check_output,
    from_rows,
    respond,
    rows,
    unit_axis,
    units,
    weight_of,
)
from neuropil.plasticity.hebbian import in_parts, output, two_factor
from neuropil.plasticity.kernels.ranking import first_and_kth, rankable
from neuropil.plasticity.kernels.rows import add_chosen_, compilable, row_change, signed_square, some_rows
from neuropil.plasticity.patches import has_patches, in_patches, parts, patches

NARROW = 128  # units that one channel feeds, from which on a CPU multiplies patches faster than it convolves


@dataclass(frozen=True)
class HardWTA:
    r"""The winner moves towards its input: :math:`\Delta W = \sum_b y_b (x_b - W)`, y one-hot at the largest u = W x.

    Grossberg's instar (1976, Biol. Cybern. 23). With inputs of unit norm the rows become cluster means.

    Attributes:
        sparse: return only the rows of the winners, see `KrotovHopfield`.
    """

    sparse: bool = False

    def __call__(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """The change for `pre` (batch, *in) and the layer's output `post` (batch, *out; computed if not given)."""
        if post is None and not self.sparse and has_patches(layer):
            return in_patches(self, layer, pre)
        return in_parts(self._change, layer, pre, post)

    def _change(self, layer: nn.Module, pre: Tensor, u: Tensor) -> Tensor:
        axis = unit_axis(layer)
        winner, _, values = first_and_kth(u, 1, axis)
        check_finite(layer, pre, values)
        if is_dense(layer, self.sparse):
            touched, grow, wins = gather(pre.detach().flatten(0, -2), winner.flatten(), (1,))
            weight = weight_of(layer)
            change = torch.addcmul(grow, wins[:, None].to(grow), weight[touched], value=-1)
            return spread(weight, touched, change, sparse=self.sparse)
        won = torch.zeros_like(u).scatter_(axis, winner, 1)
        return two_factor(layer, pre, won, won)


@dataclass(frozen=True)
class SoftHebb:
    r"""Soft competition: :math:`\Delta W = \sum_b y_b (x_b - u_b W)` with :math:`y = \mathrm{softmax}(u / \tau)`.

    Moraitis et al. 2022 (Neuromorph. Comput. Eng. 2); Journe et al. 2023 (ICLR) flip the sign of y for all but the
    winner, which deep networks need.

    Attributes:
        tau: temperature of the softmax, in the units of u; small is hard.
        anti: whether the losers unlearn (y -> -y for all but the winner).
        normalise: divide the change by its largest absolute entry, as published for deep networks.
    """

    tau: float = 1.0
    anti: bool = False
    normalise: bool = False

    def __post_init__(self) -> None:
        require(self.tau > 0, f"SoftHebb needs a temperature tau > 0, got {self.tau}.")

    def __call__(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """The change for `pre` (batch, *in) and the layer's output `post` (batch, *out; computed if not given)."""
        law = partial(self._change, own=post is None)
        if post is None and has_patches(layer) and not answers_fast(layer, pre):
            change = in_patches(lambda dense, patch: law(dense, patch, output(dense, patch, None)), layer, pre)
        else:
            change = in_parts(law, layer, pre, post)
        return scaled(change) if self.normalise else change

    def _change(self, layer: nn.Module, pre: Tensor, u: Tensor, own: bool) -> Tensor:
        """The sum over samples; `own` says that `u` is what the layer makes of `pre`."""
        axis = unit_axis(layer)
        y = torch.softmax(u if self.tau == 1 else u / self.tau, axis)
        if self.anti:
            winner = first_and_kth(u, 1, axis)[0]
            y = (-y).scatter(axis, winner, y.gather(axis, winner))
        if not own or getattr(layer, "bias", None) is not None or y.numel() <= weight_of(layer).numel():
            return two_factor(layer, pre, y, y * u)
        weight = rows(layer, weight_of(layer))  # the shorter way to the same numbers
        return from_rows(layer, forget(rows(layer, two_factor(layer, pre, y)), weight, weight))


@dataclass(frozen=True)
class KrotovHopfield:
    r"""The winner learns, the k-th unlearns: :math:`\Delta W = \sum_b g_b (x_b - u_b W)`.

    The drive is :math:`u = (\mathrm{sign}(W)\,|W|^{p-1})\, x`; g is +1 for the unit with the largest drive, -delta for
    the k-th largest, 0 else. A row that keeps winning converges to :math:`\sum_i |W_i|^p = 1`.
    Krotov & Hopfield 2019, PNAS 116.

    The forgetting needs no drives: :math:`\sum_b g_b u_b` is the inner product of the powered row with
    :math:`\sum_b g_b x_b`. So a dense layer touches only the rows that won or came k-th and makes no second matrix
    product, and the competition may run in a lower precision than the change.

    Attributes:
        p: power of the norm that the rows converge to, at least 1.
        k: rank of the unit that unlearns, at least 2 (2 is the runner-up).
        delta: strength of unlearning; 0 for none.
        average: divide the change of each row by the number of samples that chose it, so that a row takes a step of the
            same size whether one sample of the batch chose it or ten; batches may then be large and rates too.
        normalise: divide the change by its largest absolute entry, as published.
        competition: dtype in which the drive is computed to rank the units (``torch.bfloat16`` is several times
            faster on recent hardware); None for the dtype of the input.
        sparse: return only the rows that some sample chose, as a sparse tensor (dense layers only). Like the gradient
            of ``torch.nn.Embedding(sparse=True)`` it suits SGD without momentum and weight decay, and SparseAdam, and
            spares four passes over the whole weight in every step.
    """

    p: float = 3.0
    k: int = 7
    delta: float = 0.4
    average: bool = False
    normalise: bool = False
    competition: torch.dtype | None = None
    sparse: bool = False

    def __post_init__(self) -> None:
        require(self.p >= 1, f"KrotovHopfield needs p >= 1, got {self.p}.")
        require(self.k >= 2, f"KrotovHopfield needs k >= 2 (2 is the runner-up), got {self.k}.")
        require(self.delta >= 0, f"KrotovHopfield needs delta >= 0, got {self.delta}.")

    def __call__(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Tensor:
        """The change for `pre` (batch, *in); `post` serves as the drive at p = 2 without bias."""
        require(self.k <= units(layer), f"KrotovHopfield needs k <= units, got k={self.k} and {units(layer)} units.")
        check_input(layer, pre)
        check_alike(layer, pre, post)
        pre = pre.detach()
        powered = signed_power(weight_of(layer), self.p - 1)
        if has_patches(layer) and not self.sparse and not self._is_drive(layer, post):
            return self._patches(layer, pre, powered)
        if is_dense(layer, self.sparse):
            return self._dense(layer, pre, *self._ranks(layer, pre, post, powered), powered)
        return self._anywhere(layer, pre, post, powered)

    def _ranks(self, layer: nn.Module, pre: Tensor, post: Tensor | None, powered: Tensor) -> tuple[Tensor, Tensor]:
        """The units that won and that came k-th."""
        drive = self._drive(layer, pre, post, powered)
        check_output(layer, pre, drive)
        first, kth, values = first_and_kth(drive, self.k, unit_axis(layer))
        check_finite(layer, values, *([pre] if self._is_drive(layer, post) else []))  # a drive shows what pre holds
        return first, kth

    def _drive(self, layer: nn.Module, pre: Tensor, post: Tensor | None, powered: Tensor) -> Tensor:
        """(batch, *out) drives in the dtype of the competition."""
        dtype = self.competition or pre.dtype
        if self._is_drive(layer, post):
            return post.detach().to(dtype)  # type: ignore[union-attr]
        return respond(layer, pre.to(dtype), powered.to(dtype))

    def _is_drive(self, layer: nn.Module, post: Tensor | None) -> bool:
        return self.p == 2 and post is not None and getattr(layer, "bias", None) is None

    def _dense(self, layer: nn.Module, pre: Tensor, first: Tensor, kth: Tensor, powered: Tensor) -> Tensor:
        """The change of a dense layer, through the rows that some sample chose."""
        chosen = torch.cat([first.flatten(), kth.flatten()])
        pre, weight, share = pre.flatten(0, -2), weight_of(layer), (1.0, -self.delta)
        if compilable(pre, weight):
            return row_change(
                pre,
                chosen,
                share,
                weight,
                powered,
                average=self.average,
                normalise=self.normalise,
                sparse=self.sparse,
            )
        touched, grow, counts = gather(pre, chosen, share)
        change = self._finish(grow, weight[touched], powered[touched], counts)
        return spread(weight, touched, change, sparse=self.sparse)

    def _patches(self, layer: nn.Module, pre: Tensor, powered: Tensor) -> Tensor:
        """The change of a plain convolution: a dense layer that sees a few thousand patches at a time."""
        weight, share = rows(layer, weight_of(layer)), (1.0, -self.delta)
        matrix = rows(layer, powered).to(self.competition or pre.dtype)
        compiled = compilable(pre, weight)
        exact = torch.float64 if compiled else weight.dtype  # a unit may win a million patches
        grow, counts = weight.new_zeros(weight.shape, dtype=exact), weight.new_zeros(len(weight), dtype=torch.int64)
        finite = torch.zeros((), device=pre.device)
        for patch in patches(layer, pre):
            first, kth, values = first_and_kth(rankable(patch.to(matrix.dtype), matrix), self.k, -1)
            finite = finite + values.sum()  # shows what is wrong with a patch as well
            chosen = torch.cat([first.flatten(), kth.flatten()])
            if compiled:
                add_chosen_(grow, counts, patch, chosen, share)
                continue
            touched, sums, times = gather(patch, chosen, share)
            grow.index_add_(0, touched, sums)
            counts.index_add_(0, touched, times)
        check_finite(layer, finite)
        return from_rows(layer, self._finish(grow.to(weight.dtype), weight, rows(layer, powered), counts.clamp_min(1)))

    def _anywhere(self, layer: nn.Module, pre: Tensor, post: Tensor | None, powered: Tensor) -> Tensor:
        """The change of any other layer, through a dense post factor."""
        axis = unit_axis(layer)
        grow, counts = torch.zeros_like(powered), pre.new_zeros(units(layer), dtype=torch.int64)
        for part in [pre] if self._is_drive(layer, post) else parts(layer, pre):
            first, kth = self._ranks(layer, part, post, powered)
            shape = [*first.shape]
            shape[axis] = units(layer)
            factor = part.new_zeros(shape).scatter_(axis, kth, -self.delta).scatter_(axis, first, 1)
            grow += correlate(layer, part, factor)
            counts += torch.cat([first.flatten(), kth.flatten()]).bincount(minlength=units(layer))
        weight = rows(layer, weight_of(layer))
        return from_rows(layer, self._finish(rows(layer, grow), weight, rows(layer, powered), counts.clamp_min(1)))

    def _finish(self, grow: Tensor, weight: Tensor, powered: Tensor, counts: Tensor) -> Tensor:
        """The change where the chosen samples add up to `grow`; all (units, fan-in)."""
        change = forget(grow, weight, powered)
        if self.average:
            change = change / counts[:, None]
        return scaled(change) if self.normalise else change


def answers_fast(layer: nn.Module, pre: Tensor) -> bool:
    """Whether a convolution takes less time than the product of its patches, which have to be copied out first.

    On CPUs it does not where many units look at a single channel.
    """
    narrow = pre.device.type == "cpu" and layer.in_channels == 1 and units(layer) > NARROW
    return type(layer) in Conv and not narrow


def forget(grow: Tensor, weight: Tensor, powered: Tensor) -> Tensor:
    r"""`grow` = :math:`\sum_b g_b x_b` minus :math:`(\sum_b g_b u_b) W`, row by row, where u is `powered` times x.

    No drive is needed: the sum is the inner product of the powered row with the grown one. All are (units, fan-in).
    """
    return torch.addcmul(grow, torch.linalg.vecdot(powered, grow)[:, None], weight, value=-1)


def gather(pre: Tensor, chosen: Tensor, share: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The units that samples chose; for each the sum of those samples, weighed by share; and how often it was chosen.

    Args:
        pre: samples, (n, in).
        chosen: units, (ranks n,): the choice of every sample at the first rank, then at the second, and so on.
        share: weight of each rank, of length ranks.
    """
    ordered, order = chosen.sort()
    touched, counts = ordered.unique_consecutive(return_counts=True)
    weights = pre.new_tensor(share)[order // len(pre)]
    sums = F.embedding_bag(order % len(pre), pre, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights)
    return touched, sums, counts


def is_dense(layer: nn.Module, sparse: bool) -> bool:
    """Whether `layer` is a plain dense layer, whose rows can be changed one by one; `sparse` asks for one."""
    dense = type(layer) is nn.Linear
    require(dense or not sparse, f"a sparse change needs a Linear layer, got {type(layer).__name__}; use sparse=False.")
    return dense


def spread(weight: Tensor, touched: Tensor, change: Tensor, *, sparse: bool = False) -> Tensor:
    """`change` of the rows `touched` (ascending) as a change of the whole `weight`, zero elsewhere."""
    if sparse:
        return some_rows(weight.shape, touched, change)
    return torch.zeros_like(weight).index_copy_(0, touched, change)


def signed_power(weight: Tensor, power: float) -> Tensor:
    """sign(w) |w|^power with one temporary; at power 2 one product instead of a `pow`."""
    if power == 1:
        return weight
    if power == 2:
        return signed_square(weight) if compilable(weight, weight) else weight.abs().mul_(weight)
    if power < 1:
        return weight.abs().pow_(power).mul_(weight.sign())
    return weight.abs().pow_(power - 1).mul_(weight)


def scaled(change: Tensor) -> Tensor:
    """`change` divided by its largest absolute entry; a change of zero stays zero."""
    largest = change.abs().amax()
    return change / torch.where(largest > 0, largest, 1)
