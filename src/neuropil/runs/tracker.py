"""What a learner tells about its work while it learns, and what lets that work be resumed."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

from neuropil.runs.checkpoint import Part
from neuropil.runs.run import Run


class Tracker(Protocol):
    """The observer of a fit: it counts the passes (and may resume them), takes the numbers and holds the clock."""

    @property
    def seconds(self) -> float:
        """Time at work so far, s; interruptions are left out."""
        ...

    def loop(self, title: str, count: int, **parts: Any) -> Iterator[int]:
        """Yield 0 .. count - 1; `parts` are the live objects whose state changes from pass to pass."""
        ...

    def log(self, kind: str, **row: Any) -> None:
        """Take one row of numbers."""
        ...


class NullTracker:
    """Counts the passes and forgets the numbers."""

    @property
    def seconds(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.perf_counter()

    def loop(self, title: str, count: int, **parts: Any) -> Iterator[int]:
        """0 .. count - 1."""
        yield from range(count)

    def log(self, kind: str, **row: Any) -> None:
        """Nothing is kept."""


class TaggedTracker:
    """Passes everything on to a run; adds `tags` to every row and the learner's name to the title of every loop.

    Args:
        run: where rows and loops go.
        learner: whose they are, in plain words.
        tags: further columns of every row, for example data and seed.
    """

    def __init__(self, run: Run, *, learner: str, **tags: Any):
        self.run, self.learner, self.tags = run, learner, tags

    @property
    def seconds(self) -> float:
        """Time at work, s; see `Run.seconds`."""
        return self.run.seconds

    def loop(self, title: str, count: int, **parts: Part) -> Iterator[int]:
        """See `Run.loop`."""
        return self.run.loop(f"{self.learner}: {title}", count, **parts)

    def log(self, kind: str, **row: Any) -> None:
        """See `Run.log`."""
        self.run.log(kind, learner=self.learner, **self.tags, **row)
