"""Plant the deliberate faults of mutants.toml and see the tests catch them: `python tests/mutants.py [-k WORDS]`.

Each is planted in a copy of the tree, where its test runs until the first failure. Without a fault it has to pass.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


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


def fails(test: str, mutant: Mutant | None = None) -> bool:
    """Whether `test` fails in a tree with this fault; a test that cannot run at all does not fail."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        if mutant:
            file = tree / "src/neuropil" / mutant.file
            file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{test}"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
    if done.returncode not in (0, 1) or (done.returncode and not mutant):
        print(done.stdout, done.stderr)
    return done.returncode == 1


def fate(mutant: Mutant) -> str:
    """What became of it, in a word."""
    if mutant.matches() != 1:
        return "STALE"
    return "caught" if fails(mutant.test, mutant) else "SURVIVED"


def main() -> int:
    """Run the mutants that match; 1 if any survives or no longer fits the code, or if a test fails without them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-k", dest="words", default="", help="only mutants whose file, test or meaning has these words")
    words = parser.parse_args().words.lower()
    chosen = [m for m in MUTANTS if words in f"{m.file} {m.test} {m.meaning}".lower()]
    tests = sorted({m.test for m in chosen})
    fates = []
    with ThreadPoolExecutor(2) as pool:
        broken = [test for test, bad in zip(tests, pool.map(fails, tests)) if bad]
        for mutant, word in zip(chosen, pool.map(fate, chosen if not broken else [])):
            print(f"{word:<9}{mutant.file}: {mutant.meaning}", flush=True)
            fates.append(word)
    if broken:
        print(f"these fail without any mutant: {', '.join(broken)}")
    print(f"{fates.count('caught')} of {len(chosen)} mutants caught")
    return 0 if chosen and fates.count("caught") == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
