"""Files that are whole or not there, and JSON that gives back the numbers it was given."""

import dataclasses
import errno
import json
import math
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from neuropil.errors import Refusal, require

if sys.platform != "win32":
    import fcntl

RUN, METRICS, WEIGHTS = "run.json", "metrics.jsonl", "weights.safetensors"
CHECKPOINT, LOCK, PART = "checkpoint.safetensors", ".lock", ".part"


def is_plain(path: Path) -> bool:
    """Whether there is a file; refuse a link, a pipe, a device: they lead out of the folder, or never end."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(mode):
        raise Refusal(f"{path} is a {_kind(mode)} where a file is needed; remove it, or name another place.")
    return True


def refuse_links(folder: Path) -> None:
    """Refuse a folder of runs with links or devices in it: what is read and written there must be in it."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Refusal(f"{path} is a {_kind(mode)}, and a run has only files of its own; remove it.")


def _kind(mode: int) -> str:
    kinds = {stat.S_ISLNK: "link", stat.S_ISDIR: "folder", stat.S_ISFIFO: "pipe", stat.S_ISSOCK: "socket"}
    return next((name for test, name in kinds.items() if test(mode)), "device")


class Taken(Refusal):
    """A new folder was needed, and there is something in it."""


class Busy(Refusal):
    """A folder is held by another process."""


def new_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """`folder` with these files, all at once; in an empty one that is there, one after the other.

    Raises:
        Taken: there is something in it.
        OSError: it cannot be written; then nothing is left of it.
    """
    there = folder.is_dir()
    place = folder if there else folder.parent / f".{token_hex(8)}{PART}"
    taken = Taken(f"{folder} exists already, and a run needs a new folder; name another one.")
    if (not there and os.path.lexists(folder)) or (there and not all(_left(path, files) for path in folder.iterdir())):
        raise taken
    try:
        place.mkdir(parents=True, exist_ok=there)
        for name, content in files.items():
            write_atomically(place / name, content)
        if not there:
            place.rename(folder)
    except BaseException as error:
        for name in files:
            (place / name).unlink(missing_ok=True)
        if not there and place.exists():
            place.rmdir()
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise taken from error
        raise


def _left(path: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a file is left of a start that was killed here."""
    return path.is_file() and (path.suffix == PART or path.read_bytes() == files.get(path.name))


def read_json(path: Path, **needed: Any) -> dict[str, Any]:
    """The JSON object in a small file, or a refusal; it has the `needed` entries, of these types."""
    is_plain(path)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{path} is damaged ({error}).") from error
    if not isinstance(content, dict):
        raise Refusal(f"{path} is not what it should be: it holds a {type(content).__name__}.")
    wrong = [name for name, kind in needed.items() if not isinstance(content.get(name), kind)]
    require(not wrong, f"{path} is not what it should be: it lacks {', '.join(wrong)}, or has it in another form.")
    return content


def write_atomically(path: Path, data: bytes) -> None:
    """`path` holds `data`, or, if this fails (OSError), what it held before; several may write it at once."""
    is_plain(path)
    temp = path.with_name(f".{token_hex(8)}{PART}")
    try:
        with open(temp, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """`path` with one more line, or, if this fails (OSError), as it was."""
    length = path.stat().st_size if is_plain(path) else 0
    try:
        with open(path, "ab") as file:
            file.write(line)
    except OSError:
        if path.exists():
            os.truncate(path, length)
        raise


def synced_length(path: Path) -> int:
    """Bytes in `path`, all of them on the disk."""
    if not is_plain(path):
        return 0
    with open(path, "ab") as file:
        os.fsync(file.fileno())
        return file.tell()


def hold(folder: Path) -> IO[bytes] | None:
    """Hold `folder` against other processes for as long as the file stays open."""
    if sys.platform == "win32":
        return None
    is_plain(folder / LOCK)
    file = open(folder / LOCK, "ab")  # noqa: SIM115 (held until close)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise Busy(f"another process is at work in {folder}.") from None
    return file


def jsonable(value: Any) -> Any:
    """`value` as JSON gives it back: dataclasses as dicts, tuples and arrays as lists, paths as words.

    >>> jsonable({"sizes": (1, 2), "folder": Path("runs/one")})
    {'sizes': [1, 2], 'folder': 'runs/one'}
    """
    return json.loads(to_json(value))


def check_finite(config: Any) -> None:
    """Refuse a setting that is NaN or infinite: JSON has no such number, so a resumed run could not read it."""
    settings = config if isinstance(config, Mapping) else vars(config)
    for name, value in settings.items():
        sound = not isinstance(value, float) or math.isfinite(value)
        require(sound, f"setting {name!r} needs a finite number, got {value}.")


def merged(old: Any, new: Any) -> Any:
    """`new` laid over `old`: dicts key by key, at every depth; anything else replaces what was there."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    return new


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """`to_json` in UTF-8; a letter that has no place there, as of a file name in another code, becomes "?"."""
    return to_json(value, indent).encode(errors="replace")


def differ(old: Any, new: Any) -> bool:
    """Whether `new` says anything else than `old` of what both speak of, in dicts key by key, at every depth."""
    if isinstance(old, dict) and isinstance(new, dict):
        return any(differ(old.get(key), value) for key, value in new.items())
    return old is not None and old != new


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON of `value`: finite floats read back bit for bit, NaN and infinity are null."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """`value` in the types that JSON knows: dataclasses and mappings as dicts, tuples and arrays as lists."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise Refusal(f"a run writes numbers, words, lists and dicts, got {type(value).__name__} ({value!r:.60}).")


def with_nan(value: Any) -> Any:
    """`value` with NaN where JSON has null."""
    if isinstance(value, dict):
        return {key: with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_nan(item) for item in value]
    return math.nan if value is None else value
