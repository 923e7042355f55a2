"""Who takes part in `neuropil compare`: one file per learner, and the files are the list.

An entrant's file has a docstring and ``build(train, rng, units) -> Method``; nothing else needs to know of it.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from neuropil.errors import unknown
from neuropil.experiments.comparison import Method as Method
from neuropil.models import SupervisedTraining

READOUT = SupervisedTraining(
    epochs=50, batch=1000, lr=1e-2, weight_decay=0.0, smoothing=0.1, min_steps=1500
)  # of all that have a hidden layer


def method_names() -> list[str]:
    """The files of this folder."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def builders(names: Iterable[str]) -> list[Any]:
    """The ``build`` of each named file; of all files if no name is given."""
    known = method_names()
    wanted = list(names) or known
    for name in wanted:
        if name not in known:
            raise unknown("learner", name, known)
    return [import_module(f"{__name__}.{name}").build for name in wanted]
