"""Compiled kernels on all cores: what there is to do is shared out among as many threads as torch uses."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


def shares(length: int, worth: int | None = None) -> int:
    """Into how many parts `share_out` divides `length`: torch's number of threads, but no more than `worth`."""
    return max(1, min(torch.get_num_threads(), length, length if worth is None else worth))


def share_out(kernel: Callable[..., Any], length: int, *args: Any, worth: int | None = None) -> None:
    """Call ``kernel(part, first, last, *args)`` for every part of `length`, at once if there are several.

    Args:
        kernel: releases the interpreter (``numba.njit(nogil=True)``) and writes only what belongs to `first` to `last`
            (exclusive), or to row `part` of what the parts add up.
        length: samples, rows or entries to share out.
        args: what the kernel gets.
        worth: how many threads the work is worth; None for as many as there are.
    """
    parts = shares(length, worth)
    bounds = [length * part // parts for part in range(parts + 1)]
    rest = [_pool().submit(kernel, part, bounds[part], bounds[part + 1], *args) for part in range(1, parts)]
    kernel(0, 0, bounds[1], *args)
    for done in rest:
        done.result()


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads of this process; numba's own would compete with torch's OpenMP."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "neuropil")
