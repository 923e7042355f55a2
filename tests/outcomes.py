"""Numbers on record: what code makes of inputs that are awkward on purpose, as a few sums for each tensor."""

import math
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
import sklearn
import torch
from torch import Tensor

RECORD = Path(__file__).with_name("records") / "outcomes.txt"
NUMBERS = re.compile(r" = (float|int|bool|uint)\S* \S+ \d+ \| [^|]*$")
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-3}  # of the sum of absolute values


def lines(name: str, what: Any) -> Iterator[str]:
    """One line for each tensor, number or word in `what`."""
    if isinstance(what, Mapping):
        for key, one in what.items():
            yield from lines(f"{name}, {key}", one)
    elif isinstance(what, Tensor):
        yield f"{name} = {summed(what.detach())}"
    elif isinstance(what, list | tuple) or hasattr(what, "__next__"):
        for k, one in enumerate(what):
            yield from lines(f"{name}.{k}", one)
    elif isinstance(what, float):
        yield f"{name} = {summed(torch.tensor(what, dtype=torch.float64))}"
    else:
        yield f"{name} = {what!r}"


def summed(x: Tensor) -> str:
    """Kind, shape, entries that are not finite, and sums: plain, by place, of absolute values."""
    x = x.to_dense() if x.is_sparse else x
    flat = x.cpu().flatten().double()
    odd = int((~flat.isfinite()).sum())
    flat = flat.nan_to_num(0.0, 0.0, 0.0)
    by_place = flat @ torch.cos(torch.arange(1.0, len(flat) + 1, dtype=torch.float64))
    shape = "x".join(map(str, x.shape)) or "one"
    numbers = " ".join(f"{one:.9g}" for one in (float(flat.sum()), float(by_place), float(flat.abs().sum())))
    return f"{str(x.dtype).removeprefix('torch.')} {shape} {odd} | {numbers}"


def alike(one: str, other: str) -> bool:
    """Whether two lines of the record say the same but for rounding."""
    if one == other or not (NUMBERS.search(one) and NUMBERS.search(other)):
        return one == other
    (kind, mine), (also, theirs) = one.split(" | "), other.split(" | ")
    if kind != also:
        return False
    a, b = [[float(word) for word in words.split()] for words in (mine, theirs)]
    dtype = getattr(torch, kind.split(" = ")[1].split()[0])
    margin = TOLERANCE.get(dtype, 0.0) * max(a[-1], b[-1]) + 1e-12
    return all(math.isclose(x, y, rel_tol=0, abs_tol=margin) for x, y in zip(a, b))


def recorded() -> tuple[str, dict[str, str]]:
    """What the numbers were made with, and what is on record: a line by its name."""
    made, *found = RECORD.read_text(encoding="utf-8").splitlines()
    return made, {line.split(" = ")[0]: line for line in found}


def made_with() -> str:
    """What decides on random numbers, solvers and rounding."""
    versions = (f"{one.__name__} {'.'.join(one.__version__.split('.')[:2])}" for one in (torch, numpy, sklearn))
    return f"made with {', '.join(versions)}, {platform.machine()}"
