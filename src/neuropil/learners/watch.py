"""What a learner tells about its work while it learns, and what lets that work be resumed."""

from collections.abc import Iterator
from typing import Any, Protocol


class Watch(Protocol):
    """The observer of a fit: it counts the passes (and may resume them) and takes the numbers."""

    def loop(self, title: str, count: int, **parts: Any) -> Iterator[int]:
        """Yield 0 .. count - 1; `parts` are the live objects whose state changes from pass to pass."""
        ...

    def log(self, kind: str, **row: Any) -> None:
        """Take one row of numbers."""
        ...


class Unwatched:
    """Counts the passes and forgets the numbers."""

    def loop(self, title: str, count: int, **parts: Any) -> Iterator[int]:
        """0 .. count - 1."""
        yield from range(count)

    def log(self, kind: str, **row: Any) -> None:
        """Nothing is kept."""
