"""Lines of metrics.jsonl as rows, each checked once, where it is read."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as AnySequence
from contextlib import nullcontext
from dataclasses import MISSING, fields
from pathlib import Path
from sys import intern
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from neuropil.errors import Refusal
from neuropil.runs.files import is_plain, with_nan
from neuropil.runs.rows import KINDS, Row

Check = Callable[[Any], bool]
LEAST = {"epoch": 0, "n_labels": 1, "severity": 1, "size": 0, "wins": 0, "label": 0, "per_line": 0}
KIND = re.compile(rb'\{"kind": "(\w+)"')
PLANS: dict[type[Row], tuple[dict[str, Check], set[str]]] = {}
DEEPEST = 20  # of a value in a value


Columns = dict[str, Any]
Checked = tuple[type[Row], Columns, Columns]  # class of a row, the columns that it knows, and the others


def read_rows(path: Path) -> Iterator[Row | None]:
    """The rows of metrics.jsonl, one after the other; None for a line that is damaged. A last one cut off is left out.

    Only one line is in memory at a time.
    """
    return (found and found[0](**found[1], metrics=found[2]) for found in read_checked(path))


def read_checked(path: Path) -> Iterator[Checked | None]:
    """The same as plain columns, which a million rows have time for."""
    if not is_plain(path):
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                yield check_row(load_line(line))
            except (ValueError, RecursionError):
                if line.endswith(b"\n"):
                    yield None


def kinds_in(path: Path) -> set[str]:
    """The kinds of row in metrics.jsonl, at a glance."""
    with open(path, "rb") if is_plain(path) else nullcontext(()) as file:
        return {found[1].decode() for line in file if (found := KIND.match(line))}


def load_line(line: bytes) -> Any:
    """What one line holds; null is NaN. ValueError if it is no JSON in UTF-8."""
    columns = json.loads(line.decode())
    if b"\\u" in line:
        json.dumps(columns, ensure_ascii=False).encode()  # no half of a letter that has two
    return with_nan(columns) if b"null" in line else columns


def parse_row(columns: Mapping[str, Any]) -> Row:
    """The row that was written as `columns`; columns that its class does not know go into `metrics`.

    Raises:
        Refusal: a column is missing, or of another type or below what it can be.
    """
    cls, own, metrics = check_row(columns)
    return cls(**own, metrics=metrics)


def check_row(columns: Mapping[str, Any]) -> Checked:
    """The same as its class, the columns that the class knows, and the others."""
    if not isinstance(columns, Mapping):
        raise Refusal("a row is a JSON object.")
    kind = columns.get("kind", "other")
    cls = KINDS.get(kind, Row) if isinstance(kind, str) else Row
    checks, needed = PLANS.get(cls) or PLANS.setdefault(cls, _plan(cls))
    own: Columns = {}
    metrics: Columns = {}
    for name, value in columns.items():
        check = checks.get(name)
        if check is None:
            metrics[intern(name)] = value
            fine = type(value) is float or _is_sound(value)
        else:
            own[name] = intern(value) if type(value) is str else value  # a million rows have few names
            fine = check(value)
        if not fine:
            raise Refusal(f"a {cls.kind} row has {name!r} in another form, got {str(value)[:60]}.")
    if not needed <= own.keys():
        raise Refusal(f"a {cls.kind} row needs {sorted(needed - own.keys())[:1]}, got {sorted(columns)}.")
    return cls, own, metrics


def _plan(cls: type[Row]) -> tuple[dict[str, Check], set[str]]:
    """What each column of a class must be, and which there must be."""
    hints = get_type_hints(cls)
    known = {one.name: one for one in fields(cls) if one.name != "metrics"}
    needed = {name for name, one in known.items() if one.default is MISSING and one.default_factory is MISSING}
    return {name: _check(hints[name], LEAST.get(name)) for name in known}, needed


def _check(hint: Any, least: float | None) -> Check:
    """Whether a value that JSON gave is of a type, and its numbers are not below `least`."""
    inner = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        checks = [_check(one, least) for one in inner if one is not NoneType]  # what is None is not written
        return checks[0] if len(checks) == 1 else lambda value: any(check(value) for check in checks)
    if get_origin(hint) is AnySequence:
        each = _check(inner[0], least)
        return lambda value: isinstance(value, list | tuple) and all(map(each, value))
    if is_typeddict(hint):
        parts = {name: _check(one, None) for name, one in get_type_hints(hint).items()}
        return lambda value: (
            isinstance(value, dict) and all(name in value and check(value[name]) for name, check in parts.items())
        )
    if hint is float:
        low = -math.inf if least is None else least
        return lambda value: (type(value) is float and not value < low) or (_is_whole(value) and value >= low)
    if hint is int:
        return lambda value: _is_whole(value) and (least is None or value >= least)
    return lambda value: type(value) is hint


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_sound(value: Any, depth: int = 0) -> bool:
    """Whether a column of no known type can be shown: no number beyond 64 bits, no list in a list in a list ..."""
    if type(value) is int:
        return _is_whole(value)
    if isinstance(value, list | dict):
        parts = value.values() if isinstance(value, dict) else value
        return depth < DEEPEST and all(_is_sound(one, depth + 1) for one in parts)
    return True
