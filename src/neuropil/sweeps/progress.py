"""How far a sweep is: on a terminal a bar and a line for each run at work, elsewhere a line for each that ends."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich import progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

from neuropil.runs.display import PATIENCE, UNITS
from neuropil.sweeps.folder import Place

TAIL = 400  # bytes of a log in which its last line is


class Progress:
    """Told when runs begin and end.

    Args:
        total, done: runs in all, and those that had ended before; a search adds to both as it goes.
        workers: runs at once.
        title: what a run is called.
        log: where it says how far it is.
        quiet: whether to write no lines; bars on a terminal stay.
    """

    def __init__(
        self, total: int, done: int, workers: int, title: Callable[[Place], str], log: Callable[[Place], Path], *,
        quiet: bool,
    ) -> None:  # fmt: skip
        self._total, self._done, self._first, self._workers = total, done, done, workers
        self._title, self._log, self._quiet = title, log, quiet
        self._began = self._told = time.monotonic()
        self._live: dict[Place, progress.TaskID | None] = {}
        self._over, self._bars = threading.Event(), _bars() if sys.stderr.isatty() else None
        if self._bars:
            self._all = self._bars.add_task("runs", total=total, completed=done, file=None)
            self._bars.start()
        elif not quiet:
            threading.Thread(target=self._remind, daemon=True).start()

    def began(self, place: Place) -> None:
        """A run is at work."""
        bar = self._bars and self._bars.add_task(f"  {self._title(place)}", total=None, file=self._log(place))
        self._live[place] = bar or None

    def ended(self, place: Place, what: str) -> None:
        """A run has ended; `what` has come of it, in words."""
        bar = self._live.pop(place, None)
        self._done += 1
        if self._bars:
            if bar is not None:
                self._bars.remove_task(bar)
            self._bars.advance(self._all)
            self._bars.console.print(f"{self._title(place)}: {what}", highlight=False, markup=False)
        else:
            self._say(f"{self._title(place)}: {what}")

    def close(self) -> None:
        """Give the terminal back."""
        self._over.set()
        if self._bars:
            self._bars.stop()

    def _remind(self) -> None:
        """Say that runs are at work when nothing was said for long."""
        while not self._over.wait(PATIENCE / 4):
            if time.monotonic() - self._told > PATIENCE:
                at = [f"{self._title(place)}: {_last_line(self._log(place)) or 'at work'}" for place in [*self._live]]
                self._say("; ".join(at))

    def _say(self, text: str) -> None:
        self._told = time.monotonic()
        if not self._quiet:
            print(f"[sweep] {self._done}/{self._total} {text}{self._left()}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        """How long the other runs will take, if they take as long as those before."""
        new = self._done - self._first
        seconds = (time.monotonic() - self._began) / new * (self._total - self._done) if new else 0.0
        if not seconds:
            return ""
        size, unit = next((one for one in UNITS if seconds >= 1.5 * one[0]), (1, "s"))
        return f" (about {seconds / size:.0f} {unit} left)"


class _State(progress.ProgressColumn):
    """How many runs have ended; of a run at work the last line of its log."""

    max_refresh = 1.0

    def render(self, task: progress.Task) -> Text:
        """As it is now."""
        log = task.fields["file"]
        return Text(_last_line(log), style="dim") if log else Text(f"{task.completed:.0f}/{task.total:.0f}")


def _bars() -> progress.Progress:
    narrow, wide = (Column(no_wrap=True, overflow="ellipsis", ratio=ratio) for ratio in (None, 1))
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False, table_column=narrow),
        *(progress.TimeElapsedColumn(), _State(wide)),
        console=Console(stderr=True),
        refresh_per_second=2,
    )


def _last_line(log: Path) -> str:
    """Where a run is, as it said last; empty before it has said anything."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].partition("] ")[2] or lines[-1] if lines else ""
