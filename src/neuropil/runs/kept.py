"""What a fit learned, kept beside the run, and the fit done again in a moment from what was kept.

The law of `Run.loop`, that whatever changes inside a loop is a part of it, makes a fit a function of its data and the
final states of its loops. So nothing has to know how a learner is built: it is fitted again, and every loop, instead of
turning, puts its parts where they ended.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from neuropil.errors import Refusal, require
from neuropil.runs.checkpoint import Stateful, capture, dump, load, restore_
from neuropil.runs.rows import Row
from neuropil.runs.tracker import Tracker

FOLDER = "learners"


class Keeper:
    """Passes everything on, and remembers where the parts of every finished loop ended, but for optimisers.

    Args:
        watch: what it passes on to.
    """

    def __init__(self, tracker: Tracker):
        self.tracker = tracker
        self._ended: list[tuple[str, dict[str, Any]]] = []

    @property
    def seconds(self) -> float:
        """Time at work, s."""
        return self.tracker.seconds

    def loop(self, title: str, count: int, **state: Stateful) -> Iterator[int]:
        """See `Run.loop`."""
        yield from self.tracker.loop(title, count, **state)
        self._ended.append((title, {name: capture(part, name) for name, part in _lasting(state).items()}))

    def log(self, row: Row) -> None:
        """See `Run.log`."""
        self.tracker.log(row)

    def keep(self, path: Path) -> None:
        """Write it to the file `path`."""
        path.parent.mkdir(exist_ok=True)
        dump(self._ended, path)


class Replay:
    """What a fit is shown instead of a run, so that it ends at once where it ended when it was kept.

    Args:
        path: what `Keeper.keep` wrote.
    """

    seconds = 0.0

    def __init__(self, path: Path):
        require(path.is_file(), f"there is no kept learner in {path}; the run that made it may be older than that.")
        self.path, self._ended = path, load(path)[::-1]

    def loop(self, title: str, count: int, **state: Stateful) -> Iterator[int]:
        """No iteration; the parts get their final states."""
        ended, states = self._ended.pop() if self._ended else ("none", {})
        lasting = _lasting(state)
        if (title, set(states)) != (ended, set(lasting)):
            raise Refusal(f"{self.path} has loop {ended!r} where the learner has {title!r}; has its code changed?")
        for name, part in lasting.items():
            restore_(part, states[name], name)
        yield from ()

    def log(self, row: Row) -> None:
        """Nothing is logged twice."""


def kept_path(folder: Path, learner: str, seed: int, task: str = "") -> Path:
    """Where a run keeps what `learner` learned with `seed`, at one `task` of several."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{task} {learner}".lower()).strip("-")
    return folder / FOLDER / f"{slug}-seed{seed}.safetensors"


def _lasting(parts: dict[str, Stateful]) -> dict[str, Stateful]:
    """The parts that matter after the loop."""
    passing = (torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
    return {name: part for name, part in parts.items() if not isinstance(part, passing)}
