"""Recipes: files with a docstring, a `Config` and `main(config, run)`, ours in one folder and the user's anywhere."""

import ast
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
    """The recipes are the files in the folder; there is no list to keep."""
    return sorted(file.stem for file in RECIPES.glob("[!_]*.py"))


def is_file(name: str) -> bool:
    """Whether `name` is of a file of the user, and not of one of our recipes."""
    return name.endswith(".py")


def source(name: str) -> Path:
    """The file of the recipe `name`, or of the user's ./FILE.py."""
    if is_file(name):
        require(Path(name).is_file(), f"there is no recipe file {name}; see: neuropil copy --help")
        return Path(name)
    if name not in recipe_names():
        raise unknown("recipe", name, recipe_names())
    return RECIPES / f"{name}.py"


def about(path: Path) -> About:
    """The first line and the "Measured:" paragraph of a recipe's docstring, read without running it."""
    lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("Measured:")]
    rest = lines[starts[0] :] if starts else []
    paragraph = rest[: rest.index("")] if "" in rest else rest
    return About(lines[0] if lines else "", " ".join(line.strip() for line in paragraph))


def load(name: str) -> ModuleType:
    """The recipe `name` as a module that has a `Config` and a `main`."""
    from neuropil.runs import load_recipe_file  # needs torch

    path = source(name)
    module = load_recipe_file(path) if is_file(name) else import_module(f"neuropil.recipes.{name}")
    require(callable(getattr(module, "main", None)), f"{path} is no recipe: it needs a function main(config, run).")
    return module
