"""Attacks that see scores alone (square), or nothing (noise, the floor)."""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.errors import needs_numbers, require
from neuropil.evaluate.robustness.attacks.gradient import margin
from neuropil.evaluate.robustness.norms import Norm
from neuropil.evaluate.robustness.victim import Function, check_asked


@dataclass(frozen=True)
class Noise:
    """Random changes of the whole budget: what every attack has to beat.

    Attributes:
        norm: of the budget.
        rng: of the random moves.
    """

    norm: Norm
    rng: Generator = field(default_factory=torch.Generator)

    def __call__(self, batch: Split, size: float) -> Tensor:
        """The adversarial images (n, *shape) of `batch`."""
        return self.norm.clip(batch.x, batch.x + self.norm.random(batch.x, size, self.rng), size)


@dataclass(frozen=True)
class Square:
    """Random search over squares: one is set to the edge of the budget, and stays so if the margin of the label falls.

    It starts from vertical stripes. The squares shrink as the search goes on, at the published fractions of all
    queries. A square that would change nothing gets the other sign. In L2 a square is raised by twice what an even
    change of all pixels would be, and the projection takes that from the others. On vectors a square is a run of
    neighbours. These two are ours. Andriushchenko et al. 2020, ECCV.

    Attributes:
        decision_function: the scores that it asks for.
        norm: of the budget.
        rng: of places and signs.
        queries: how often it asks about an image at most.
        initial_fraction: fraction of all pixels in the first squares.
    """

    decision_function: Function
    norm: Norm
    rng: Generator = field(default_factory=torch.Generator)
    queries: int = 200
    initial_fraction: float = 0.8

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_asked(self, "decision_function")
        fraction = self.initial_fraction
        sound = self.queries >= 1 and 0 < fraction <= 1
        require(sound, f"Square needs queries >= 1 and 0 < initial_fraction <= 1, got {self.queries} and {fraction}.")

    def __call__(self, batch: Split, size: float) -> Tensor:
        """The adversarial images (n, *shape) of `batch`."""
        x, y, found = batch.x, batch.y, batch.x.clone()
        level = self.norm.level(size, x[0].numel())
        at = self.norm.clip(x, x + level * self._stripes(x), size)
        worst, live = margin(self.decision_function(at), y), torch.arange(len(y), device=y.device)
        for query in range(1, self.queries):
            fooled = worst > 0
            if bool(fooled.any()):
                found[live[fooled]] = at[fooled]
                live, x, y, at, worst = (one[~fooled] for one in (live, x, y, at, worst))
                if len(live) == 0:
                    return found
            square = self._squares(x, query).mul_(2 * level)
            tried = self.norm.clip(x, at + square, size)
            idle = (tried == at).flatten(1).all(1)  # the square has this sign already, so it gets the other one
            if bool(idle.any()):
                tried[idle] = self.norm.clip(x[idle], at[idle] - square[idle], size)
            reached = margin(self.decision_function(tried), y)
            better = reached > worst
            at[better], worst = tried[better], torch.maximum(worst, reached)
        found[live] = at
        return found

    def _stripes(self, x: Tensor) -> Tensor:
        """+-1 for every column of every image, like `x`."""
        n, (c, _, w) = len(x), _grid(x)
        return _signs((n, c, 1, w), self.rng).to(x).expand(n, *_grid(x)).reshape(x.shape)

    def _squares(self, x: Tensor, query: int) -> Tensor:
        """One square of +-1 (a sign per channel) in zeros for every image, like `x`."""
        n, (c, h, w) = len(x), _grid(x)
        fraction = self.initial_fraction * 0.5 ** _halvings(query / self.queries)
        side = max(1, round((fraction * h * w) ** 0.5))
        tall, wide = min(h, side), min(w, side if h > 1 else max(1, round(fraction * w)))
        top = torch.randint(h - tall + 1, (n, 1), generator=self.rng)
        left = torch.randint(w - wide + 1, (n, 1), generator=self.rng)
        rows, columns = torch.arange(h) - top, torch.arange(w) - left
        inside = ((rows >= 0) & (rows < tall))[:, None, :, None] & ((columns >= 0) & (columns < wide))[:, None, None, :]
        return (inside.to(x) * _signs((n, c, 1, 1), self.rng).to(x)).reshape(x.shape)


def _grid(x: Tensor) -> tuple[int, int, int]:
    """(channels, height, width) of images; a vector is one row."""
    return (x.shape[1], x.shape[2], x.shape[3]) if x.ndim == 4 else (1, 1, x[0].numel())


def _signs(shape: tuple[int, ...], rng: Generator) -> Tensor:
    return torch.randint(2, shape, generator=rng) * 2 - 1


def _halvings(done: float) -> int:
    """How often the area of the squares has been halved: at the fractions of the search at which the authors do."""
    return sum(done > mark for mark in (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8))
