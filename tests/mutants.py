"""Deliberate faults, each of which some test must catch: `python tests/mutants.py [-k WORDS]`.

Every mutant is applied to a copy of the tree, where its test file is run until the first failure.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
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
    test: str  # the file below tests/ that must catch it

    def matches(self) -> int:
        """How often `old` stands in the file; 1 if all is well."""
        return (ROOT / "src/neuropil" / self.file).read_text(encoding="utf-8").count(self.old)


MUTANTS = [
    Mutant(
        "plasticity/correlate.py",
        "post.flatten(0, -2).T @ pre.flatten(0, -2)",
        "post.flatten(0, -2).T @ pre.flatten(0, -2).T.reshape(-1, pre.shape[-1])",
        "samples are permuted before they are viewed, so that no sample is a real one (as in pytorch-hebbian)",
        "test_correlate.py",
    ),
    Mutant(
        "plasticity/correlate.py",
        'layer.padding_mode == "zeros" and ',
        "",
        "reflect padding takes the route of zero padding",
        "test_correlate.py",
    ),
    Mutant(
        "plasticity/geometry.py",
        "grouped.transpose(1, 2).flatten(0, 1).flatten(1)",
        "grouped.flatten(0, 1).flatten(1)",
        "rows of a transposed convolution count inputs as units",
        "test_correlate.py",
    ),
    Mutant(
        "plasticity/geometry.py",
        "return grouped.transpose(1, 2).reshape(weight.shape)",
        "return grouped.reshape(weight.shape)",
        "a change of a transposed convolution is put back in the wrong order",
        "test_correlate.py",
    ),
    Mutant(
        "plasticity/geometry.py",
        "activity.movedim(unit_axis(layer), -1).flatten(0, -2)",
        "activity.flatten(2).flatten(0, -2) if activity.dim() > 2 else activity",
        "positions are taken for units",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "for rank in (0, self.k - 1))",
        "for rank in (self.k - 1, 0))",
        "the k-th learns and the winner unlearns",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "chosen, (1, -self.delta))",
        "chosen, (1, self.delta))",
        "the k-th learns instead of unlearning, in dense layers only",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "scatter_(axis, kth, -self.delta)",
        "scatter_(axis, kth, self.delta)",
        "the k-th learns instead of unlearning, in convolutions only",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "change = torch.addcmul(grow, lost[:, None], weight, value=-1)",
        "change = grow",
        "Krotov-Hopfield forgets to forget",
        "test_plasticity.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "signed_power(weight_of(layer), self.p - 1).to(dtype)",
        "signed_power(weight_of(layer), self.p).to(dtype)",
        "the competition raises weights to p instead of p - 1",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "lost = torch.linalg.vecdot(signed_power(weight, self.p - 1), grow)",
        "lost = torch.linalg.vecdot(signed_power(weight, self.p), grow)",
        "rows converge to another norm: p instead of p - 1 in the forgetting",
        "test_plasticity.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "change = change / counts[:, None]",
        "change = change / counts.sum()",
        "the average is taken over all samples instead of those that chose the row",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "y = (-y).scatter(axis, winner, y.gather(axis, winner))",
        "y = y.scatter(axis, winner, -y.gather(axis, winner))",
        "the winner unlearns and the losers learn",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/compete.py",
        "counts.cumsum(0) - counts",
        "(counts.cumsum(0) - counts).clamp(max=1)",
        "winners are given each other's samples",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/hebb.py",
        "return two_factor(layer, pre, u, u.square())",
        "return two_factor(layer, pre, u, u.abs())",
        "Oja forgets by |u| instead of u squared",
        "test_plasticity.py",
    ),
    Mutant(
        "plasticity/hebb.py",
        "(samples.T @ samples).tril() * (group[:, None] == group)",
        "(samples.T @ samples).triu() * (group[:, None] == group)",
        "Sanger's order of the units is upside down",
        "test_plasticity.py",
    ),
    Mutant(
        "plasticity/hebb.py",
        " * (group[:, None] == group)",
        "",
        "Sanger orders units across the groups of a convolution",
        "test_rules.py",
    ),
    Mutant(
        "plasticity/tap.py",
        "            hook.remove()",
        "            pass",
        "hooks outlive the block",
        "test_tap.py",
    ),
    Mutant(
        "plasticity/tap.py",
        "weight.grad = -change.detach().to(weight)",
        "weight.grad = change.detach().to(weight)",
        "the optimiser walks away from what the rule proposes",
        "test_tap.py",
    ),
    Mutant(
        "plasticity/tap.py",
        "for side in (inputs[0], output))",
        "for side in (output,))",
        "an input that is changed in place goes unnoticed",
        "test_tap.py",
    ),
    Mutant(
        "plasticity/__init__.py",
        "torch.empty(31 << 20, dtype=torch.uint8)",
        "",
        "every step pays for its memory again",
        "test_plasticity.py",
    ),
]


def caught(mutant: Mutant) -> bool:
    """Whether the tests of a tree with this fault fail; a test file that cannot run at all does not count."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        file = tree / "src/neuropil" / mutant.file
        file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{mutant.test}"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
    if done.returncode not in (0, 1):
        print(done.stdout, done.stderr)
    return done.returncode == 1


def main() -> int:
    """Run the mutants that match; 1 if any survives or no longer fits the code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-k", dest="words", default="", help="only mutants whose file, test or meaning has these words")
    words = parser.parse_args().words.lower()
    chosen = [m for m in MUTANTS if words in f"{m.file} {m.test} {m.meaning}".lower()]
    stale = [m for m in chosen if m.matches() != 1]
    with ThreadPoolExecutor(2) as pool:
        verdicts = dict(zip(chosen, pool.map(lambda m: m not in stale and caught(m), chosen)))
    for mutant, good in verdicts.items():
        print("caught  " if good else "STALE   " if mutant in stale else "SURVIVED", f"{mutant.file}: {mutant.meaning}")
    print(f"{sum(verdicts.values())} of {len(verdicts)} mutants caught")
    return 0 if chosen and all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
