"""What an associative network refuses."""

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.errors import require


def check_pixels(x: Tensor) -> Tensor:
    """`x` if it lies in [0, 1], as activity does."""
    if not len(x):
        return x
    low, high = (float(value) for value in x.aminmax())
    require(
        low >= 0 and high <= 1,  # false for NaN
        f"an associative network needs pixels in [0, 1], got {low:.4g} to {high:.4g}; scale them, or divide by 255.",
    )
    return x


def check_examples(train: Split) -> None:
    """Refuse vectors outside of [0, 1]; images lie in it."""
    if train.x.ndim == 2:
        check_pixels(train.x)


def check_mask(mask: Tensor, x: Tensor) -> Tensor:
    """`mask` as (n, *shape), 0 and 1."""
    whole, one, got = tuple(x.shape), tuple(x.shape[1:]), tuple(mask.shape)
    fits = f"the shape of the images {whole} or of one of them {one}"
    require(got in (whole, one), f"a mask needs {fits}, got {got}.")
    binary = mask.dtype == torch.bool or bool(((mask == 0) | (mask == 1)).all())
    require(binary, "a mask needs 1 (known) or 0 (missing) for every pixel, got other values.")
    return mask.to(x.device).expand(x.shape)


def check_labels(labels: Tensor, classes: int, n: int) -> Tensor:
    """`labels` if they are (n,) int64 in [-1, classes); -1 stands for unknown."""
    form = labels.ndim == 1 and len(labels) == n and labels.dtype == torch.int64
    kind = str(labels.dtype).removeprefix("torch.")
    require(form, f"labels need one int64 per image, ({n},), got {tuple(labels.shape)} in {kind}.")
    if n:
        low, high = (int(value) for value in labels.aminmax())
        require(low >= -1 and high < classes, f"labels need 0 to {classes - 1}, or -1 if unknown, got {low} to {high}.")
    return labels
