"""Attacks that see labels alone: from an image of another class they come nearer, and stay on the wrong side."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.errors import needs_numbers, require
from neuropil.evaluate.robustness.norms import Norm
from neuropil.evaluate.robustness.victim import Function, check_asked

BISECTIONS = 10  # queries that bring a start to the border
HALVINGS = 6  # step lengths that `HopSkipJump` tries in a turn
STARTS = 40  # images that are no examples, tried where no example serves as a start

Way = Callable[[Tensor, Tensor, Tensor], Tensor]  # image, end and fractions (n, 1, ...) to the points in between


@dataclass(frozen=True)
class LabelAttack(ABC):
    """From the nearest start to the border by bisection, and on along it; an image rests once it is in the budget.

    The start is the nearest of `starts` that is classified as another class. Where there is none, it is the first that
    serves among the ends of the range, the mirrored image and noise. An image without a start is not moved, and a
    warning says how many these are.

    Attributes:
        predict: what it asks.
        norm: of the budget.
        rng: of everything random.
        queries: how often it asks about an image at most, once it has a start; 10 of them for the bisection.
        starts: images to start from, (m, *shape); None for those of the batch. The harness gives all test images, so
            that neither order nor size of the batches matters.
    """

    predict: Function
    norm: Norm
    rng: Generator = field(default_factory=torch.Generator)
    queries: int = 200
    starts: Tensor | None = None

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_asked(self, "predict")
        who = type(self).__name__
        require(self.queries > BISECTIONS, f"{who} needs more than {BISECTIONS} queries, got {self.queries}.")

    def starting_from(self, starts: Tensor) -> Self:
        """The same attack with these `starts`, unless it has some."""
        return self if self.starts is not None else replace(self, starts=starts)

    def __call__(self, batch: Split, size: float) -> Tensor:
        """The adversarial images (n, *shape) of `batch`, within the budget; images without a start are unchanged."""
        has, start = self.find_starts(batch.x, batch.y)
        if len(has) < len(batch):
            lacking, who = len(batch) - len(has), type(self).__name__
            why = "all that it tried is classified as their own class"
            warnings.warn(f"{who} found no start for {lacking} of {len(batch)} images: {why}.", stacklevel=2)
        found, x, y = batch.x.clone(), batch.x[has], batch.y[has]
        if len(has):
            near = self._approach(x, self._bisect(x, start, y), y, size)
            found[has] = self.norm.clip(x, near, size)
        return found

    @abstractmethod
    def _approach(self, x: Tensor, at: Tensor, y: Tensor, size: float) -> Tensor:
        """From `at`, the border, nearer to `x`; all (n, *shape)."""

    def find_starts(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Which images have a start (k,), and theirs (k, *shape)."""
        pool = x if self.starts is None else self.starts.to(x)
        taken, found = self.predict(pool), x.clone()
        nearest = torch.cdist(x.flatten(1), pool.flatten(1)).masked_fill_(taken == y[:, None], math.inf).min(1)
        has = nearest.values.isfinite()
        found[has] = pool[nearest.indices[has]]
        for k in range(STARTS):
            todo = (~has).nonzero()[:, 0]
            if len(todo) == 0:
                break
            tried = self._elsewhere(x[todo], k)
            wrong = self.predict(tried) != y[todo]
            found[todo[wrong]], has[todo[wrong]] = tried[wrong], True
        return has.nonzero()[:, 0], found[has]

    def _elsewhere(self, x: Tensor, k: int) -> Tensor:
        """The k-th place to try: the ends of the range, the mirrored image, noise; without ends ever farther noise."""
        low, high = self.norm.low, self.norm.high
        if math.isinf(low) or math.isinf(high):
            return (x + self.norm.random(x, 2.0**k, self.rng)).clamp(low, high)
        if k < 3:
            return (torch.full_like(x, low), torch.full_like(x, high), low + high - x)[k]
        return low + (high - low) * torch.rand(x.shape, generator=self.rng).to(x) ** (1.0, 4.0, 0.25)[k % 3]

    def _bisect(self, x: Tensor, wrong: Tensor, y: Tensor, way: Way = torch.lerp) -> Tensor:
        """The last point on the way from `wrong` to `x` at which the label was still wrong."""
        near = torch.zeros(len(x), *[1] * (x.ndim - 1)).to(x)
        far = torch.ones_like(near)
        for _ in range(BISECTIONS):
            middle = (near + far) / 2
            still = (self.predict(way(x, wrong, middle)) != y).view_as(middle)
            near, far = torch.where(still, near, middle), torch.where(still, middle, far)
        return way(x, wrong, far)


def no_start_fraction(attack: LabelAttack, split: Split, *, batch: int = 1000) -> float:
    """Fraction of `split` for which `attack` finds no start, and which it therefore leaves as it is."""
    attack = attack.starting_from(split.pixels())
    return 1 - sum(len(attack.find_starts(one.x, one.y)[0]) for one in split.batches(min(batch, len(split)))) / len(
        split
    )


@dataclass(frozen=True)
class Boundary(LabelAttack):
    """A walk along the border of the class towards the image, by random steps. Its settings: `LabelAttack`.

    A step is noise of a fraction of the distance, and back into a ball around the image that is a little smaller. It
    counts if the label is still wrong. Every fifth step keeps its distance: how many of these succeed sets the length
    of the noise. How many of the others succeed sets how much smaller the ball is. So both are adapted apart, image by
    image. After Brendel et al. 2018, ICLR. The projection is ours, so that it serves any norm.
    """

    def _approach(self, x: Tensor, at: Tensor, y: Tensor, size: float) -> Tensor:
        end, live = at.clone(), torch.arange(len(x), device=x.device)
        sideways, inwards = (torch.full((len(x),), length).to(x) for length in (0.1, 0.01))  # fractions of the distance
        for query in range(1, self.queries - BISECTIONS + 1):
            distance = self.norm.length(at - x)
            near = distance <= size
            if bool(near.any()):
                end[live[near]] = at[near]
                far = [one[~near] for one in (live, x, at, y, sideways, inwards, distance)]
                live, x, at, y, sideways, inwards, distance = far
                if len(live) == 0:
                    return end
            keeps = query % 5 == 0
            noise = self.norm.random(x, 1.0, self.rng).mul_(_column(sideways * distance, x))
            tried = self.norm.clip(x, noise.add_(at), distance if keeps else distance * (1 - inwards))
            wrong = self.predict(tried) != y
            better = wrong & (self.norm.length(tried - x) <= distance * (1 + 1e-6 * keeps))
            at[better] = tried[better]
            if keeps:
                sideways = (sideways * (0.3 * (wrong.to(x) - 0.3)).exp()).clamp_(1e-5, 1)
            else:
                inwards = (inwards * (0.2 * (wrong.to(x) - 0.2)).exp()).clamp_(1e-6, 0.5)
        end[live] = at
        return end


@dataclass(frozen=True)
class HopSkipJump(LabelAttack):
    r"""Steps along the normal of the border, which it estimates from labels. Its settings: `LabelAttack`.

    From a point on the border it asks about random changes :math:`u_b` of 3 % of the distance. The answer
    :math:`\phi_b` is 1 for another class and -1 for its own. The direction is
    :math:`\sum_b (\phi_b - \bar\phi)\, u_b`. In turn t a step of distance / sqrt(t) along it is halved until the label
    is wrong. Bisection brings it back to the border.
    Chen, Jordan & Wainwright 2020, IEEE S&P; that the first turn asks for 20 changes is ours.
    """

    def _approach(self, x: Tensor, at: Tensor, y: Tensor, size: float) -> Tensor:
        spent, turn = BISECTIONS, 1
        while (samples := min(int(20 * turn**0.5), self.queries - spent - HALVINGS - BISECTIONS)) > 0:
            live = (self.norm.length(at - x) > size).nonzero()[:, 0]
            if len(live) == 0:
                break
            at[live] = self._turn(x[live], at[live], y[live], samples, turn)
            spent, turn = spent + samples + HALVINGS + BISECTIONS, turn + 1
        return at

    def _turn(self, x: Tensor, at: Tensor, y: Tensor, samples: int, turn: int) -> Tensor:
        """One estimate, one step and one bisection; where that does not come nearer, `at`."""
        distance = self.norm.length(at - x)
        step = self._normal(at, y, samples, 0.03 * distance).mul_(_column(distance / turn**0.5, x))
        landed, open_ = at.clone(), torch.ones_like(y, dtype=torch.bool)
        for _ in range(HALVINGS):
            tried = (at + step).clamp(self.norm.low, self.norm.high)
            hit = open_ & (self.predict(tried) != y)
            landed[hit], open_ = tried[hit], open_ & ~hit
            step = step / 2
        reach = _column(self.norm.length(landed - x), x)
        landed = self._bisect(x, landed, y, lambda x, far, part: self.norm.clip(x, far, part * reach))
        return torch.where(_column(self.norm.length(landed - x) < distance, x), landed, at)

    def _normal(self, at: Tensor, y: Tensor, samples: int, radius: Tensor) -> Tensor:
        """The direction of size 1 into the other classes, estimated at `at`."""
        moves, agree, along = torch.zeros_like(at), torch.zeros_like(radius), torch.zeros_like(at)
        for _ in range(samples):
            tried = self.norm.random(at, 1.0, self.rng).mul_(_column(radius, at)).add_(at)
            tried.clamp_(self.norm.low, self.norm.high)
            sign = torch.where(self.predict(tried) != y, 1.0, -1.0).to(at)
            tried -= at
            moves, agree, along = moves + tried, agree + sign, along.add_(tried * _column(sign, at))
        mean = torch.where(agree.abs() < samples, agree / samples, 0)  # where all agree there is nothing to subtract
        return self.norm.steepest(along - moves * _column(mean, at))


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(n,) as (n, 1, ...), to be multiplied with `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))
