"""Compiled kernels on all cores: the samples of a batch are shared out among as many threads as torch uses."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


def shares(batch: int) -> int:
    """Into how many parts `share_out` divides a batch: torch's number of threads, or one part per sample."""
    return max(1, min(torch.get_num_threads(), batch))


def share_out(kernel: Callable[..., Any], batch: int, *args: Any) -> None:
    """Call ``kernel(part, first, last, *args)`` for every part of a batch, at once if there are several.

    The kernel must release the interpreter (``numba.njit(nogil=True)``) and write only into samples `first` to `last`
    (exclusive) and into row `part` of what the parts add up.
    """
    parts = shares(batch)
    bounds = [batch * part // parts for part in range(parts + 1)]
    if parts == 1:
        kernel(0, 0, batch, *args)
        return
    rest = [_pool().submit(kernel, part, bounds[part], bounds[part + 1], *args) for part in range(1, parts)]
    kernel(0, 0, bounds[1], *args)
    for done in rest:
        done.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads of this process; numba's own would compete with torch's OpenMP."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "neuropil-events")
