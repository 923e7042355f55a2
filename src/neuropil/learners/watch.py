"""What a learner tells about its work while it learns, and what lets that work be resumed."""

import time
from collections.abc import Iterator
from typing import Any, Protocol


class Watch(Protocol):
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


class Unwatched:
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
