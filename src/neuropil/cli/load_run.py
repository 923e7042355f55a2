"""The network of a finished run, brought back by the recipe that made it."""

from pathlib import Path
from typing import Any

from neuropil.cli.argv import take
from neuropil.cli.recipes import load
from neuropil.errors import require
from neuropil.runs import read


def revive(folder: Path) -> Any:
    """What ``revive(config, tensors)`` of the run's recipe makes of its settings and tensors."""
    record = read(folder)
    require(record.finished, f"the run in {folder} is not finished; go on with: neuropil run --resume {folder}")
    recipe = load(record.recipe)
    require(
        callable(getattr(recipe, "revive", None)),
        f"recipe {record.recipe!r} leaves no network that generates; take a run of mnist_mstdp.",
    )
    return recipe.revive(record.config, record.tensors())


def data_of(folder: Path) -> tuple[str, int]:
    """The data set that a run learned from, and the seed of its split."""
    record = read(folder)
    names = list(record.facts.get("data", {}))
    require(len(names) == 1, f"the run in {folder} does not say from which one data set it learned.")
    return names[0], int(record.config.get("seed", 0))


def number(words: list[str], flag: str, usual: int, *, least: int = 1) -> int:
    """The whole number behind `flag`, or the only word if there is no flag to look for; `usual` if it is not there."""
    word = take(words, flag) if flag else words[0]
    if word is None:
        return usual
    name = flag or "--label"
    require(word.isdecimal() and int(word) >= least, f"{name} takes a whole number from {least} on, got {word!r}.")
    return int(word)
