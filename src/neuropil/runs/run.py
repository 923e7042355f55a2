"""A run at work: it logs rows, saves tensors, and its loops go on after a kill as if nothing had happened."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Self

from torch import Tensor

from neuropil.errors import Refusal, require
from neuropil.runs import files
from neuropil.runs.checkpoint import Clock, GlobalRandomness, Stateful, capture, dump, load, restore_
from neuropil.runs.display import Display, label
from neuropil.runs.loop_state import EMPTY, LoopState, checked, objects_of
from neuropil.runs.machine import changes, git, peak_memory_mb, world
from neuropil.runs.parsing import check_row, load_line, read_rows
from neuropil.runs.record import read_facts
from neuropil.runs.rows import Row
from neuropil.runs.sinks import Sink, Sinks
from neuropil.runs.tensors import read_tensors, to_bytes


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

    def __init__(self, folder: Path, facts: dict[str, Any], lock: IO[bytes] | None, *, quiet: bool = False):
        self.folder, self.every = folder, 5.0
        self._facts, self._lock = facts, lock
        self._clock, self._display = Clock(), Display(label(facts), quiet=quiet)
        self._root = LoopState("run", 1, objects={"randomness": GlobalRandomness(), "clock": self._clock})
        self._stack = [self._root]
        self._awaits: list[str] | None = None  # where the checkpoint was written; None once we are past it
        self._written, self._cost = time.monotonic(), 0.0  # the last checkpoint: when, and how many s it took
        self._peak = 0.0  # MiB
        self._rows, self._digest = 0, sha256()  # of metrics.jsonl
        self._saved: set[str] = set()  # names of tensors
        self._sinks = Sinks()
        self._anyway = False
        self._then: dict[str, Any] = {}  # data of a run that goes on, as they were when it began

    @classmethod
    def start(
        cls, folder: Path | str, *, recipe: str, config: Any, command: str, quiet: bool = False,
        code: Mapping[str, bytes] | None = None, facts: Mapping[str, Any] | None = None,
    ) -> Self:  # fmt: skip
        """A new run in a new or empty folder, which is there with its run.json and its code or not at all.

        Args:
            folder: where it is written; it must not exist, or must be empty.
            recipe, config, command: what run.json says of them.
            quiet: whether to leave out the lines that say how far it is, where output is no terminal.
            code: files of the user, by name, of which the run keeps a copy.
            facts: what else run.json says.

        Raises:
            Refusal: there is something in the folder, or a setting is NaN or infinite.
        """
        folder, code = Path(folder), code or {}
        files.check_finite(config)
        own = {"recipe": recipe, "config": files.jsonable(config), "command": command, **world(code)}
        own |= {"git": git(), "started": _now(), "finished": None, **(facts or {})}
        files.new_folder(folder, {**code, files.RUN: files.json_bytes(own, indent=1)})
        return cls(folder, own, files.hold(folder), quiet=quiet)

    @classmethod
    def resume(
        cls, folder: Path | str, *, anyway: bool = False, quiet: bool = False,
        code: Mapping[str, bytes] | None = None, changed: Sequence[str] = (),
    ) -> Self:  # fmt: skip
        """The interrupted run in `folder`, put back to its last checkpoint.

        Args:
            folder: where it is.
            anyway: whether to go on though versions, threads, data or code are other than those it began with;
                run.json and the report then say so.
            quiet: as in `start`.
            code: the code that will run, by name; None for the code it began with.
            changed: what else is known to be other than it was, in words.

        Raises:
            Refusal: it is finished, damaged, at work in another process, or has changed and `anyway` is not given.
        """
        folder = Path(folder)
        read_facts(folder)  # is it one?
        lock = files.hold(folder)
        try:
            facts = read_facts(folder)
            require(facts["finished"] is None, f"the run in {folder} is finished; there is nothing to resume.")
            for path in folder.glob(f".*{files.PART}"):  # of a process that was killed
                path.unlink()
            run = cls(folder, facts, lock, quiet=quiet)
            run._anyway, run._then = anyway, facts.get("data", {})
            now = world(code) if code is not None else world() | {"code": facts.get("code", {})}
            run._facts["resumed"] = [*facts.get("resumed", []), {"at": _now(), **now}]
            run._refuse_changes([*changed, *changes(facts, now), *run._rewind()])
            run._write_facts()
        except BaseException:
            if lock:
                lock.close()
            raise
        return run

    @property
    def changed(self) -> list[str]:
        """What had changed when it went on, in words."""
        return [one for again in self._facts.get("resumed", [])[-1:] for one in again.get("changed", [])]

    @property
    def seconds(self) -> float:
        """Time at work, s, interruptions and lost work left out; a cost is a difference of two of them."""
        return self._clock.seconds

    def log(self, row: Row) -> None:
        """Add one row to metrics.jsonl; one that could not be read again is refused."""
        self._refuse_if_finished()
        columns = row.columns()
        self._display.numbers(columns)
        self._peak_so_far()  # now, because a measurement may restart the system's own maximum
        if self._awaits is None:
            line = files.json_bytes(columns) + b"\n"
            check_row(load_line(line))
            files.append_line(self.folder / files.METRICS, line)
            self._rows += 1
            self._digest.update(line)
            self._sinks.tell(columns)

    def track(self, *sinks: str | Sink) -> None:
        """Tell these of all numbers, also of those that are there already; see `Sinks.add`."""
        self._sinks.add(sinks, self.folder, self._facts, read_rows(self.folder / files.METRICS) if self._rows else ())

    def update_metadata(self, **facts: Any) -> None:
        """Merge `facts` into run.json; dicts are merged key by key, at every depth.

        A run that goes on refuses facts other than those it began with, such as checksums of data that have changed.
        """
        self._refuse_if_finished()
        clash = set(facts) & _OWN
        require(not clash, f"run.json keeps {', '.join(sorted(clash))} for itself; use another name.")
        new = files.jsonable(facts)
        known = {"data": self._then} if self._awaits is None else self._facts
        self._refuse_changes([name for name in new if files.differ(known.get(name), new[name])])
        whole = files.merged(self._facts, new)
        if whole != self._facts:
            self._facts = whole
            self._write_facts()

    def save(self, **tensors: Tensor) -> None:
        """Add `tensors` to weights.safetensors; a name that is there already is replaced."""
        self._refuse_if_finished()
        if self._awaits is None:
            path = self.folder / files.WEIGHTS
            copies = {name: capture(tensor, name) for name, tensor in tensors.items()}
            self._saved |= set(copies)
            files.write_atomically(path, to_bytes({**read_tensors(path)[0], **copies}))

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
        files.synced_length(self.folder / files.METRICS)
        self._facts |= {"seconds": self.seconds, "peak_memory_mb": self._peak_so_far(), "rows": self._rows}
        self._facts["finished"] = _now()
        self._write_facts()
        self.close()
        (self.folder / files.CHECKPOINT).unlink(missing_ok=True)
        (self.folder / files.LOCK).unlink(missing_ok=True)

    def close(self) -> None:
        """Give back the terminal and the folder; a run that is not finished can then be resumed by others."""
        self._display.close()
        self._sinks.close()
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
        rows = files.synced_length(self.folder / files.METRICS)
        tree = {"loops": self._root.tree(), "here": self._path(), "rows": rows, "peak": self._peak_so_far()}
        tree |= {"digest": self._digest.hexdigest(), "saved": sorted(self._saved)}
        dump(tree, self.folder / files.CHECKPOINT)
        self._written = time.monotonic()
        self._cost = self._written - began

    def _rewind(self) -> list[str]:
        """Back to the checkpoint: the loops as they were, and the rows that were logged by then; what does not fit."""
        path, metrics, weights = (self.folder / name for name in (files.CHECKPOINT, files.METRICS, files.WEIGHTS))
        saved = checked(load(path), path) if files.is_plain(path) else EMPTY
        rows = metrics.read_bytes() if files.is_plain(metrics) else b""
        if len(rows) < saved["rows"]:
            raise Refusal(f"{metrics} is damaged: {len(rows)} bytes, its checkpoint knows of {saved['rows']}.{OVER}")
        if metrics.exists():
            os.truncate(metrics, saved["rows"])
        self._digest.update(rows[: saved["rows"]])
        self._rows, self._saved = rows.count(b"\n", 0, saved["rows"]), set(saved["saved"])
        self._root.inner, self._peak = LoopState.of("run", saved["loops"]).inner, saved["peak"]
        self._awaits = saved["here"]
        if saved is EMPTY:  # from the beginning
            weights.unlink(missing_ok=True)
            self._awaits = None
        try:
            lost = self._saved - set(read_tensors(weights)[0])
        except Refusal as refusal:
            raise Refusal(f"{refusal}{OVER}") from refusal
        said = [f"{files.WEIGHTS} has lost {', '.join(sorted(lost))}"] if lost else []
        return said + [f"the rows in {files.METRICS}"] * (saved["digest"] != self._digest.hexdigest())

    def _refuse_changes(self, changed: Sequence[str]) -> None:
        """Refuse what has changed since the run began, or keep it for the report."""
        if changed and not self._anyway:
            said = f"since the run in {self.folder} began, this has changed: {'; '.join(changed)}"
            raise Refusal(f"{said}. {ANYWAY}")
        if changed:
            self._facts["resumed"][-1].setdefault("changed", []).extend(changed)

    def _path(self) -> list[str]:
        return [loop.key for loop in self._stack[1:]]

    def _peak_so_far(self) -> float:
        self._peak = max(self._peak, peak_memory_mb())
        return self._peak

    def _write_facts(self) -> None:
        files.write_atomically(self.folder / files.RUN, files.json_bytes(self._facts, indent=1))

    def _refuse_if_finished(self) -> None:
        require(self._facts["finished"] is None, f"the run in {self.folder} is finished; nothing can be added to it.")


ANYWAY = "Start a new run, or resume it with --anyway; its report will say so."
OVER = f" To start it over, delete {files.CHECKPOINT} and resume."
_OWN = {"recipe", "config", "command", "versions", "machine", "git", "started", "finished", "resumed"}
_OWN |= {"seconds", "peak_memory_mb", "code", "rows"}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
