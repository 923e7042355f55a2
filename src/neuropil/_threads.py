"""Compiled kernels on all cores: what there is to do is shared out among as many threads as torch uses."""

import os
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
import torch
from numba.core.caching import FunctionCache, IndexDataCacheFile


def compiler(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """What compiles a kernel at its first call, and keeps it for the next process where a folder can be written.

    A kernel calls no other: it would run whatever copy of that one the process has, and copies round differently. What
    kernels share is `inlined`.

    Args:
        fastmath: liberties of LLVM with floating point.
    """

    def compiled(kernel: Callable[..., Any]) -> Any:
        function: Any = numba.njit(nogil=True, error_model="numpy", fastmath=set(fastmath))(kernel)
        try:
            function._cache = _Cache(kernel)
        except (RuntimeError, OSError) as error:  # numba finds no folder, or the code no file
            _uncached(error)
        return function

    return compiled


inlined: Any = numba.njit(inline="always")  # becomes part of each kernel that calls it, with its liberties


_failures: list[Exception] = []  # of numba's cache, in this process


class _Kept(IndexDataCacheFile):
    """Kernels on disk, each followed by its checksum: LLVM would end the process over a damaged one."""

    def _dump(self, kernel: Any) -> bytes:
        whole: bytes = super()._dump(kernel)
        return whole + zlib.crc32(whole).to_bytes(4)

    def _load_data(self, name: str) -> Any:
        file = Path(self._data_path(name))
        whole = file.read_bytes()
        if zlib.crc32(whole[:-4]).to_bytes(4) != whole[-4:]:
            raise ValueError(f"{file} is damaged")
        return super()._load_data(name)


class _Cache(FunctionCache):
    """numba's cache; where it is full, damaged or out of reach it costs the time to compile, and not the run."""

    def __init__(self, kernel: Callable[..., Any]):
        super().__init__(kernel)
        written = sorted((file, os.stat(file).st_mtime, os.stat(file).st_size) for file in _sources(kernel))
        stamp = (self._impl.locator.get_source_stamp(), written, "with checksums")
        self._cache_file = _Kept(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, *key: Any) -> Any:
        """What was kept, or None; a damaged cache starts anew."""
        try:
            return super().load_overload(*key)
        except Exception as error:  # whatever unpickling damaged bytes may raise
            _uncached(error)
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *entry: Any) -> None:
        """Keep what was compiled, if that can be done."""
        try:
            super().save_overload(*entry)
        except Exception as error:
            _uncached(error)


def _sources(kernel: Any) -> set[str]:
    """The files of a kernel and of what is inlined in it."""
    called = (kernel.__globals__.get(name) for name in kernel.__code__.co_names)
    return {kernel.__code__.co_filename}.union(*(_sources(one.py_func) for one in called if hasattr(one, "py_func")))


def _uncached(error: Exception) -> None:
    """Say once in a process that compiled kernels are not kept, or not found."""
    _failures.append(error)
    if len(_failures) == 1:
        what = f"kernels are compiled anew, which takes a while, as numba's cache has failed ({error})"
        warnings.warn(f"{what}; set NUMBA_CACHE_DIR to a folder that can be written.", stacklevel=2)


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


if hasattr(os, "register_at_fork"):  # a forked child has none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
