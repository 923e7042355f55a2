"""Ridge regression on more features than fit into memory: each group of them adds to one matrix over the examples."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split, hold_out
from neuropil.errors import Diverged, Refusal, enough_memory, needs, needs_numbers, require
from neuropil.models.description import savable
from neuropil.models.nn.convolution import Beside, MirrorMean
from neuropil.models.training import gram
from neuropil.models.training.readout import features_of, head_of
from neuropil.models.training.ridge import best_of
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import Tracker


@dataclass(frozen=True)
class BandedRidge:
    r"""Ridge regression with a penalty for each band of features, by the products of the examples.

    .. math:: \min_W \frac1n |\sum_b X_b W_b - Y|^2 + \lambda \sum_b \frac{v_b}{d\, s_b} |W_b|^2

    A band is what one network of a `Beside` makes of the examples: :math:`X_b`, n x d_b, without its mean. Y are the
    classes, one-hot, without theirs. The mean squared norm of a row of :math:`X_b` is :math:`v_b`. The number of all
    features is d. The share of a band is :math:`s_b`; shares sum to 1. A body of one band has the answer of
    `RidgeRegression`. Nunez-Elizalde, Huth & Gallant 2019, NeuroImage 197 (banded ridge regression).

    The n x n kernel :math:`\sum_b \frac{s_b}{v_b} X_b X_b^\top` is summed band by band. So only the features of one
    band are in memory at a time, beside four bytes for each pair of examples: 10 GB for 50,000. The system is solved in
    float32, in the place of the kernel. Features of all bands but the last are computed twice, the second time for the
    weights. Features are not standardised one by one.

    Attributes:
        shares: of the bands, in their order, above 0; they are divided by their sum. Empty: all alike.
        strengths: the penalties :math:`\lambda` to choose from on held-out examples; a single one is taken as it is.
        held_out: fraction of the examples that is held out for the choice. All of them serve for the weights.
        precision: of the numbers that are multiplied. With "bfloat16" features are rounded to 8 bits of mantissa;
            sums are float32. Processors with units for it take a third of the time, and the features half the memory.

    Raises:
        Refusal: a setting out of range, or another number of shares than of bands.

    Examples:
        >>> import torch
        >>> from neuropil.data import digits
        >>> from neuropil.models import Beside, FeatureClassifier
        >>> train, test = digits()
        >>> body = Beside(torch.nn.Flatten(), torch.nn.AvgPool2d(2))
        >>> model = FeatureClassifier(body, readout=BandedRidge(shares=(0.7, 0.3)))
        >>> model = model.fit(train, rng=torch.Generator().manual_seed(0))
        >>> bool((model.predict(test.x) == test.y).float().mean() > 0.9)
        True
    """

    shares: tuple[float, ...] = ()
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    held_out: float = 0.2
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        needs_numbers(self)
        positive: Callable[[tuple[float, ...]], bool] = lambda numbers: all(0 < one < float("inf") for one in numbers)
        needs(self, positive(self.shares), "shares > 0")
        needs(self, len(self.strengths) > 0 and positive(self.strengths), "strengths > 0, at least one")
        needs(self, 0 < self.held_out < 1, "0 < held_out < 1")
        needs(self, self.precision in ("float32", "bfloat16"), "precision='float32' or 'bfloat16'")

    def check_room(self, train: Split) -> None:
        """Ask for the memory of the kernel and give it back: where it is not there, nothing need learn first.

        Raises:
            Refusal: there is not enough memory.
        """
        with enough_memory():
            torch.empty(len(train), len(train), device=train.x.device)

    def head_on(
        self, body: nn.Sequential, train: Split, *, stage: str, rng: Generator, tracker: Tracker
    ) -> nn.Sequential:
        """The trained readout of what `body` makes of `train`; it ends frozen, in evaluation mode."""
        train.check_labelled("ridge regression")
        bands = bands_of(body)
        shares = self.shares or (1.0,) * len(bands)
        fits = len(shares) == len(bands)
        require(fits, f"BandedRidge needs {len(bands)} shares, one for each network side by side, got {shares}.")
        m, train = self._rest_first(train, rng)
        sums = _Sums(bands, [one / sum(shares) for one in shares], train, self.precision)
        size, device = sum(sums.sizes), train.x.device
        head, answer = head_of(nn.Identity(), size, train.classes).to(device), torch.empty(0)
        for step in tracker.loop(stage, 2 * len(bands), network=head, rng=rng):
            if step < len(bands):
                sums.add_(step)  # with those before it, after an interruption
                continue
            if not len(answer):
                sums.add_(len(bands) - 1)
                answer, metrics = self._answer(sums, m)
            sums.write_(head, 2 * len(bands) - 1 - step, answer)
            if step == 2 * len(bands) - 1:
                tracker.log(EpochRow(stage=stage, epoch=0, metrics=metrics))
        return head.eval().requires_grad_(False)

    def _rest_first(self, train: Split, rng: Generator) -> tuple[int, Split]:
        """How many examples the choice of a penalty learns from, 0 for no choice, and all examples, these first."""
        if len(self.strengths) == 1:
            return 0, train
        rows = Split(torch.arange(len(train), device=train.y.device)[:, None].float(), train.y, train.classes)
        try:
            rest, held = hold_out(rows, self.held_out, int(torch.randint(2**31, (), generator=rng)))
        except Refusal:  # too few examples to hold some out
            return 0, train
        return len(rest), train[torch.cat([rest.x, held.x])[:, 0].long()]

    def _answer(self, sums: "_Sums", m: int) -> tuple[Tensor, dict[str, float]]:
        """The weights of the examples, (n, classes), and what to tell of them."""
        kernel, y, classes = gram.mirror_(sums.kernel), sums.train.y, sums.train.classes
        strength = self._chosen(kernel, sums, m) if m else max(self.strengths)
        penalty, wanted = strength * len(y) / sum(sums.sizes), _wanted(y, classes)
        answer, _ = gram.solved_in_place(kernel, wanted, penalty)
        scores = wanted - penalty * answer + _frequency(y, classes)  # as the system says
        return answer, {"strength": strength, "train_accuracy": float((scores.argmax(1) == y).float().mean())}

    def _chosen(self, kernel: Tensor, sums: "_Sums", m: int) -> float:
        """The strength with the highest accuracy on examples from `m` on, of equal ones the largest."""
        y, held, share = sums.train.y[:m], sums.train.y[m:], _frequency(sums.train.y[:m], sums.train.classes)

        def accuracy(strength: float) -> float:
            penalty, wanted = strength * m / sum(sums.sizes), _wanted(y, sums.train.classes)
            answer, intercept = gram.solved_in_place(kernel[:m, :m], wanted, penalty)
            found = kernel[m:, :m] @ answer + intercept + share
            return float((found.argmax(1) == held).float().mean())

        ordered = sorted(self.strengths, reverse=True)
        return best_of(ordered, map(accuracy, ordered))


class _Sums:
    """The kernel of all examples, summed band by band, and the weights that follow from an answer to it."""

    def __init__(self, bands: list[nn.Module], shares: list[float], train: Split, precision: str):
        self.bands, self.shares, self.train, self.precision = bands, shares, train, precision
        firsts = [features_of(band, train[:1]) for band in bands]
        for one in firsts:
            need = "BandedRidge needs networks that answer in float32"
            require(one.dtype == torch.float32, f"{need}, got {str(one.dtype).removeprefix('torch.')}.")
        self.sizes = [one.shape[1] for one in firsts]
        self.scales: list[float] = []  # of the bands that are in
        self.means: list[Tensor] = []
        self.kernel = torch.empty(0)
        self._newest = -1, torch.empty(0)  # a band, and its features

    def add_(self, last: int) -> None:
        """Add all bands up to the `last` that are not in yet."""
        if not self.scales:
            self.kernel = torch.zeros(len(self.train), len(self.train), device=self.train.x.device)
        for index in range(len(self.scales), last + 1):
            x = self._features(index)
            mean = torch.stack([part.sum(0, dtype=torch.float64) for part in x.split(gram.TILE)]).sum(0) / len(x)
            squares = [(part.double() - mean).square().sum() for part in x.split(gram.TILE // 8)]
            size = float(torch.stack(squares).sum()) / len(x)
            if not math.isfinite(size):
                raise Diverged("ridge regression was given features that are NaN or infinite, or too large to square.")
            self.scales.append(self.shares[index] / size if size > 0 else 0.0)
            self.means.append(mean)
            with gram.rounded_products(self.precision):
                gram.add_products_(self.kernel, x, mean.float(), self.scales[-1])

    def write_(self, head: nn.Sequential, index: int, answer: Tensor) -> None:
        """The weights of one band into the layer ``linear`` of `head`, and their part of the bias."""
        x, start = self._features(index), sum(self.sizes[:index])
        weight, bias = head.get_parameter("linear.weight"), head.get_parameter("linear.bias")
        part = torch.zeros(x.shape[1], answer.shape[1], device=x.device)
        for rows, own in zip(x.split(gram.TILE), answer.split(gram.TILE)):
            part.addmm_((rows.float() - self.means[index].float()).T, own, alpha=self.scales[index])
        with torch.no_grad():
            weight[:, start : start + len(part)] = part.T
            before = _frequency(self.train.y, self.train.classes) if index == len(self.sizes) - 1 else bias
            bias.copy_(before - (self.means[index] @ part.double()).float())

    def _features(self, index: int) -> Tensor:
        """(n, features of one band), at the precision at which they are multiplied."""
        if self._newest[0] != index:
            self._newest = -1, torch.empty(0)  # before others take its place
            self._newest = index, features_of(self.bands[index], self.train, dtype=getattr(torch, self.precision))
        return self._newest[1]


def bands_of(body: nn.Sequential) -> list[nn.Module]:
    """The networks side by side in `body`, from the first feature to the last; a body of another kind is one.

    >>> len(bands_of(Beside(nn.Flatten(), nn.AvgPool2d(2)))), len(bands_of(nn.Sequential(nn.Flatten())))
    (2, 1)
    """
    if type(body) is nn.Sequential and len(body) == 1 and isinstance(body[0], nn.Sequential):
        return bands_of(body[0])
    if not isinstance(body, Beside) or len(body) < 2:
        return [body]
    return [MirrorMean(one) if isinstance(body, MirrorMean) else one for one in body]


def _frequency(y: Tensor, classes: int) -> Tensor:
    """Of each class, (classes,)."""
    return torch.bincount(y, minlength=classes).float() / len(y)


def _wanted(y: Tensor, classes: int) -> Tensor:
    """Classes one-hot without their mean, (n, classes)."""
    return F.one_hot(y, classes).float() - _frequency(y, classes)


savable(BandedRidge)
