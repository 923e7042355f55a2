"""How far an image was moved, and the nearest image that was not moved too far."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from neuropil.errors import Refusal, needs_numbers, require


@dataclass(frozen=True)
class Norm(ABC):
    """A way to measure a change of an image, and the range that pixels have.

    Attributes:
        low, high: the range; images have 0 and 1, vectors that know no bounds have -inf and inf.
    """

    name: ClassVar[str]
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        needs_numbers(self)
        who, fine = type(self).__name__, self.low < self.high
        require(fine, f"{who} needs a range of pixels with low < high, got low={self.low:g} and high={self.high:g}.")

    @abstractmethod
    def length(self, change: Tensor) -> Tensor:
        """(n, *shape) to (n,): the size of each change."""

    @abstractmethod
    def clip(self, x: Tensor, adversarial: Tensor, size: float | Tensor) -> Tensor:
        """The nearest point to `adversarial` that lies within `size` (or (n,) sizes) of `x` and in the range."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The change of size 1 along which `gradient` (n, *shape) promises most; no change where it is zero."""

    @abstractmethod
    def random(self, x: Tensor, size: float, rng: Generator) -> Tensor:
        """A random change of `x` (n, *shape), of `size`."""

    @abstractmethod
    def level(self, size: float, pixels: int) -> float:
        """How far every one of `pixels` moves in a change of `size` that moves all alike."""


def check_size(size: float) -> None:
    """Refuse a budget that is none."""
    require(0 <= size < math.inf, f"a budget needs a finite size of at least 0, got {size}.")


def check_budget(norm: Norm, size: float, x: Tensor) -> None:
    """Refuse a budget for the examples `x` (n, *shape) that is none, or larger than any change within their range."""
    check_size(size)
    most = (norm.high - norm.low) / norm.level(1.0, x[0].numel())
    if size > most * (1 + 1e-6):
        ends, cure = f"[{norm.low:g}, {norm.high:g}]", "if it counts grey levels, divide it by 255"
        raise Refusal(f"a budget in {norm.name} needs at most {most:g} on values in {ends}, got {size:g}; {cure}.")


def _each(size: float | Tensor, x: Tensor) -> Tensor:
    """(n, 1, ...): the budget of every one of `x`, checked."""
    if not isinstance(size, Tensor):
        check_size(size)
        size = torch.full((len(x),), size, dtype=x.dtype)
    return size.to(x).view(-1, *[1] * (x.ndim - 1))


class Linf(Norm):
    """The largest change of any pixel.

    >>> Linf().clip(torch.tensor([[0.1, 0.5]]), torch.tensor([[-0.3, 0.9]]), 0.2)
    tensor([[0.0000, 0.7000]])
    """

    name = "Linf"

    def length(self, change: Tensor) -> Tensor:
        """max |d|, (n, *shape) to (n,)."""
        return change.abs().flatten(1).amax(1)

    def clip(self, x: Tensor, adversarial: Tensor, size: float | Tensor) -> Tensor:
        """Pixel by pixel: the nearest value within `size` of `x` and within the range."""
        budget = _each(size, x)
        low, high = (x - budget).clamp_(min=self.low), (x + budget).clamp_(max=self.high)
        return torch.minimum(torch.maximum(adversarial, low, out=low), high, out=low)

    def steepest(self, gradient: Tensor) -> Tensor:
        """sign(g)."""
        return gradient.sign()

    def random(self, x: Tensor, size: float, rng: Generator) -> Tensor:
        """Every pixel moves by a number from the uniform distribution on [-size, size]."""
        return torch.rand(x.shape, generator=rng).mul_(2 * size).sub_(size).to(x)

    def level(self, size: float, pixels: int) -> float:
        """`size`."""
        return size


class L2(Norm):
    """The Euclidean length of the change of all pixels.

    >>> L2().length(torch.tensor([[3.0, 4.0]]))
    tensor([5.])
    """

    name = "L2"

    def length(self, change: Tensor) -> Tensor:
        """sqrt(sum d^2)."""
        return torch.linalg.vector_norm(change.flatten(1), dim=1)

    def clip(self, x: Tensor, adversarial: Tensor, size: float | Tensor) -> Tensor:
        r"""The exact projection on ball and range together.

        It is :math:`\mathrm{clamp}(x + s\,(m - x))` with the largest s <= 1 that keeps it in the ball. The pixels that
        reach the end of the range stay there, the others shrink alike. The search starts at s = size / |m - x|, which
        is never too long. It solves for s as if no further pixel reached an end, until none does.
        """
        flat, budget = x.flatten(1), _each(size, x).flatten(1)
        nearest, rows = torch.empty_like(flat), len(x) if x.is_cuda else max(1, BLOCK // flat.shape[1])
        for chunks in zip(*(one.split(rows) for one in (flat, adversarial.flatten(1), budget, nearest))):
            self._clip_(*chunks)
        return nearest.view_as(x)

    def _clip_(self, x: Tensor, adversarial: Tensor, budget: Tensor, nearest: Tensor) -> None:
        """The projections of some rows (n, pixels) into `nearest`."""
        change = torch.sub(adversarial, x, out=nearest)
        far, room = change.abs(), self._room(x, change)
        over = torch.linalg.vector_norm(torch.minimum(far, room), dim=1, keepdim=True) > budget
        if bool(over.any()):  # the others only have to stay in the range
            change.mul_(torch.where(over, _shrink(far, room, budget), 1))
        change.add_(x).clamp_(self.low, self.high)

    def _room(self, x: Tensor, change: Tensor) -> Tensor:
        """How far every pixel may go in the direction of its change."""
        if math.isinf(self.low) or math.isinf(self.high):
            return torch.where(change > 0, self.high - x, x - self.low)
        up = change.sign().clamp_(min=0)  # a tenth of the time of torch.where
        return up.mul_(self.high - self.low).add_(self.low).sub_(x).abs_()

    def steepest(self, gradient: Tensor) -> Tensor:
        """g / |g|; divided by its largest entry first, so that small gradients do not underflow."""
        flat = gradient.flatten(1)
        top = flat.abs().amax(1, keepdim=True)
        flat = flat / torch.where(top > 0, top, 1)
        length = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        return (flat / torch.where(length > 0, length, 1)).view_as(gradient)

    def random(self, x: Tensor, size: float, rng: Generator) -> Tensor:
        """A direction from the uniform distribution on the sphere."""
        return self.steepest(torch.randn(x.shape, generator=rng)).mul_(size).to(x)

    def level(self, size: float, pixels: int) -> float:
        """size / sqrt(pixels)."""
        return size / math.sqrt(pixels)


BLOCK = 2**17  # values that are projected at once, so that they stay in the cache


def _shrink(far: Tensor, room: Tensor, size: Tensor) -> Tensor:
    """(n, 1): the s at which sum min(s far, room)^2 = size^2, for each row of (n, pixels); for rows that need one."""
    ways = far.square()
    ends = room.square().masked_fill_(room.isinf(), 0)  # where there is infinite room, the end is never met
    s, stuck, before = torch.zeros_like(size), room.clone().le_(0), -1.0
    while True:
        left = (size.square() - torch.linalg.vecdot(ends, stuck)[:, None]).clamp_(min=0)
        moves = torch.linalg.vecdot(ways, 1 - stuck)[:, None]
        s = torch.maximum(s, torch.where(moves > 0, left / torch.where(moves > 0, moves, 1), 0).sqrt_())
        stuck = torch.mul(far, s).ge_(room)
        now = float(stuck.sum(dtype=torch.float64))
        if now == before:
            return s
        before = now
