"""Processes that learn one run together: the first writes it, the others do as it does, see `follower`."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn, Self

import torch

from neuropil.cli.job import Job
from neuropil.cli.recipes import is_file
from neuropil.distributed import in_stages, start, together
from neuropil.distributed.company import check_versions, in_torchrun, leave, meet, said, wait
from neuropil.errors import Gone, device_named, require
from neuropil.runs import Run
from neuropil.runs.files import RUN, read_json
from neuropil.runs.machine import versions

GRACE = 5.0  # how long it may take until it is known which process has ended, s
READY = b"ready\n"
LOST = getattr(signal, "SIGUSR1", signal.SIGINT)  # that another process has ended


def count_of(job: Job) -> int:
    """How many processes learn a run: those of torchrun, or as many as were asked for."""
    started, asked = in_torchrun(), asked_for(job) or 1
    fits = not started or asked_for(job) in (None, started)
    both = job.options.stages and job.options.workers
    name = "--stages times --workers" if both else "--stages" if job.options.stages else "--workers"
    cure = f"let {name} be {started}" if job.options.stages else "leave --workers out"
    require(fits, f"torchrun started {started} processes, and {name} asks for {asked}; {cure}.")
    one = max(started, asked) == 1
    what = "several are for features of local rules, association, associative and spiking networks, and backprop"
    able = one or bool(job.options.stages) or getattr(job.config, "shares", False)
    require(able, f"{job.asked} learns in one process; {what}.")
    able = one or not job.options.stages or getattr(job.config, "layered", False)
    what = "has no layers that learn at once; --stages is for cifar_softhebb and its variants, --workers for more"
    require(able, f"{job.asked} {what}.")
    return started or asked


def asked_for(job: Job) -> int | None:
    """How many processes the words ask for, if they do."""
    stages, workers = job.options.stages, job.options.workers
    return None if stages is workers is None else (stages or 1) * (workers or 1)


def backend_for(device: str) -> str:
    """By what the processes of a run on `device` speak to each other."""
    return "nccl" if device.startswith("cuda") else "gloo"


def meet_again(folder: Path, device: str | None) -> None:
    """Let those that torchrun started meet before the run in `folder` goes on, on another `device` if it is given."""
    if in_torchrun() > 1:
        runs = [] if device else sorted(folder.rglob(RUN))[:1]  # many seeds have one device
        for run in runs:
            device = read_json(run, config=dict)["config"].get("device")
        start(backend_for(device_named(device or "cpu")))


def company(job: Job) -> AbstractContextManager[None]:
    """In which processes learn the run as it was asked: each a part of every batch, or each some of the layers."""
    return in_stages(workers=job.options.workers or 1) if job.options.stages else together()


def use_threads(job: Job) -> None:
    """Let the processes of a machine have as many threads together as one has by itself, unless a setting says."""
    if (asked_for(job) or 1) > 1 and not getattr(job.config, "threads", 0):
        torch.set_num_threads(max(1, _own_threads() // (asked_for(job) or 1)))


@cache
def _own_threads() -> int:
    """The number of threads before it was set here."""
    return torch.get_num_threads()


@contextmanager
def crew(job: Job, run: Run) -> Iterator[None]:
    """For the block, let as many processes as were asked for do what this one does.

    Raises:
        Gone: one of them has ended.
    """
    count, backend = count_of(job), backend_for(getattr(job.config, "device", "cpu"))
    if count == 1:
        yield
        return
    with nullcontext(start(backend)) if in_torchrun() else Team(count, backend):  # type: ignore[func-returns-value]
        state = torch.get_rng_state().tolist()  # of what uses torch's own generator
        said({"command": _command(job), "folder": str(run.folder.resolve()), "state": state})
        check_versions(versions())
        wait()  # until all have a copy of the folder
        with company(job):
            yield
        wait()


def dismiss() -> None:
    """Let the other processes that torchrun started end."""
    if in_torchrun() > 1:
        start("gloo")
        said(None)
        leave()


def _command(job: Job) -> str:
    """What the others run: the recipe with all its settings, from the files that this process takes."""
    head = ["compare"] if job.name == "compare" else ["run", str(job.file) if is_file(job.name) else job.name]
    return shlex.join(["neuropil", *head, *job.words])


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _main_thread() -> int:
    return threading.main_thread().ident or 0


class Team:
    """Other processes on this machine, which end with this one; if one of them does before, the block ends, too.

    Args:
        count: how many there are with this one.
        backend: of ``torch.distributed``.
    """

    def __init__(self, count: int, backend: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._count, self._backend, self._over = count, backend, False
        self._ready: SimpleQueue[int] = SimpleQueue()
        self._lost: dict[int, str] = {}
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._before = signal.signal(LOST, _interrupt)
        try:
            for rank in range(1, self._count):
                self._running.append(self._started(rank))
                threading.Thread(target=self._watch, args=(rank, self._running[-1]), daemon=True).start()
            for _ in self._running:
                self._ready.get()
            meet(self._backend, self._port, rank=0, count=self._count)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._over = True
            said(None)
        elif kind is Gone and not self._lost:
            with suppress(KeyboardInterrupt):
                time.sleep(GRACE)
        self._over = True
        for one in self._running:
            with suppress(subprocess.TimeoutExpired):
                one.wait(0 if kind else GRACE)
            one.kill()
        leave()
        signal.signal(LOST, self._before)
        if self._lost:
            raise Gone(f"{'; '.join(self._lost.values())}; the others were stopped.")

    def _started(self, rank: int) -> subprocess.Popen[bytes]:
        screen = os.dup(2)
        words = [str(one) for one in (rank, self._count, self._port, self._backend, torch.get_num_threads(), screen)]
        command = [sys.executable, "-P", "-m", "neuropil.cli.follower", *words]
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        try:
            return subprocess.Popen(command, pass_fds=(screen,), **streams)
        finally:
            os.close(screen)

    def _watch(self, rank: int, one: subprocess.Popen[bytes]) -> None:
        """Wait for a process; one that ends too early interrupts this one."""
        line = b""
        for line in one.stdout or ():
            if line == READY:
                self._ready.put(rank)
        code = one.wait()
        if not self._over:
            how = f"signal {-code}" if code < 0 else line.decode(errors="replace").strip() or f"exit code {code}"
            self._lost[rank] = f"process {rank + 1} of {self._count} has ended ({how})"
            signal.pthread_kill(_main_thread(), LOST)
