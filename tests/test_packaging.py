"""What the package says that it needs is what it imports, and the lowest versions are those that are tried."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTS, ONNX = (PROJECT["optional-dependencies"][extra] for extra in ("test", "onnx"))
BOUND = re.compile(r"([\w-]+)>=([\d.]+)")


def declared(rows):
    """Lowest version of each distribution, by its name in lower case."""
    return {found[1].lower(): found[2] for found in map(BOUND.match, rows)}


def imported(folder):
    """Top-level names of what the files below `folder` import, without the standard library and our own."""
    own = {path.stem for path in [*folder.rglob("*.py"), *ROOT.glob("docs/**/*.py")]} | {"neuropil"}
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            yield from {name.partition(".")[0] for name in names} - own - set(sys.stdlib_module_names)


@pytest.mark.parametrize(("folder", "more"), [("src", ["triton>=3.5", *ONNX]), ("tests", TESTS)])
def test_whatever_is_imported_is_declared(folder, more):
    known = declared([*PROJECT["dependencies"], *more])
    made_by = packages_distributions()
    for name in sorted(set(imported(ROOT / folder))):
        assert {dist.lower() for dist in made_by.get(name, [name])} & set(known), f"{name} is imported, not declared"


def test_the_lowest_versions_that_are_declared_are_the_ones_that_are_tried():
    rows = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tried = dict(row.split("==") for row in rows if not row.startswith("#"))
    want = declared(PROJECT["dependencies"]) | declared(TESTS)
    for name in ("torch", "ruff", "mypy", "triton"):  # torch has one tested version; the others run no code of ours
        del want[name]
    assert set(tried) == set(want)
    for name, least in want.items():
        assert f"{tried[name]}.".startswith(f"{least}."), name
