"""The processes that share a network: what they send each other."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from neuropil.errors import Gone, Refusal, require

LARGE = 2**16  # entries of a tensor that gets a message of its own
NOTICE = timedelta(seconds=10)  # after which the first process says for which one it waits
LONGEST = timedelta(minutes=30)  # that processes wait for each other to start, as torch does


@contextmanager
def answers() -> Iterator[None]:
    """Say in one line that the other processes do not answer."""
    try:
        yield
    except RuntimeError as error:
        what = "a process that shares the network has ended, or took other steps than this one"
        cure = "see what it said; all need the same number of steps, on the same layers in the same order"
        raise Gone(f"{what}; {cure}.") from error


@contextmanager
def meeting(where: str) -> Iterator[None]:
    """Say in one line that processes cannot meet there."""
    try:
        yield
    except dist.DistError as error:
        what = " ".join(str(error).split()).rstrip(".")
        raise Refusal(f"the processes cannot meet at {where}; is the port taken, are all there? ({what})") from error


def meet_as_told(backend: str) -> None:
    """Join the processes of which a launcher such as ``torchrun`` has told this one by its environment."""
    rank, size, port = (told(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    require(0 <= rank < size, f"a launcher needs to give RANK below WORLD_SIZE, got {rank} and {size}.")
    host, agent = os.environ.get("MASTER_ADDR", "127.0.0.1"), os.environ.get("TORCHELASTIC_USE_AGENT_STORE")
    with meeting(where := f"{host}:{port}"):
        store = dist.TCPStore(
            host, port, is_master=rank == 0 and agent != "True", timeout=LONGEST, wait_for_workers=False,
            multi_tenant=True,
        )  # fmt: skip
        _agree(dist.PrefixStore("neuropil", store), rank, size, where)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)


def told(name: str) -> int:
    """What a launcher has set, a number."""
    value = os.environ.get(name, "")
    require(value.isdecimal(), f"a launcher needs to set {name} to a whole number, got {value!r}.")
    return int(value)


def _agree(store: dist.Store, rank: int, size: int, where: str) -> None:
    """Refuse if another process was told of another number of processes; the first one hears all others."""
    if rank == 0:
        store.set("0", str(size))
    for other in range(1, size) if rank == 0 else [0]:
        try:
            store.wait([str(other)], NOTICE)
        except dist.DistStoreError:
            print(f"neuropil: waiting at {where} for process {other + 1} of {size}", file=sys.stderr, flush=True)
        its = int(store.get(str(other)))
        store.set(str(rank), str(size))
        got = f"process {rank + 1} was told of {size}, process {other + 1} of {its}"
        require(its == size, f"a launcher needs to tell all processes how many they are, but {got}; see WORLD_SIZE.")


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
        dist.all_reduce(flat, group=self.group)
        sizes = [part.numel() for part in parts]
        return [one.view(part.shape) for one, part in zip(flat.split(sizes), parts)]

    @answers()
    def sum_(self, large: Tensor, *parts: Tensor) -> list[Tensor]:
        """`sum`, but of a large first tensor in its own memory, which a copy would take as long as the way."""
        if large.numel() < LARGE:
            return self.sum(large, *parts)
        large = large.contiguous()
        dist.all_reduce(large, group=self.group)
        return [large, *self.sum(*(part.to(large.dtype) for part in parts))]

    @answers()
    def from_first(self, x: Tensor) -> Tensor:
        """What `x` is in the first process, brought into it in place."""
        dist.broadcast(x, group_src=0, group=self.group)
        return x

    @answers()
    def table(self, x: Tensor) -> Tensor:
        """The `x` of every process, by rank, where all have the same shape."""
        found = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(found, x.contiguous(), group=self.group)
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
