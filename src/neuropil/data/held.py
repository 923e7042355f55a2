"""Test examples out of reach: while settings are chosen, held-out training examples stand in their place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from neuropil.data.split import Split
from neuropil.data.subsets import hold_out

ASKED = "NEUROPIL_HOLD_OUT"  # "fraction seed"; processes that a recipe starts inherit it


@dataclass
class Held:
    """What was asked of the data room within `held_out`: whether anything was `used`."""

    used: bool = False


_watching: list[Held] = []


@contextmanager
def held_out(fraction: float | None, seed: int) -> Iterator[Held]:
    """Within, every data set is (rest, held): two parts of its training examples, see `hold_out`. None: as it is.

    This holds for whatever asks this room, in this process and in those that it starts.

    >>> from neuropil.data import digits
    >>> with held_out(0.25, seed=0):
    ...     rest, held = digits()
    >>> len(digits()[0]), len(rest), len(held)
    (1438, 1078, 360)
    """
    before, held = os.environ.pop(ASKED, None), Held()
    if fraction is not None:
        os.environ[ASKED] = f"{fraction!r} {seed}"
    _watching.append(held)
    try:
        yield held
    finally:
        _watching.remove(held)
        os.environ.pop(ASKED, None)
        if before is not None:
            os.environ[ASKED] = before


def in_reach(train: Split, test: Split) -> tuple[Split, Split]:
    """(train, test) as they are, and within `held_out` two parts of `train`."""
    asked = os.environ.get(ASKED)
    if asked is None:
        return train, test
    for held in _watching:
        held.used = True
    fraction, seed = asked.split()
    return hold_out(train, float(fraction), int(seed))
