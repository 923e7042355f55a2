"""Examples and their labels on one device: the one type that data set, batch and subset share."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from neuropil.data.arrays import collected, examples_of, labels_of, looks_channels_last, names_in
from neuropil.data.columns import Columns
from neuropil.data.images import class_folders, read_images
from neuropil.errors import Refusal, device_named, require, unknown

FEW_CLASSES = 1000  # so many may have no example where their number is not said


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images or feature vectors with their labels, on one device. An example may lack its label.

    Attributes:
        x: images (n, channels, height, width), uint8 as stored or float32 in [0, 1];
            or vectors (n, features), float32, any finite value.
        y: labels (n,), int64, 0 <= y < classes; -1 where an example has no label.
        classes: number of classes.
        names: what the classes are called, in the order of their labels; empty if nothing is known of it.
        channels_first: whether images that look channels-last, such as (n, 64, 5, 3), are meant as they are.
        columns: of a table whose rows were standardised, how; None if they are as they came.

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
    names: tuple[str, ...] = ()
    channels_first: bool = False
    columns: Columns | None = None

    def __post_init__(self) -> None:
        _check_form(self.x, guess=not self.channels_first)
        named = len(self.names) in (0, self.classes)
        require(named, f"a split needs a name for each of its {self.classes} classes, or none, got {self.names}.")
        check_labels(self.x, self.y, self.classes)
        if self.x.requires_grad:  # examples are data, also those that a network made
            object.__setattr__(self, "x", self.x.detach())
        if self.x.dtype == torch.float32:
            _check_values(self.x)

    @classmethod
    def unlabelled(cls, x: Tensor, classes: int) -> "Split":
        """Examples `x` of which none has a label."""
        return cls(x, torch.full((len(x),), -1, device=x.device), classes)

    @classmethod
    def from_numpy(
        cls,
        x: Any,
        y: Any,
        *,
        classes: int | None = None,
        names: Sequence[str] = (),
        channels_last: bool | None = None,
    ) -> "Split":
        """Examples and labels from numpy arrays, or from what numpy makes arrays of; they are copied.

        Args:
            x: grey images (n, height, width), or images (n, channels, height, width), uint8 or floats in [0, 1]; or
                vectors (n, features), any numbers.
            y: labels (n,): whole numbers from 0, -1 where there is none; or the names of the classes.
            classes: number of classes; as many as there are names, or 1 + the largest label, if it is not given.
            names: of the classes, in the order of their labels; sorted as in `y`, if that has names.
            channels_last: True for images (n, height, width, channels); False for images that look so and are not.

        Raises:
            Refusal: other shapes or types, NaN, images that look channels-last, a label that is no class.

        Examples:
            >>> import numpy as np
            >>> Split.from_numpy(np.zeros((3, 8, 8)), ["cat", "dog", "cat"]).names
            ('cat', 'dog')
        """
        labels, named = labels_of(y, names)
        high = int(labels.amax())
        counted = classes is not None or bool(named) or high < max(FEW_CLASSES, 2 * len(labels))
        cure = f"number the classes from 0, or say classes={high + 1}"
        require(counted, f"labels up to {high} of {len(labels)} examples would leave most classes empty; {cure}.")
        count = (len(named) or max(int(labels.amax()), 0) + 1) if classes is None else classes
        return cls(examples_of(x, channels_last=channels_last), labels, count, named, channels_last is not None)

    @classmethod
    def from_folder(
        cls, folder: Path | str, *, names: Sequence[str] = (), size: tuple[int, int] | None = None
    ) -> "Split":
        """The PNG and JPEG images in `folder/CLASS/`: uint8, (n, 1 or 3, height, width), classes sorted by name.

        Args:
            folder: has a folder for each class.
            names: of the classes, if others than the folders that are there, or in another order.
            size: (height, width) to which each image is resized; None if all have one size.

        Raises:
            Refusal: no folder or no image in it, images of several sizes, a file that is no image.
        """
        folder = Path(folder)
        found = class_folders(folder)
        for name in found:
            if names and name not in names:
                raise unknown(f"class in {folder}", name, names)
        files = [(path, name) for name, inside in found.items() for path in inside]
        require(bool(files), f"{folder} needs a folder with PNG or JPEG images for each class, found none.")
        images = read_images([path for path, _ in files], size)
        return cls.from_numpy(images, [name for _, name in files], names=names, channels_last=False)

    @classmethod
    def from_dataset(cls, data: Any, *, classes: int | None = None, names: Sequence[str] = ()) -> "Split":
        """All examples of a torch Dataset of pairs (example, label), or of a DataLoader; see `from_numpy`.

        Items may be mappings of an example and a ``label``, as those of Hugging Face are. The names of the classes are
        taken from its attribute `classes`, or from its features, if it has them. Leave out of its transforms what
        is random, and `Normalize`: images stay uint8, or in [0, 1].

        Examples:
            >>> from torch.utils.data import TensorDataset
            >>> Split.from_dataset(TensorDataset(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 1, 2])))
            Split(4 examples of (1, 8, 8), 3 classes)
        """
        return cls.from_numpy(*collected(data), classes=classes, names=names or names_in(data))

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
        """The same examples on `device`; one that this machine has not got is refused."""
        place = device_named(str(device))
        return self._with(self.x.to(place), self.y.to(place))

    def labelled(self) -> "Split":
        """The examples that have a label; all of this split if all have.

        Raises:
            Refusal: no example has one.
        """
        has = self.y >= 0
        require(bool(has.any()), f"none of the {len(self)} examples has a label (y = -1), and labels are needed here.")
        return self if bool(has.all()) else self[has]

    def check_labelled(self, who: str) -> None:
        """Refuse on behalf of `who` if an example has no label, or if there is none."""
        require(len(self) > 0, f"{who} needs examples, got a split of none.")
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
            parts = (self.rows(index) for index in order.split(size))
        for part in parts:
            yield part._with(part.pixels(), part.y)

    def rows(self, index: Tensor) -> "Split":
        """`self[index]` for indices from 0 on, ten times as fast: whole rows are copied."""
        return self._with(self.x.index_select(0, index), self.y.index_select(0, index))

    def _with(self, x: Tensor, y: Tensor) -> "Split":
        """A part of checked data needs no second check, which would stall a GPU at every batch."""
        part = object.__new__(Split)
        part.__dict__.update(vars(self) | {"x": x, "y": y})
        return part


def _check_form(x: Tensor, *, guess: bool) -> None:
    tensor = isinstance(x, Tensor)
    require(tensor, f"x needs a torch tensor, got {type(x).__name__}; use Split.from_numpy(x, y).")
    shape, dtype = tuple(x.shape), str(x.dtype).removeprefix("torch.")
    fits = x.ndim in (2, 4) and (x.dtype == torch.float32 or (x.ndim == 4 and x.dtype == torch.uint8))
    needed = "images (n, channels, height, width) in uint8 or float32, or vectors (n, features) in float32"
    cure = "; add the channel axis with x[:, None]." if x.ndim == 3 else "."
    require(fits, f"x needs {needed}, got {shape} in {dtype}{cure}")
    require(x.numel() > 0, f"a split needs at least one example and one value in it, got x of {shape}.")
    if guess and looks_channels_last(shape):
        looks = (
            f"which has {shape[1]} channels and looks channels-last; use x.permute(0, 3, 1, 2), or channels_first=True."
        )
        raise Refusal(f"images need (n, channels, height, width), got {shape}, {looks}")


def check_labels(x: Tensor, y: Tensor, classes: int) -> None:
    """Refuse what is no label for each of the examples `x`."""
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
        raise Refusal(f"x needs finite values, got NaN or infinity in {where}; float32 ends at 3.4e38.")
    cure = "keep uint8, or divide by 255, without Normalize."
    fine = x.ndim == 2 or (low >= 0 and high <= 1)
    require(fine, f"float32 images need pixels in [0, 1], got {low:.4g} to {high:.4g}; {cure}")
