"""The methods of `neuropil compare`: one file each, whose name is the short name; the files are the list.

The file of a method has a docstring and ``build(train, rng, units) -> Method``; nothing else needs to know of it.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from neuropil.experiments.comparison import Method as Method
from neuropil.experiments.comparison import select
from neuropil.models import SupervisedTraining

# of all methods with a hidden layer
READOUT = SupervisedTraining(epochs=50, batch=1000, lr=1e-2, weight_decay=0.0, smoothing=0.1, min_steps=1500)


def method_names() -> list[str]:
    """The files of this folder."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def builders(names: Sequence[str]) -> dict[str, Any]:
    """The ``build`` of each named file; of all files if no name is given."""
    files = select({name: name for name in method_names()}, names)
    return {name: import_module(f"{__name__}.{name}").build for name in files}
