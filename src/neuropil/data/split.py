"""Examples and their labels on one device: the one type that data set, batch and subset share."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from neuropil.errors import Refusal, require


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images or feature vectors with their labels, on one device. An example may lack its label.

    Attributes:
        x: images (n, channels, height, width), uint8 as stored or float32 in [0, 1];
            or vectors (n, features), float32, any finite value.
        y: labels (n,), int64, 0 <= y < classes; -1 where an example has no label.
        classes: number of classes.

    Raises:
        Refusal: a shape, dtype, pixel or label that is not as above.

    Examples:
        >>> split = Split(torch.rand(4, 1, 8, 8), torch.tensor([2, -1, 0, -1]), classes=3)
        >>> split
        Split(4 examples of (1, 8, 8), 3 classes, 2 without a label)
        >>> split.labelled().y
        tensor([2, 0])
    """

    x: Tensor
    y: Tensor
    classes: int

    def __post_init__(self) -> None:
        _check_form(self.x)
        _check_labels(self.x, self.y, self.classes)
        if self.x.dtype == torch.float32:
            _check_values(self.x)

    @classmethod
    def unlabelled(cls, x: Tensor, classes: int) -> "Split":
        """Examples `x` of which none has a label."""
        return cls(x, torch.full((len(x),), -1, device=x.device), classes)

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        missing = int((self.y < 0).sum())
        lacks = f", {missing} without a label" if missing else ""
        return f"Split({len(self)} examples of {tuple(self.x.shape[1:])}, {self.classes} classes{lacks})"

    def __getitem__(self, index: Any) -> "Split":
        """The examples at `index` (an int, a slice, a mask or indices), as a Split."""
        x, y = self.x[index], self.y[index]
        return self._with(x, y) if y.ndim else self._with(x[None], y[None])

    def to(self, device: torch.device | str) -> "Split":
        """The same examples on `device`."""
        return self._with(self.x.to(device), self.y.to(device))

    def labelled(self) -> "Split":
        """The examples that have a label; all of this split if all have.

        Raises:
            Refusal: no example has one.
        """
        has = self.y >= 0
        require(bool(has.any()), f"none of the {len(self)} examples has a label (y = -1), and labels are needed here.")
        return self if bool(has.all()) else self[has]

    def check_labelled(self, who: str) -> None:
        """Refuse on behalf of `who` if an example has no label."""
        missing = int((self.y < 0).sum())
        lacks = f"{missing} of {len(self)} have none (y = -1); use split.labelled()."
        require(missing == 0, f"{who} needs a label for every example, but {lacks}")

    def pixels(self) -> Tensor:
        """x as float32: uint8 images divided by 255; anything else is x itself, so do not write into it."""
        return self.x.to(torch.float32).div_(255) if self.x.dtype == torch.uint8 else self.x

    def batches(self, size: int, *, shuffle: Generator | None = None) -> Iterator["Split"]:
        """Every example once, in order, or in the random order of `shuffle`.

        The batches are float32 as `pixels` gives them; the last one may be smaller.
        """
        message = f"a batch needs 1 to {len(self)} examples, got size={size}; the data have {len(self)}."
        require(1 <= size <= len(self), message)
        return self._batches(size, shuffle)

    def checksum(self) -> str:
        """sha256 of all pixels, labels, their shapes and dtypes, and the number of classes, on any device."""
        sha = hashlib.sha256(f"{self.classes}".encode())
        for part in (self.x, self.y):
            sha.update(f"{part.dtype}{tuple(part.shape)}".encode())
            sha.update(part.detach().cpu().contiguous().numpy().data)
        return sha.hexdigest()

    def _batches(self, size: int, shuffle: Generator | None) -> Iterator["Split"]:
        if shuffle is None:
            parts = (self[start : start + size] for start in range(0, len(self), size))
        else:
            order = torch.randperm(len(self), generator=shuffle, device=shuffle.device).to(self.x.device)
            parts = (self._rows(index) for index in order.split(size))
        for part in parts:
            yield part._with(part.pixels(), part.y)

    def _rows(self, index: Tensor) -> "Split":
        """`self[index]` for indices from 0 on, ten times as fast: whole rows are copied."""
        return self._with(self.x.index_select(0, index), self.y.index_select(0, index))

    def _with(self, x: Tensor, y: Tensor) -> "Split":
        """A part of checked data needs no second check, which would stall a GPU at every batch."""
        part = object.__new__(Split)
        part.__dict__.update(x=x, y=y, classes=self.classes)
        return part


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """(rest, held): two disjoint splits in random order, `fraction` of the examples in `held`.

    Stratified: the number held of each class is within one example of its exact fraction. Examples without a label
    count as one more class. The same seed gives the same splits.

    Raises:
        Refusal: a fraction outside (0, 1), or a class too small to be on both sides.

    Examples:
        >>> rest, held = hold_out(Split(torch.rand(10, 2), torch.arange(10) % 2, 2), 0.2, seed=0)
        >>> len(rest), len(held)
        (8, 2)
    """
    require(0 < fraction < 1, f"hold_out needs 0 < fraction < 1, got fraction={fraction}.")
    counts = _counts(split)
    held = _apportion(counts.double() * fraction, round(fraction * len(split)))
    for label in ((counts > 0) & ((held == 0) | (held == counts))).nonzero().flatten().tolist()[:1]:
        needed = f"hold_out(fraction={fraction}) needs examples of every class on both sides"
        got = f"{_stratum(label, split)} has {counts[label]} and would have {held[label]} held out"
        raise Refusal(f"{needed}, but {got}; take another fraction or more data.")
    first, others = _choose(split, held, seed)
    return split._rows(others), split._rows(first)


def relabel(split: Split, labels: Sequence[int]) -> Split:
    """The examples with the label ``labels[c]`` in place of the class c; those of a class that becomes -1 are left out.

    >>> digits = Split(torch.rand(3, 4), torch.tensor([4, 7, 9]), 10)
    >>> relabel(digits, [-1, -1, -1, -1, 0, -1, -1, -1, -1, 1]).y
    tensor([0, 1])
    """
    require(len(labels) == split.classes, f"relabel needs {split.classes} labels, got {len(labels)}.")
    split.check_labelled("relabel")
    y = torch.tensor(labels, device=split.y.device)[split.y]
    return Split(split.x[y >= 0], y[y >= 0], max(labels) + 1)


def subset(split: Split, n: int, seed: int) -> Split:
    """`n` examples in random order, the number of each class within one of its exact fraction; fixed by `seed`.

    Examples without a label count as one more class.

    Raises:
        Refusal: more examples than there are, or so few that a class would have none.

    Examples:
        >>> subset(Split(torch.rand(10, 2), torch.arange(10) % 2, 2), 4, seed=0).y.sort().values
        tensor([0, 0, 1, 1])
    """
    require(1 <= n <= len(split), f"subset needs 1 <= n <= {len(split)} (the data), got n={n}.")
    counts = _counts(split)
    taken = _apportion(counts.double() * n / len(split), n)
    for label in ((counts > 0) & (taken == 0)).nonzero().flatten().tolist()[:1]:
        lost = f"{_stratum(label, split)}, which has {counts[label]} of {len(split)}"
        fewest = -(-len(split) // int(counts[label]))
        raise Refusal(f"subset(n={n}) leaves no example of {lost}; take n >= {fewest}.")
    return split._rows(_choose(split, taken, seed)[0])


def _strata(split: Split) -> Tensor:
    """(n,) the class of each example, and `classes` where it has no label."""
    y = split.y.cpu()
    return torch.where(y < 0, split.classes, y)


def _stratum(label: int, split: Split) -> str:
    return f"class {label}" if label < split.classes else "the group without a label"


def _counts(split: Split) -> Tensor:
    return torch.bincount(_strata(split), minlength=split.classes)


def _apportion(exact: Tensor, total: int) -> Tensor:
    """Whole numbers that sum to `total`, each within one of `exact`, by largest remainder."""
    shares = exact.floor().long()
    order = (exact - shares).sort(descending=True, stable=True).indices
    shares[order[: total - int(shares.sum())]] += 1
    return shares


def _choose(split: Split, wanted: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of `wanted[c]` examples of each class c, and of all others, both in random order."""
    order = torch.randperm(len(split), generator=Generator().manual_seed(seed))
    labels = _strata(split)[order]
    taken = torch.zeros(len(split), dtype=torch.bool)
    for label, count in enumerate(wanted.tolist()):
        taken[(labels == label).nonzero().flatten()[:count]] = True
    return order[taken].to(split.y.device), order[~taken].to(split.y.device)


def _check_form(x: Tensor) -> None:
    shape, dtype = tuple(x.shape), str(x.dtype).removeprefix("torch.")
    fits = x.ndim in (2, 4) and (x.dtype == torch.float32 or (x.ndim == 4 and x.dtype == torch.uint8))
    needed = "images (n, channels, height, width) in uint8 or float32, or vectors (n, features) in float32"
    cure = "; add the channel axis with x[:, None]." if x.ndim == 3 else "."
    require(fits, f"x needs {needed}, got {shape} in {dtype}{cure}")
    require(x.numel() > 0, f"a split needs at least one example and one value in it, got x of {shape}.")
    if x.ndim == 4 and shape[1] > 4 and shape[2] > 4 and shape[3] <= 4:
        looks = f"which has {shape[1]} channels and looks channels-last; use x.permute(0, 3, 1, 2)."
        raise Refusal(f"images need (n, channels, height, width), got {shape}, {looks}")


def _check_labels(x: Tensor, y: Tensor, classes: int) -> None:
    message = f"y needs labels (n,) in int64, got {tuple(y.shape)} in {str(y.dtype).removeprefix('torch.')}."
    require(y.ndim == 1 and y.dtype == torch.int64, message)
    require(len(x) == len(y), f"a split needs one label per example, got {len(x)} examples and {len(y)} labels.")
    require(x.device == y.device, f"a split lies on one device, got x on {x.device} and y on {y.device}.")
    low, high = (int(value) for value in y.aminmax())
    message = f"labels need 0 <= y < classes={classes}, or -1 where there is none, got {low} to {high}."
    require(low >= -1 and high < classes, message)


def _check_values(x: Tensor) -> None:
    low, high = (float(value) for value in x.aminmax())  # both are NaN if any value is
    if not (low > -torch.inf and high < torch.inf):
        bad = x.isfinite().logical_not().flatten(1).any(1).nonzero().flatten()
        where = f"{len(bad)} of {len(x)} examples, first in example {bad[0]}"
        raise Refusal(f"x needs finite values, got NaN or infinity in {where}.")
    message = f"float32 images need pixels in [0, 1], got {low:.4g} to {high:.4g}; keep uint8, or divide by 255."
    require(x.ndim == 2 or (low >= 0 and high <= 1), message)
