"""Where to cut a network into stages that take equally long."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropil.plasticity.sharing import learn_alone
from neuropil.plasticity.tap import Activity, tap

TRANSFER = 1e-9  # what a byte costs a process that sends or receives it, s: about that of gloo on one machine
ROUNDS = 3  # of which the first warms up

Change = Callable[[str, nn.Module, Activity], Any]


class Cost(NamedTuple):
    """What a child of a network takes of a step: its pass and what its layers learn (s), and the bytes it gives."""

    seconds: float
    output: int
    learns: bool


@torch.no_grad()
def costs(model: nn.Sequential, names: Mapping[str, Sequence[str]], change: Change, x: Tensor) -> list[Cost]:
    """The cost of each child of `model`, measured on a copy by the batch `x`.

    Args:
        model: stays as it is.
        names: of the layers that learn, by child.
        change: makes what a layer learns from its name, itself and its activity.
        x: a batch.
    """
    model, found = deepcopy(model), []
    learn_alone(model)
    for child in model._modules:
        own = nn.Sequential()
        own.add_module(child, model.get_submodule(child))
        times, out = [], x
        for _ in range(ROUNDS):
            start = perf_counter()
            with tap(own, names.get(child, ())) as seen:
                out = own(x)
            for name in names.get(child, ()):
                change(name, own.get_submodule(name), seen[name])
            if x.is_cuda:
                torch.cuda.synchronize()
            times.append(perf_counter() - start)
        found.append(Cost(min(times[1:]), out.numel() * out.element_size(), child in names))
        x = out
    return found


def balanced(found: Sequence[Cost], stages: int) -> list[int]:
    """The children with which the stages after the first begin, so that the slowest stage is as quick as can be.

    Every stage has a child that learns. What a stage receives and sends counts at `TRANSFER`.
    """
    best: dict[int, tuple[float, list[int]]] = {len(found): (0.0, [])}  # of the stages from a child on
    for left in range(1, stages + 1):
        ways = {}
        for begin in range(len(found)):
            some = [
                (max(_seconds(found, begin, end), worst), begin, [end, *later])
                for end, (worst, later) in best.items()
                if end > begin and any(cost.learns for cost in found[begin:end])
            ]
            if some and (left < stages or begin == 0):
                worst, _, later = min(some)
                ways[begin] = (worst, later)
        best = ways
    return best[0][1][:-1]


def _seconds(found: Sequence[Cost], begin: int, end: int) -> float:
    """What a stage of these children takes for a batch, s."""
    bytes_in = found[begin - 1].output if begin else 0
    bytes_out = found[end - 1].output if end < len(found) else 0
    return sum(cost.seconds for cost in found[begin:end]) + TRANSFER * (bytes_in + bytes_out)
