"""The IDX format of MNIST and its relatives: bytes in, an array out, every fault refused.

Layout (LeCun, Cortes & Burges): two zero bytes, the type (8: unsigned byte), the number of
axes, one big-endian uint32 per axis, then the values.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuropil.data.files import File, Source, gunzip, read, read_bytes
from neuropil.data.split import Split
from neuropil.errors import require


def parse_idx(raw: bytes, axes: int, where: str) -> npt.NDArray[np.uint8]:
    """The array in `raw`, read-only; `where` names the file in a refusal."""
    start = 4 + 4 * axes
    require(len(raw) >= start, f"{where} is truncated: an IDX header needs {start} bytes, got {len(raw)}.")
    want, magic = bytes([0, 0, 8, axes]), raw[:4]
    kind = f"IDX of unsigned bytes with {axes} axes"
    require(magic == want, f"{where} is not {kind}: magic {want.hex()} expected, {magic.hex()} found.")
    shape = struct.unpack(f">{axes}I", raw[4:start])
    size, found = int(np.prod(shape, dtype=object)), len(raw) - start
    fault = "truncated" if found < size else "followed by something else"
    needed = f"{size} bytes after its header for shape {shape}"
    require(found == size, f"{where} needs {needed}, found {found}; it is {fault}.")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_source(
    name: str, folder: str, checksums: Sequence[tuple[str, str]], mirrors: tuple[str, ...], layouts: tuple[str, ...]
) -> Source:
    """The four files that MNIST and its relatives are published in, with the md5 of each unpacked and packed."""
    files = tuple(File(file, *md5) for file, md5 in zip(FILES, checksums))
    return Source(name, folder, files, mirrors, layouts=layouts)


def idx_pair(source: Source, root: str | Path | None, classes: int, names: Sequence[str] = ()) -> tuple[Split, Split]:
    """(train, test) from the four files of `idx_source`."""
    arrays = [parse_idx(read(source, name, root), axes, name) for name, axes in zip(FILES, (3, 1, 3, 1))]
    train, test = (Split.from_numpy(*pair, classes=classes, names=names) for pair in (arrays[:2], arrays[2:]))
    return train, test


def read_idx(path: str | Path) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, packed (.gz) or not: images (n, height, width), labels (n,)."""
    path = Path(path)
    raw = read_bytes(path)
    raw = gunzip(raw, str(path)) if path.suffix == ".gz" else raw
    return parse_idx(raw, raw[3] if len(raw) > 3 else 1, str(path))
