"""A process that does what the first one of a run does, in a copy of its folder that is thrown away.

`workers` starts it as ``python -m neuropil.cli.follower RANK COUNT PORT BACKEND THREADS SCREEN``, and says what to do.
"""

import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from neuropil.cli.app import reason
from neuropil.cli.job import Job
from neuropil.cli.runner import perform
from neuropil.cli.workers import READY, backend_for, company, count_of
from neuropil.distributed import start
from neuropil.distributed.company import check_versions, leave, meet, said, wait
from neuropil.errors import Refusal
from neuropil.runs import Run
from neuropil.runs.files import LOCK
from neuropil.runs.machine import versions

PATIENCE = 20.0  # how long a process that fails waits for the first one to say why, s
LAST = "neuropil: the first process of the run has ended, and so do the others; go on with neuropil run --resume.\n"


def follow() -> int:
    """Do as the first process does until it says that all is over; the exit code."""
    try:
        while (told := said()) is not None:
            _do(told)
    except (Refusal, OSError) as error:
        time.sleep(PATIENCE)  # the first process has the same to say, and ends this one
        print(reason(error), flush=True)
        return 2
    leave()
    return 0


def _do(told: Mapping[str, Any]) -> None:
    """One run, from where the first process has it."""
    check_versions(versions())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        shutil.copytree(told["folder"], folder, ignore=shutil.ignore_patterns(LOCK))
        wait()
        torch.set_rng_state(torch.tensor(told["state"], dtype=torch.uint8))
        job, run = Job.of(told["command"]), Run.resume(folder, anyway=True, quiet=True)
        perform(job, run, company(job))
        wait()


def follow_torchrun(verb: str, words: Sequence[str]) -> int:
    """Follow the first of the processes that torchrun started with `verb` and these words, a new run."""
    job = Job.of(shlex.join(["neuropil", verb, *words]))
    count_of(job)  # refuses what the first one refuses
    start(backend_for(getattr(job.config, "device", "cpu")))
    return follow()


def _end_with_first(screen: int) -> None:
    """End this process when the one that started it does, and say so."""
    sys.stdin.buffer.read()
    os.write(screen, LAST.encode())
    os._exit(1)


def main(words: list[str]) -> int:
    """Join the process that started this one, and follow it."""
    rank, count, port, backend, threads, screen = words
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process gets it as well
    threading.Thread(target=_end_with_first, args=(int(screen),), daemon=True).start()
    torch.set_num_threads(int(threads))
    with suppress(BrokenPipeError):  # the first process has ended, which is said above
        os.write(1, READY)
    meet(backend, int(port), rank=int(rank), count=int(count))
    return follow()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
