"""What is running, how far it is and how long it will take: bars on a terminal, elsewhere a line for every stage."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import progress
from rich.console import Console
from rich.table import Column

IN_THE_BAR = ("seed", "epoch")  # numbers that the bar shows already
UNITS = (86400, "days"), (3600, "h"), (60, "min")  # of the time that is left, from 1.5 of them on
PATIENCE = 60.0  # s without a line after which a long stage says how far it is


class Display:
    """One bar for each live loop on a terminal; elsewhere one line for each innermost loop that ends.

    Args:
        label: what the run is called in a line, such as its recipe and seed.
        quiet: whether to write no lines; bars on a terminal stay.
        patience: seconds without a line after which a stage says how far it is, even within an iteration.
    """

    def __init__(self, label: str = "", *, quiet: bool = False, patience: float = PATIENCE) -> None:
        self._label, self._quiet, self._patience = label, quiet, patience
        self._over, self._said = threading.Event(), False
        self._bars: progress.Progress | None = None
        self._tasks: list[progress.TaskID] = []
        self._stages: list[_Stage] = []

    def enter(self, title: str, count: int, at: int) -> None:
        """A loop begins, `at` iterations in."""
        if self._stages:
            self._stages[-1].nests = True
        self._stages.append(_Stage(title, count, at))
        if self._bars is None and not self._tasks and sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
        if self._bars:  # asked once: a live display of rich puts something that is no terminal in the place of stderr
            indent = "  " * len(self._tasks)
            self._tasks.append(self._bars.add_task(indent + title, total=count, completed=at, numbers=""))
        elif len(self._stages) == 1 and not self._quiet:
            self._over = threading.Event()
            threading.Thread(target=self._remind, args=(self._over,), daemon=True).start()

    def advance(self) -> None:
        """The innermost loop finished an iteration."""
        stage = self._stages[-1]
        stage.done += 1
        if self._bars:
            self._bars.advance(self._tasks[-1])
        elif time.monotonic() - max(one.told for one in self._stages) > self._patience and stage.done < stage.count:
            self._tell(self._stages)

    def numbers(self, row: Mapping[str, Any]) -> None:
        """Show the numbers of a logged row beside the innermost bar."""
        if self._bars and self._tasks:
            shown = [f"{name} {value:.4g}" for name, value in row.items() if _is_metric(name, value)]
            self._bars.update(self._tasks[-1], numbers="  ".join(shown[:3]))

    def leave(self) -> None:
        """The innermost loop is over; the bar of an outermost one stays on the screen."""
        if self._bars:
            task = self._tasks.pop()
            if self._tasks:
                self._bars.remove_task(task)
            else:
                self.close()
        elif not self._stages[-1].nests and self._stages[-1].first < self._stages[-1].done == self._stages[-1].count:
            self._tell(self._stages)
        self._stages.pop()
        if not self._stages:
            self._over.set()

    def close(self) -> None:
        """Give the terminal back."""
        if self._bars:
            self._bars.stop()
        self._bars, self._tasks = None, []

    def _remind(self, over: threading.Event) -> None:
        """Say where the run is when nothing was said for long, within an iteration too, until it is over."""
        while not over.wait(self._patience / 4):
            stages = [*self._stages]  # the loops go on meanwhile
            long = self._patience if self._said else self._patience / 4  # who asked for too much shall hear of it soon
            if stages and time.monotonic() - max(stage.told for stage in stages) > long:
                self._tell(stages)

    def _tell(self, stages: Sequence["_Stage"]) -> None:
        """One line: where the run is in its live loops, and when it will be over."""
        if self._quiet:
            return
        self._said = True
        for stage in stages:
            stage.told = time.monotonic()
        where = " > ".join(f"{stage.title} {stage.at}/{stage.count}" for stage in stages)
        took = f"{stages[-1].told - stages[-1].began:.1f} s"
        print(f"[{self._label}] {where}: {took}{self._left(stages)}", file=sys.stderr, flush=True)

    @staticmethod
    def _left(stages: Sequence["_Stage"]) -> str:
        """How long the live loops will still take, if that can be known: what the slowest of them needs at least."""
        seconds, now = 0.0, 0.0
        for stage in reversed(stages):
            now = (stage.done + now) / stage.count
            gone = now - stage.first / stage.count
            seconds = max(seconds, (stage.told - stage.began) * (1 - now) / gone) if gone > 0 else seconds
        if not seconds:
            return ""
        size, unit = next((one for one in UNITS if seconds >= 1.5 * one[0]), (1, "s"))
        return f", about {seconds / size:.0f} {unit} left"


class _Stage:
    """A live loop: where it began and where it is."""

    def __init__(self, title: str, count: int, first: int):
        self.title, self.count, self.first, self.done, self.nests = title, count, first, first, False
        self.began = self.told = time.monotonic()

    @property
    def at(self) -> int:
        """The iteration that is under way, or the last one."""
        return min(self.done + self.nests, self.count)


def _bars() -> progress.Progress:
    text, title, rest = progress.TextColumn, Column(no_wrap=True, overflow="ellipsis"), Column(no_wrap=True, ratio=1)
    return progress.Progress(
        text("{task.description}", markup=False, table_column=title),
        *(progress.BarColumn(bar_width=20), progress.MofNCompleteColumn()),
        *(progress.TimeElapsedColumn(), text("left", style="dim"), progress.TimeRemainingColumn()),
        text("{task.fields[numbers]}", style="dim", markup=False, table_column=rest),
        console=Console(stderr=True),
        speed_estimate_period=600,
    )


def _is_metric(name: str, value: Any) -> bool:
    return name not in IN_THE_BAR and isinstance(value, int | float) and not isinstance(value, bool)


def label(facts: dict[str, Any]) -> str:
    """What a run is called in a line on its progress."""
    seed = facts["config"].get("seed") if isinstance(facts["config"], dict) else None
    return Path(facts["recipe"]).stem + ("" if seed is None else f", seed {seed}")
