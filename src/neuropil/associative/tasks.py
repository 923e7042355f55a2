"""What a trial gives, what it asks for, and which synapses its teacher event may change."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from neuropil.errors import require, unknown

Taught = Literal["label", "pixels"]


@dataclass(frozen=True)
class Trial:
    """One kind of trial: some visible units are given, the network settles, a teacher shows the others.

    Attributes:
        taught: the group that the teacher shows: "label" or "pixels".
        given: which pixels are given: "all", or "part", a random part of random size, drawn afresh for every image.
        labels: share of the labels, where there are any, that are given if pixels are taught.
        rate: factor of the learning rates.
        occluded: share of the parts of images that are all but a rectangle, see `occlusions`.
        own: if labels are taught, an image without one is taught the label that the network itself settles on, provided
            that this unit leads all others by so much; None leaves such images out. The image is named as it is, and
            then taught as `AssociativeTraining.augment` changes it.
    """

    taught: Taught
    given: Literal["all", "part"] = "part"
    labels: float = 1.0
    rate: float = 1.0
    occluded: float = 0.0
    own: float | None = None

    def __post_init__(self) -> None:
        for word, known in ((self.taught, ("label", "pixels")), (self.given, ("all", "part"))):
            if word not in known:
                raise unknown("word of a trial", word, known)
        require(self.taught == "label" or self.given == "part", "pixels that are all given cannot be taught.")
        require(0 <= self.labels <= 1 and self.rate > 0, f"a trial needs 0 <= labels <= 1 and rate > 0, got {self}.")
        require(0 <= self.occluded <= 1, f"a trial needs 0 <= occluded <= 1, got occluded={self.occluded}.")
        fits = self.own is None or (self.taught == "label" and 0 <= self.own < 1)
        require(fits, f"own labels need a trial that teaches the label and a lead in [0, 1), got {self}.")


NAME = Trial("label", "all")
NAME_PART = Trial("label", "part")
DRAW = Trial("pixels", "part")


def random_part(batch: int, shape: torch.Size, rng: Generator, *, halves: float = 0.5, occluded: float = 0.0) -> Tensor:
    """(batch, units) of 0 and 1: the units that are given, a share u^2 of them, u drawn for each row from [0, 1].

    What is hard, much from little, is thus seen more often than what is easy.

    In images, that is for three axes, a share `halves` of the rows gives the upper, lower, left or right half instead;
    after that a share `occluded` of all rows gives all but a rectangle.
    """
    require(
        len(shape) == 3 or not occluded,
        f"rectangles can be hidden in images alone, got examples of shape {tuple(shape)}; use occluded=0.",
    )
    units = shape.numel()
    share = torch.rand(batch, 1, generator=rng, device=rng.device).square()
    mask = (torch.rand(batch, units, generator=rng, device=rng.device) < share).float()
    if len(shape) == 3:
        which = torch.randint(round(4 / halves), (batch,), generator=rng, device=rng.device)
        inside = which < 4
        mask[inside] = half_images(shape).to(mask)[which[inside]]
        if occluded:
            hidden = torch.rand(batch, generator=rng, device=rng.device) < occluded
            mask[hidden] = occlusions(int(hidden.sum()), shape, rng).to(mask)
    return mask


def occlusions(batch: int, shape: torch.Size, rng: Generator) -> Tensor:
    """(batch, units) of 0 and 1: all of an image but a rectangle, from a quarter to three quarters of it on each side.

    Size and place are drawn for every row.
    """
    inside = []
    for size in shape[1:]:
        length, start = torch.rand(2, batch, 1, generator=rng, device=rng.device)
        length = (size * (length + 0.5) / 2).round()
        start = (start * (size - length)).round()
        where = torch.arange(size, device=rng.device)
        inside.append((where >= start) & (where < start + length))
    down, across = inside
    rectangle = down[:, None, :, None] & across[:, None, None, :]
    return (~rectangle.expand(batch, *shape)).flatten(1).float()


def spikes(activity: Tensor, rng: Generator) -> Tensor:
    """0 or 1 for each unit, 1 with the probability that is its activity."""
    return (torch.rand(activity.shape, generator=rng, device=rng.device).to(activity) < activity).to(activity)


def half_images(shape: torch.Size) -> Tensor:
    """(4, units) of 0 and 1: the upper, the lower, the left and the right half of an image."""
    _, height, width = shape
    down, across = torch.arange(height)[:, None], torch.arange(width)[None, :]
    top, left = (down < height // 2).expand(height, width), (across < width // 2).expand(height, width)
    return torch.stack([part.expand(shape).flatten() for part in (top, ~top, left, ~left)]).float()
