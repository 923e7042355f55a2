"""The folder of a sweep: what was asked is in sweep.json, every run has a folder of its own, and these say the rest."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from neuropil.errors import printable, require, unknown
from neuropil.runs import FailedRow, ResultRow, Row, read_rows
from neuropil.runs.files import METRICS, RUN, json_bytes, read_json, refuse_links, write_atomically
from neuropil.runs.record import read_facts
from neuropil.sweeps.axes import Setting, words_of

FILE, FAILED = "sweep.json", "failed.txt"


class Place(NamedTuple):
    """One run of a sweep: the number of its setting, from 0, and its seed."""

    setting: int
    seed: int


class Score(NamedTuple):
    """What one learner reached in one run on the held-out examples, or why it reached nothing."""

    place: Place
    learner: str
    data: str
    accuracy: float | None
    seconds: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder says it is.

    Attributes:
        folder: where it is.
        facts: sweep.json: the command of its runs without setting and seed, the settings, the seeds, and more.
    """

    folder: Path
    facts: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, *, checked: bool = False) -> Self:
        """The sweep in `folder`, or a refusal; `checked`: that there are no links in it is known."""
        require((folder / FILE).is_file(), f"there is no sweep in {folder}: it has no {FILE}.")
        if not checked:
            refuse_links(folder)
        needed = {"command": str, "sweep": str, "settings": list, "seeds": list, "axes": list, "threads": int}
        needed |= {"plain": list, "switches": list, "trials": list, "at_once": int}
        facts = read_json(folder / FILE, **needed)
        whole = lambda value: type(value) is int
        texts = lambda one: isinstance(one, dict) and all(isinstance(value, str) for value in one.values())
        fine = all(map(whole, facts["seeds"])) and all(map(texts, facts["settings"])) and bool(facts["seeds"])
        require(fine, f"{folder / FILE} is damaged: its settings or seeds cannot be read.")
        return cls(folder, facts)

    @property
    def settings(self) -> list[Setting]:
        """What is tried; a search adds to it."""
        found: list[Setting] = self.facts["settings"]
        return found

    @property
    def seeds(self) -> list[int]:
        """The seeds with which every setting runs."""
        found: list[int] = self.facts["seeds"]
        return found

    def write(self) -> None:
        """sweep.json, whole or not at all."""
        write_atomically(self.folder / FILE, json_bytes(self.facts, indent=1))

    def at(self, place: Place) -> Path:
        """The folder of a run."""
        return self.folder / f"setting-{place.setting + 1:03d}" / f"seed-{place.seed}"

    def places(self, settings: Sequence[int] | None = None) -> list[Place]:
        """All runs, or those of some settings; every setting has its first seed before one has its second."""
        some = range(len(self.settings)) if settings is None else settings
        return [Place(setting, seed) for seed in self.seeds for setting in some]

    def finished(self, place: Place) -> bool:
        """Whether a run came to its end."""
        folder = self.at(place)
        return (folder / RUN).is_file() and read_facts(folder)["finished"] is not None

    def failure(self, place: Place) -> str:
        """Why a run has no end, empty if it has one or may still come to it."""
        file = self.at(place) / FAILED
        return printable(file.read_text(encoding="utf-8").strip()) if file.is_file() else ""

    def open(self, settings: Sequence[int] | None = None) -> list[Place]:
        """The runs that have neither finished nor failed."""
        return [place for place in self.places(settings) if not self.failure(place) and not self.finished(place)]

    def command(self, setting: Setting) -> str:
        """What measures a setting on the test set, with all training examples and the seeds of the sweep."""
        seeds = ["--seed", str(self.seeds[0]), "--seeds", str(len(self.seeds))]
        return shlex.join([*self.facts["plain"], *words_of(setting, self.facts["switches"]), *seeds])

    def scores(self, place: Place) -> list[Score]:
        """What the learners of a finished run reached; of a failed one a single row without a learner."""
        if reason := self.failure(place):
            return [Score(place, "", "", None, reason=reason)]
        return list(scores_of(place, self.at(place) / METRICS)) if self.finished(place) else []


def scores_of(place: Place, metrics: Path) -> Iterator[Score]:
    """The rows of one run as scores. Rows of kind "validation" come before results, where there are any.

    Raises:
        Refusal: a learner has several of them, so that it is not said which counts.
    """
    rows = [row for row in read_rows(metrics) if row is not None]
    own = [row for row in rows if row.kind == "validation" and type(row.metrics.get("accuracy")) is float]
    learners = [row.learner for row in own]
    twice = next((name for name in learners if learners.count(name) > 1), None)
    require(
        twice is None, f"a run needs one validation row for each learner, got {learners.count(twice)} for {twice!r}."
    )
    reached: list[Row] = [*own] or [row for row in rows if isinstance(row, ResultRow)]
    for row in [*reached, *(row for row in rows if isinstance(row, FailedRow))]:
        who = place, printable(row.learner or ""), printable(row.data or "")
        if isinstance(row, FailedRow):
            yield Score(*who, None, reason=printable(row.words))
        elif isinstance(row, ResultRow):
            yield Score(*who, row.accuracy, row.seconds)
        else:
            yield Score(*who, row.metrics["accuracy"], row.metrics.get("seconds"))


def chooser(scores: Sequence[Score], asked: str | None) -> str:
    """The learner whose accuracy chooses: the one that was asked for, by whichever of its names, or the first.

    Raises:
        Refusal: there is no such learner.
    """
    names = [*dict.fromkeys(one.learner for one in scores if one.learner)]
    if asked is None or not names:
        return next((one.learner for one in scores if one.accuracy is not None), names[0] if names else "")
    found = next((name for name in names if _short(name) == _short(asked)), None)
    if found is None:
        raise unknown("learner", asked, names)
    return found


def _short(name: str) -> str:
    """A name without capitals and signs, as it may be typed."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()


def score_of(scores: Sequence[Score], learner: str) -> Score:
    """What `learner` reached in the run of these scores, or why it has no accuracy."""
    own = [one for one in scores if one.learner == learner] or [one for one in scores if one.reason]
    return (own or [scores[0]._replace(accuracy=None, reason=f"no accuracy of {learner} was logged")])[0]
