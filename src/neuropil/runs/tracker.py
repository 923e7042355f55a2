"""What a learner tells about its work while it learns, and what lets that work be resumed."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from neuropil.runs.checkpoint import Stateful
from neuropil.runs.rows import Row
from neuropil.runs.run import Run

__all__ = ["NullTracker", "TaggedTracker", "Tracker"]


class Tracker(Protocol):
    """The observer of a fit: it counts the epochs (and may resume them), takes the rows and holds the clock."""

    @property
    def seconds(self) -> float:
        """Time at work so far, s; interruptions are left out."""

    def loop(self, title: str, count: int, **state: Stateful) -> Iterator[int]:
        """Yield 0 .. count - 1; `state` are the live objects that change from one iteration to the next."""

    def log(self, row: Row) -> None:
        """Take one row."""


class NullTracker:
    """Counts the epochs and forgets the rows.

    >>> list(NullTracker().loop("epochs", 3))
    [0, 1, 2]
    """

    @property
    def seconds(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.perf_counter()

    def loop(self, title: str, count: int, **state: Stateful) -> Iterator[int]:
        """0 .. count - 1."""
        yield from range(count)

    def log(self, row: Row) -> None:
        """Nothing is kept."""


class TaggedTracker:
    """Passes everything on to a run; every row says whose it is, and so does the title of every loop.

    Args:
        run: where rows and loops go.
        learner: name of the learner, in plain words.
        family: "local", "spiking" or "baseline".
        data, seed: further columns of every row.
    """

    def __init__(
        self, run: Run, *, learner: str, family: str | None = None, data: str | None = None, seed: int | None = None
    ):
        self.run, self.learner, self.family, self.data, self.seed = run, learner, family, data, seed

    @property
    def seconds(self) -> float:
        """Time at work, s; see `Run.seconds`."""
        return self.run.seconds

    def loop(self, title: str, count: int, **state: Stateful) -> Iterator[int]:
        """See `Run.loop`."""
        return self.run.loop(f"{self.learner}: {title}", count, **state)

    def log(self, row: Row) -> None:
        """See `Run.log`."""
        self.run.log(replace(row, learner=self.learner, family=self.family, data=self.data, seed=self.seed))
