"""Fetching published files, only when asked: mirrors in turn, checksums verified, nothing half-written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from neuropil.data.files import PUBLISHED, File, Source, archive_md5, data_root, local_archive, md5, members, read_bytes
from neuropil.data.registry import file_rows, set_module
from neuropil.errors import Refusal


def fetch(name: str, root: str | Path | None = None, mirrors: Sequence[str] | None = None) -> list[Path]:
    """Download what is missing or altered of the data set `name`; the paths of all its files.

    Files that are whole already are left alone. An archive that lies in the data root or the folder is unpacked. A file
    appears under its name only when its checksum is right.

    Args:
        root: the folder of data folders; default $NEUROPIL_DATA or the user cache.
        mirrors: URLs in front of the file names, instead of the official ones.

    Raises:
        Refusal: no mirror gave the right file, or the folder cannot be written (a full disk, no permission).

    >>> fetch("mnist")  # doctest: +SKIP
    [PosixPath('/home/me/data/mnist/train-images-idx3-ubyte.gz'), ...]
    """
    source = set_module(name).SOURCE
    if not isinstance(source, Source):
        raise Refusal(f"data set {name!r} needs no fetching: {source}.")
    folder, tar = data_root(root) / source.folder, local_archive(source, root)
    wanted = [file for file, row in zip(source.files, file_rows(source, root)) if row.status != "ok"]
    if wanted:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with _room_to_work(folder) as desk, Progress(*columns, console=Console(stderr=True)) as progress:
            for path in _whole_files(source, wanted, mirrors or source.mirrors, tar, desk, progress):
                path.replace(folder / path.name)
    return [row.path for row in file_rows(source, root)]


def _whole_files(
    source: Source, wanted: Sequence[File], mirrors: Sequence[str], tar: Path | None, desk: Path, progress: Progress
) -> Iterator[Path]:
    """The wanted files in `desk`, one by one, so that what has come is kept if the next one fails."""
    if source.archive:
        whole = tar is not None and archive_md5(tar, source) == source.archive.md5
        archive = tar if tar and whole else _download(source.archive, mirrors, desk, progress)
        for file, raw in members(archive, source.folder, wanted):
            (desk / file.name).write_bytes(raw)
            yield desk / file.name
    else:
        yield from (_download(file, mirrors, desk, progress) for file in wanted)


@contextmanager
def _room_to_work(folder: Path) -> Iterator[Path]:
    """A passing folder inside `folder`, so that a finished file can be moved to its name in one step."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".fetch-") as desk:
            yield Path(desk)
    except OSError as fault:
        raise Refusal(
            f"cannot write into {folder}: {fault.strerror or fault}; nothing half-written is left. Free some space, "
            "or set NEUROPIL_DATA to a folder of yours."
        ) from fault


def _download(file: File, mirrors: Sequence[str], desk: Path, progress: Progress) -> Path:
    """The published form of `file` in `desk`, from the first mirror that has it whole."""
    name, want = next(iter(file.forms().items()))
    faults = []
    for mirror in mirrors:
        fault = _try(f"{mirror.rstrip('/')}/{name}", desk / name, progress)
        if not fault:
            got = md5(read_bytes(desk / name))
            if got == want:
                return desk / name
            fault = f"md5 {want} expected, {got} found"
        faults.append(f"{urlsplit(mirror).netloc}: {fault}")
    raise Refusal(
        f"{name} could not be fetched ({'; '.join(faults)}). Without a network, copy the published file "
        f"into {desk.parent}."
    )


def _try(url: str, path: Path, progress: Progress) -> str:
    """Download `url` to `path`; what went wrong on the way to the server, or nothing."""
    import pooch  # here, since it takes a tenth of the start of every command
    import requests

    get = pooch.HTTPDownloader(progressbar=_Bar(progress, path.name), headers={"Accept-Encoding": "identity"})
    try:
        get(url, str(path), None)
    except requests.HTTPError as fault:
        return f"HTTP {fault.response.status_code if fault.response is not None else ''}".rstrip()
    except requests.Timeout:
        return "no answer in time"
    except requests.ConnectionError:
        return "no connection"
    except _TooMuch:
        return f"more than {PUBLISHED >> 20} MiB came, which no published file has"
    except requests.RequestException as fault:
        return type(fault).__name__
    return ""


class _TooMuch(Exception):
    """A server sends more than any published file has."""


class _Bar:
    """A progress bar as pooch asks for it, shown by rich."""

    def __init__(self, progress: Progress, title: str):
        self._progress, self._task = progress, progress.add_task(title, total=None)

    @property
    def total(self) -> float | None:
        return self._progress.tasks[self._task].total

    @total.setter
    def total(self, size: int) -> None:
        self._progress.update(self._task, total=size or None)

    def update(self, size: int) -> None:
        self._progress.advance(self._task, size)
        if self._progress.tasks[self._task].completed > PUBLISHED:
            raise _TooMuch

    def reset(self) -> None:
        self._progress.reset(self._task, total=self.total)

    def close(self) -> None:
        self._progress.stop_task(self._task)
