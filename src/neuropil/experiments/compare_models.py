"""`neuropil.compare`: models of one's own side by side, measured as `neuropil compare` measures its methods."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from torch import Generator

from neuropil.data import Split
from neuropil.data.own import paired
from neuropil.errors import require
from neuropil.experiments.comparison import Build, Comparison, Method, plan_on
from neuropil.experiments.own_learners import as_method
from neuropil.experiments.robustness import Attacks, run_seeds
from neuropil.models import Model
from neuropil.report import gather, table, write
from neuropil.runs import Run

__all__ = ["compare"]


class ComparedRows(list[dict[str, Any]]):
    """What a comparison logged, row by row; a notebook shows its figure and table."""

    def __init__(self, folder: Path):
        self._results = gather([folder])
        super().__init__(self._results.runs[0].record.rows)

    def _repr_html_(self) -> str:
        return self._results._repr_html_()


def compare(
    models: Mapping[str, Callable[[Split, Generator], Model | Method]], data: str | tuple[Split, Split], *,
    seeds: int = 5, labels: Sequence[int] = (), attack: bool = False, out: Path | str | None = None,
) -> ComparedRows:  # fmt: skip
    """Train every model with every seed, score it once on the test examples, and print the table.

    A model that refuses the data, or that diverges, is a row of kind "failed" that says why; the others go on. Every
    model starts from its own generator with the same seed, so leaving one out changes no other.

    Args:
        models: by name, functions that make a fresh model (or a `Method`) of the training examples and a generator.
        data: name of a data set, path of data of your own, or a pair of splits: training and test examples.
        seeds: how often everything is repeated. A data set without an official test set is split anew by each seed.
        labels: numbers of labels with which each model is scored once more.
        attack: also attack, corrupt and damage every trained model.
        out: a new folder for the run, its models and its report; None keeps nothing.

    Returns:
        what was logged: a list with a dict for each row; those with kind "result" have the accuracies. A notebook
        shows it as figure and table.

    Raises:
        Refusal: no model, an unknown data set, or a folder that exists.
        TypeError: a function returns no model.

    Examples:
        >>> import neuropil as npl
        >>> def random_features(train, rng):
        ...     network = npl.dense_body(train, 50, n=1.0)
        ...     npl.init_normal_(network, rng)
        ...     return npl.FeatureClassifier(network)
        >>> rows = npl.compare({"random features": random_features}, "digits", seeds=1)  # doctest: +ELLIPSIS
        ┏...random features...(Student t)...
        >>> [row["accuracy"] > 0.9 for row in rows if row["kind"] == "result"]
        [True]
    """
    plan = _plan(models, data, seeds)
    with ExitStack() as stack:
        folder = Path(out) if out else Path(stack.enter_context(TemporaryDirectory())) / "run"
        settings = {"models": list(models), "data": plan.data, "seeds": seeds, "labels": labels, "attack": attack}
        run = Run.start(folder, recipe="compare", config=settings, command="neuropil.compare(...)")
        stack.callback(run.close)
        run_seeds(plan, labels, run, attacks=Attacks() if attack else None)
        run.finish()
        rows = ComparedRows(folder)
        if out:
            write(rows._results, folder / "report.html")
        Console().print(table(rows._results))
        return rows


def _plan(models: Mapping[str, Any], data: str | tuple[Split, Split], seeds: int) -> Comparison:
    """The comparison that the first arguments of `compare` ask for."""
    names = isinstance(models, Mapping)
    require(names, f"compare needs a mapping of names to functions (train, rng), got {type(models).__name__}.")
    require(bool(models), "compare needs at least one model, got none; name a function (train, rng) that makes one.")
    for name, make in models.items():
        require(callable(make), f"model {name!r} needs a function (train, rng), got {type(make).__name__}.")
    require(isinstance(seeds, int) and seeds >= 1, f"compare needs seeds >= 1, got seeds={seeds}.")
    builds: dict[str, Build] = {name: partial(_named, name, make) for name, make in models.items()}
    if isinstance(data, str):
        return plan_on(data, 0, range(seeds), builds, "cpu")
    pair = isinstance(data, Sequence) and len(data) == 2 and all(isinstance(part, Split) for part in data)
    require(pair, f"compare needs data by name, by path or as a pair of splits, got {type(data).__name__}.")
    splits = paired(*data)
    return Comparison(builds, "data", range(seeds), lambda seed: splits)


def _named(name: str, make: Callable[[Split, Generator], Any], train: Split, rng: Generator) -> Method:
    return replace(as_method(name, make, train, rng), name=name)
