"""A run at work: it logs rows, saves tensors, and its loops go on after a kill as if nothing had happened."""

import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

import safetensors.torch
from torch import Tensor

from neuropil.errors import Refusal, require
from neuropil.runs import files
from neuropil.runs.checkpoint import GlobalRandomness, Stateful, capture, dump, load, restore_
from neuropil.runs.display import Display
from neuropil.runs.loop_state import LoopState, objects_of
from neuropil.runs.machine import git, machine, peak_memory_mb, versions
from neuropil.runs.record import read_facts, read_rows, read_tensors
from neuropil.runs.rows import Row

if sys.platform != "win32":
    import fcntl


class Clock:
    """Seconds at work as state of the run, so that they too go on as if the run had never stopped."""

    def __init__(self) -> None:
        self._zero = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._zero

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float], /) -> None:
        self._zero = time.perf_counter() - state["seconds"]


class Run:
    """A run being made; begin with `Run.start` or `Run.resume`.

    After a kill the recipe runs again from its first line. Finished loops put their objects into their final state and
    yield nothing. The interrupted loop goes on where it was. Until then `log`, `save` and `update_metadata` do nothing,
    because what they would write is there already. So the result is that of a run that was never stopped. This holds
    if every object that changes inside a loop was handed to that loop or to one around it.

    Attributes:
        folder: where it is written.
        every: time between two checkpoints, s; 5 s or more go by so that they take at most a twentieth of the time.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], *, quiet: bool = False):
        self.folder, self.every = folder, 5.0
        self._facts = facts
        self._clock, self._display = Clock(), Display(_label(facts), quiet=quiet)
        self._root = LoopState("run", 1, objects={"randomness": GlobalRandomness(), "clock": self._clock})
        self._stack = [self._root]
        self._awaits: list[str] | None = None  # where the checkpoint was written; None once we are past it
        self._written, self._cost = time.monotonic(), 0.0  # the last checkpoint: when, and how many s it took
        self._peak = 0.0  # MiB
        self._lock = _lock(folder)

    @classmethod
    def start(cls, folder: Path | str, *, recipe: str, config: Any, command: str, quiet: bool = False) -> Self:
        """A new run in a new or empty folder; run.json is written at once.

        Args:
            folder: where it is written; it must not exist, or must be empty.
            recipe, config, command: what run.json says of them.
            quiet: whether to leave out the lines that say how far it is, where output is no terminal.

        Raises:
            Refusal: there is something in the folder, or a setting is NaN or infinite.
        """
        folder = Path(folder)
        files.check_finite(config)
        facts = {"recipe": recipe, "config": files.jsonable(config), "command": command, "versions": versions()}
        facts |= {"machine": machine(), "git": git(), "started": _now(), "finished": None}
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
        require(not used, f"{folder} exists already, and a run needs a new folder; name another one.")
        try:
            files.write_atomically(folder / files.RUN, files.to_json(facts, indent=1).encode())
        except OSError:
            folder.rmdir()
            raise
        return cls(folder, facts, quiet=quiet)

    @classmethod
    def resume(cls, folder: Path | str, *, quiet: bool = False) -> Self:
        """The interrupted run in `folder`, put back to its last checkpoint."""
        folder = Path(folder)
        facts = read_facts(folder)
        require(facts["finished"] is None, f"the run in {folder} is finished; there is nothing to resume.")
        run = cls(folder, facts, quiet=quiet)
        run._rewind()
        again = {"at": _now(), "versions": versions(), "machine": machine()}
        run._facts["resumed"] = [*facts.get("resumed", []), again]
        run._write_facts()
        return run

    @property
    def seconds(self) -> float:
        """Time at work, s, interruptions and lost work left out; a cost is a difference of two of them."""
        return self._clock.seconds

    def log(self, row: Row) -> None:
        """Add one row to metrics.jsonl."""
        self._refuse_if_finished()
        columns = row.columns()
        self._display.numbers(columns)
        self._peak_so_far()  # now, because a measurement may restart the system's own maximum
        if self._awaits is None:
            files.append_line(self.folder / files.METRICS, files.to_json(columns).encode() + b"\n")

    def update_metadata(self, **facts: Any) -> None:
        """Merge `facts` into run.json; dicts are merged key by key, at every depth.

        A run that goes on refuses facts other than those it began with, such as checksums of data that have changed.
        """
        self._refuse_if_finished()
        clash = set(facts) & _OWN
        require(not clash, f"run.json keeps {', '.join(sorted(clash))} for itself; use another name.")
        if self._awaits is None:
            self._facts = files.merged(self._facts, files.jsonable(facts))
            self._write_facts()
        else:
            same = files.merged(self._facts, files.jsonable(facts)) == self._facts
            require(same, f"the run in {self.folder} began with other {', '.join(facts)}; start a new run.")

    def save(self, **tensors: Tensor) -> None:
        """Add `tensors` to weights.safetensors; a name that is there already is replaced."""
        self._refuse_if_finished()
        if self._awaits is None:
            path = self.folder / files.WEIGHTS
            copies = {name: capture(tensor, name) for name, tensor in tensors.items()}
            files.write_atomically(path, safetensors.torch.save({**read_tensors(path), **copies}))

    def loop(self, title: str, count: int, **state: Stateful) -> Iterator[int]:
        """0 .. count-1, shown as a progress bar and taken up after an interruption where it was.

        Args:
            title: what is going on, in words. A title that comes again in the same place is numbered.
            count: iterations.
            state: live objects that change inside: generators, tensors, and anything with state_dict and
                load_state_dict. They are captured together with those of the loops around this one.
        """
        loop = self._stack[-1].enter(title, count, state)
        self._stack.append(loop)
        self._display.enter(title, count, loop.done)
        try:
            self._restore(loop)
            for i in range(loop.done, count):
                yield i
                loop.advance()
                self._display.advance()
                self._capture(loop)
            self._capture(loop)
        finally:
            self._stack.remove(loop)
            self._display.leave()

    def finish(self) -> None:
        """Mark the run as finished and drop its checkpoint."""
        self._refuse_if_finished()
        if self._awaits is not None:
            raise Refusal(f"the run was interrupted in loop {self._awaits[-1]!r}, which never came: recipe changed?")
        self._facts |= {"finished": _now(), "seconds": self.seconds, "peak_memory_mb": self._peak_so_far()}
        self._write_facts()
        self.close()
        (self.folder / files.CHECKPOINT).unlink(missing_ok=True)
        (self.folder / files.LOCK).unlink(missing_ok=True)

    def close(self) -> None:
        """Give back the terminal and the folder; a run that is not finished can then be resumed by others."""
        self._display.close()
        if self._lock:
            self._lock.close()
            self._lock = None

    def _restore(self, loop: LoopState) -> None:
        """Put the objects of `loop` where they were saved; the innermost of these is where new rows begin."""
        if loop.state is not None:
            live = objects_of(self._stack)
            now, then = sorted(live), sorted(loop.state)
            require(now == then, f"loop {loop.key!r} was saved with state of {then}, now it has {now}: recipe changed?")
            for name, one in live.items():
                restore_(one, loop.state[name], name)
        if self._awaits == self._path():
            self._awaits = None

    def _capture(self, loop: LoopState) -> None:
        """After an iteration: capture the state if it will be asked for, and write it if it is time."""
        if loop.exact and loop.state is not None:
            return
        over, outermost = loop.at == loop.count, len(self._stack) == 2
        settled = self._awaits is None and all(outer.exact for outer in self._stack[:-1])
        due = settled and time.monotonic() - self._written >= self.every * (1 + 4 * self._cost)
        if over or loop.nests or due:
            loop.state = {name: capture(one, name) for name, one in objects_of(self._stack).items()}
            loop.done = loop.at
        if due or (settled and over and outermost):
            self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        began = time.monotonic()
        rows = _synced_length(self.folder / files.METRICS)
        tree = {"loops": self._root.tree(), "here": self._path(), "rows": rows, "peak": self._peak_so_far()}
        dump(tree, self.folder / files.CHECKPOINT)
        self._written = time.monotonic()
        self._cost = self._written - began

    def _rewind(self) -> None:
        """Back to the checkpoint: the loops as they were, and the rows that were logged by then."""
        path, metrics = self.folder / files.CHECKPOINT, self.folder / files.METRICS
        saved: dict[str, Any] = load(path) if path.exists() else {"rows": 0}
        have = metrics.stat().st_size if metrics.exists() else 0
        require(have >= saved["rows"], f"{metrics} is damaged: {have} bytes, its checkpoint knows of {saved['rows']}.")
        if metrics.exists():
            os.truncate(metrics, saved["rows"])
            read_rows(metrics)  # refuse damaged rows now, not when the work is done
        if path.exists():
            self._root.inner = LoopState.of("run", saved["loops"]).inner
            self._awaits = saved["here"]
            self._peak = saved["peak"]

    def _path(self) -> list[str]:
        return [loop.key for loop in self._stack[1:]]

    def _peak_so_far(self) -> float:
        self._peak = max(self._peak, peak_memory_mb())
        return self._peak

    def _write_facts(self) -> None:
        files.write_atomically(self.folder / files.RUN, files.to_json(self._facts, indent=1).encode())

    def _refuse_if_finished(self) -> None:
        require(self._facts["finished"] is None, f"the run in {self.folder} is finished; nothing can be added to it.")


_OWN = {"recipe", "config", "command", "versions", "machine", "git", "started", "finished", "resumed"}
_OWN |= {"seconds", "peak_memory_mb"}


def _label(facts: dict[str, Any]) -> str:
    """What a run is called in a line on its progress."""
    seed = facts["config"].get("seed") if isinstance(facts["config"], dict) else None
    return Path(facts["recipe"]).stem + ("" if seed is None else f", seed {seed}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _synced_length(path: Path) -> int:
    """Bytes in `path`, all of them on the disk."""
    if not path.exists():
        return 0
    with open(path, "ab") as file:
        os.fsync(file.fileno())
        return file.tell()


def _lock(folder: Path) -> IO[bytes] | None:
    """Hold `folder` against other processes for as long as the file stays open."""
    if sys.platform == "win32":
        return None
    file = open(folder / files.LOCK, "wb")  # noqa: SIM115 (held until close)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.close()
        raise Refusal(f"another process is at work on the run in {folder}.") from None
    return file
