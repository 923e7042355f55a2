"""Where the files of a data set are, and whether they are whole: nothing is read before its checksum is right."""

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import pooch

from neuropil.errors import Refusal, require


@dataclass(frozen=True)
class File:
    """One published file.

    Attributes:
        name: as it lies unpacked.
        md5: of the unpacked file.
        gz_md5: of `name`.gz, where that is what the publisher hands out.
    """

    name: str
    md5: str
    gz_md5: str = ""

    def forms(self) -> dict[str, str]:
        """The names under which it may lie, as published first, each with its checksum."""
        return ({f"{self.name}.gz": self.gz_md5} if self.gz_md5 else {}) | {self.name: self.md5}


@dataclass(frozen=True)
class Source:
    """What a data set is read from.

    Attributes:
        name: of the data set, as the commands know it.
        folder: inside the data root.
        files: all that are read.
        mirrors: the URL in front of a file name (of the archive's, if there is one); tried in turn.
        archive: the tar that holds folder/file for every file, if they are handed out so.
    """

    name: str
    folder: str
    files: tuple[File, ...]
    mirrors: tuple[str, ...]
    archive: File | None = None


def data_root(root: str | Path | None = None) -> Path:
    """`root`, or $NEUROPIL_DATA, or the platform's user cache."""
    named = root or os.environ.get("NEUROPIL_DATA")
    return Path(named or pooch.os_cache("neuropil")).expanduser()


def md5(raw: bytes) -> str:
    """The checksum as publishers give it; it guards against damage, not against an attacker."""
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def locate(folder: Path, file: File) -> Path | None:
    """Where `file` lies in `folder`, in its published form if both are there."""
    return next((folder / name for name in file.forms() if (folder / name).is_file()), None)


def state(folder: Path, file: File) -> tuple[Path, str, str | None]:
    """(path, expected md5, found md5); found is None where there is no file."""
    path = locate(folder, file) or folder / next(iter(file.forms()))
    return path, file.forms()[path.name], md5(read_bytes(path)) if path.is_file() else None


def read(source: Source, name: str, root: str | Path | None = None) -> bytes:
    """The unpacked content of the file `name`, its checksum verified.

    Raises:
        Refusal: the file is missing, unreadable, truncated or altered.
    """
    folder = data_root(root) / source.folder
    file = next(file for file in source.files if file.name == name)
    path = locate(folder, file)
    if path is None:
        raise Refusal(
            f"data set {source.name!r} needs {next(iter(file.forms()))!r}, searched in {folder}; get it with "
            f"`neuropil data fetch {source.name}`, or set NEUROPIL_DATA to the folder that holds {source.folder}/."
        )
    raw = read_bytes(path)
    want, got = file.forms()[path.name], md5(raw)
    cure = f"get it again with `neuropil data fetch {source.name}`."
    require(got == want, f"{path} is truncated or altered: md5 {want} expected, {got} found; {cure}")
    return gunzip(raw, str(path)) if path.suffix == ".gz" else raw


def read_bytes(path: Path) -> bytes:
    """The bytes of the file, or a refusal that names it."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Refusal(f"{path} cannot be read: {fault.strerror}.") from fault


def gunzip(raw: bytes, where: str) -> bytes:
    """What the gzip bytes hold; `where` names the file in a refusal."""
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as fault:
        raise Refusal(f"{where} is not a whole gzip file: {fault}.") from fault
