"""One run of a sweep, in whatever process an engine does it: it starts or goes on, and leaves its folder and a log."""

import os
import time
import traceback
import warnings
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from neuropil.cli.app import one_line_each, reason
from neuropil.cli.blame import is_own
from neuropil.cli.job import Job, Manner
from neuropil.cli.runner import Unseen, go_on, job_of, perform, started
from neuropil.cli.settings import without
from neuropil.errors import Refusal
from neuropil.runs import Run
from neuropil.runs.files import METRICS, RUN, Busy, write_atomically
from neuropil.runs.parsing import kinds_in
from neuropil.sweeps.axes import Setting, words_of
from neuropil.sweeps.folder import FAILED, Place, Sweep
from neuropil.sweeps.pool import Outcome

PAUSE = 0.2  # s between two looks at a run that a process of a killed sweep still holds


@dataclass(frozen=True)
class Task:
    """One run to be done: where, which, how it goes on, and the world that its process needs."""

    folder: Path
    place: Place
    manner: Manner
    changed: tuple[str, ...] = ()
    here: str = field(default_factory=os.getcwd)
    environment: tuple[tuple[str, str], ...] = field(default_factory=lambda: tuple(_environment()))

    def __hash__(self) -> int:
        return hash(self.place)


def _environment() -> list[tuple[str, str]]:
    """What of our environment a run may depend on."""
    return [(name, value) for name, value in os.environ.items() if name.startswith("NEUROPIL_") or name in KEPT]


KEPT = ("XDG_STATE_HOME", "NUMBA_CACHE_DIR")


def job_at(job: Job, setting: Setting, seed: int, switches: set[str]) -> Job:
    """The run of one setting and seed."""
    words = [*without(job.words, {"seed", *setting}), *words_of(setting, switches), "--seed", str(seed)]
    return job.with_words(words)


def switches_of(job: Job) -> set[str]:
    """The settings of a recipe that are on or off."""
    return {name for name, value in vars(job.config).items() if isinstance(value, bool)}


def do(task: Task) -> Outcome:
    """Start or go on with a run of a sweep, to its end; how it ended. What it prints goes into a log beside it."""
    os.chdir(task.here)
    os.environ.update(task.environment)
    sweep = Sweep.read(task.folder, checked=True)
    threads, folder = sweep.facts["threads"], sweep.at(task.place)
    torch.set_num_threads(threads)
    try:
        folder.parent.mkdir(exist_ok=True)
        log = folder.with_suffix(".log")
        with ExitStack() as stack:
            file = stack.enter_context(open(log, "a", buffering=1, encoding="utf-8", errors="replace"))
            for one in (redirect_stdout(file), redirect_stderr(file), warnings.catch_warnings()):
                stack.enter_context(one)
            stack.enter_context(threadpool_limits(threads))
            warnings.showwarning = one_line_each()
            return _outcome(sweep, task, folder)
    except OSError as error:
        return Outcome("stop", reason(error))


def _outcome(sweep: Sweep, task: Task, folder: Path) -> Outcome:
    """How the run ended; what it would do again is kept in its folder."""
    try:
        job, run = _begun(sweep, task, folder)
        if run is None:
            return Outcome("done")
    except KeyboardInterrupt:
        return Outcome("lost", "it was stopped")
    except Refusal as refusal:
        return Outcome("stop", reason(refusal))
    try:
        perform(job, run)
        kinds = kinds_in(folder / METRICS)
        if not kinds & {"result", "validation", "failed"}:
            return Outcome("stop", f"{job.asked} logs no accuracy of a learner, so there is nothing to choose by.")
        return Outcome("done")
    except KeyboardInterrupt:
        return Outcome("lost", "it was stopped")
    except (Unseen, OSError) as error:
        return Outcome("stop", reason(error))
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        said = _said(error)
        write_atomically(folder / FAILED, f"{said}\n".encode(errors="replace"))
        return Outcome("failed", said)


def _begun(sweep: Sweep, task: Task, folder: Path) -> tuple[Job, Run | None]:
    """The run, new or gone on with; None if another process has finished it meanwhile."""
    job, _ = job_of(sweep.folder, sweep.facts, task.manner)
    torch.set_num_threads(sweep.facts["threads"])
    while not sweep.finished(task.place):
        with suppress(Busy):
            if (folder / RUN).is_file():
                return go_on(folder, task.manner)
            one = job_at(job, sweep.settings[task.place.setting], task.place.seed, switches_of(job))
            return one, started(one, folder, task.changed)
        time.sleep(PAUSE)
    return job, None


def _said(error: BaseException) -> str:
    """Why a run failed, in one line: a refusal as it is, anything else with its type and where it was raised."""
    if isinstance(error, Refusal):
        return reason(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_own(frame.filename)] or frames
    return (
        f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(own[-1].filename).name}, line {own[-1].lineno})"
    )
