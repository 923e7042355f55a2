"""Recipes: files with a docstring, a `Config` and `main(config, run)`, ours in one folder and the user's anywhere.

A variant is a recipe with other settings, a row of ``recipes/variants.toml``: its name, the recipe it is based on, the
settings as they are typed on the command line, one line on its purpose, and what was measured.
"""

import ast
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import neuropil
from neuropil.errors import require, unknown

RECIPES = Path(neuropil.__file__).parent / "recipes"


class About(NamedTuple):
    """What a recipe says of itself."""

    purpose: str
    measured: str


def recipe_names() -> list[str]:
    """The recipes are the files in the folder, the variants the rows of its table; there is no list to keep."""
    return sorted({*(file.stem for file in RECIPES.glob("[!_]*.py")), *_variants()})


def resolve(name: str, words: list[str]) -> tuple[str, list[str]]:
    """(recipe, settings): of a variant its base and its settings before `words`, so that `words` win; else as given."""
    row = _variants().get(name)
    return (row["base"], [*shlex.split(row["words"]), *words]) if row else (name, words)


def _variants() -> dict[str, dict[str, str]]:
    table = RECIPES / "variants.toml"
    return tomllib.loads(table.read_text(encoding="utf-8")) if table.exists() else {}


def is_file(name: str) -> bool:
    """Whether `name` is of a file of the user, and not of one of our recipes."""
    return name.endswith(".py")


def source(name: str) -> Path:
    """The file of the recipe `name` (of a variant its base), or the user's ./FILE.py."""
    if is_file(name):
        require(Path(name).is_file(), f"there is no recipe file {name}; see: neuropil copy --help")
        return Path(name)
    if name not in recipe_names():
        raise unknown("recipe", name, recipe_names())
    return RECIPES / f"{resolve(name, [])[0]}.py"


def about(name: str) -> About:
    """Purpose and result: of a variant from its row, of a recipe from its docstring, read without running it."""
    if row := _variants().get(name):
        return About(row["purpose"], f"Measured: {row['measured']}")
    lines = (ast.get_docstring(ast.parse(source(name).read_text(encoding="utf-8"))) or "").splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("Measured:")]
    rest = lines[starts[0] :] if starts else []
    paragraph = rest[: rest.index("")] if "" in rest else rest
    return About(lines[0] if lines else "", " ".join(line.strip() for line in paragraph))


def load(name: str) -> ModuleType:
    """The recipe `name` (of a variant its base) as a module that has a `Config` and a `main`."""
    from neuropil.runs import load_recipe_file  # needs torch

    path = source(name)
    module = load_recipe_file(path) if is_file(name) else import_module(f"neuropil.recipes.{path.stem}")
    require(callable(getattr(module, "main", None)), f"{path} is no recipe: it needs a function main(config, run).")
    return module
