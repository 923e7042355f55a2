"""Hebbian rules whose units compete for every sample: winner-take-all, Krotov-Hopfield, SoftHebb, explaining away."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil._subnormals import without_subnormals
from neuropil.errors import needs_numbers, require
from neuropil.plasticity.engine import Rule
from neuropil.plasticity.kernels.ranking import first_and_kth, winner
from neuropil.plasticity.kernels.rows import compilable, signed_square
from neuropil.plasticity.law import Chosen, Dense, Ranks, Softmax


@dataclass(frozen=True)
class HardWTA(Rule):
    r"""The winner moves towards its input: :math:`\Delta W = \sum_b y_b (x_b - W)`, y one-hot at the largest u = W x.

    Grossberg's instar (1976, Biol. Cybern. 23). With inputs of unit norm the rows become cluster means.

    Attributes:
        average, sparse: see `KrotovHopfield`. Take the average where a step of the mean is too small or too large for
            units that win seldom or often.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import HardWTA
        >>> layer = torch.nn.Linear(2, 2, bias=False)
        >>> _ = torch.nn.init.eye_(layer.weight)
        >>> HardWTA()(layer, torch.tensor([[0.5, 2.0]]))
        tensor([[0.0000, 0.0000],
                [0.5000, 1.0000]])
    """

    average: bool = False
    sparse: bool = False

    def post(self, u: Tensor) -> Chosen:
        """g = h = 1 for the winner."""
        units, finite = winner(u)
        return Chosen(units, (1.0,), decay=1.0, finite=finite)

    def competition(self) -> Ranks:
        """The same in closed form."""
        return Ranks(1, (1.0,), 1.0)


@dataclass(frozen=True)
class SignedWTA(Rule):
    r"""Who answers most strongly, by either sign, learns by Oja's rule: :math:`\Delta W = \sum_b y_b (x_b - y_b W)`.

    y is u = W x for the unit with the largest \|u\|, and 0 for the others. A unit stands for an axis: an edge and its
    opposite are the same to it. The sign of its answer says which of the two it met. Rows converge to norm 1. Inputs
    need mean 0, such as whitened patches. The step is Oja's (1982, J. Math. Biol. 15); the choice by \|u\| is that of
    the k-means with gains of Coates & Ng 2012 (Neural Networks: Tricks of the Trade). A bias takes no part.

    Attributes:
        average: divide the change of each row by the number of samples that it won.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import SignedWTA
        >>> layer = torch.nn.Linear(2, 2, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0, 0.0], [0.0, -0.5]])
        >>> SignedWTA()(layer, torch.tensor([[0.5, 2.0]]))
        tensor([[ 0.0000,  0.0000],
                [-0.5000, -1.5000]])
    """

    average: bool = False
    with_bias = False  # which would favour one sign

    def post(self, u: Tensor) -> Dense:
        """g = u for the winner, h = u."""
        first, _ = winner(u.abs())
        return Dense(torch.zeros_like(u).scatter(1, first, u.gather(1, first)), decay=u)


@dataclass(frozen=True)
class SoftHebb(Rule):
    r"""Soft competition: :math:`\Delta W = \sum_b y_b (x_b - u_b W)` with :math:`y = \mathrm{softmax}(u / \tau)`.

    Moraitis et al. 2022 (Neuromorph. Comput. Eng. 2); Journe et al. 2023 (ICLR) flip the sign of y for all but the
    winner, which deep networks need.

    Attributes:
        tau: temperature of the softmax, in the units of u; small is hard.
        anti: whether the update of the losers is anti-Hebbian (y -> -y for all but the winner).
        normalise: divide the change by its largest absolute entry, as published for deep networks.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import SoftHebb
        >>> layer = torch.nn.Linear(2, 2, bias=False)
        >>> _ = torch.nn.init.eye_(layer.weight)
        >>> SoftHebb(normalise=True)(layer, torch.tensor([[1.0, 1.0]]))
        tensor([[0., 1.],
                [1., 0.]])
    """

    tau: float = 1.0
    anti: bool = False
    normalise: bool = False

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.tau > 0, f"SoftHebb needs a temperature tau > 0, got {self.tau}.")

    def post(self, u: Tensor) -> Dense:
        """g = y, h = u."""
        y = without_subnormals(torch.softmax(u if self.tau == 1 else u / self.tau, 1))
        if self.anti:
            first, _ = winner(u)
            y = (-y).scatter(1, first, y.gather(1, first))
        return Dense(y, decay=u)

    def competition(self) -> Softmax:
        """The same in closed form."""
        return Softmax(self.tau, self.anti)


@dataclass(frozen=True)
class KrotovHopfield(Rule):
    r"""Hebbian for the winner, anti-Hebbian for the k-th: :math:`\Delta W = \sum_b g_b (x_b - u_b W)`.

    The drive is :math:`u = (\mathrm{sign}(W)\,|W|^{p-1})\, x`; g is +1 for the unit with the largest drive, -delta for
    the k-th largest, 0 else. A row that keeps winning converges to :math:`\sum_i |W_i|^p = 1`.
    Krotov & Hopfield 2019, PNAS 116.

    A dense layer changes only the rows that won or came k-th and makes no second matrix product. The units may be
    ranked in a lower precision than that of the change. A given output serves as the drive at p = 2 without bias.

    Attributes:
        p: power of the norm that the rows converge to, at least 1.
        k: rank of the unit with the anti-Hebbian update, at least 2 (2 is the runner-up).
        delta: strength of the anti-Hebbian update; 0 for none, then the k-th is not chosen either.
        average: divide the change of each row by the number of samples that chose it. A row then takes a step of the
            same size whether one sample chose it or ten; batches may be large and rates too.
        normalise: divide the change by its largest absolute entry, as published.
        ranking_dtype: dtype of the drive that ranks the units; None for the dtype of the input. ``torch.bfloat16`` is
            several times faster on recent hardware.
        sparse: return only the rows that some sample chose, as a sparse tensor (dense layers only). Like the gradient
            of ``torch.nn.Embedding(sparse=True)`` it suits SGD without momentum and weight decay, and SparseAdam, and
            spares four passes over the whole weight in every step.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import KrotovHopfield
        >>> layer = torch.nn.Linear(2, 2, bias=False)
        >>> _ = torch.nn.init.eye_(layer.weight)
        >>> KrotovHopfield(k=2, delta=0.5)(layer, torch.tensor([[1.0, 2.0]]))
        tensor([[ 0., -1.],
                [ 1.,  0.]])
    """

    p: float = 3.0
    k: int = 7
    delta: float = 0.4
    average: bool = False
    normalise: bool = False
    ranking_dtype: torch.dtype | None = None
    sparse: bool = False
    with_bias = False  # the drive is what the synapses alone give

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.p >= 1, f"KrotovHopfield needs p >= 1, got {self.p}.")
        require(self.k >= 2, f"KrotovHopfield needs k >= 2 (2 is the runner-up), got {self.k}.")
        require(self.delta >= 0, f"KrotovHopfield needs delta >= 0, got {self.delta}.")

    def check_units(self, units: int) -> None:
        """Refuse a layer with fewer units than k."""
        require(self.k <= units, f"KrotovHopfield needs k <= units, got k={self.k} and {units} units.")

    def weights(self, weight: Tensor) -> Tensor:
        """sign(W) |W|^(p-1)."""
        return signed_power(weight, self.p - 1)

    def post(self, u: Tensor) -> Chosen:
        """g = 1 for the winner and -delta for the k-th, h = u."""
        if self.delta == 0:
            first, finite = winner(u)
            return Chosen(first, (1.0,), decay=u, finite=finite)
        units, finite = first_and_kth(u, self.k)
        return Chosen(units, (1.0, -self.delta), decay=u, finite=finite)

    def competition(self) -> Ranks:
        """The same in closed form."""
        return Ranks(1, (1.0,)) if self.delta == 0 else Ranks(self.k, (1.0, -self.delta))


@dataclass(frozen=True)
class ExplainAway(Rule):
    r"""A few winners explain the input together: :math:`\Delta W_j = \sum_b y_{bj} (x_b - \sum_i y_{bi} W_i)`.

    Of every sample the k units with the largest drives u = W x answer with y = max(u, 0), the others with 0. A winner
    learns what all winners together leave unexplained, so units share the input and do not become copies. With all
    units linear and heard it is Oja's subspace rule (Oja 1989, Int. J. Neural Syst. 1). Lateral inhibition and learning
    from the rest are those of sparse coding: Foldiak 1990 (Biol. Cybern. 64), Olshausen & Field 1996 (Nature 381). In a
    grouped convolution a group explains what it sees.

    Attributes:
        k: how many units answer to a sample; None for one in sixty, at least two, but not all.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import ExplainAway
        >>> layer = torch.nn.Linear(2, 3, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
        >>> ExplainAway(k=2)(layer, torch.tensor([[2.0, 0.0]]))
        tensor([[-1.0000, -1.0000],
                [-0.5000, -0.5000],
                [ 0.0000,  0.0000]])
    """

    k: int | None = None

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.k is None or self.k >= 1, f"ExplainAway needs k >= 1, or None for units / 60, got k={self.k}.")

    def check_units(self, units: int) -> None:
        """Refuse a layer with fewer units than k."""
        require(self.k is None or self.k <= units, f"ExplainAway needs k <= units, got k={self.k} and {units} units.")

    def post(self, u: Tensor) -> Dense:
        """g = y; units mix by the sum of y y^T."""
        few = max(1, min(u.shape[1] - 1, max(2, u.shape[1] // 60)))  # someone has to lose
        first = u.topk(few if self.k is None else self.k, 1)
        y = torch.zeros_like(u).scatter(1, first.indices, first.values.clamp_min(0))
        samples = y.movedim(1, -1).flatten(0, -2)
        return Dense(y, mixing=samples.T @ samples)


def signed_power(weight: Tensor, power: float) -> Tensor:
    """sign(w) |w|^power with one temporary; at power 2 one product instead of a `pow`."""
    if power == 1:
        return weight
    if power == 2:
        return signed_square(weight) if compilable(weight, weight) else weight.abs().mul_(weight)
    if power < 1:
        return weight.abs().pow_(power).mul_(weight.sign())
    return weight.abs().pow_(power - 1).mul_(weight)
