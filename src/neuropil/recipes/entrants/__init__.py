"""Who takes part in `neuropil compare`: one file per learner, and the files are the list.

An entrant's file has a docstring and ``build(train, units, rng) -> Entrant``; nothing else needs to know of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from neuropil.checks import unknown


@dataclass(frozen=True)
class Entrant:
    """A learner that has not learned yet, and how the report should treat it.

    Attributes:
        name: in plain words, as it stands in tables.
        family: "local" for local learning, "twin" for what it is measured against.
        learner: has ``fit``, ``fit_labels`` and ``predict``.
        norm: the p of the fixed point sum |w|^p = 1 that its rule has, None if it has none.
    """

    name: str
    family: str
    learner: Any
    norm: float | None = None


def entrant_names() -> list[str]:
    """The files of this folder."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def builders(names: Iterable[str]) -> dict[str, Any]:
    """The ``build`` of each named file; of all files if no name is given."""
    known = entrant_names()
    wanted = list(names) or known
    for name in wanted:
        if name not in known:
            raise unknown("learner", name, known)
    return {name: import_module(f"{__name__}.{name}").build for name in wanted}
