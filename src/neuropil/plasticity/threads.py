"""Compiled kernels on as many threads as torch uses."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


def share_out(kernel: Callable[..., Any], length: int, worth: int, *args: Any) -> None:
    """Call ``kernel(first, last, *args)`` for every part of `length`, at once if there are several.

    There are as many parts as torch has threads, but no more than `worth` (what a part must hold to outweigh the
    start of a thread). The kernel must release the interpreter and write only what belongs to its part.
    """
    parts = max(1, min(torch.get_num_threads(), worth, length))
    bounds = [length * part // parts for part in range(parts + 1)]
    rest = [_pool().submit(kernel, bounds[part], bounds[part + 1], *args) for part in range(1, parts)]
    kernel(0, bounds[1], *args)
    for done in rest:
        done.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads of this process; numba's own would compete with torch's OpenMP."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "neuropil-plasticity")
