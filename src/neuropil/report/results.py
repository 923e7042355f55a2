"""What a set of run folders says together: their rows by kind, and one summary per learner and data set.

Every run is read once, here. Tables, figures and the page are made from `Results`.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor

from neuropil.errors import Refusal, require
from neuropil.report.summaries import BASELINES, Outcome, Summary, family_of, mean, plain, summaries_on
from neuropil.runs import EpochRow, FailedRow, Record, ResultRow, Row, WarningRow, read
from neuropil.runs.files import METRICS
from neuropil.runs.parsing import read_checked

__all__ = ["BASELINES", "Outcome", "Results", "RunRows", "Summary", "gather", "mean", "plain"]

R = TypeVar("R", bound=Row)
T = TypeVar("T", bound="Row | Series")
Tables = Mapping[type[Row], list[Any]]  # class of rows -> its rows
NAMES = ("learner", "data", "family", "baseline", "stage", "layer")  # columns whose text the reader sees
ROWS = 200  # of a kind that has no figure


@dataclass(frozen=True)
class Series:
    """Every number of one stage of a learner with one seed: its epochs, and what it was in each."""

    learner: str
    data: str
    seed: int | None
    stage: str
    numbers: dict[str, tuple["array[float]", "array[float]"]] = field(default_factory=dict)

    def add(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """What one row of the stage has logged; words and lists have no curve."""
        for name, value in metrics.items():
            if type(value) is float or type(value) is int:
                if name not in self.numbers:
                    self.numbers[name] = array("d"), array("d")
                epochs, values = self.numbers[name]
                epochs.append(epoch)
                values.append(value)


@dataclass(frozen=True)
class RunRows:
    """One run: its record, its rows by their class, in the order in which they were logged, and those of epochs.

    A run may have a million epochs, and they are plotted only: what they logged is kept as columns, and not as rows.
    """

    record: Record
    tables: Tables
    series: list[Series]
    damaged: int = 0  # lines that could not be read, or are gone

    @property
    def name(self) -> str:
        """That of its folder."""
        return plain(self.record.folder.resolve().name)

    @property
    def pictures(self) -> list[Path]:
        """The pictures that it left."""
        return sorted((self.record.folder / "pictures").glob("*.png"))

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """What the run saved, by name; read once."""
        return self.record.tensors()

    def of(self, kind: type[R]) -> list[R]:
        """The rows of one class."""
        return cast(list[R], self.tables.get(kind, []))


@dataclass(frozen=True)
class Results:
    """All that several runs say, as `gather` collects it.

    Attributes:
        runs: the runs, each read once.
        outcomes: every result row, checked.
        summaries: one per data set and learner, best first within a data set.
        tables: rows by class, best learner first, from the finished runs (from all while none has finished).
        series: what their epochs logged, best learner first.
        warnings: those of all runs.
    """

    runs: list[RunRows]
    outcomes: list[Outcome]
    summaries: list[Summary]
    tables: Tables = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    warnings: list[WarningRow] = field(default_factory=list)

    @property
    def data(self) -> list[str]:
        """The data sets."""
        return list(dict.fromkeys(summary.data for summary in self.summaries))

    @property
    def learners(self) -> list[str]:
        """The learners, best first; what a figure shows comes in this order."""
        return list(dict.fromkeys(summary.learner for summary in self.summaries)) or self.trained

    @property
    def trained(self) -> list[str]:
        """All that have learning curves, in the order of logging."""
        return list(dict.fromkeys(row.learner for run in self.shown for row in run.series))

    @property
    def unfinished(self) -> list[str]:
        """Names of the runs that have not finished."""
        return [run.name for run in self.runs if not run.record.finished]

    @property
    def shown(self) -> list[RunRows]:
        """The runs whose curves and pictures are shown: the finished ones, or all while none has finished."""
        return [run for run in self.runs if run.record.finished] or self.runs

    def saved(self, prefix: str) -> dict[str, tuple[RunRows, np.ndarray]]:
        """What was saved as `prefix` + name, by name: the first shown run that has it, and the array."""
        found: dict[str, tuple[RunRows, np.ndarray]] = {}
        for run in self.shown:
            for key in sorted(key for key in run.tensors if key.startswith(prefix)):
                found.setdefault(
                    plain(key.removeprefix(prefix)), (run, np.atleast_1d(run.tensors[key].float().cpu().numpy()))
                )
        return found

    def on(self, data: str) -> list[Summary]:
        """The summaries of one data set."""
        return [summary for summary in self.summaries if summary.data == data]

    def of(self, kind: type[R]) -> list[R]:
        """The rows of one class, best learner first."""
        return cast(list[R], self.tables.get(kind, []))


def gather(runs: Sequence[Path | str] | Results) -> Results:
    """Read every run once and compare their results; what was gathered already is given back.

    Raises:
        Refusal: no run, nothing to show, a result that cannot be, or two for one learner, data set and seed.
    """
    if isinstance(runs, Results):
        return runs
    require(len(runs) > 0, "a report needs at least one run folder, got none.")
    paths = dict.fromkeys(path for given in runs for path in folders_of(Path(given)))
    found = [rows_of(read(path)) for path in paths]
    outcomes = [outcome(run, row) for run in found for row in run.of(ResultRow)]
    failures = [row for run in found for row in run.of(FailedRow)]
    if not outcomes and not failures and not any(run.series or run.of(Row) or run.pictures for run in found):
        names = ", ".join(f"'{run.record.folder}'" for run in found)
        finished = found[0].record.finished
        cure = "run a recipe that logs one" if finished else "finish it with 'neuropil run --resume DIR'"
        cure += "".join(f" {text}" for run in found for text in damage_of(run))
        raise Refusal(
            f"a report needs at least one result row, learning curve or picture, got none in {names}; {cure}."
        )
    refuse_duplicates(outcomes)
    named = dict.fromkeys([*(one.data for one in outcomes), *(str(row.data) for row in failures)])
    summaries = [one for data in named for one in summaries_on(data, outcomes, failures)]
    results = Results(found, outcomes, summaries)
    warnings = [row for run in found for row in run.of(WarningRow)]
    series = best_first([one for run in results.shown for one in run.series], results.learners)
    warnings = best_first(warnings, results.learners)
    return replace(results, tables=merged_tables(results), series=series, warnings=warnings)


def damage_of(run: RunRows) -> list[str]:
    """One sentence on the lines of a run that could not be read, if there are any."""
    many = f"{run.damaged} lines of its metrics.jsonl are" if run.damaged > 1 else "1 line of its metrics.jsonl is"
    return [f"Damaged: {run.name}, {many} damaged or gone, and left out."] if run.damaged else []


def folders_of(given: Path) -> list[Path]:
    """The run folder itself, or the run folders directly inside it."""
    if (given / "run.json").exists():
        return [given]
    return sorted(child.parent for child in given.glob("*/run.json")) or [given]


def rows_of(record: Record) -> RunRows:
    """The rows of a run by class, with their names in printable form."""
    tables: dict[type[Row], list[Row]] = defaultdict(list)
    series: dict[tuple[Any, ...], Series] = {}
    others: dict[tuple[Any, ...], int] = defaultdict(int)
    damaged, count = 0, 0
    for found in read_checked(record.folder / METRICS):
        count += 1
        if found is None:
            damaged += 1
            continue
        kind, own, metrics = found
        if kind is EpochRow:
            key = own.get("learner"), own.get("data"), own.get("seed"), own.get("stage", EpochRow.stage)
            if key not in series:
                learner, data, seed, stage = key
                series[key] = Series(plain(learner or ""), plain(data or ""), seed, plain(stage))
            series[key].add(own["epoch"], metrics)
            continue
        if kind is Row:
            others[own.get("kind"), own.get("learner")] += 1
            if others[own.get("kind"), own.get("learner")] > ROWS:
                continue
        own |= {name: plain(own[name]) for name in NAMES if not own.get(name, "").isprintable()}
        tables[kind].append(kind(**own, metrics=metrics))
    return RunRows(record, dict(tables), [*series.values()], damaged + max(0, record.facts.get("rows", 0) - count))


def merged_tables(results: Results) -> Tables:
    """The rows of all shown runs by class, best learner first."""
    shown, learners = results.shown, results.learners
    kinds = dict.fromkeys(kind for run in shown for kind in run.tables)
    return {kind: best_first([row for run in shown for row in run.of(kind)], learners) for kind in kinds}


def best_first(rows: Iterable[T], learners: Sequence[str]) -> list[T]:
    """`rows` in the order of their learners, others last; rows of one learner stay in the order of logging."""
    place = {name: index for index, name in enumerate(learners)}
    return sorted(rows, key=lambda row: place.get(row.learner or "", len(place)))


def outcome(run: RunRows, row: ResultRow) -> Outcome:
    """A result row with its run; refuses what cannot be a result."""
    folder, finished = run.record.folder, run.record.finished
    for name in ("learner", "data", "seed"):
        given = getattr(row, name) is not None
        require(given, f"a result row needs {name!r}, got {sorted(row.columns())} in '{folder}'; log it with the row.")
    require(isinstance(row.seed, int), f"a result row needs a whole number as seed, got {row.seed!r}.")
    message = f"a result row needs an accuracy in 0..1, got {row.accuracy!r} for {row.learner!r} in '{folder}'."
    require(isinstance(row.accuracy, int | float) and 0 <= row.accuracy <= 1, message)
    learner, data, seed = str(row.learner), str(row.data), cast(int, row.seed)
    return Outcome(row, learner, data, seed, family_of(learner, row.family), run.name, finished)


def refuse_duplicates(outcomes: Sequence[Outcome]) -> None:
    """Two numbers for one learner, data set and seed cannot both be the result."""
    seen: dict[tuple[str, str, int], str] = {}
    for one in outcomes:
        key = (one.learner, one.data, one.seed)
        require(
            key not in seen,
            f"one result per learner, data set and seed is needed, got two for {key[0]!r} on {key[1]!r}, seed {key[2]} "
            f"(runs '{seen.get(key)}' and '{one.run}'); leave one run out, or give the learners different names.",
        )
        seen[key] = one.run
