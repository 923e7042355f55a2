"""Who takes part in `neuropil compare`: one file per learner, and the files are the list.

An entrant's file has a docstring and ``build(train, rng, units) -> Entrant``; nothing else needs to know of it.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from neuropil.checks import unknown
from neuropil.learners import Descent
from neuropil.recipes._twins import Entrant as Entrant

READOUT = Descent(
    epochs=50, batch=1000, lr=1e-2, decay=0.0, smoothing=0.1, steps=1500
)  # of all that have a hidden layer


def entrant_names() -> list[str]:
    """The files of this folder."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def builders(names: Iterable[str]) -> list[Any]:
    """The ``build`` of each named file; of all files if no name is given."""
    known = entrant_names()
    wanted = list(names) or known
    for name in wanted:
        if name not in known:
            raise unknown("learner", name, known)
    return [import_module(f"{__name__}.{name}").build for name in wanted]
