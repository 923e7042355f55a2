"""One learner on one data set over its seeds: mean, interval, cost, and the difference to its baseline."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuropil.errors import printable as plain
from neuropil.report.stats import interval, paired
from neuropil.runs import FailedRow, ResultRow

BASELINE = "backprop"
BASELINES = (BASELINE, "random features", "linear")


@dataclass(frozen=True)
class Outcome:
    """A checked result row with the run that logged it."""

    row: ResultRow
    learner: str
    data: str
    seed: int
    family: str
    run: str
    finished: bool

    def columns(self) -> dict[str, Any]:
        """As results.json and the page show it."""
        logged = {name: value for name, value in self.row.columns().items() if name not in ("kind", "family")}
        return {**logged, "family": self.family, "run": self.run, "finished": self.finished}


@dataclass(frozen=True)
class Summary:
    """One learner on one data set, over its seeds. Unfinished runs enter no mean.

    Attributes:
        baseline: the learner that it is compared with.
        accuracy, unfinished: seed -> test accuracy, from finished and from unfinished runs.
        mean, half_width: of `accuracy`, and of its 95 % interval; nan where there is none.
        failed: seed -> why there is no accuracy, from finished and unfinished runs.
        seconds, peak_mb: means over the finished runs, nan where nothing was measured.
        difference, difference_half_width, pairs: to the baseline over equal seeds; None where there is none.
    """

    learner: str
    data: str
    family: str
    baseline: str
    accuracy: Mapping[int, float]
    unfinished: Mapping[int, float]
    failed: Mapping[int, str]
    n_train: tuple[int, ...]
    seconds: float
    peak_mb: float
    majority_rate: float
    mean: float = math.nan
    half_width: float = math.nan
    difference: float | None = None
    difference_half_width: float = math.nan
    pairs: int = 0


def summaries_on(data: str, outcomes: Sequence[Outcome], failures: Sequence[FailedRow]) -> list[Summary]:
    """The summaries of one data set, best mean first, learners without a finished run last."""
    by_learner: dict[str, list[Outcome | FailedRow]] = defaultdict(list)
    for one in (one for some in (outcomes, failures) for one in some if one.data == data):
        by_learner[one.learner or ""].append(one)
    reached = {name: [one for one in own if isinstance(one, Outcome)] for name, own in by_learner.items()}
    accuracy = {name: accuracy_by_seed(own, finished=True) for name, own in reached.items()}
    made = [summarise(own, reached[name], accuracy) for name, own in by_learner.items()]
    return sorted(made, key=lambda one: (math.isnan(one.mean), -one.mean if one.accuracy else 0.0, one.learner))


def accuracy_by_seed(outcomes: Iterable[Outcome], *, finished: bool) -> dict[int, float]:
    """Seed -> accuracy, of the runs that have finished or of those that have not."""
    return {one.seed: one.row.accuracy for one in outcomes if one.finished == finished}


def summarise(
    all_of_it: Sequence[Outcome | FailedRow], own: Sequence[Outcome], accuracy: Mapping[str, Mapping[int, float]]
) -> Summary:
    """The summary of one learner from all that was logged, its outcomes among that, and the accuracies of all."""
    learner, done = all_of_it[0].learner or "", [one.row for one in own if one.finished]
    baseline = (own[0].row.baseline if own else None) or BASELINE
    mine, other = accuracy[learner], accuracy.get(baseline, {})
    center, half_width = interval(mine.values()) if mine else (math.nan, math.nan)
    pairs = 0 if learner == baseline else len(mine.keys() & other.keys())
    difference, difference_half_width = paired(mine, other) if pairs else (None, math.nan)
    return Summary(
        learner=learner,
        data=all_of_it[0].data or "",
        family=family_of(learner, all_of_it[0].family),
        baseline=baseline,
        accuracy=mine,
        unfinished=accuracy_by_seed(own, finished=False),
        failed={one.seed or 0: plain(one.words) for one in all_of_it if isinstance(one, FailedRow)},
        n_train=tuple(sorted({one.row.n_train for one in own if one.row.n_train is not None})),
        seconds=mean(row.seconds for row in done),
        peak_mb=mean(row.peak_mb for row in done),
        majority_rate=mean(one.row.majority_rate for one in own),
        mean=center,
        half_width=half_width,
        difference=difference,
        difference_half_width=difference_half_width,
        pairs=pairs,
    )


def mean(values: Iterable[float | None]) -> float:
    """The mean of the finite values; nan if there is none."""
    kept = [value for value in values if value is not None and math.isfinite(value)]
    return sum(kept) / len(kept) if kept else math.nan


def family_of(learner: str, logged: str | None) -> str:
    """The family that was logged, or the usual one."""
    return logged or ("baseline" if learner in BASELINES else "local")
