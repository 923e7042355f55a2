"""Recipes: files with a docstring, a `Config` and `main(config, run)`, ours in one folder and the user's anywhere.

A variant is a recipe with other settings, a row of ``recipes/variants.toml``. The row has its name, its base
recipe, its settings as typed on the command line, one line on its purpose, and what was measured. A recipe's
docstring has a line "Group: spiking. Minutes: 40. Data: mnist.". It says where `neuropil list` shows the recipe, how
long one seed takes on one core, and which data sets it needs. A variant says so in its row, where it differs.
"""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterable
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import neuropil
from neuropil.errors import Refusal, require, unknown

RECIPES = Path(neuropil.__file__).parent / "recipes"
SETS = Path(neuropil.__file__).parent / "data" / "sets"
FACTS = r"^Group: (?P<group>.+?)\. Minutes: (?P<minutes>[\d.]+?)\.(?: Data: (?P<data>.+)\.)?$"
MEASURED = r"^Measured:.*?(?=\n\n|\Z)"


class About(NamedTuple):
    """What a recipe says of itself.

    Attributes:
        purpose: in one line.
        measured: its result, empty if there is none.
        group: under which heading it is listed.
        minutes: that one seed takes on one core, None if it does not say.
        data: the data sets that it needs, or can take.
    """

    purpose: str
    measured: str
    group: str = "other"
    minutes: float | None = None
    data: tuple[str, ...] = ()


def recipe_names() -> list[str]:
    """The recipes are the files in the folder, the variants the rows of its table; there is no list to keep."""
    return sorted({*(file.stem for file in RECIPES.glob("[!_]*.py")), *_variants()})


def set_names() -> list[str]:
    """The data sets are the files in their folder."""
    return sorted(file.stem for file in SETS.glob("[!_]*.py"))


def resolve(name: str, words: list[str]) -> tuple[str, list[str]]:
    """(recipe, settings): of a variant its base and its settings before `words`, so that `words` win; else as given."""
    row = _variants().get(name)
    return (row["base"], [*shlex.split(row["words"]), *words]) if row else (name, words)


def _variants() -> dict[str, dict[str, Any]]:
    table = RECIPES / "variants.toml"
    return tomllib.loads(table.read_text(encoding="utf-8")) if table.exists() else {}


def is_file(name: str) -> bool:
    """Whether `name` is of a file of the user, and not of one of our recipes."""
    return Path(name).suffix == ".py"


def source(name: str) -> Path:
    """The file of the recipe `name` (of a variant its base), or the user's ./FILE.py."""
    if is_file(name):
        require(Path(name).is_file(), f"there is no recipe file {name}; see: neuropil copy --help")
        return Path(name)
    if name not in recipe_names():
        raise no_such(name, "recipe", recipe_names())
    return RECIPES / f"{resolve(name, [])[0]}.py"


def no_such(name: str, kind: str, known: Iterable[str]) -> Refusal:
    """The refusal for a word that is no `kind`, with what was probably meant by it."""
    if kind == "command" and name in recipe_names():
        return Refusal(f"{name!r} is a recipe; run it with: neuropil run {name}")
    if name in set_names():
        said = {recipe: about(recipe) for recipe in recipe_names()}
        fits = [recipe for recipe, one in said.items() if one.data[:1] == (name,) and one.group != "searches"]
        also = f", or run one of the recipes on it: {', '.join(fits)}" if fits else ""
        return Refusal(f"{name!r} is a data set; try: neuropil compare --data {name}{also}.")
    related = [one for one in recipe_names() if kind == "recipe" and name.replace("-", "_").lower() in one]
    if related:
        return Refusal(f"unknown {kind} {name!r}. Did you mean {' or '.join(map(repr, related))}?")
    return unknown(kind, name, known)


def about(name: str) -> About:
    """What a recipe or variant says of itself, read without running it."""
    path = source(name)
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    facts, measured = re.search(FACTS, text, re.M), re.search(MEASURED, text, re.M | re.S)
    said = {"purpose": text.partition("\n")[0], "measured": " ".join(measured[0].split()) if measured else ""}
    said |= facts.groupdict("") if facts else {}
    if row := _variants().get(name):
        said |= {key: value for key, value in row.items() if key in About._fields}
        said["measured"] = f"Measured: {row['measured']}"
    minutes, data = said.pop("minutes", None), said.pop("data", "")
    sets = set_names() if data == "any" else filter(None, data.split(", "))
    return About(**said, minutes=None if minutes is None else float(minutes), data=tuple(sets))


def load(name: str) -> ModuleType:
    """The recipe `name` (of a variant its base) as a module that has a `Config` and a `main`."""
    from neuropil.runs import load_recipe_file  # needs torch

    path = source(name)
    module = load_recipe_file(path) if is_file(name) else import_module(f"neuropil.recipes.{path.stem}")
    work = getattr(module, "main", None)
    require(callable(work), f"{path} is no recipe: it needs a function main(config, run).")
    try:
        signature(cast(Any, work)).bind(None, None)
    except TypeError as error:
        raise Refusal(f"{path} needs a function main(config, run), got main{signature(cast(Any, work))}.") from error
    return module
