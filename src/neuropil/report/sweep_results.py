"""What a sweep says: every setting and learner over the seeds, and the setting that is chosen."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuropil.report.stats import interval
from neuropil.report.summaries import mean
from neuropil.sweeps.axes import Setting
from neuropil.sweeps.folder import Score, Sweep, chooser, score_of


@dataclass(frozen=True)
class Tried:
    """One setting and one learner, over the seeds.

    Attributes:
        number: of the setting, from 1, as in the name of its folder.
        accuracy: seed -> accuracy on held-out examples.
        failed: seed -> why there is none.
        open: seeds whose runs have not ended.
        seconds: mean time of the fit.
    """

    number: int
    setting: Setting
    accuracy: Mapping[int, float]
    failed: Mapping[int, str]
    open: Sequence[int]
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether every seed has an accuracy."""
        return bool(self.accuracy) and not self.failed and not self.open

    @property
    def interval(self) -> tuple[float, float]:
        """Mean and half width; NaN where there is no accuracy."""
        return interval(self.accuracy.values()) if self.accuracy else (math.nan, math.nan)

    @property
    def count(self) -> str:
        """How many seeds have an accuracy, and how many have none."""
        others = {"failed": len(self.failed), "unfinished": len(self.open)}
        done = [str(len(self.accuracy))] if self.accuracy or not any(others.values()) else []
        return " + ".join([*done, *(f"{n} {kind}" for kind, n in others.items() if n)])


@dataclass(frozen=True)
class SweepResults:
    """What a sweep says.

    Attributes:
        sweep: its folder.
        learner: the one whose accuracy chooses.
        data: the data set.
        tried: for each learner all settings, the best mean of those with all seeds first.
        scores: what was reached in every run.
    """

    sweep: Sweep
    learner: str
    data: str
    tried: Mapping[str, list[Tried]]
    scores: list[Score] = field(default_factory=list)

    @property
    def chosen(self) -> Tried | None:
        """The setting with the best mean of those with all seeds; None while there is none."""
        return next((one for one in self.tried.get(self.learner, []) if one.whole), None)

    @property
    def timed(self) -> bool:
        """Whether any run says how long its fit took."""
        return any(one.seconds is not None for one in self.scores)


def gather(sweep: Sweep) -> SweepResults:
    """Read every run of a sweep once."""
    by_place = {place: sweep.scores(place) for place in sweep.places()}
    scores = [one for found in by_place.values() for one in found]
    learner = chooser(scores, sweep.facts["learner"])
    names = [learner, *dict.fromkeys(one.learner for one in scores if one.accuracy is not None)]
    tried = {name: _tried(sweep, name, by_place) for name in dict.fromkeys(names)}
    data = ", ".join(dict.fromkeys(one.data for one in scores if one.data))
    return SweepResults(sweep, learner, data, tried, scores)


def _tried(sweep: Sweep, learner: str, by_place: Mapping[Any, list[Score]]) -> list[Tried]:
    found: dict[int, dict[int, Score]] = defaultdict(dict)
    for place, scores in by_place.items():
        if scores:
            found[place.setting][place.seed] = score_of(scores, learner)
    made = []
    for index, setting in enumerate(sweep.settings):
        own = found[index]
        accuracy = {seed: one.accuracy for seed, one in own.items() if one.accuracy is not None}
        failed = {seed: one.reason for seed, one in own.items() if one.accuracy is None}
        rest = [seed for seed in sweep.seeds if seed not in own]
        made.append(Tried(index + 1, setting, accuracy, failed, rest, mean(one.seconds for one in own.values())))
    return sorted(made, key=lambda one: (not one.whole, not one.accuracy, -one.interval[0], one.number))
