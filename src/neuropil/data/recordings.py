"""Recordings of spikes in the formats of their publishers: N-MNIST's folders of events, SHD's and SSC's HDF5 files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuropil.data.files import read_bytes
from neuropil.data.images import class_folders
from neuropil.data.spikes import SpikeSplit
from neuropil.errors import Refusal, optional, require

__all__ = ["read_nmnist", "read_shd"]

EVENT = 5  # bytes: x, y, then 1 bit of polarity and 23 bits of microseconds
WRAPPED, LATER = 240, 1 << 13  # y of an event that is no spike: all times from there on are so many microseconds later


def read_nmnist(
    folder: Path | str, *, per_class: int | None = None, shape: tuple[int, int, int] = (2, 34, 34)
) -> SpikeSplit:
    """The recordings `folder/CLASS/*.bin` of N-MNIST: lines are (off and on, height, width), times in s.

    An event has 40 bits: x, y (8 each), polarity (1: brighter), microseconds (23). One at y = 240 is no spike: the
    clock of the sensor wrapped, and times are 8192 microseconds later from there on. Orchard et al. 2015, Front.
    Neurosci. 9.

    Args:
        folder: ``Train`` or ``Test`` of the unpacked archives.
        per_class: the first recordings of each class; None for all.
        shape: of the lines; others for other sensors that write the same format, of up to 240 rows.

    Raises:
        Refusal: no recordings, or a file that is truncated, empty, or of another sensor.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "7"
        >>> folder.mkdir()
        >>> _ = (folder / "00001.bin").write_bytes(bytes([3, 9, 0x80, 0, 200, 4, 9, 0x01, 0, 0]))
        >>> split = read_nmnist(folder.parent)
        >>> split, split.names
        (SpikeSplit(1 examples of (2, 34, 34), 2 spikes in 0.065536 s, 1 classes), ('7',))
    """
    said = f"an event at y = {WRAPPED} is a wrap of the clock, so shape needs a height up to {WRAPPED}, got {shape}."
    require(len(shape) == 3 and shape[1] <= WRAPPED, said)
    inside = class_folders(Path(folder), (".bin",))
    require(bool(inside), f"{folder} needs a folder with .bin files for each class, found none.")
    files = [(path, label) for label, found in enumerate(inside.values()) for path in found[:per_class]]
    trains = [_events(path, shape) for path, _ in files]
    return _gathered(trains, [label for _, label in files], [*inside], shape)


def _events(file: Path, shape: tuple[int, int, int]) -> tuple[Any, Any]:
    """(times in s, lines) of one file, in order of time."""
    raw = np.frombuffer(read_bytes(file), np.uint8)
    damage = "truncated" if len(raw) else "empty"
    fine = len(raw) and len(raw) % EVENT == 0
    require(bool(fine), f"{file} is {damage}: events have {EVENT} bytes each, got {len(raw)} bytes.")
    x, y, high, middle, low = raw.reshape(-1, EVENT).T.astype(np.int32)
    wrapped, spikes = (y == WRAPPED).cumsum(), y != WRAPPED
    time = (((high & 0x7F) << 16 | middle << 8 | low) + wrapped * LATER)[spikes] * 1e-6
    x, y, high = x[spikes], y[spikes], high[spikes]
    got, polarities, height, width = (int(x.max(initial=0)), int(y.max(initial=0))), *shape
    need = f"{file} needs pixels inside {width} x {height}"
    require(got[0] < width and got[1] < height, f"{need}, got x up to {got[0]} and y up to {got[1]}; give shape=.")
    line = ((high >> 7) * (polarities > 1) * height + y) * width + x
    order = np.argsort(time, kind="stable")
    return time[order].astype(np.float32), line[order]


def read_shd(file: Path | str, *, max_examples: int | None = None, lines: int = 700) -> SpikeSplit:
    """A file of the Spiking Heidelberg Digits (SHD) or the Spiking Speech Commands (SSC): 700 lines, times in s.

    It holds ``spikes/times``, ``spikes/units`` and ``labels``, and ``extra/keys`` with the names of the classes.
    Cramer et al. 2022, IEEE Trans. Neural Netw. Learn. Syst. 33.

    Args:
        file: unpacked, such as ``shd_train.h5``.
        max_examples: the first ones; None for all.
        lines: how many the cochlea has.

    Raises:
        Refusal: the package h5py is not there; no such file, a damaged one, or one of another form.

    Examples:
        >>> read_shd("shd_train.h5")  # doctest: +SKIP
        SpikeSplit(8156 examples of (700,), ... spikes in ... s, 20 classes)
    """
    h5py: Any = optional("h5py", f"{file}", extra="hdf5")
    file = Path(file)
    require(file.is_file(), f"there is no file {file}.")
    require(file.suffix != ".gz", f"{file} is packed; unpack it with: gunzip {file}")
    try:
        with h5py.File(file) as inside:
            some = slice(max_examples)
            times, units, labels = (inside[name][some] for name in ("spikes/times", "spikes/units", "labels"))
            keys = [key.decode() if isinstance(key, bytes) else str(key) for key in inside.get("extra/keys", [])]
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        needs = "spikes/times, spikes/units and labels in HDF5"
        reason = " ".join(str(error).split())
        raise Refusal(f"{file} is damaged, or not as published: it needs {needs} ({reason}).") from error
    sizes = [len(part) for part in (times, units, labels)]
    require(len(set(sizes)) == 1 and sizes[0] > 0, f"{file} needs times, units and a label per example, got {sizes}.")
    trains = [_train(f"{file}, example {k},", *pair, lines) for k, pair in enumerate(zip(times, units))]
    whole = bool(np.issubdtype(labels.dtype, np.integer)) and labels.ndim == 1 and int(labels.min()) >= 0
    named = whole and (not keys or int(labels.max()) < len(keys))
    require(named, f"{file} needs labels from 0 on, with a name for each class in extra/keys, got others.")
    return _gathered(trains, labels.tolist(), keys or [str(label) for label in range(labels.max() + 1)], (lines,))


def _train(place: str, times: Any, units: Any, lines: int) -> tuple[Any, Any]:
    """(times in s, lines) of one example, in order of time."""
    time, line = np.asarray(times, np.float32), np.asarray(units, np.int32)
    require(time.shape == line.shape, f"{place} needs a unit for each time, got {len(line)} and {len(time)}.")
    fine = bool((np.isfinite(time) & (time >= 0)).all()) and bool(((line >= 0) & (line < lines)).all())
    require(fine, f"{place} needs times >= 0 and units below {lines}; is the file damaged?")
    order = np.argsort(time, kind="stable")
    return time[order], line[order]


def _gathered(
    trains: Sequence[tuple[Any, Any]], labels: Sequence[int], names: Sequence[str], shape: tuple[int, ...]
) -> SpikeSplit:
    """The examples in a row."""
    time, line = (torch.from_numpy(np.concatenate(part)) for part in zip(*trains))
    start = torch.tensor([0, *np.cumsum([len(one) for one, _ in trains]).tolist()])
    t_end = float(time.max()) if len(time) else 1.0
    return SpikeSplit(time, line, start, torch.tensor(labels), len(names), shape, t_end, tuple(names))
