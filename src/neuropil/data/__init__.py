"""Labelled data: one type, `Split`, and one function per data set that gives (train, test).

The files in `sets/` are the registry: `neuropil.data.NAME` is the function NAME of `sets/NAME.py`.
"""

from collections.abc import Callable
from functools import wraps

from neuropil.data.columns import Columns
from neuropil.data.download import fetch
from neuropil.data.held import held_out, in_reach
from neuropil.data.idx import read_idx
from neuropil.data.recordings import read_nmnist, read_shd
from neuropil.data.records import parse_records
from neuropil.data.registry import check, is_own, list_sets, load, set_names
from neuropil.data.registry import set_module as _set_module
from neuropil.data.spikes import SpikeSplit
from neuropil.data.split import Split
from neuropil.data.subsets import hold_out, relabel, subset

__all__ = [
    "Columns", "SpikeSplit", "Split", "check", "fetch", "held_out", "hold_out", "in_reach", "is_own", "list_sets",
    "load", "parse_records", "read_idx", "read_nmnist", "read_shd", "relabel", "set_names", "subset",
]  # fmt: skip


def __getattr__(name: str) -> Callable[..., tuple[Split, Split]]:
    if name not in set_names():
        raise AttributeError(f"module 'neuropil.data' has no {name!r}; data sets: {', '.join(set_names())}.")
    function: Callable[..., tuple[Split, Split]] = getattr(_set_module(name), name)
    return wraps(function)(lambda *given, **named: in_reach(*function(*given, **named)))


def __dir__() -> list[str]:
    return sorted([*globals(), *set_names()])
