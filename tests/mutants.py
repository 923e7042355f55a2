"""Plant the deliberate faults of mutants.toml and see the tests catch them: `python tests/mutants.py [-k WORDS]`.

Each is planted in a copy of the tree, where its test runs until the first failure. Without a fault all have to pass.
The processes are forked from one that has imported what is heavy, which is most of the time that a test takes.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "scipy.special", "sklearn.linear_model", "sklearn.metrics", "matplotlib.figure", "tyro", "pooch")


class Mutant(NamedTuple):
    """A fault: in `file` (below src/neuropil) the text `old`, which stands there exactly once, becomes `new`."""

    file: str
    old: str
    new: str
    meaning: str
    test: str  # below tests/, a file or file::test, which must catch it

    def matches(self) -> int:
        """How often `old` stands in the file; 1 if all is well."""
        path = ROOT / "src/neuropil" / self.file
        return path.read_text(encoding="utf-8").count(self.old) if path.exists() else 0


MUTANTS = [Mutant(**row) for row in tomllib.loads((ROOT / "tests/mutants.toml").read_text(encoding="utf-8"))["mutant"]]


def fails(tests: Sequence[str], mutant: Mutant | None = None) -> bool:
    """Whether `tests` fail in a copy of the tree with this fault; a test that cannot run at all does not fail.

    It leaves this process changed for good.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        if mutant:
            file = tree / "src/neuropil" / mutant.file
            file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        os.chdir(tree)
        os.environ["PYTHONPATH"] = sys.path[0] = str(tree / "src")
        with redirect_stdout(StringIO()) as said:
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)])
        os.chdir(ROOT)
    if code not in (0, 1) or (code and not mutant):
        print(said.getvalue(), flush=True)
    return code == 1


def in_child(tests: Sequence[str], mutant: Mutant | None = None) -> bool:
    """`fails` in a process of its own, which may have children, as some tests do."""
    passed, failed = 10, 11  # exit codes that no crash has
    target = lambda: os._exit(failed if fails(tests, mutant) else passed)
    child = multiprocessing.get_context("fork").Process(target=target)
    child.start()
    child.join()
    if child.exitcode not in (passed, failed):
        raise RuntimeError(f"the tests {tests} ended with code {child.exitcode} under {mutant}")
    return child.exitcode == failed


def fate(mutant: Mutant) -> str:
    """What became of it, in a word."""
    if mutant.matches() != 1:
        return "STALE"
    return "caught" if in_child([mutant.test], mutant) else "SURVIVED"


def main() -> int:
    """Run the mutants that match; 1 if any survives or no longer fits the code, or if a test fails without them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-k", dest="words", default="", help="only mutants whose file, test or meaning has these words")
    words = parser.parse_args().words.lower()
    chosen = [m for m in MUTANTS if words in f"{m.file} {m.test} {m.meaning}".lower()]
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in HEAVY:
        import_module(name)
    fates = []
    with ThreadPoolExecutor(2) as pool:
        unharmed = pool.submit(in_child, sorted({m.test for m in chosen}))
        for mutant, word in zip(chosen, pool.map(fate, chosen)):
            print(f"{word:<9}{mutant.file}: {mutant.meaning}", flush=True)
            fates.append(word)
        broken = unharmed.result()
    print(
        "The tests fail without any mutant." if broken else f"{fates.count('caught')} of {len(chosen)} mutants caught"
    )
    return 0 if chosen and not broken and fates.count("caught") == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
