"""Which data sets there are: the files in `sets/`, each with a function of its own name.

A file of `sets/` has a docstring whose first line is the purpose, and a function called like the file that returns
(train, test). EXAMPLES are their numbers; SOURCE is where the data come from, a `Source` of files or words.
"""

from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType

from neuropil.data.files import Source, archive_md5, data_root, local_archive, locate, state
from neuropil.data.held import in_reach
from neuropil.data.own import load_own
from neuropil.data.split import Split
from neuropil.errors import Refusal, unknown


@dataclass(frozen=True)
class DataSetInfo:
    """One data set, as `neuropil data list` shows it."""

    name: str
    purpose: str
    examples: tuple[int, int]  # train, test
    where: str  # the folder of its files, or what makes it
    present: bool


@dataclass(frozen=True)
class FileRow:
    """One file, as `neuropil data check` shows it."""

    path: Path
    status: str  # "ok", "missing" or "altered"
    expected: str  # md5
    found: str | None  # md5


def set_names() -> list[str]:
    """The data sets are the files in the folder; there is no list to keep."""
    return sorted(file.stem for file in Path(__file__).with_name("sets").glob("[!_]*.py"))


def set_module(name: str) -> ModuleType:
    """The file of the data set `name`."""
    if name not in set_names():
        raise unknown("data set", name, set_names())
    return import_module(f"neuropil.data.sets.{name}")


def load(name: str, root: str | Path | None = None, seed: int = 0) -> tuple[Split, Split]:
    """(train, test) of the data set `name`. Nothing is downloaded.

    Args:
        name: as `neuropil data list` shows it, or the path of data of your own, see `load_own`.
        root: folder of the data folders; data sets that are generated have no use for it.
        seed: chooses the test examples where none are fixed (digits, iris, a folder without test images).

    Raises:
        Refusal: an unknown name, or a file that is missing or altered.

    Examples:
        >>> load("iris")[0]
        Split(120 examples of (4,), 3 classes)
    """
    if is_own(name):
        return in_reach(*load_own(Path(name).expanduser(), seed))
    if name not in set_names():
        raise Refusal(f"{unknown('data set', name, set_names())} There is no such file or folder either.")
    make = getattr(set_module(name), name)
    settings = {"root": root, "seed": seed}
    return in_reach(*make(**{key: settings[key] for key in signature(make).parameters}))


def is_own(name: str) -> bool:
    """Whether `name` is a path and not one of our data sets."""
    return name not in set_names() and (
        len(Path(name).parts) > 1 or name.endswith("/") or bool(Path(name).suffix) or Path(name).exists()
    )


def list_sets(root: str | Path | None = None) -> list[DataSetInfo]:
    """Every data set, and whether its files are there (they are not hashed: see `check`)."""
    return [_row(name, root) for name in set_names()]


def check(name: str, root: str | Path | None = None) -> list[FileRow]:
    """The state of every file of the data set `name`, hashed; empty where it has none."""
    source = set_module(name).SOURCE
    if not isinstance(source, Source):
        return []
    tar = local_archive(source, root)
    if source.archive and tar and not any(locate(source, file, root) for file in source.files):
        return [_file_row(tar, source.archive.md5, archive_md5(tar, source))]
    return file_rows(source, root)


def file_rows(source: Source, root: str | Path | None = None) -> list[FileRow]:
    """The state of every unpacked file of `source`, hashed."""
    return [_file_row(*state(source, file, root)) for file in source.files]


def _row(name: str, root: str | Path | None) -> DataSetInfo:
    module = set_module(name)
    purpose = (module.__doc__ or "").strip().partition("\n")[0]
    if not isinstance(module.SOURCE, Source):
        return DataSetInfo(name, purpose, module.EXAMPLES, module.SOURCE, True)
    unpacked = [locate(module.SOURCE, file, root) for file in module.SOURCE.files]
    present = all(unpacked) or (not any(unpacked) and local_archive(module.SOURCE, root) is not None)
    folder = data_root(root) / module.SOURCE.folder
    return DataSetInfo(name, purpose, module.EXAMPLES, str(folder), present)


def _file_row(path: Path, expected: str, found: str | None) -> FileRow:
    status = "missing" if found is None else "ok" if found == expected else "altered"
    return FileRow(path, status, expected, found)
