"""What is running, how far it is and how long it will take: bars on a terminal, nothing elsewhere."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

QUIET = ("seed", "epoch")  # numbers that the bar shows already


class Display:
    """One bar per live loop."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: list[TaskID] = []

    def enter(self, title: str, count: int, at: int) -> None:
        """A loop begins, `at` iterations in."""
        if not sys.stderr.isatty():
            return
        if self._bars is None:
            self._bars = _bars()
            self._bars.start()
        indent = "  " * len(self._tasks)
        self._tasks.append(self._bars.add_task(indent + title, total=count, completed=at, numbers=""))

    def advance(self) -> None:
        """The innermost loop finished an iteration."""
        if self._bars and self._tasks:
            self._bars.advance(self._tasks[-1])

    def numbers(self, row: Mapping[str, Any]) -> None:
        """Show the numbers of a logged row beside the innermost bar."""
        if self._bars and self._tasks:
            shown = [f"{name} {value:.4g}" for name, value in row.items() if _is_metric(name, value)]
            self._bars.update(self._tasks[-1], numbers="  ".join(shown[:3]))

    def leave(self) -> None:
        """The innermost loop is over; the bar of an outermost one stays on the screen."""
        if self._bars and self._tasks:
            task = self._tasks.pop()
            if self._tasks:
                self._bars.remove_task(task)
            else:
                self.close()

    def close(self) -> None:
        """Give the terminal back."""
        if self._bars:
            self._bars.stop()
        self._bars, self._tasks = None, []


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}", style="dim", markup=False, table_column=Column(no_wrap=True, ratio=1)),
        console=Console(stderr=True),
        speed_estimate_period=600,
    )


def _is_metric(name: str, value: Any) -> bool:
    return name not in QUIET and isinstance(value, int | float) and not isinstance(value, bool)
