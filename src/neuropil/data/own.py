"""Data of one's own by path: folders of images, .npz, CSV, IDX and CIFAR-100 files, split by seed where need be."""

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neuropil.data.arrays import labels_of
from neuropil.data.columns import Columns
from neuropil.data.files import read_bytes
from neuropil.data.idx import read_idx
from neuropil.data.images import class_folders
from neuropil.data.records import parse_records
from neuropil.data.split import Split
from neuropil.data.subsets import hold_out
from neuropil.data.tables import LABELS, SUFFIXES, read_table
from neuropil.errors import Refusal, require

IMAGES = ("x", "images", "data", "features")
TRAIN, TEST = ("train", "training"), ("test", "t10k", "val", "valid", "validation")
IDX = re.compile(r"(train|t10k|test)(.*)images(.)idx3(.*)$")
HELD_OUT = 0.2  # of the examples, for the test, where there are no test examples


def load_own(path: Path, seed: int) -> tuple[Split, Split]:
    """(train, test) from a file or folder: see docs/data.md for what it may be.

    Without test examples a fifth is held out, stratified, chosen by `seed`. Test examples without a label are left
    out. Vectors that leave [0, 1] are shifted and scaled by the mean and the standard deviation of the training
    vectors, feature by feature.

    Raises:
        Refusal: nothing there, another kind of file, or what `Split.from_numpy` refuses.
    """
    require(path.exists(), f"there is no file or folder {path}.")
    if path.is_dir():
        train, test = _folder(path)
    elif path.suffix == ".npz":
        train, test = _npz(path)
    elif path.suffix.lower() in SUFFIXES:
        train, test = _pair(read_table(path)[:2])
    elif IDX.search(path.name):
        train, test = _idx(path)
    else:
        raise Refusal(f"data need a folder, a .npz, .csv, .tsv or IDX file, or a file.py of yours, got {path}.")
    named = f": {train.names[0]}" if train.names else ""
    require(train.classes > 1, f"{path} needs examples of two classes or more, got one{named}.")
    return scaled(*paired(*((train, test) if test else hold_out(train, HELD_OUT, seed))))


def paired(train: Split, test: Split) -> tuple[Split, Split]:
    """Both, if test examples are like training examples; those of the test that have no label are left out."""
    forms = [(tuple(part.x.shape[1:]), part.classes) for part in (train, test)]
    got = " and ".join(f"{shape} in {classes} classes" for shape, classes in forms)
    require(forms[0] == forms[1], f"training and test examples need one shape and the same classes, got {got}.")
    return train, test.labelled()


def scaled(train: Split, test: Split) -> tuple[Split, Split]:
    """Vectors standardised by those of `train`, unless all lie in [0, 1]; images as they are."""
    low, high = (float(value) for value in train.x.aminmax())
    if train.x.ndim != 2 or (low >= 0 and high <= 1):
        return train, test
    columns = Columns.of(train.x)
    first, second = (replace(part, x=columns.scaled(part.x), columns=columns) for part in (train, test))
    return first, second


Arrays = tuple[Any, Any]


def _pair(train: Arrays, test: Arrays | None = None) -> tuple[Split, Split | None]:
    """Splits of examples and labels. Labels other than 0, 1, 2, ... become these, and are kept as names."""
    labels, names = labels_of(np.concatenate([train[1], test[1]]) if test else train[1])
    y, known = labels.numpy(), np.unique(labels[labels >= 0])
    if not names and known.tolist() != list(range(len(known))):
        y, names = np.where(y < 0, -1, np.searchsorted(known, y)), tuple(map(str, known))
    n, count = len(train[1]), len(known)
    first = Split.from_numpy(train[0], y[:n], classes=count, names=names)
    return first, Split.from_numpy(test[0], y[n:], classes=count, names=names) if test else None


def _folder(path: Path) -> tuple[Split, Split | None]:
    """Class folders, in train and test or not; else train.csv and test.csv, train.bin and test.bin, or IDX files."""
    inside = {one.name.lower(): one for one in sorted(path.iterdir())}

    def part(names: tuple[str, ...], end: str = "") -> Path | None:
        return next((inside[name + end] for name in names if name + end in inside), None)

    train, test = part(TRAIN), part(TEST)
    if train and train.is_dir():
        first = Split.from_folder(train)
        return first, Split.from_folder(test, names=first.names) if test else None
    for suffix in SUFFIXES:
        if file := part(TRAIN, suffix):
            table, other = read_table(file), part(TEST, suffix)
            return _pair(table[:2], read_table(other, table.names)[:2] if other else None)
    if (records := part(TRAIN, ".bin")) and (others := part(TEST, ".bin")):
        return _cifar100(records, others)
    found = [one for name, one in inside.items() if (match := IDX.search(name)) and match[1] == "train"]
    if found:
        several = ", ".join(one.name for one in found)
        require(len(found) == 1, f"{path} has several sets of IDX files; name one of {several}.")
        return _idx(found[0])
    kinds = "a folder of images for each class, train/ and test/ with such folders, or CSV, IDX or CIFAR-100 files"
    require(bool(class_folders(path)), f"{path} needs {kinds}; found none.")
    return Split.from_folder(path), None


def _npz(path: Path) -> tuple[Split, Split | None]:
    """Arrays named x and y, or x_train, y_train, x_test and y_test; images and labels will do, in any order."""
    require(zipfile.is_zipfile(path), f"{path} is no .npz file, or a damaged one; write it with numpy.savez.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(_named_arrays(arrays))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as fault:
        hint = (
            "numbers and strings need no pickle, which is never loaded" if "pickle" in str(fault) else "save it again"
        )
        raise Refusal(f"{path} cannot be read: {str(fault).removesuffix('.')}; {hint}.") from fault
    train = found.get(("train", "x"), found.get(("", "x"))), found.get(("train", "y"), found.get(("", "y")))
    test = found.get(("test", "x")), found.get(("test", "y"))
    needed = "arrays x and y, or x_train, y_train, x_test and y_test"
    require(all(part is not None for part in train), f"{path} needs {needed}; found {', '.join(arrays.files)}.")
    return _pair(train, test if all(part is not None for part in test) else None)


def _named_arrays(arrays: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """(train, test or nothing; x or y) and the array, of each whose name says so."""
    for key in arrays:
        words = set(key.lower().split("_"))
        part = "train" if words & set(TRAIN) else "test" if words & {"test"} else ""
        kind = "x" if words & set(IMAGES) else "y" if words & set(LABELS) else ""
        if kind and not words & set(TEST[2:]):
            column = kind == "y" and arrays[key].ndim == 2 and arrays[key].shape[1] == 1
            yield (part, kind), arrays[key][:, 0] if column else arrays[key]


def _idx(path: Path) -> tuple[Split, Split | None]:
    """The images of `path`, their labels beside it, and the test files; EMNIST's images are stored transposed."""
    train = _idx_arrays(path)
    match = IDX.search(path.name)
    others = (
        path.with_name(path.name[: match.start()] + name + path.name[match.end(1) :]) for name in TEST[:2] if match
    )
    test = next((other for other in others if other.is_file()), None)
    return _pair(train, _idx_arrays(test) if test else None)


def _idx_arrays(path: Path) -> Arrays:
    images = read_idx(path)
    labels = read_idx(path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1")))
    return images.swapaxes(1, 2) if path.name.startswith("emnist") else images, labels


def _cifar100(train: Path, test: Path) -> tuple[Split, Split]:
    """The binary files of CIFAR-100, with their fine labels; the names are in fine_label_names.txt."""
    file = train.with_name("fine_label_names.txt")
    names = file.read_text(encoding="utf-8").split() if file.is_file() else [str(label) for label in range(100)]
    first, second = (parse_records(read_bytes(path), path.name, names, labels=2) for path in (train, test))
    return first, second
