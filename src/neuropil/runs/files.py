"""Files that are whole or not there, and JSON that gives back the numbers it was given."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuropil.errors import Refusal, require

RUN, METRICS, WEIGHTS = "run.json", "metrics.jsonl", "weights.safetensors"
CHECKPOINT, LOCK = "checkpoint.safetensors", ".lock"


def write_atomically(path: Path, data: bytes) -> None:
    """`path` holds `data`, or, if this fails (OSError), what it held before."""
    temp = path.with_name(f".{path.name}.part")
    try:
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """`path` with one more line, or, if this fails (OSError), as it was."""
    length = path.stat().st_size if path.exists() else 0
    try:
        with open(path, "ab") as file:
            file.write(line)
    except OSError:
        if path.exists():
            os.truncate(path, length)
        raise


def jsonable(value: Any) -> Any:
    """`value` as JSON gives it back: dataclasses as dicts, tuples and arrays as lists, paths as words."""
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
