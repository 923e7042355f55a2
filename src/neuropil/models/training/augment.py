"""Images moved a little, afresh in every epoch: what is learned no longer depends on where exactly a stroke lies."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from neuropil.errors import needs, needs_numbers, require
from neuropil.models.description import savable

Augment = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class Mirror:
    """Left and right exchanged, for a random fraction of the images.

    Attributes:
        probability: of every image to be mirrored, in [0, 1].
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, 0 <= self.probability <= 1, "a probability from 0 to 1")

    def __call__(self, x: Tensor, rng: Generator) -> Tensor:
        """(n, channels, height, width) to the same shape, at random by `rng`."""
        require(x.ndim == 4, f"Mirror needs images (n, channels, height, width), got {tuple(x.shape)}.")
        chosen = torch.rand(len(x), 1, 1, 1, generator=rng) < self.probability
        return torch.where(chosen.to(x.device), x.flip(-1), x)


@dataclass(frozen=True)
class Distort:
    """Each image rotated, scaled, sheared, shifted and gently bent, all by random amounts, by bilinear interpolation.

    What comes from outside an image is 0.

    Attributes:
        rotation: largest angle, degrees.
        scale: largest factor by which either axis grows or shrinks is exp(scale).
        shear: largest horizontal shift per height.
        shift: largest shift along either axis, pixels.
        bend: standard deviation, pixels, of the shifts of a 7 x 7 grid of points. All others are interpolated
            (Simard et al. 2003, ICDAR, bend more finely).
    """

    rotation: float = 12.0
    scale: float = 0.12
    shear: float = 0.1
    shift: float = 1.5
    bend: float = 0.0

    def __post_init__(self) -> None:
        needs_numbers(self)
        sizes = (self.rotation, self.scale, self.shear, self.shift, self.bend)
        needs(self, all(0 <= size < math.inf for size in sizes), "finite sizes >= 0")

    def __call__(self, x: Tensor, rng: Generator) -> Tensor:
        """(n, channels, height, width) to the same shape, at random by `rng`."""
        require(x.ndim == 4, f"Distort needs images (n, channels, height, width), got {tuple(x.shape)}.")
        n, _, height, width = x.shape
        if not n:
            return x

        def spread(most: float) -> Tensor:
            return (2 * torch.rand(n, generator=rng, device=rng.device) - 1) * most

        angle, shear = spread(math.radians(self.rotation)), spread(self.shear)
        tall, wide = spread(self.scale).exp(), spread(self.scale).exp()
        down, right = spread(self.shift), spread(self.shift)
        cos, sin = angle.cos(), angle.sin()
        across = torch.stack([wide * cos, (shear - tall * sin) * height / width, right * 2 / width], 1)
        along = torch.stack([wide * sin * width / height, tall * cos, down * 2 / height], 1)
        grid = F.affine_grid(torch.stack([across, along], 1), list(x.shape), align_corners=False)
        if self.bend:
            bends = torch.randn(n, 2, 7, 7, generator=rng, device=rng.device) * self.bend
            bends = F.interpolate(bends, (height, width), mode="bicubic").permute(0, 2, 3, 1)
            grid = grid + bends * 2 / torch.tensor([width, height], device=rng.device)
        return F.grid_sample(x, grid.to(x), align_corners=False)


savable(Mirror, Distort)
