"""Where the files of a data set are, and whether they are whole: nothing is read before its checksum is right."""

import gzip
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neuropil.errors import Refusal, require

PUBLISHED = 1 << 28  # bytes; no published file has more


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

    def names(self) -> list[str]:
        """All names under which it may lie: those of `forms`, and "train-images.idx3-ubyte" for MNIST and the like."""
        dotted = self.name.replace("-idx", ".idx")
        return list(dict.fromkeys([*self.forms(), f"{self.name}.gz", dotted, f"{dotted}.gz"]))


@dataclass(frozen=True)
class Source:
    """What a data set is read from.

    Attributes:
        name: of the data set, as the commands know it.
        folder: inside the data root.
        files: all that are read.
        mirrors: the URL in front of a file name (of the archive's, if there is one); tried in turn.
        archive: the tar that holds folder/file for every file, if they are handed out so.
        layouts: other folders inside the data root in which these files may lie.
        pickled: forms of the data set that hold pickles, which are never loaded.
    """

    name: str
    folder: str
    files: tuple[File, ...]
    mirrors: tuple[str, ...]
    archive: File | None = None
    layouts: tuple[str, ...] = ()
    pickled: tuple[str, ...] = ()


def data_root(root: str | Path | None = None) -> Path:
    """`root`, or $NEUROPIL_DATA, or the platform's user cache."""
    named: str | Path | None = root or os.environ.get("NEUROPIL_DATA")
    if not named:
        import pooch  # here, since it takes a while, and who names a folder need not wait

        named = pooch.os_cache("neuropil")
    return Path(named).expanduser()


def md5(raw: bytes) -> str:
    """The checksum as publishers give it; it guards against damage, not against an attacker."""
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def locate(source: Source, file: File, root: str | Path | None = None) -> Path | None:
    """Where `file` lies, in its published form first; None if it lies nowhere, or in an archive only."""
    folders = [data_root(root) / folder for folder in (source.folder, *source.layouts)]
    return next((folder / name for folder in folders for name in file.names() if (folder / name).is_file()), None)


def local_archive(source: Source, root: str | Path | None = None) -> Path | None:
    """Where the archive of the data set lies, in the data root or in the folder of the data set; None if nowhere."""
    name = source.archive.name if source.archive else ""
    places = [data_root(root) / name, data_root(root) / source.folder / name]
    return next((path for path in places if name and path.is_file()), None)


def state(source: Source, file: File, root: str | Path | None = None) -> tuple[Path, str, str | None]:
    """(path, expected md5, found md5) of an unpacked file; found is None where there is none."""
    path = locate(source, file, root)
    if path is None:
        name, want = next(iter(file.forms().items()))
        return data_root(root) / source.folder / name, want, None
    return path, *_checked(path, file)[1:]


def read(source: Source, name: str, root: str | Path | None = None) -> bytes:
    """The unpacked content of the file `name`, its checksum verified.

    Raises:
        Refusal: the file is missing, unreadable, truncated or altered.
    """
    file = next(file for file in source.files if file.name == name)
    path = locate(source, file, root)
    if path is None:
        raise _missing(source, file, data_root(root))
    content, want, got = _checked(path, file)
    cure = f"get it again with `neuropil data fetch {source.name}`."
    require(got == want, f"{path} is truncated or altered: md5 {want} expected, {got} found; {cure}")
    return content


def read_all(source: Source, root: str | Path | None = None) -> list[bytes]:
    """The contents of all files of `source`, as `read` gives them; or of its archive, if only that is there."""
    tar = local_archive(source, root)
    if tar and not any(locate(source, file, root) for file in source.files):
        return [raw for _, raw in members(tar, source.folder, source.files)]
    return [read(source, file.name, root) for file in source.files]


def members(tar: Path, folder: str, files: Sequence[File]) -> Iterator[tuple[File, bytes]]:
    """The files of an archive with their contents, checked; no path in the archive is ever used as a path."""
    try:
        with tarfile.open(tar) as archive:
            for file in files:
                member = archive.getmember(f"{folder}/{file.name}")
                held = archive.extractfile(member) if member.isreg() else None
                if held is None:
                    raise Refusal(f"{file.name} in {tar.name} is not a regular file; nothing was unpacked.")
                raw = held.read()
                got = md5(raw)
                require(got == file.md5, f"{file.name} in {tar.name} is altered: md5 {file.md5} expected, {got} found.")
                yield file, raw
    except (tarfile.TarError, EOFError, zlib.error, KeyError) as fault:
        raise Refusal(f"{tar.name} is not the published archive: {fault.args[0]}.") from fault


def archive_md5(tar: Path, source: Source) -> str:
    """The published md5 of the archive of `source` if all files in `tar` are right, however packed; else its own."""
    try:
        for _ in members(tar, source.folder, source.files):
            pass
    except Refusal:
        return md5(read_bytes(tar))
    return source.archive.md5 if source.archive else ""


def _checked(path: Path, file: File) -> tuple[bytes, str, str]:
    """(content, expected md5, found md5); a file that was packed anew is right if its content is."""
    raw = read_bytes(path, PUBLISHED)
    want, got = file.forms().get(path.name, file.md5), md5(raw)
    if path.suffix != ".gz":
        return raw, want, got
    with suppress(Refusal):
        content = gunzip(raw, str(path), PUBLISHED)
        return content, want, want if got == want or md5(content) == file.md5 else got
    return b"", want, got


def _missing(source: Source, file: File, root: Path) -> Refusal:
    """What to do where `file` lies nowhere."""
    name, where = next(iter(file.forms())), f"searched in {root / source.folder}"
    cure = f"get it with `neuropil data fetch {source.name}`, or set NEUROPIL_DATA to the folder that holds"
    pickled = [found for found in source.pickled if (root / found).exists()]
    why = f" ({pickled[0]} holds pickles, which are never loaded)" if pickled else ""
    return Refusal(f"data set {source.name!r} needs {name!r}, {where}{why}; {cure} {source.folder}/.")


def read_bytes(path: Path, most: int = 0) -> bytes:
    """The bytes of the file; refused are more than `most`, or, if that is 0, more than half the memory."""
    try:
        size, most = path.stat().st_size, most or _memory() // 2
        require(size <= most, f"{path} has {size / 2**30:.1f} GiB, and at most {most / 2**30:.1f} can be read.")
        return path.read_bytes()
    except OSError as fault:
        raise Refusal(f"{path} cannot be read: {fault.strerror}.") from fault


def _memory() -> int:
    """Bytes of memory that this machine has; without a word from the system, 16 GiB."""
    known = hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys()
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 1 << 34


def gunzip(raw: bytes, where: str, most: int = 0) -> bytes:
    """What the gzip bytes hold, up to `most` bytes as above; `where` names the file in a refusal."""
    most = most or _memory() // 2
    try:
        with gzip.open(io.BytesIO(raw)) as packed:
            held = packed.read(most + 1)
        require(
            len(held) <= most, f"{where} unpacks to more than {most / 2**30:.1f} GiB, which is more than can be read."
        )
        return held
    except (OSError, EOFError, zlib.error) as fault:
        raise Refusal(f"{where} is not a whole gzip file: {fault}.") from fault
