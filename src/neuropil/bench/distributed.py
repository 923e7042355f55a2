"""How much faster processes learn a shared network together than one of them does alone.

Every process has one thread. In each round one learns from the whole batch by itself, then each number of processes
from their parts together. So noise hits all alike. A step is the rule, `propose_` and plain SGD. Then whole stacks of
layers learn, in one process and cut into stages.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neuropil.bench._stages import STACKS
from neuropil.bench._stages import measured as staged
from neuropil.distributed import part, share
from neuropil.errors import at_least, require
from neuropil.plasticity import KrotovHopfield, Rule, SoftHebb, propose_

CAPTION = """
Median time of a step, batch {batch}, over {repeats} rounds; one thread a process, {cores} CPU cores.
faster: the time of one process with the whole batch over that of all with a part each.
sum: the time that adding up a change of that size takes by itself. message: what each process sends for a step.
least: the fewest bytes that it has to send, a sum in a ring, or the activity that goes up.
Of stages: one and together are a pass over {batches} batches, and waited is what the first stage waited for others.
"""
RATE = 0.01


@dataclass(frozen=True)
class Config:
    """What to measure."""

    workers: tuple[int, ...] = (2,)  # numbers of processes, each compared with one
    stages: tuple[int, ...] = (2,)  # numbers of stages, each compared with one process that has all layers
    batches: int = 10  # batches in a pass through the stages
    batch: int = 1000  # examples in a step, of all processes together
    repeats: int = 20  # rounds; each number of processes takes a step in each

    def __post_init__(self) -> None:
        at_least(1, self, "batch", "batches", "repeats")
        require(all(n >= 1 for n in self.workers) and bool(self.workers), "workers need to be 1 or more.")
        require(all(n >= 2 for n in self.stages), f"stages need to be 2 or more, got {self.stages}.")


class Case:
    """A layer, a rule for it and a batch.

    Args:
        layer, rule: which learns by which.
        shape: of an example.
        batch: how many examples.
    """

    def __init__(self, layer: nn.Module, rule: Rule, shape: tuple[int, ...], batch: int):
        self.layer, self.rule, self.x = layer, rule, torch.rand(batch, *shape)
        self.optimizer = torch.optim.SGD(layer.parameters(), lr=RATE)

    def step(self, x: Tensor) -> None:
        """Learn from `x`."""
        propose_(self.layer, self.rule(self.layer, x))
        self.optimizer.step()


CASES: dict[str, Callable[[int], Case]] = {
    "Krotov-Hopfield, dense 784-2000": lambda batch: Case(
        nn.Linear(784, 2000, bias=False), KrotovHopfield(normalise=True), (784,), batch
    ),
    "SoftHebb, dense 784-2000": lambda batch: Case(
        nn.Linear(784, 2000, bias=False), SoftHebb(normalise=True), (784,), batch
    ),
    "Krotov-Hopfield, 100 kernels 5 x 5": lambda batch: Case(
        nn.Conv2d(1, 100, 5, bias=False), KrotovHopfield(normalise=True), (1, 28, 28), batch
    ),
    "SoftHebb, 96 kernels 5 x 5 x 3": lambda batch: Case(
        nn.Conv2d(3, 96, 5, bias=False), SoftHebb(normalise=True), (3, 32, 32), batch
    ),
}


def main(config: Config) -> list[dict[str, Any]]:
    """One row per case and number of processes, as the first process measured it."""
    most = max(*config.workers, *config.stages)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "neuropil.bench.distributed", folder, json.dumps(asdict(config))]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        running = [subprocess.Popen([*words, str(rank)], env=env, stderr=subprocess.PIPE) for rank in range(most)]
        said = [one.communicate()[1].decode(errors="replace").strip() for one in running]
        failed = [lines for one, lines in zip(running, said) if one.returncode]
        require(not failed, f"a process of the benchmark failed: {failed[0].splitlines()[-1] if failed else ''}")
        rows: list[dict[str, Any]] = json.loads((Path(folder) / "rows.json").read_text())
    return rows


def worker(folder: Path, config: Config, rank: int) -> None:
    """One of the processes; the first writes the rows."""
    torch.set_num_threads(1)
    most = max(*config.workers, *config.stages)
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), most), rank=rank, world_size=most)
    groups = {count: dist.new_group(range(count)) for count in sorted(set(config.workers))}
    rows = [row for name in CASES for row in measured(name, config, rank, groups)]
    sizes = config.batch, config.batches, config.repeats
    groups = {count: dist.new_group(range(count)) for count in sorted({1, *config.stages})}
    rows += [row for name in STACKS if config.stages for row in staged(name, *sizes, rank, groups)]
    if rank == 0:
        (folder / "rows.json").write_text(json.dumps(rows))
    dist.barrier()
    dist.destroy_process_group()


def measured(name: str, config: Config, rank: int, groups: dict[int, Any]) -> list[dict[str, Any]]:
    """The rows of one case: times in seconds, medians over the rounds."""
    torch.manual_seed(0)
    alone, times = CASES[name](config.batch), {count: list[float]() for count in [0, *groups, *(-n for n in groups)]}
    shared: dict[int, Case] = {}
    for count, group in groups.items():
        if rank < count:
            shared[count] = CASES[name](config.batch)
            share(shared[count].layer, group)
    size = sum(one.numel() for one in alone.layer.parameters())
    message = torch.zeros(size + 2)
    for turn in range(-2, config.repeats):  # two rounds warm up
        found = {0: clocked(lambda: alone.step(alone.x)) if rank == 0 else 0.0}
        for count, case in shared.items():
            group, own = groups[count], part(case.x, groups[count])
            dist.barrier(group)
            found[count] = clocked(lambda case=case, own=own: case.step(own))  # type: ignore[misc]
            found[-count] = clocked(lambda group=group: dist.all_reduce(message, group=group))  # type: ignore[misc]
        dist.barrier()
        for key, seconds in found.items() if turn >= 0 else ():
            times[key].append(seconds)
    if rank:
        return []
    one = median(times[0])
    facts = {**asdict(config), "cores": os.cpu_count(), "one_s": one, "message_bytes": 4 * (size + 5)}
    return [
        {"case": name, "processes": n, "step_s": median(times[n]), "sum_s": median(times[-n]),
         "least_bytes": 8 * size * (n - 1) // n, **facts}
        for n in groups
    ]  # fmt: skip


def clocked(work: Callable[[], object]) -> float:
    """How long it takes, s."""
    start = perf_counter()
    work()
    return perf_counter() - start


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    staged = "pass_s" in row
    together = row["pass_s" if staged else "step_s"]
    return {
        "case": row["case"],
        "processes": f"{row['stages']} stages" if staged else str(row["processes"]),
        "one": f"{1e3 * row['one_s']:.1f} ms",
        "together": f"{1e3 * together:.1f} ms",
        "faster": f"{row['one_s'] / together:.2f} x",
        "sum": "" if staged else f"{1e3 * row['sum_s']:.1f} ms",
        "waited": f"{1e3 * row['waited_s']:.1f} ms" if staged else "",
        "message": f"{row['message_bytes'] / 2**20:.2f} MiB",
        "least": f"{row['least_bytes'] / 2**20:.2f} MiB",
    }


if __name__ == "__main__":
    settings = json.loads(sys.argv[2])
    settings |= {name: tuple(settings[name]) for name in ("workers", "stages")}
    worker(Path(sys.argv[1]), Config(**settings), int(sys.argv[3]))
