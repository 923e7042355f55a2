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
        """The file to write: the one that was named, or `name` in the folder of the run, or in this folder."""
        beside = self.run / name if self.run.is_dir() else Path(f"{self.run.stem}-{name}")
        return self.out or beside


def load_generator(asked: SheetSettings) -> tuple[Any, str, int]:
    """(network, name of its data set, seed) from a run: the only network that generates images, or the one named."""
    folder, device = asked.run, device_named(asked.device)
    found = neuropil.saved_models(folder, name=asked.learner, can="generate")
    names = sorted({header.about["name"] for header in found})
    require(bool(names), f"{folder} holds no network that generates images; take digits-mstdp.")
    require(len(names) == 1, f"the run in {folder} left {', '.join(names)}; choose with --learner NAME.")
    about = found[0].about
    origin = about.get("origin") or {"data_set": ""}
    return neuropil.load(found[0].path, device=device), origin["data_set"], about["seed"]


def tell(file: Path, correct: int, n: int, what: str) -> None:
    """Say how many of `n` images the network itself reads as was asked; a warning if it is less than a half."""
    print(f"{file}: the network classifies {correct} of {n} {what}")
    if 2 * correct < n:
        cure = "train it longer, with more units, or on more examples of these classes"
        print(f"neuropil: warning: only {correct} of {n} images are read as what was asked; {cure}.", file=sys.stderr)
