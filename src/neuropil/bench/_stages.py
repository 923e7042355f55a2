"""How much faster layers learn in processes of their own, for `neuropil bench distributed`."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neuropil.distributed import Pass, Stage, pipeline
from neuropil.plasticity import KrotovHopfield, Rule, SoftHebb

RATE = 0.01


class Stack(NamedTuple):
    """Layers that learn, and the shape of an example."""

    model: nn.Sequential
    rules: Mapping[str, Rule]
    shape: tuple[int, ...]


def _convolutions() -> Stack:
    first, second = nn.Conv2d(3, 48, 5, bias=False), nn.Conv2d(48, 48, 3, bias=False)
    blocks = {"conv1": first, "act1": nn.ReLU(), "pool1": nn.MaxPool2d(2), "conv2": second}
    return Stack(
        nn.Sequential(OrderedDict[str, nn.Module](blocks)),
        {"conv1": SoftHebb(normalise=True), "conv2": SoftHebb(normalise=True)},
        (3, 32, 32),
    )


def _dense() -> Stack:
    sizes, parts, rules = (784, 1500, 784, 1500, 784), OrderedDict[str, nn.Module](), {}
    for depth in range(1, len(sizes)):
        parts[f"hidden{depth}"] = nn.Linear(sizes[depth - 1], sizes[depth], bias=False)
        parts[f"act{depth}"] = nn.ReLU()
        rules[f"hidden{depth}"] = KrotovHopfield(normalise=True)
    return Stack(nn.Sequential(parts), rules, (784,))


STACKS: dict[str, Callable[[], Stack]] = {
    "SoftHebb, 2 convolutions of 48 kernels": _convolutions,
    "Krotov-Hopfield, 4 dense layers": _dense,
}


@dataclass
class Passes:
    """A stack that learns in some number of processes, pass by pass."""

    stage: Stage
    optimizer: torch.optim.Optimizer
    found: list[Pass]

    @classmethod
    def of(cls, name: str, x: Tensor, group: Any) -> "Passes":
        """The stack of that name, cut by the time of its layers."""
        torch.manual_seed(0)
        model, rules, _ = STACKS[name]()
        return cls(pipeline(model, rules, x, group=group), torch.optim.SGD(model.parameters(), lr=RATE), [])

    def go(self, batches: list[Tensor]) -> None:
        """One pass."""
        self.found.append(self.stage.learn_(batches, self.optimizer))

    def seconds(self) -> float:
        """Median time of a pass, s."""
        return median(one.seconds for one in self.found)


@torch.no_grad()
def measured(
    name: str, batch: int, batches: int, repeats: int, rank: int, groups: Mapping[int, Any]
) -> list[dict[str, Any]]:
    """A row for each number of stages, as the first process measured it; `groups` has one for 1 stage as well."""
    torch.manual_seed(1)
    parts = list(torch.rand(batches, batch, *STACKS[name]().shape))
    ways = {count: Passes.of(name, parts[0], group) for count, group in groups.items() if rank < count}
    for _ in range(repeats + 1):  # the first warms up
        for count in groups:
            if count in ways:
                ways[count].go(parts)
            dist.barrier()
    for way in ways.values():
        del way.found[0]
    if rank:
        return []
    one = ways[1].seconds()
    facts = {"batch": batch, "batches": batches, "repeats": repeats, "cores": os.cpu_count(), "one_s": one}
    return [
        {
            "case": name,
            "stages": count,
            "starts": ", ".join(way.stage.starts),
            "pass_s": way.seconds(),
            "waited_s": median(one.waited for one in way.found),
            "message_bytes": way.found[-1].sent // batches,
            "least_bytes": way.stage.own(parts[0]).nbytes,  # of what has to cross
            **facts,
        }
        for count, way in ways.items()
        if count > 1
    ]
