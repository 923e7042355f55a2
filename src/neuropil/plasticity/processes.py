"""The processes that share a network: what they send each other."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from neuropil.errors import Gone

LOOK = timedelta(seconds=10)  # for how long a message is waited for before this process looks who has left
STAY = 60.0  # for how long a process that has done its steps looks for one that cannot go on, s
HEARD = 1.0  # for how long a process that cannot go on stays for others to hear of it, s
SAME = "all need the same number of steps, so give each as many batches"
_left: list["Leaving"] = []  # of the processes that this one has met
LARGE = 2**16  # entries of a tensor that gets a message of its own


@contextmanager
def answers() -> Iterator[None]:
    """Say in one line that the other processes do not answer."""
    try:
        yield
    except RuntimeError as error:
        what = "a process that shares the network has ended, or took other steps than this one"
        cure = "see what it said; all need the same number of steps, on the same layers in the same order"
        raise Gone(f"{what}; {cure}.") from error


class Leaving:
    """Who has called `stop`, which all processes can see where they met."""

    met = 0  # how often this process has met others

    def __init__(self, store: dist.Store, rank: int, size: int):
        Leaving.met += 1
        self.store, self.rank = store, rank
        _left[:] = [self]
        self.keys = [f"left {Leaving.met}/{other}" for other in range(size)]
        self.gone = f"gone {Leaving.met}"

    def leave(self) -> None:
        """This process has done all of its steps; wait a while for the others to say so, too.

        Raises:
            Gone: another one had more steps to do, and gave up.
        """
        self.store.set(self.keys[self.rank], "1")
        start = time.monotonic()
        while time.monotonic() < start + STAY and not self.store.check(self.keys):
            if self.store.check([self.gone]):
                raise Gone(f"this process has done all of its steps, and another one had more; {SAME}.")
            time.sleep(0.05)

    def give_up(self) -> bool:
        """Whether another one has left; then this one says that it cannot go on."""
        if any(self.store.check([key]) for rank, key in enumerate(self.keys) if rank != self.rank):
            self.store.set(self.gone, "1")
            time.sleep(HEARD)  # this process may be the one that keeps the store
            return True
        return False


def leave() -> None:
    """Say to the others, if this process has met some as it was told, that it takes no further step; see `Leaving`."""
    while _left:
        with answers():
            _left.pop().leave()


def wait_for(work: Any, device: torch.device) -> None:
    """Wait for a message, unless a process that would have to send it has left.

    Raises:
        Gone: another process has called `stop`, and takes no further step.
    """
    if device.type != "cpu":  # a GPU waits for it
        work.wait()
        return
    while True:
        try:
            work.wait(LOOK)
            return
        except RuntimeError as error:
            if "operation timed out" not in str(error).lower():  # what the message itself says when it has failed
                raise
            if any(one.give_up() for one in _left):
                raise Gone(f"another process has done all of its steps, and this one has more; {SAME}.") from error


class Processes(NamedTuple):
    """The processes that share a network.

    Attributes:
        group: of ``torch.distributed``; None for all processes.
    """

    group: Any = None

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        """How many they are."""
        return dist.get_world_size(self.group)

    @answers()
    def sum(self, *parts: Tensor) -> list[Tensor]:
        """Each tensor summed over all processes, by one message, in the dtype of the first but at least float32."""
        dtype = torch.promote_types(parts[0].dtype, torch.float32)
        flat = torch.cat([part.reshape(-1).to(dtype) for part in parts])
        wait_for(dist.all_reduce(flat, group=self.group, async_op=True), flat.device)
        sizes = [part.numel() for part in parts]
        return [one.view(part.shape) for one, part in zip(flat.split(sizes), parts)]

    @answers()
    def sum_(self, large: Tensor, *parts: Tensor) -> list[Tensor]:
        """`sum`, but of a large first tensor in its own memory, which a copy would take as long as the way."""
        if large.numel() < LARGE:
            return self.sum(large, *parts)
        large = large.contiguous()
        wait_for(dist.all_reduce(large, group=self.group, async_op=True), large.device)
        return [large, *self.sum(*(part.to(large.dtype) for part in parts))]

    @answers()
    def from_first(self, x: Tensor) -> Tensor:
        """What `x` is in the first process, brought into it in place."""
        wait_for(dist.broadcast(x, group_src=0, group=self.group, async_op=True), x.device)
        return x

    @answers()
    def table(self, x: Tensor) -> Tensor:
        """The `x` of every process, by rank, where all have the same shape."""
        found = [torch.empty_like(x) for _ in range(self.size)]
        wait_for(dist.all_gather(found, x.contiguous(), group=self.group, async_op=True), x.device)
        return torch.stack(found)

    def counts(self, x: Tensor) -> list[int]:
        """How many rows `x` has in every process, by rank."""
        return self.table(torch.tensor(len(x), device=x.device)).tolist()

    @answers()
    def gather(self, x: Tensor) -> Tensor:
        """The rows (n, ...) of all processes, in order of rank; n may differ."""
        counts = self.counts(x)
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        return torch.cat([one[:count] for one, count in zip(self.table(padded), counts)])

    def best(self, value: Tensor, x: Tensor) -> Tensor:
        """Row by row that `x` (units, ...) whose `value` (units,) is the largest of all processes."""
        own = self.table(value).argmax(0) == self.rank
        return self.sum(torch.where(own[:, None], x, 0))[0]


def place(x: Tensor, processes: Processes | None) -> tuple[int, int]:
    """How many rows the processes before this one have, and how many all have; `x` are those of this one."""
    if processes is None:
        return 0, len(x)
    counts = processes.counts(x)
    return sum(counts[: processes.rank]), sum(counts)


def chosen(index: Tensor, before: int, count: int) -> Tensor:
    """Those of `index`, into the rows of all processes, that are among this one's `count`: as an index into these."""
    return index[(index >= before) & (index < before + count)] - before
