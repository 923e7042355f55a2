"""The linear readout in closed form: ridge regression on the classes, its strength chosen on held-out examples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split, hold_out
from neuropil.errors import Diverged, Refusal, needs, needs_numbers, require
from neuropil.models.description import savable
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import Tracker

PIECE = 4096  # examples whose products are summed at a time


@dataclass(frozen=True)
class RidgeRegression:
    r"""Least squares of the classes with a penalty: :math:`\min_W \frac1n |X W - Y|^2 + \lambda \bar s |W|^2`.

    X are n examples of d features without their mean. Y are the classes, one-hot, without theirs. :math:`\bar s` is the
    mean variance of a feature, so :math:`\lambda` means the same at any scale. With fewer examples than features the
    n x n system is solved (the dual), not the d x d one. The weights are the same. Solved in float64.
    Hoerl & Kennard 1970, Technometrics 12.

    Attributes:
        strengths: the penalties :math:`\lambda` to choose from on held-out examples; a single one is taken as it is.
        held_out: fraction of the examples that is held out for the choice. All of them serve for the weights.

    Raises:
        Refusal: a setting out of range.

    Examples:
        >>> import torch
        >>> from neuropil.data import digits
        >>> from neuropil.models import FeatureClassifier
        >>> train, test = digits()
        >>> body = torch.nn.Sequential(torch.nn.Flatten())
        >>> model = FeatureClassifier(body, readout=RidgeRegression())
        >>> model = model.fit(train, rng=torch.Generator().manual_seed(0))
        >>> bool((model.predict(test.x) == test.y).float().mean() > 0.9)
        True
    """

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    held_out: float = 0.2

    def __post_init__(self) -> None:
        needs_numbers(self)
        fine = len(self.strengths) > 0 and all(0 < one < float("inf") for one in self.strengths)
        needs(self, fine, "strengths > 0, at least one")
        needs(self, 0 < self.held_out < 1, "0 < held_out < 1")

    @property
    def takes_copies(self) -> bool:
        """Whether augmented copies may be among the examples: not where some are held out."""
        return len(self.strengths) == 1

    def fit_(self, network: nn.Sequential, train: Split, *, stage: str, rng: Generator, tracker: Tracker) -> None:
        """Set the layer ``linear`` of `network`, a head by `fresh_head`. It ends frozen, in evaluation mode."""
        train.check_labelled("ridge regression")
        first = network.get_submodule("standardise")
        for _ in tracker.loop(stage, 1, network=network, rng=rng):
            strength = self.strengths[0] if len(self.strengths) == 1 else self._choose(first, train, rng)
            x = first(train.x)
            ((weight, bias),) = solutions(x, train.y, train.classes, [strength])
            with torch.no_grad():
                network.get_parameter("linear.weight").copy_(weight)
                network.get_parameter("linear.bias").copy_(bias)
            right = _accuracy(x, train.y, weight, bias)
            tracker.log(EpochRow(stage=stage, epoch=0, metrics={"strength": strength, "train_accuracy": right}))
        network.eval().requires_grad_(False)

    def _choose(self, first: nn.Module, train: Split, rng: Generator) -> float:
        """The strength with the highest accuracy on held-out examples; of equal ones the largest."""
        try:
            rest, held = hold_out(train, self.held_out, int(torch.randint(2**31, (), generator=rng)))
        except Refusal:  # too few examples to hold some out
            return max(self.strengths)
        x, scores = first(held.x), []
        ordered = sorted(self.strengths, reverse=True)
        try:
            for weight, bias in solutions(first(rest.x), rest.y, rest.classes, ordered):
                scores.append(_accuracy(x, held.y, weight, bias))
        except Refusal:  # this strength is too small, and so are all after it
            if not scores:
                raise
        return ordered[scores.index(max(scores))]


def solutions(x: Tensor, y: Tensor, classes: int, strengths: Sequence[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each strength the weight (classes, d) and the bias (classes,) in float64, of x (n, d) and labels y (n,).

    The products are those of the features' own dtype, a few thousand examples at a time, and are summed in float64.

    Raises:
        Diverged: features that are NaN, infinite, or too large to be squared.
        Refusal: a strength too small for features that are so alike.
    """
    n, d = x.shape
    mean = x.mean(0, dtype=torch.float64)
    x = x - mean.to(x)
    variance = x.square().mean(dtype=torch.float64)
    if not variance.isfinite():
        raise Diverged("ridge regression was given features that are NaN or infinite, or too large to be squared.")
    share = torch.bincount(y, minlength=classes).double() / n
    wanted = torch.nn.functional.one_hot(y, classes).double() - share
    gram, target = ((x @ x.T).double(), wanted) if n < d else (_product(x, x), _product(x, wanted.to(x)))
    penalty = n * variance.clamp_min(torch.finfo(x.dtype).tiny)
    for strength in strengths:
        answer = solved(gram, target, strength * penalty, f"strengths={strength:g}")
        weight = (x.T.double() @ answer if n < d else answer).T
        yield weight, share - weight @ mean


def solved(gram: Tensor, target: Tensor, penalty: Tensor | float, got: str) -> Tensor:
    """(gram + penalty)^-1 target, for a symmetric gram (d, d) and a penalty on its diagonal; `got` says who set it."""
    system = gram.clone()
    system.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(system)
    alike = "features are so alike that their products cannot be inverted; take a larger penalty"
    require(not bool(failed), f"ridge regression: {alike}, got {got}.")
    return torch.cholesky_solve(target, factor)


def _product(x: Tensor, other: Tensor) -> Tensor:
    """x^T other in float64."""
    total = torch.zeros(x.shape[1], other.shape[1], dtype=torch.float64, device=x.device)
    for part, beside in zip(x.split(PIECE), other.split(PIECE)):
        total += part.T @ beside
    return total


def _accuracy(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> float:
    scores = x @ weight.T.to(x) + bias.to(x)
    return (scores.argmax(1) == y).double().mean().item()


savable(RidgeRegression)
