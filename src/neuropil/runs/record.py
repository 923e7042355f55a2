"""A run read back from its folder, finished or not."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

from torch import Tensor

from neuropil.errors import Refusal, require
from neuropil.runs.files import METRICS, RUN, WEIGHTS, is_plain, read_json, refuse_links
from neuropil.runs.parsing import load_line
from neuropil.runs.tensors import read_tensors

KINDS = {"versions": dict, "machine": dict, "code": dict, "data": dict, "resumed": list, "purpose": str, "rows": int}


@dataclass(frozen=True)
class Record:
    """What a run left, as `read` brings it back.

    Attributes:
        folder: where it is.
        recipe: its name, or the path of its file.
        config: its settings.
        facts: all of run.json: config, command, versions, machine, git, started, finished, seconds, notes.
        finished: whether it came to its end.
    """

    folder: Path
    recipe: str
    config: dict[str, Any]
    facts: dict[str, Any]
    finished: bool

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """What it logged, in order; each has its "kind". A damaged line is refused; `read_rows` leaves it out."""
        return load_rows(self.folder / METRICS)

    def tensors(self) -> dict[str, Tensor]:
        """What `Run.save` saved, by name; empty if it saved nothing."""
        return read_tensors(self.folder / WEIGHTS)[0]


def read(folder: Path | str) -> Record:
    """The run in `folder`. A last line that was cut off (kill, full disk) is left out; any other damage is refused."""
    folder = Path(folder)
    facts = read_facts(folder)
    return Record(folder, facts["recipe"], facts["config"], facts, facts["finished"] is not None)


def read_facts(folder: Path) -> dict[str, Any]:
    """run.json, or a refusal if `folder` is no run."""
    require(folder.is_dir(), f"there is no run in {folder}: no such folder.")
    refuse_links(folder)
    swept = "; it is a sweep, which neuropil report shows" if (folder / "sweep.json").is_file() else ""
    require((folder / RUN).is_file(), f"{folder} is not a run: it has no {RUN}{swept}.")
    facts = read_json(folder / RUN, recipe=str, config=dict, command=str, finished=str | NoneType)
    odd = [name for name, kind in KINDS.items() if not isinstance(facts.get(name, kind()), kind)]
    require(not odd, f"{folder / RUN} is not of a run: {', '.join(odd)} cannot be read.")
    return facts


def load_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, without a last one that was cut off; null is read as NaN."""
    lines = path.read_bytes().splitlines() if is_plain(path) else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(load_line(line))
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise Refusal(f"{path} is damaged in line {number} ({error}).") from error
    return rows
