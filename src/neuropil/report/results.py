"""What a set of run folders says together: one line for each learner on each data set."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuropil.errors import Refusal, require
from neuropil.report.stats import interval, paired
from neuropil.runs import Record, read

Row = dict[str, Any]
BASELINE = "backprop"
BASELINES = (BASELINE, "random features", "linear")


@dataclass(frozen=True)
class Line:
    """One learner on one data set, over its seeds. Only finished runs count; the others wait in `pending`.

    Attributes:
        accuracy, pending: seed -> test accuracy, from finished and from unfinished runs.
        mean, half: of `accuracy`; nan where there is no number, or no interval.
        seconds, peak_mb: means over the finished runs, nan where nothing was measured.
        gap, gap_half, pairs: difference to the backprop baseline over equal seeds; None where there is none.
    """

    learner: str
    data: str
    family: str
    baseline: str
    accuracy: Mapping[int, float]
    pending: Mapping[int, float]
    n_train: tuple[int, ...]
    seconds: float
    peak_mb: float
    majority_rate: float
    mean: float = math.nan
    half: float = math.nan
    gap: float | None = None
    gap_half: float = math.nan
    pairs: int = 0


@dataclass(frozen=True)
class Study:
    """All rows of several runs.

    Attributes:
        records: the runs, as read.
        results: the result rows, each with the run it came from, its family, and whether that run had finished.
        lines: one per data set and learner, best first within a data set.
    """

    records: list[Record]
    results: list[Row]
    lines: list[Line] = field(default_factory=list)

    @property
    def data(self) -> list[str]:
        return list(dict.fromkeys(line.data for line in self.lines))

    @property
    def unfinished(self) -> list[Record]:
        return [record for record in self.records if not record.finished]

    @property
    def settled(self) -> list[Record]:
        """The runs whose curves may be averaged: the finished ones, or all of them while none has finished."""
        return [record for record in self.records if record.finished] or self.records

    @property
    def learners(self) -> list[str]:
        """The learners, best first; what a figure shows comes in this order."""
        return list(dict.fromkeys(line.learner for line in self.lines))

    def logged(self, kind: str, *, everything: bool = False) -> Iterator[Row]:
        """Rows of one kind, with plain names, as they were logged, from the settled runs or from `everything`."""
        for record in self.records if everything else self.settled:
            yield from (tidy(row) for row in record.rows if row.get("kind") == kind)

    def rows(self, kind: str, *, everything: bool = False) -> Iterator[Row]:
        """Rows of one kind, with plain names, best learner first."""
        rank = {name: index for index, name in enumerate(self.learners)}
        yield from sorted(
            self.logged(kind, everything=everything), key=lambda row: rank.get(row.get("learner", ""), len(rank))
        )


def plain(text: object) -> str:
    """A name as one printable line: whatever a terminal or a file format could take for a command is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def tidy(row: Row) -> Row:
    """The row with its names in printable form."""
    return {**row, **{key: plain(row[key]) for key in ("learner", "data", "stage", "layer", "family") if key in row}}


def name_of(record: Record) -> str:
    """The name of a run: that of its folder."""
    return plain(record.folder.resolve().name)


def number(row: Row, key: str) -> float:
    """The number under `key`, nan where it is missing or is none."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else math.nan


def mean(values: Iterable[float]) -> float:
    """The mean of the finite values; nan if there is none."""
    kept = [value for value in values if math.isfinite(value)]
    return sum(kept) / len(kept) if kept else math.nan


def folders_of(given: Path) -> list[Path]:
    """The run folder itself, or the run folders directly inside it."""
    if (given / "run.json").exists():
        return [given]
    return sorted(child.parent for child in given.glob("*/run.json")) or [given]


def gather(folders: Sequence[Path]) -> Study:
    """Read every run and line its results up; refuses what cannot be compared honestly."""
    require(len(folders) > 0, "a report needs at least one run folder, got none.")
    paths = dict.fromkeys(path for given in folders for path in folders_of(Path(given)))
    records = [read(path) for path in paths]
    results = [result(record, row) for record in records for row in record.rows if row.get("kind") == "result"]
    if not results:
        names = ", ".join(f"'{record.folder}'" for record in records)
        cure = "finish it with 'neuropil run --resume DIR'" if not records[0].finished else "run a recipe that logs one"
        raise Refusal(f"a report needs at least one result row, got none in {names}; {cure}.")
    refuse_duplicates(results)
    return Study(records, results, [line for data in unique(results, "data") for line in lines_on(data, results)])


def unique(rows: Iterable[Row], key: str) -> list[Any]:
    """The values under `key`, in the order of their first appearance."""
    return list(dict.fromkeys(row[key] for row in rows))


def result(record: Record, row: Row) -> Row:
    """One checked result row, with the run it belongs to."""
    kept = {key: value for key, value in tidy(row).items() if key != "kind"}
    for key in ("learner", "data", "seed", "accuracy"):
        require(
            key in kept, f"a result row needs {key!r}, got {sorted(kept)} in '{record.folder}'; log it with the row."
        )
    require(isinstance(kept["seed"], int), f"a result row needs a whole number as seed, got {kept['seed']!r}.")
    require(
        0 <= number(kept, "accuracy") <= 1,
        f"a result row needs an accuracy in 0..1, got {kept['accuracy']!r} for {kept['learner']!r} "
        f"in '{record.folder}'.",
    )
    family = kept.pop("family", None) or ("baseline" if kept["learner"] in BASELINES else "local")
    return {**kept, "family": family, "run": name_of(record), "finished": record.finished}


def refuse_duplicates(results: Sequence[Row]) -> None:
    """Two numbers for one learner, data set and seed cannot both be the result."""
    seen: dict[tuple[str, str, int], str] = {}
    for row in results:
        key = (row["learner"], row["data"], row["seed"])
        require(
            key not in seen,
            f"one result per learner, data set and seed is needed, got two for {key[0]!r} on {key[1]!r}, seed {key[2]} "
            f"(runs '{seen.get(key)}' and '{row['run']}'); leave one run out, or give the learners different names.",
        )
        seen[key] = row["run"]


def lines_on(data: str, results: Sequence[Row]) -> list[Line]:
    """The lines of one data set, best mean first, learners without a finished run last."""
    rows = defaultdict(list)
    for row in results:
        if row["data"] == data:
            rows[row["learner"]].append(row)
    accuracy = {name: {row["seed"]: row["accuracy"] for row in own if row["finished"]} for name, own in rows.items()}
    lines = [line(own, accuracy) for own in rows.values()]
    return sorted(lines, key=lambda one: (math.isnan(one.mean), -one.mean if one.accuracy else 0.0, one.learner))


def line(own: Sequence[Row], accuracy: Mapping[str, Mapping[int, float]]) -> Line:
    """The line of one learner from its own rows and everybody's accuracies."""
    name, done = own[0]["learner"], [row for row in own if row["finished"]]
    baseline = plain(own[0].get("baseline", BASELINE))
    mine, other = accuracy[name], accuracy.get(baseline, {})
    center, half = interval(mine.values()) if mine else (math.nan, math.nan)
    pairs = 0 if name == baseline else len(mine.keys() & other.keys())
    gap, gap_half = paired(mine, other) if pairs else (None, math.nan)
    return Line(
        learner=name,
        data=own[0]["data"],
        family=own[0]["family"],
        baseline=baseline,
        accuracy=mine,
        pending={row["seed"]: row["accuracy"] for row in own if not row["finished"]},
        n_train=tuple(sorted({row["n_train"] for row in own if row.get("n_train") is not None})),
        seconds=mean(number(row, "seconds") for row in done),
        peak_mb=mean(number(row, "peak_mb") for row in done),
        majority_rate=mean(number(row, "majority_rate") for row in own),
        mean=center,
        half=half,
        gap=gap,
        gap_half=gap_half,
        pairs=pairs,
    )
