"""Images changed without an attacker: noise, blur, occlusion, low contrast, lost pixels, shifts, five severities.

After Hendrycks & Dietterich 2019 (ICLR), with kinds that small grey images can bear; lengths go with the image's side.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.data.masks import square_occlusions
from neuropil.errors import require, unknown
from neuropil.evaluate.metrics.accuracy import accuracy
from neuropil.evaluate.robustness.victim import victim_of

SEVERITIES = (1, 2, 3, 4, 5)
Change = Callable[[Tensor, float, Generator], Tensor]


class Corruption(NamedTuple):
    """One kind.

    Attributes:
        change: maps (n, channels, height, width), an amount and a generator to the corrupted images.
        amounts: of the five severities.
    """

    change: Change
    amounts: tuple[float, float, float, float, float]


def noise(x: Tensor, amount: float, rng: Generator) -> Tensor:
    """N(0, amount^2) on every pixel."""
    return x + amount * torch.randn(x.shape, generator=rng).to(x)


def blur(x: Tensor, amount: float, rng: Generator) -> Tensor:
    """A Gaussian of width `amount` times the side; edges are mirrored."""
    spread = amount * x.shape[-1]
    reach = min(max(1, math.ceil(3 * spread)), min(x.shape[-2:]) - 1)
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / spread) ** 2).to(x)
    kernel = (bell / bell.sum()).expand(x.shape[1], 1, -1)
    padded = F.pad(x, [reach] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[..., None, :], groups=len(kernel)), kernel[..., None], groups=len(kernel))


def occlusion(x: Tensor, amount: float, rng: Generator) -> Tensor:
    """A black square, `amount` of the side wide, somewhere inside."""
    return x.masked_fill(square_occlusions(len(x), x.shape[1:], amount, rng).to(x.device), 0)


def contrast(x: Tensor, amount: float, rng: Generator) -> Tensor:
    """Every image moved towards its mean, to `1 - amount` of its contrast."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (1 - amount) * (x - mean)


def lost_pixels(x: Tensor, amount: float, rng: Generator) -> Tensor:
    """A fraction of the pixels is black."""
    left = torch.rand(len(x), 1, *x.shape[2:], generator=rng) >= amount
    return x * left.to(x)


def shift(x: Tensor, amount: float, rng: Generator) -> Tensor:
    """Moved by `amount` of the side in a random direction for each image, with black behind; bilinear."""
    angle = 2 * math.pi * torch.rand(len(x), generator=rng)
    there = torch.stack([angle.cos(), angle.sin()], 1) * 2 * amount  # the side is 2 long in these coordinates
    motion = torch.cat([torch.eye(2).expand(len(x), 2, 2), there[..., None]], 2)
    grid = F.affine_grid(motion, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid.to(x), padding_mode="zeros", align_corners=False)


CORRUPTIONS = {
    "noise": Corruption(noise, (0.05, 0.1, 0.2, 0.3, 0.45)),
    "blur": Corruption(blur, (0.02, 0.04, 0.06, 0.09, 0.12)),
    "occlusion": Corruption(occlusion, (0.2, 0.3, 0.4, 0.5, 0.6)),
    "contrast": Corruption(contrast, (0.4, 0.6, 0.75, 0.85, 0.92)),
    "lost pixels": Corruption(lost_pixels, (0.1, 0.2, 0.35, 0.5, 0.7)),
    "shift": Corruption(shift, (0.04, 0.08, 0.12, 0.16, 0.2)),
}


def corrupted(split: Split, kind: str, severity: int, rng: Generator) -> Split:
    """`split` with every image corrupted, back in [0, 1].

    Args:
        kind: one of `CORRUPTIONS`.
        severity: 1 to 5.
        rng: of noise, places and directions.

    Raises:
        Refusal: an unknown kind, another severity, or examples that are no images.

    >>> images = Split(torch.ones(2, 1, 10, 10), torch.zeros(2).long(), 1)
    >>> black = corrupted(images, "occlusion", 3, torch.Generator().manual_seed(0)).x == 0
    >>> black.sum((1, 2, 3))
    tensor([16, 16])
    """
    if kind not in CORRUPTIONS:
        raise unknown("corruption", kind, CORRUPTIONS)
    require(severity in SEVERITIES, f"a corruption has the severities 1 to 5, got {severity}.")
    require(split.x.ndim == 4, f"a corruption needs images (n, channels, height, width), got {tuple(split.x.shape)}.")
    change, amounts = CORRUPTIONS[kind]
    return Split(change(split.pixels(), amounts[severity - 1], rng).clamp(0, 1), split.y, split.classes)


def accuracy_under_corruption(learner: Any, test: Split, *, seed: int = 0) -> Iterator[tuple[str, int, float]]:
    """(kind, severity, accuracy) for every corruption of `test`, the same for every learner with the same `seed`."""
    victim = victim_of(learner, test.classes)
    for kind in CORRUPTIONS:
        for severity in SEVERITIES:
            rng = torch.Generator().manual_seed(seed)
            yield kind, severity, accuracy(victim, corrupted(test, kind, severity, rng))
