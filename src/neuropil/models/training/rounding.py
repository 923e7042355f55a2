"""Weights that have few bits while they learn: they are rounded after every step of an optimiser."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from neuropil.errors import require


def to_levels(weight: Tensor, largest: float, bits: int, rng: Generator | None = None) -> Tensor:
    r"""`weight` on :math:`2^{bits} - 1` even levels from -`largest` to `largest`.

    With `rng` every value goes to one of the two levels around it, the nearer one more often. The probability of the
    upper one is :math:`(w - \lfloor w \rfloor) / s`, with s the distance of two levels. So the mean is the value
    itself: a step too small to reach the next level is taken rarely, and not lost. Without `rng` the nearest level is
    taken. Beyond the outermost levels values are cut off. Gupta et al. 2015, arXiv 1502.02551.

    Args:
        weight: any shape.
        largest: the outermost level, above 0.
        bits: at least 2.
        rng: of stochastic rounding; None for the nearest level.

    Raises:
        Refusal: fewer bits, or no positive outermost level.

    >>> to_levels(torch.tensor([-3.0, 0.3, 0.6]), 1.0, 2)
    tensor([-1.,  0.,  1.])
    >>> to_levels(torch.full((10000,), 0.3), 1.0, 2, torch.Generator().manual_seed(0)).mean()
    tensor(0.3056)
    """
    require(bits >= 2, f"levels need bits >= 2, got {bits}.")
    require(largest > 0, f"levels need an outermost one above 0, got {largest}.")
    steps = 2 ** (bits - 1) - 1
    scaled = weight * (steps / largest)
    if rng is None:
        whole = scaled.round()
    else:
        whole = (scaled + torch.rand(weight.shape, generator=rng, device=rng.device).to(weight)).floor()
    found: Tensor = whole.clamp(-steps, steps) * (largest / steps)
    return found


@contextmanager
def weights_seen() -> Iterator[list[Tensor]]:
    """Meanwhile every weight with two axes or more that an optimiser takes a step of, in the order of the first steps.

    >>> layer = torch.nn.Linear(3, 2)
    >>> layer.weight.grad = torch.ones(2, 3)
    >>> with weights_seen() as weights:
    ...     torch.optim.SGD(layer.parameters(), lr=0.1).step()
    >>> weights[0] is layer.weight, len(weights)
    (True, 1)
    """
    found: dict[int, Tensor] = {}
    seen: list[Tensor] = []

    def look(optimizer: Optimizer, *_: Any) -> None:
        for weight in _weights(optimizer):
            if id(weight) not in found:
                found[id(weight)] = weight
                seen.append(weight)

    handle = register_optimizer_step_post_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def few_bits(bits: int, largest: Sequence[float], rng: Generator | None = None) -> Iterator[None]:
    """Meanwhile every optimiser rounds the weights of two axes or more after each step, see `to_levels`.

    Biases, activity, and what an optimiser remembers keep their precision.

    Args:
        bits: of a weight, at least 2.
        largest: outermost levels, one for each weight, in the order of `weights_seen`.
        rng: of stochastic rounding; None for the nearest level.

    Raises:
        Refusal: more weights than outermost levels, or what `to_levels` refuses.

    >>> layer = torch.nn.Linear(3, 2)
    >>> layer.weight.grad = torch.ones(2, 3)
    >>> with few_bits(2, [0.5]):
    ...     torch.optim.SGD(layer.parameters(), lr=1.0).step()
    >>> layer.weight.unique().tolist()
    [-0.5]
    """
    kept: dict[int, tuple[Tensor, float]] = {}  # with the weight, so that its id is no other's

    def round_(optimizer: Optimizer, *_: Any) -> None:
        for weight in _weights(optimizer):
            if id(weight) not in kept:
                require(len(kept) < len(largest), f"there are outermost levels of {len(largest)} weights, and more.")
                kept[id(weight)] = weight, largest[len(kept)]
            weight.copy_(to_levels(weight, kept[id(weight)][1], bits, rng))

    handle = register_optimizer_step_post_hook(torch.no_grad()(round_))
    try:
        yield
    finally:
        handle.remove()


def _weights(optimizer: Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from (weight for weight in group["params"] if weight.ndim >= 2)
