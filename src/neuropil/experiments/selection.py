"""How settings are chosen: every candidate learns the same examples and is scored on others, never on the test set."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from neuropil.data import Split
from neuropil.evaluate import accuracy, sample_efficiency
from neuropil.experiments.comparison import Build
from neuropil.runs import Row, Run, TaggedTracker


class Candidate(NamedTuple):
    """A method with one change to the chosen settings."""

    title: str
    change: Mapping[str, Any]
    build: Build


def score_candidates(
    candidates: Sequence[Candidate], rest: Split, held: Split, *, seed: int, labels: Sequence[int] = (), run: Run
) -> None:
    """Fit every candidate on `rest`, score it on `held`, log and print what it reached.

    Args:
        candidates: in the order of the rows.
        rest, held: what they learn, and what they are scored on.
        seed: of every fit.
        labels: numbers of labels with which the candidate is scored once more.
        run: takes the rows; every fit in it can be resumed.
    """
    reached = torch.zeros(len(candidates), 1 + len(labels))
    for index in run.loop("settings", len(candidates), reached=reached):
        title, change, build = candidates[index]
        rng = torch.Generator().manual_seed(seed)
        method = build(rest, rng)
        learner = method.learner
        learner.fit(rest, rng=rng, tracker=TaggedTracker(run, learner=method.name))
        reached[index, 0] = accuracy(learner, held)
        few = sample_efficiency(partial(learner.refit_readout, rng=rng), rest, held, labels, seed=seed)
        reached[index, 1:] = torch.tensor([right for _, right in few])
        right, *others = reached[index].tolist()
        columns = {f"accuracy_{count}_labels": value for count, value in zip(labels, others)}
        metrics = {"change": change, "accuracy": right, **columns, "title": title}
        run.log(Row(kind="validation", learner=method.name, metrics=metrics))
    show(candidates, reached, labels)


def show(candidates: Sequence[Candidate], reached: torch.Tensor, labels: Sequence[int]) -> None:
    """Print the table."""
    table = Table("learner", "change", "held-out accuracy, %", *(f"{count} labels" for count in labels), box=None)
    for (title, change, _), row in zip(candidates, reached.tolist()):
        words = ", ".join(f"{name} {value}" for name, value in change.items())
        table.add_row(title, words or "as chosen", *(f"{100 * right:.2f}" for right in row))
    Console().print(table)
