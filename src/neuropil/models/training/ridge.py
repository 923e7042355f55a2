"""The linear readout in closed form: ridge regression on the classes, its strength chosen on held-out examples."""

from collections.abc import Callable, Iterator, Sequence
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
            ((weight, bias),) = solutions(train.x, train.y, train.classes, [strength], first)
            with torch.no_grad():
                network.get_parameter("linear.weight").copy_(weight)
                network.get_parameter("linear.bias").copy_(bias)
            right = _accuracy(train, first, weight, bias)
            tracker.log(EpochRow(stage=stage, epoch=0, metrics={"strength": strength, "train_accuracy": right}))
        network.eval().requires_grad_(False)

    def _choose(self, first: nn.Module, train: Split, rng: Generator) -> float:
        """The strength with the highest accuracy on held-out examples; of equal ones the largest."""
        try:
            rest, held = hold_out(train, self.held_out, int(torch.randint(2**31, (), generator=rng)))
        except Refusal:  # too few examples to hold some out
            return max(self.strengths)
        ordered = sorted(self.strengths, reverse=True)
        found = solutions(rest.x, rest.y, rest.classes, ordered, first)
        return best_of(ordered, (_accuracy(held, first, weight, bias) for weight, bias in found))


def best_of(strengths: Sequence[float], accuracies: Iterator[float]) -> float:
    """The strength with the highest of the accuracies, which come in the same order; of equal ones the first.

    Strengths fall. Where one is refused for being too small, so would be those after it.
    """
    scores: list[float] = []
    try:
        for accuracy in accuracies:
            scores.append(accuracy)
    except Refusal:
        if not scores:
            raise
    return strengths[scores.index(max(scores))]


def solutions(
    x: Tensor, y: Tensor, classes: int, strengths: Sequence[float], first: Callable[[Tensor], Tensor] = lambda x: x
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each strength the weight (classes, d) and the bias (classes,) in float64, of x (n, d) and labels y (n,).

    The products are those of the features' own dtype, a few thousand examples at a time, and are summed in float64. So
    besides the features there are at most three matrices of the system's size.

    Args:
        x, y: features and labels.
        classes: how many.
        strengths: penalties, in the order in which they are solved.
        first: what is made of features, a few thousand examples at a time.

    Raises:
        Diverged: features that are NaN, infinite, or too large to be squared.
        Refusal: a strength too small for features that are so alike.
    """
    n, d = x.shape
    centred = _Centred(x, first)
    share = torch.bincount(y, minlength=classes).double() / n
    wanted = torch.nn.functional.one_hot(y, classes).double() - share
    whole = torch.cat([part for part, _ in centred(y)]) if n < d else None
    gram, target = _sums(centred, wanted, d) if whole is None else ((whole @ whole.T).double(), wanted)
    variance = gram.trace() / (n * d)  # the sum of all squares, whichever product it is
    if not variance.isfinite():
        raise Diverged("ridge regression was given features that are NaN or infinite, or too large to be squared.")
    penalty = n * variance.clamp_min(torch.finfo(x.dtype).tiny)
    for strength in strengths:
        answer = solved(gram, target, strength * penalty, f"strengths={strength:g}")
        weight = (answer if whole is None else whole.T.double() @ answer).T
        yield weight, share - weight @ centred.mean


def _sums(centred: "_Centred", wanted: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """The products of all features, (d, d), and of features and targets, (d, classes), in float64."""
    gram, target = wanted.new_zeros(d, d), wanted.new_zeros(d, wanted.shape[1])
    for part, beside in centred(wanted):
        gram += part.T @ part
        target += part.T @ beside.to(part)
    return gram, target


class _Centred:
    """What `first` makes of features, without its mean, a few thousand examples at a time, with what is beside them."""

    def __init__(self, x: Tensor, first: Callable[[Tensor], Tensor]):
        self.x, self.first = x, first
        sums = [first(part).sum(0, dtype=torch.float64) for part in x.split(PIECE)]
        self.mean = torch.stack(sums).sum(0) / len(x)

    def __call__(self, beside: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(features, beside) of each piece."""
        for part, other in zip(self.x.split(PIECE), beside.split(PIECE)):
            made = self.first(part)
            yield made - self.mean.to(made), other


def solved(gram: Tensor, target: Tensor, penalty: Tensor | float, got: str) -> Tensor:
    """(gram + penalty)^-1 target, for a symmetric gram (d, d) and a penalty on its diagonal; `got` says who set it."""
    system, failed = gram.clone(), torch.empty((), dtype=torch.int32, device=gram.device)
    system.diagonal().add_(penalty)
    torch.linalg.cholesky_ex(system, out=(system, failed))
    alike = "features are so alike that their products cannot be inverted; take a larger penalty"
    require(not bool(failed), f"ridge regression: {alike}, got {got}.")
    return torch.cholesky_solve(target, system)


def _accuracy(seen: Split, first: Callable[[Tensor], Tensor], weight: Tensor, bias: Tensor) -> float:
    right = 0
    for x, y in zip(seen.x.split(PIECE), seen.y.split(PIECE)):
        made = first(x)
        right += int(((made @ weight.T.to(made) + bias.to(made)).argmax(1) == y).sum())
    return right / len(seen)


savable(RidgeRegression)
