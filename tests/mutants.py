"""Plant the deliberate faults of mutants.toml and see the tests catch them: `python tests/mutants.py [-k WORDS]`.

A fault names a function and a small piece of its source, which are found wherever the function stands in its module and
however it is formatted. Each fault is planted in a copy of the tree, where its test runs until the first failure.
Without a fault all tests have to pass. A fault whose function, text or test is gone is STALE and has to be mended.
"""

import argparse
import ast
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 1800  # that a test may take, s, on a busy machine
HEAVY = ("torch", "scipy.special", "sklearn.linear_model", "sklearn.metrics", "matplotlib.figure", "tyro", "pooch")


class Mutant(NamedTuple):
    """A fault: in the source of `function` the text `old`, which stands there exactly once, becomes `new`."""

    function: str  # dotted path of a function, class, module-level name or module
    old: str
    new: str
    meaning: str
    test: str  # below tests/, a file or file::test, which must catch it

    def planted(self) -> tuple[Path, str] | None:
        """(file below the root, its text with the fault), or None if function, text or test are gone."""
        found = find(self.function)
        if found is None or not self.is_tested():
            return None
        path, (first, last) = found
        text = (ROOT / path).read_text(encoding="utf-8")
        places = list(pattern(self.old).finditer(text, first, last))
        if len(places) != 1:
            return None
        faulty = text[: places[0].start()] + self.new.strip() + text[places[0].end() :]
        try:
            same = ast.dump(ast.parse(faulty)) == ast.dump(ast.parse(text))
        except SyntaxError:
            return None
        return None if same else (path, faulty)

    def is_tested(self) -> bool:
        """Whether its test is there."""
        file, _, name = self.test.partition("::")
        path = ROOT / "tests" / file
        return path.exists() and f"def {name}" in path.read_text(encoding="utf-8")


def pattern(source: str) -> re.Pattern[str]:
    """What matches `source` in any formatting: spaces, line breaks and commas before a closing bracket are free."""
    tokens = re.findall(r"\w+|[^\w\s]", source)
    parts = [re.escape(tokens[0])]
    for before, token in pairwise(tokens):
        gap = r"\s+" if before[-1].isalnum() and token[0].isalnum() else r"\s*"
        parts.append((r"(?:\s*,)?\s*" if token in ")]}" and before != "," else gap) + re.escape(token))
    return re.compile("".join(parts))


def find(function: str) -> tuple[Path, tuple[int, int]] | None:
    """(file below the root, first and last character) of what the dotted path names; None if it is not there."""
    names = function.split(".")
    for cut in range(len(names), 0, -1):
        stem = Path("src", *names[:cut])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if (ROOT / path).is_file():
                span = outline(path).get(".".join(names[cut:]))
                return (path, span) if span else None
    return None


@cache
def outline(path: Path) -> dict[str, tuple[int, int]]:
    """First and last character of everything in a file that has a name; of the file itself under ""."""
    text = (ROOT / path).read_text(encoding="utf-8")
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans = {"": (0, len(text))}
    for name, first, last in named(ast.parse(text), ""):
        spans.setdefault(name, (starts[first - 1], starts[last]))
    return spans


def named(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
    """(dotted name, first line, last line) of the functions, classes and assignments inside `node`."""
    for child in ast.iter_child_nodes(node):
        names, lines = [], (getattr(child, "lineno", 0), getattr(child, "end_lineno", 0))
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            names = [child.name]
            lines = (min([child.lineno, *(part.lineno for part in child.decorator_list)]), lines[1])
        elif isinstance(child, ast.Assign | ast.AnnAssign) and not isinstance(node, ast.FunctionDef):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        for name in names:
            yield (prefix + name, *lines)
        inside = isinstance(child, ast.FunctionDef | ast.ClassDef)
        yield from named(child, f"{prefix}{names[0]}." if inside else prefix)


MUTANTS = [Mutant(**row) for row in tomllib.loads((ROOT / "tests/mutants.toml").read_text(encoding="utf-8"))["mutant"]]


def fails(tests: Sequence[str], fault: tuple[Path, str] | None = None) -> bool:
    """Whether `tests` fail in a copy of the tree with this fault; a test that cannot run at all does not fail.

    It leaves this process changed for good.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("src", "tests", "docs"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        if fault:
            (tree / fault[0]).write_text(fault[1], encoding="utf-8")
        os.chdir(tree)
        os.environ["PYTHONPATH"] = sys.path[0] = str(tree / "src")
        with redirect_stdout(StringIO()) as said:
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)])
        os.chdir(ROOT)
    if code not in (0, 1) or (code and not fault):
        print(said.getvalue(), flush=True)
    return code == 1


def in_child(tests: Sequence[str], fault: tuple[Path, str] | None = None) -> bool:
    """`fails` in a process of its own, which may have children, as some tests do.

    A fault that crashes it is seen, and so is one with which it never ends.
    """
    passed, failed = 10, 11  # exit codes that no crash has
    target = lambda: os._exit(failed if fails(tests, fault) else passed)
    child = multiprocessing.get_context("fork").Process(target=target)
    child.start()
    child.join(LONGEST)
    child.kill()  # of one that has ended nothing is left to kill
    child.join()
    crashed = (child.exitcode or 0) < 0
    if child.exitcode not in (passed, failed) and not (crashed and fault):
        raise RuntimeError(f"the tests {tests} ended with code {child.exitcode}, fault in {fault and fault[0]}")
    return crashed or child.exitcode == failed


def fate(mutant: Mutant) -> str:
    """What became of it, in a word."""
    fault = mutant.planted()
    if fault is None:
        return "STALE"
    return "caught" if in_child([mutant.test], fault) else "SURVIVED"


def main() -> int:
    """Run the mutants that match; 1 if any survives or no longer fits the code, or if a test fails without them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-k", dest="words", default="", help="only mutants whose function, test or meaning has this")
    parser.add_argument("--stale", action="store_true", help="only say which no longer fit the code; run nothing")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if options.words.lower() in f"{m.function} {m.test} {m.meaning}".lower()]
    if options.stale:
        stale = [mutant for mutant in chosen if mutant.planted() is None]
        print("\n".join(f"STALE    {mutant.function}: {mutant.meaning}" for mutant in stale) or "none is stale")
        return int(bool(stale))
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        import_module(name)
    fates = []
    tests = sorted({mutant.test for mutant in chosen if mutant.is_tested()})
    with ThreadPoolExecutor(2) as pool:
        broken = [test for test, failed in zip(tests, pool.map(lambda test: in_child([test]), tests)) if failed]
        for mutant, word in zip(chosen, pool.map(fate, chosen)):
            print(f"{word:<9}{mutant.function}: {mutant.meaning}", flush=True)
            fates.append(word)
    for test in broken:
        print(f"{test} fails without any mutant.")
    print(f"{fates.count('caught')} of {len(chosen)} mutants caught")
    return 0 if chosen and not broken and fates.count("caught") == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
