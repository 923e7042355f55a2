"""A network of a run or of the zoo that generates images: which one, and what commands that use it can be told."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

import neuropil
from neuropil.errors import at_least, device_named, require


@dataclass(frozen=True)
class SheetSettings:
    """Settings of a command that writes a sheet of images; their meaning is in its help."""

    run: Positional[Path]
    learner: str | None = None
    n: int | None = None
    seed: int = 0
    n_rounds: int = 40
    out: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        at_least(0, self, "seed")
        at_least(1, self, "n_rounds", *(["n"] if self.n is not None else []))

    def file(self, name: str) -> Path:
        """The file to write: the one that was named, or `name` beside the run."""
        return self.out or beside(self.run, name)


def beside(run: Path, name: str) -> Path:
    """A file for what is made of a run: `name` in its folder, or in this folder if it has none."""
    return run / name if run.is_dir() else Path(f"{run.stem}-{name}")


def find_generator(run: Path, learner: str | None) -> Any:
    """What is known of the only network of a run that generates images, or of the one named; the first of its seeds."""
    found = neuropil.saved_models(run, name=learner, can="generate")
    names = sorted({header.about["name"] for header in found})
    require(bool(names), f"{run} holds no network that generates images; take digits-mstdp.")
    require(len(names) == 1, f"the run in {run} left {', '.join(names)}; choose with --learner NAME.")
    return found[0]


def data_of(header: Any) -> tuple[str, int]:
    """(name of the data set from which a network learned, or nothing; seed of its split)."""
    return (header.about.get("origin") or {"data_set": ""})["data_set"], header.about["seed"]


def load_generator(asked: SheetSettings) -> tuple[Any, str, int]:
    """(network, name of its data set, seed) from a run."""
    device, found = device_named(asked.device), find_generator(asked.run, asked.learner)
    return neuropil.load(found.path, device=device), *data_of(found)


def tell(file: Path, correct: int, n: int, what: str) -> None:
    """Say how many of `n` images the network itself reads as was asked; a warning if it is less than a half."""
    print(f"{file}: the network classifies {correct} of {n} {what}")
    if 2 * correct < n:
        cure = "train it longer, with more units, or on more examples of these classes"
        print(f"neuropil: warning: only {correct} of {n} images are read as what was asked; {cure}.", file=sys.stderr)
