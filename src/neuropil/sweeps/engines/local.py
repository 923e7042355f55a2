"""Processes of this machine: a fresh one for every run, forked from one that has loaded everything already."""

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from neuropil.sweeps.pool import Outcome

LOADED = ["neuropil.cli.sweep_run"]
# what a run imports while it works, if its recipe names these words; loading it takes longer than a small run
LATE = {
    "experiments": ["neuropil.experiments.settings", "torch._dynamo"],
    "optim": ["torch._dynamo"],
    "digits": ["sklearn.datasets"],
    "iris": ["sklearn.datasets"],
}
PATIENCE = 10.0  # s that a process gets to end by itself


class Engine:
    """A pool of processes, by default that of every sweep; `recipe` is the text of what they will run."""

    def __init__(self, folder: Path, threads: int, options: dict[str, Any], recipe: str):
        forks = "forkserver" in get_all_start_methods()
        self._context: Any = get_context("forkserver" if forks else "spawn")
        if forks:
            late = [name for word, names in LATE.items() if word in recipe for name in names]
            self._context.set_forkserver_preload([*LOADED, *late])

    def start(self, work: Callable[[Any], Outcome], task: Any) -> "Live":
        """Do ``work(task)`` in a process of its own."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(work, task, theirs))
        process.start()
        theirs.close()
        return Live(process, ours)


class Live:
    """One process; see `neuropil.sweeps.pool.Live`."""

    def __init__(self, process: Any, answer: Connection):
        self._process, self._answer = process, answer

    def done(self) -> bool:
        """Whether it has answered, or is gone."""
        return self._answer.poll() or not self._process.is_alive()

    def result(self) -> Outcome:
        """Its answer; without one, how its process ended."""
        try:
            found: Outcome = self._answer.recv()
        except EOFError:
            self._process.join()
            return Outcome("lost", _end_of(self._process.exitcode))
        self._process.join(PATIENCE)
        return found

    def stop(self) -> None:
        """Ask it to end; what it wrote is whole."""
        self._process.terminate()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _end_of(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    memory = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
    return f"its process was ended by {signal.Signals(-code).name}{memory}"


def _child(work: Callable[[Any], Outcome], task: Any, answer: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer.send(work(task))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A sweep that was killed leaves no process behind that works on."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
