"""What others hand over as examples and labels, as the tensors that a `Split` holds: copied, never guessed at."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuropil.errors import Refusal, require, unknown

LABELS = ("label", "labels", "target", "fine_label")
"""What the label is called in items that are mappings."""


def examples_of(x: Any, *, channels_last: bool | None) -> Tensor:
    """A copy of an array of images or vectors: (n, channels, height, width) in uint8 or float32, or (n, features).

    With `channels_last` None, what looks channels-last is refused.
    """
    array = as_array(x)
    require(array.dtype.kind in "buif", f"x needs an array of numbers, got {array.dtype}.")
    if array.ndim == 3:
        array = array[:, None]
    if channels_last is None and looks_channels_last(array.shape):
        cure = "use x.transpose(0, 3, 1, 2), or say channels_last=True or False in Split.from_numpy"
        raise Refusal(f"images (n, channels, height, width) are needed, and {array.shape} looks channels-last; {cure}.")
    if channels_last:
        needed = "channels_last=True needs images (n, height, width, channels)"
        require(array.ndim == 4, f"{needed}, got {np.shape(x)}.")
        array = np.moveaxis(array, 3, 1)
    if array.ndim == 4 and array.dtype.kind in "ui" and array.dtype != np.uint8:
        cure = "x.astype('uint8') if they are 0 to 255"
        raise Refusal(f"images need uint8, or floats in [0, 1]; got {array.dtype}, convert them with {cure}.")
    kind = array.dtype if array.ndim == 4 and array.dtype == np.uint8 else np.float32
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which a split refuses
        return torch.from_numpy(np.array(array, kind, order="C"))


def looks_channels_last(shape: Sequence[int]) -> bool:
    """Whether four axes are (n, height, width, channels) more likely than (n, channels, height, width)."""
    return len(shape) == 4 and shape[1] > 4 and shape[2] > 4 and shape[3] <= 4


def labels_of(y: Any, names: Sequence[str] = ()) -> tuple[Tensor, tuple[str, ...]]:
    """Labels (n,) in int64, and the names of the classes; labels that are names get their place among `names`.

    Without `names` these are the names in `y`, sorted.
    """
    array = as_array(y)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    cure = "; of one-hot rows take y.argmax(1)." if array.ndim == 2 else "."
    require(array.ndim == 1, f"y needs one label for each example, (n,), got {array.shape}{cure}")
    require(len(array) > 0, "y needs at least one label, got none.")
    if array.dtype.kind in "buif":
        cure = "y.astype('int64') if they are whole numbers"
        require(array.dtype.kind != "f", f"y needs labels as whole numbers or names, got {array.dtype}; use {cure}.")
        return torch.from_numpy(array.astype(np.int64)), tuple(names)
    for wrong in (one for one in array if not isinstance(one, str)):
        raise Refusal(f"y needs labels as whole numbers or names, got {wrong!r}, a {type(wrong).__name__}.")
    known = {name: label for label, name in enumerate(names or sorted(set(array.tolist())))}
    for name in array.tolist():
        if name not in known:
            raise unknown("class", name, known)
    return torch.tensor([known[name] for name in array.tolist()], dtype=torch.int64), tuple(known)


def as_array(values: Any) -> Any:
    """A numpy array of a tensor, an image of pillow or anything else that numpy takes."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def collected(data: Any) -> tuple[Any, Any]:
    """All examples and all labels of a torch Dataset of pairs, or of a DataLoader of pairs of batches, as arrays."""
    if isinstance(data, Mapping):
        raise Refusal(f"from_dataset takes one data set, got {type(data).__name__} of {', '.join(map(repr, data))}.")
    batched = isinstance(data, torch.utils.data.DataLoader)
    xs: list[Any] = []
    ys: list[Any] = []
    for index, item in enumerate(_items(data)):
        pair = [item[key] for key in keys_of(item)] if isinstance(item, Mapping) else item
        fine = isinstance(pair, tuple | list) and len(pair) == 2
        require(fine, f"from_dataset needs pairs (example, label), got {type(item).__name__} as item {index}.")
        x, y = map(as_array, pair)
        if hasattr(pair[0], "getbands") and x.ndim == 3:  # an image of pillow, which has its channels last
            x = np.moveaxis(x, 2, 0)
        same = not xs or x.shape[batched:] == xs[0].shape[batched:]
        require(same, f"examples need one shape, got {x.shape} after {xs[0].shape}; resize them." if xs else "")
        xs.append(x)
        ys.append(y)
    require(bool(xs), "from_dataset needs at least one example, got none.")
    return (np.concatenate(xs), np.concatenate(ys)) if batched else (np.stack(xs), np.stack(ys))


def keys_of(item: Mapping[str, Any]) -> tuple[str, str]:
    """The keys of the example and of its label in an item of two, such as those of Hugging Face.

    >>> keys_of({"label": 3, "image": [[0.5]]})
    ('image', 'label')
    """
    labels = [key for key in item if key in LABELS]
    if len(item) == 2 and len(labels) == 1:
        (example,) = item.keys() - labels
        return example, labels[0]
    cure = "leave the others out, as by data.select_columns(['image', 'label'])"
    cure = cure if labels else "give the label one of these names, as by data.rename_column('class', 'label')"
    found = ", ".join(map(repr, item))
    raise Refusal(f"from_dataset needs items of an example and a label ({' or '.join(LABELS)}), got {found}; {cure}.")


def _items(data: Any) -> Iterator[Any]:
    sized = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    whole: Iterable[Any] = (data[index] for index in range(len(data))) if sized else data
    yield from whole


def names_in(data: Any) -> tuple[str, ...]:
    """The names of the classes that a Dataset knows, also below a DataLoader or a Subset.

    They are its ``classes``, or, of Hugging Face, the ``names`` of the label among its ``features``.
    """
    while data is not None:
        features = getattr(data, "features", None)
        labels = [features[key] for key in LABELS if key in features] if isinstance(features, Mapping) else []
        known = getattr(labels[0], "names", ()) if labels else getattr(data, "classes", ())
        if isinstance(known, Sequence) and known and all(isinstance(name, str) for name in known):
            return tuple(known)
        data = getattr(data, "dataset", None)
    return ()
