"""Labelled data: one type, `Split`, and one function per data set that gives (train, test).

The files in `sets/` are the registry: `neuropil.data.NAME` is the function NAME of `sets/NAME.py`.
"""

from collections.abc import Callable

from neuropil.data.download import fetch as fetch
from neuropil.data.registry import check as check
from neuropil.data.registry import list_sets as list_sets
from neuropil.data.registry import load as load
from neuropil.data.registry import set_module as _set_module
from neuropil.data.registry import set_names as set_names
from neuropil.data.split import Split as Split
from neuropil.data.split import hold_out as hold_out
from neuropil.data.split import relabel as relabel
from neuropil.data.split import subset as subset


def __getattr__(name: str) -> Callable[..., tuple[Split, Split]]:
    if name not in set_names():
        raise AttributeError(f"module 'neuropil.data' has no {name!r}; data sets: {', '.join(set_names())}.")
    return getattr(_set_module(name), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *set_names()])
