"""The methods that a comparison was asked for: ours by short name, and files of one's own, ``--learners ./mine.py``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Generator

from neuropil.data import Split
from neuropil.errors import Refusal, require
from neuropil.experiments.comparison import Build, Method, about_of, select
from neuropil.models import BackpropClassifier, FeatureClassifier, SpikingClassifier
from neuropil.runs import load_recipe_file


def chosen(methods: Mapping[str, Build], names: Sequence[str], units: int | None = None) -> dict[str, Build]:
    """The methods of these short names, all if none is named; a name FILE.py is a file of the user, see `own_build`."""
    own = {name: own_build(Path(name).expanduser(), units) for name in names if name.endswith(".py")}
    found = select({**methods, **own}, names or list(methods))
    return {Path(name).stem if name in own else name: build for name, build in found.items()}


def own_build(path: Path, units: int | None) -> Build:
    """What makes the learner of the user's file: its ``build(train, rng)`` or ``build(train, rng, units)``."""
    require(path.is_file(), f"there is no file {path}; it would have a function build(train, rng).")
    build = getattr(load_recipe_file(path), "build", None)
    if not callable(build):
        raise Refusal(f"{path} needs a function build(train, rng) that returns a model; see docs/compare.md.")
    known = {"units": units} if units is not None and "units" in signature(build).parameters else {}
    return partial(as_method, path.stem.replace("_", " "), partial(build, **known))


def as_method(name: str, make: Any, train: Split, rng: Generator) -> Method:
    """The model or method that `make` makes, as a method called `name`, unless it is one with a name already.

    Raises:
        TypeError: it makes something else.
    """
    made = make(train, rng)
    if isinstance(made, Method):
        return replace(made, about=about_of(make)) if made.about is None else made
    if not (hasattr(made, "fit") and hasattr(made, "predict")):
        raise TypeError(f"{name!r} needs to return a model, with fit and predict; got {type(made).__name__}.")
    frozen = isinstance(made, FeatureClassifier) and made.learning is None
    baseline, spiking = frozen or isinstance(made, BackpropClassifier), isinstance(made, SpikingClassifier)
    family = "baseline" if baseline else "spiking" if spiking else "local"
    return Method(name, family, made, about=about_of(make))
