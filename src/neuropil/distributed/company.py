"""What a command needs to be run by several processes: they meet, the first says what is to be done, they part."""

import gc
import json
import os
from typing import Any

import torch
import torch.distributed as dist

from neuropil.errors import require
from neuropil.plasticity.meeting import meeting, told
from neuropil.plasticity.processes import Processes, answers


def in_torchrun() -> int:
    """How many processes torchrun started, of which this is one; 0 if it did not."""
    return told("WORLD_SIZE") if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else 0


def meet(backend: str, port: int, *, rank: int, count: int) -> None:
    """Join the processes of this machine that meet at `port`."""
    if backend == "nccl":
        torch.cuda.set_device(rank)
    with meeting(where := f"127.0.0.1:{port}"):
        dist.init_process_group(backend, init_method=f"tcp://{where}", rank=rank, world_size=count)


def leave() -> None:
    """Leave the others without waiting for them."""
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()  # as in `stop`


@answers()
def wait() -> None:
    """Until all are here."""
    dist.barrier()


@answers()
def check_versions(mine: dict[str, str]) -> None:
    """Refuse, in all processes, versions of one that the first does not have; `mine` are those of this one."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    for rank, its in enumerate(found):
        other = [f"{name} {its[name]}, and not {version}" for name, version in found[0].items() if its[name] != version]
        what = f"process {rank + 1} has other versions than the first: {', '.join(other)}"
        require(not other, f"{what}; install the same on all.")


def said(value: Any = None) -> Any:
    """What the first process says: the `value` that it gives, which JSON can hold."""
    processes, device = Processes(), "cuda" if dist.get_backend() == "nccl" else "cpu"
    text = json.dumps(value).encode() if processes.rank == 0 else b""
    size = int(processes.from_first(torch.tensor([len(text)], device=device)))
    body = torch.frombuffer(bytearray(text.ljust(size)), dtype=torch.uint8).to(device)
    return json.loads(bytes(processes.from_first(body).tolist()))
