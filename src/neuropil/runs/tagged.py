"""A run seen by one of several learners: every row it logs says whose it is."""

from collections.abc import Iterator
from typing import Any

from neuropil.runs.checkpoint import Part
from neuropil.runs.run import Run


class Tagged:
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
