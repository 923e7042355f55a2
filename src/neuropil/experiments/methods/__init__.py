"""The methods of `neuropil compare`: one file each, whose name is the short name; the files are the list.

The file of a method has a docstring and ``build(train, rng, units) -> Method``; nothing else needs to know of it.
"""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.comparison import Build
from neuropil.experiments.comparison import Method as Method
from neuropil.experiments.own_learners import chosen
from neuropil.models import SupervisedTraining

# of all methods with a hidden layer
READOUT = SupervisedTraining(epochs=50, batch=1000, lr=1e-2, weight_decay=0.0, smoothing=0.1, min_steps=1500)


def method_names() -> list[str]:
    """The files of this folder."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def builders(names: Sequence[str], units: int) -> dict[str, Build]:
    """What builds each named method, with `units` hidden units; all of this folder if no name is given."""
    ours: dict[str, Build] = {name: partial(_build, name, units) for name in method_names()}
    return chosen(ours, names, units)


def _build(name: str, units: int, train: Split, rng: Generator) -> Method:
    build = import_module(f"{__name__}.{name}").build
    method: Method = build(train, rng, units)
    return method.introduced(build)
