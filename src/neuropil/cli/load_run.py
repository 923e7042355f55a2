"""A network of a finished run that generates images, and the data set that it learned from."""

from pathlib import Path
from typing import Any

import neuropil
from neuropil.errors import require


def load_generator(folder: Path, name: str | None) -> tuple[Any, str, int]:
    """(network, name of its data set, seed) from a run: the only network that generates images, or the one named."""
    found = neuropil.saved_models(folder, name=name, can="generate")
    names = sorted({header.about["name"] for header in found})
    require(bool(names), f"the run in {folder} left no network that generates images; take a run of digits_mstdp.")
    require(len(names) == 1, f"the run in {folder} left {', '.join(names)}; choose with --learner NAME.")
    about = found[0].about
    return neuropil.load(found[0].path), about["origin"]["data_set"], about["seed"]
