"""Many runs at once: as many as there are workers, on whatever engine, each told by what it left."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from neuropil.errors import Refusal

T = TypeVar("T")
TICK = 0.05  # s between two looks at what is live


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        kind: "done"; "failed", which it would do again; "lost" with its process; "stop", which concerns all runs.
        reason: in one line, empty if it is done.
    """

    kind: str
    reason: str = ""


class Live(Protocol):
    """A run that an engine has started."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> Outcome:
        """How it ended."""

    def stop(self) -> None:
        """End it, so that it can be resumed."""


def refused(options: Mapping[str, Any], error: Exception) -> Refusal:
    """What an engine says of the resources that it was told, in one line."""
    said = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason'}"
    given = " ".join(f"{name}={value}" for name, value in options.items()) or "none"
    cure = "the sweep is kept: neuropil sweep --resume FOLDER goes on with other --resources"
    return Refusal(f"the engine takes no --resources {given} ({said:.200}); {cure}.")


def run_all(tasks: Iterable[T], start: Callable[[T], Live], workers: int) -> Iterator[tuple[T, Outcome | None]]:
    """Start every task, `workers` at once: (task, None) when it starts, (task, its outcome) when it ends.

    Whatever interrupts this stops those that are live.
    """
    waiting, live = deque(tasks), dict[T, Live]()
    try:
        while waiting or live:
            while waiting and len(live) < workers:
                task = waiting.popleft()
                live[task] = start(task)
                yield task, None
            ended = [task for task, one in live.items() if one.done()]
            for task in ended:
                yield task, live.pop(task).result()
            if not ended:
                time.sleep(TICK)
    finally:
        for one in live.values():
            one.stop()
