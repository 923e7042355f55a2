"""Which pixels of an image are known: halves, rectangles, random pixels. 1 or True where a pixel is known."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from neuropil.errors import require, unknown

MASKS = ("top", "bottom", "left", "right", "centre", "frame", "random", "none")


def image_mask(known: str, shape: Sequence[int], rng: Generator | None = None) -> Tensor:
    """(channels, height, width) of 0 and 1: the mask of that name for one image.

    Args:
        known: what is known. Halves are "top", "bottom", "left" and "right". The middle half of each side is "centre",
            all but that "frame". Half of the pixels is "random", nothing "none".
        shape: (channels, height, width).
        rng: of the random pixels; the other masks need none.

    Raises:
        Refusal: a name that is not one of `MASKS`.

    Examples:
        >>> image_mask("top", (1, 2, 3))
        tensor([[[1., 1., 1.],
                 [0., 0., 0.]]])
    """
    _, height, width = shape
    if known not in MASKS:
        raise unknown("mask", known, MASKS)
    if known in MASKS[:4]:
        return halves(shape)[MASKS.index(known)].view(*shape)
    mask = torch.zeros(height, width)
    if known == "random":
        mask = (torch.rand(height, width, generator=rng) < 0.5).float()
    if known in ("centre", "frame"):
        mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return (1 - mask if known == "frame" else mask).expand(*shape)


def halves(shape: Sequence[int]) -> Tensor:
    """(4, units) of 0 and 1: the upper, the lower, the left and the right half of an image."""
    _, height, width = shape
    down, across = torch.arange(height)[:, None], torch.arange(width)[None, :]
    top, left = (down < height // 2).expand(height, width), (across < width // 2).expand(height, width)
    return torch.stack([half.expand(*shape).flatten() for half in (top, ~top, left, ~left)]).float()


def random_masks(n: int, shape: torch.Size, rng: Generator, *, occlusion_probability: float = 0.0) -> Tensor:
    """(n, units) of 0 and 1: a fraction u^2 of the units is known, with u uniform in [0, 1] for each row.

    Masks that leave little known are thus more frequent than masks that leave much.
    For images, which have three axes, about half of the rows become halves, and then some all but a rectangle.

    Args:
        n: number of masks.
        shape: of one example.
        rng: of all random choices.
        occlusion_probability: of a row to be all but a rectangle; see `rectangle_occlusions`.

    Raises:
        Refusal: occlusions of examples that are no images.
    """
    fits = len(shape) == 3 or not occlusion_probability
    got = f"got examples of shape {tuple(shape)}; use occlusion_probability=0."
    require(fits, f"only images can be occluded by rectangles, {got}")
    units = shape.numel()
    fraction = torch.rand(n, 1, generator=rng, device=rng.device).square()
    mask = (torch.rand(n, units, generator=rng, device=rng.device) < fraction).float()
    if len(shape) == 3:
        which = torch.randint(8, (n,), generator=rng, device=rng.device)
        half = which < 4
        mask[half] = halves(shape).to(mask)[which[half]]
        if occlusion_probability:
            hidden = torch.rand(n, generator=rng, device=rng.device) < occlusion_probability
            mask[hidden] = rectangle_occlusions(int(hidden.sum()), shape, rng).to(mask)
    return mask


def rectangle_occlusions(n: int, shape: Sequence[int], rng: Generator) -> Tensor:
    """(n, units) of 0 and 1: all of an image but one rectangle, of random size and place.

    Each side of the rectangle is from a quarter to three quarters of the image's.
    """
    spans = []
    for size in shape[1:]:
        length, start = torch.rand(2, n, 1, generator=rng, device=rng.device)
        length = (size * (length + 0.5) / 2).round()
        start = (start * (size - length)).round()
        spans.append((start, length))
    return (~rectangles(spans, shape).expand(n, *shape)).flatten(1).float()


def square_occlusions(n: int, shape: Sequence[int], side_fraction: float, rng: Generator) -> Tensor:
    """(n, 1, height, width) of bool: True within a square of random place; its side is `side_fraction` of the image's.

    The place is taken on the CPU, as `rng` is.
    """
    spans = []
    for size in shape[1:]:
        length = max(1, round(side_fraction * size))
        spans.append((torch.randint(size - length + 1, (n, 1), generator=rng), torch.tensor(length)))
    return rectangles(spans, shape)


def rectangles(spans: Sequence[tuple[Tensor, Tensor]], shape: Sequence[int]) -> Tensor:
    """(n, 1, height, width) of bool, True within a rectangle; `spans` are (start, length) down and across, (n, 1)."""
    inside = []
    for size, (start, length) in zip(shape[1:], spans):
        where = torch.arange(size, device=start.device)
        inside.append((where >= start) & (where < start + length))
    down, across = inside
    return down[:, None, :, None] & across[:, None, None, :]
