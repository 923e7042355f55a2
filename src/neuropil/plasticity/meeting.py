"""How processes that a launcher such as ``torchrun`` has started find each other, and how long they wait."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist

from neuropil.errors import Refusal, require
from neuropil.plasticity.processes import Leaving

WAIT = "NEUROPIL_WAIT"  # the environment variable that says how long to wait, s
ON_ONE_MACHINE, ON_MANY = 300.0, 600.0  # without it, s
NOTICE = 10.0  # after which a process says for which one it waits, s
LOOK = 0.1  # how often it looks, s
STAY = 1.0  # how long the first process stays for others to hear why it ends, s
ALL = "all"  # where the first process says that all have come, by an empty text, or why it ends
LOCAL = {"127.0.0.1", "localhost", "::1"}


@contextmanager
def meeting(where: str) -> Iterator[None]:
    """Say in one line that processes cannot meet there."""
    try:
        yield
    except dist.DistError as error:
        what = " ".join(str(error).split()).rstrip(".")
        raise Refusal(f"the processes cannot meet at {where}; is the port taken, are all there? ({what})") from error


def meet_as_told(backend: str) -> None:
    """Join the processes of which a launcher such as ``torchrun`` has told this one by its environment.

    Raises:
        Refusal: some have not come in time, see `patience`; numbers that do not fit; a port that is taken.
    """
    rank, size, port = (told(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    require(0 <= rank < size, f"a launcher needs to give RANK below WORLD_SIZE, got {rank} and {size}.")
    host, agent = os.environ.get("MASTER_ADDR", "127.0.0.1"), os.environ.get("TORCHELASTIC_USE_AGENT_STORE")
    keeps = rank == 0 and agent != "True"
    wait = Wait(where := f"{host}:{port}", patience(host, size))
    with meeting(where):
        if not keeps:
            wait.until(lambda: _listens(host, port), f"process 1 of {size}")
        store = dist.TCPStore(host, port, is_master=keeps, wait_for_workers=False, multi_tenant=True)
        _agree(dist.PrefixStore("neuropil", store), rank, size, wait)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        Leaving(dist.PrefixStore("neuropil", store), rank, size)


def told(name: str) -> int:
    """What a launcher has set, a number."""
    value = os.environ.get(name, "")
    require(value.isdecimal(), f"a launcher needs to set {name} to a whole number, got {value!r}.")
    return int(value)


def patience(host: str, size: int) -> float:
    """For how long processes wait for each other to start, s: what is set, or less on one machine than on many."""
    given = os.environ.get(WAIT)
    if given is None:
        on_one = host in LOCAL or os.environ.get("LOCAL_WORLD_SIZE") == str(size)
        return ON_ONE_MACHINE if on_one else ON_MANY
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1
    require(0 < seconds < float("inf"), f"{WAIT} needs a time in s, such as 60, got {given!r}.")
    return seconds


class Wait:
    """A process that waits for others at `where`, for so many `seconds` from now; Ctrl-C ends it at once."""

    def __init__(self, where: str, seconds: float):
        self.where, self.seconds, self._start = where, seconds, time.monotonic()

    def until(self, come: Callable[[], bool], who: str) -> None:
        """Return when `who` has `come`; after some time say that it is waited for.

        Raises:
            Refusal: the time is over.
        """
        silent = True
        while not come():
            waited = time.monotonic() - self._start
            what = f"waited {self.seconds:g} s at {self.where} for {who}, in vain"
            cure = f"start all, or wait longer by {WAIT}={2 * self.seconds:g} before the command"
            require(waited < self.seconds, f"{what}; {cure}.")
            if silent and waited >= NOTICE:
                silent, how = False, f"{WAIT}=60 before the command makes it 60 s"
                line = f"neuropil: waiting at {self.where} for {who}, at most {self.seconds:g} s; {how}"
                print(line, file=sys.stderr, flush=True)
            time.sleep(LOOK)


def _listens(host: str, port: int) -> bool:
    """Whether someone listens there; the clients of torch, which wait as well, hear no Ctrl-C."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _agree(store: dist.Store, rank: int, size: int, wait: Wait) -> None:
    """Return when the first process has heard all others; where one does not come or was told of another size, refuse.

    The first one tells the others why it refuses, and stays until they have heard it.
    """
    if rank:
        _hear(store, rank, 0, size, wait)
        wait.until(lambda: store.check([ALL]), f"the others of {size} processes")
        why = store.get(ALL).decode()
        require(not why, why)
        return
    store.set("0", str(size))
    try:
        for other in range(1, size):
            _hear(store, rank, other, size, wait)
    except (Refusal, KeyboardInterrupt) as error:
        store.set(ALL, str(error) or "the first process was stopped.")
        time.sleep(STAY)
        raise
    store.set(ALL, "")


def _hear(store: dist.Store, rank: int, other: int, size: int, wait: Wait) -> None:
    """Wait until another process says of how many it was told, and tell it the same of this one."""
    wait.until(lambda: store.check([str(other)]), f"process {other + 1} of {size}")
    its = int(store.get(str(other)))
    store.set(str(rank), str(size))
    got = f"process {rank + 1} was told of {size}, process {other + 1} of {its}"
    require(its == size, f"a launcher needs to tell all processes how many they are, but {got}; see WORLD_SIZE.")
