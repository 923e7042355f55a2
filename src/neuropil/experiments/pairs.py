"""Every pair of classes as a task of its own, learners side by side; what counts is the mean over the pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from neuropil.data import Split, relabel, subset
from neuropil.errors import unknown
from neuropil.evaluate import fit_and_score
from neuropil.experiments.association import Settings, learners
from neuropil.experiments.comparison import Comparison, Origin, save_learned
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, keep, panels
from neuropil.runs import NullTracker, ResultRow, Row, Run

MEANS = ("n_train", "accuracy", "majority_rate", "seconds", "peak_mb")


class Result(NullTracker):
    """Keeps the row of the result and forgets everything else."""

    row: ResultRow

    def log(self, row: Row) -> None:
        """Take the row of the result."""
        if isinstance(row, ResultRow):
            self.row = row


@dataclass(frozen=True)
class PairSettings(Settings):
    """What an experiment with pairs of classes can be told."""

    pairs: tuple[str, ...] = ()
    """only these pairs of classes, such as "4 9"; all of them if none is named"""


def run_pair_comparisons(data: str, train: Split, test: Split, settings: PairSettings, run: Run) -> None:
    """Fit each learner on each pair of classes of `train`, read the pair's part of `test` once, log pairs and means."""
    name, pairs = f"{data} pairs", chosen_pairs(train.classes, settings.pairs)
    run.update_metadata(data={name: {"train": train.checksum(), "test": test.checksum()}})
    plans, builds = tasks(data, train, test, settings), learners(settings)
    table = torch.zeros(len(builds), len(pairs), len(MEANS), dtype=torch.float64)
    for index in run.loop("pairs", len(pairs), table=table):
        plan = plans[index]
        some, others = plan.splits(settings.seed)
        for place, build in enumerate(builds):
            rng = torch.Generator().manual_seed(settings.seed)
            method, result = build(some, rng), Result()
            fit_and_score(method.learner, some, others, rng=rng, tracker=result)
            facts = {"accuracy": result.row.accuracy, "n_train": len(some), "data": plan.data, "seed": settings.seed}
            save_learned(method, run, plan.origin, facts | {"place": index * len(builds) + place}, plan.task)
            table[place, index] = torch.tensor([getattr(result.row, column) for column in MEANS])
            tags: dict[str, Any] = {"learner": method.name, "family": method.family, "seed": settings.seed}
            metrics = {"pair": pairs[index], "accuracy": result.row.accuracy}
            run.log(Row(kind="pair", **tags, data=plan.data, metrics=metrics))
            if index == len(pairs) - 1:
                mean = dict(zip(MEANS, table[place].mean(0).tolist()))
                run.log(ResultRow(**tags, data=name, **mean, metrics={"pairs": len(pairs)}))
    draw(name, table[:, :, 1], pairs, run)


def chosen_pairs(classes: int, named: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs of classes that are `named`, or all."""
    known = {f"{first} {second}": (first, second) for first, second in combinations(range(classes), 2)}
    for name in named:
        if name not in known:
            raise unknown("pair of classes", name, known)
    return [pair for name, pair in known.items() if name in named or not named]


def tasks(data: str, train: Split, test: Split, settings: PairSettings) -> list[Comparison]:
    """Every pair of classes, as a comparison of its own."""
    builds = learners(settings)

    def task(pair: tuple[int, int]) -> Comparison:
        labels = pair_labels(train.classes, *pair)
        splits = partial(pair_of, train, test, labels, settings.n_train)
        name, words, origin = "{} {} or {}".format(data, *pair), "{} {}".format(*pair), Origin(data, labels)
        return Comparison(builds, name, [settings.seed], splits, words, origin)

    return [task(pair) for pair in chosen_pairs(train.classes, settings.pairs)]


def pair_labels(classes: int, first: int, second: int) -> tuple[int, ...]:
    """What `relabel` makes of the classes: two of them become 0 and 1, the others are left out."""
    return tuple({first: 0, second: 1}.get(label, -1) for label in range(classes))


def pair_of(train: Split, test: Split, labels: tuple[int, ...], n_train: int, seed: int) -> tuple[Split, Split]:
    """(train, test) of two classes, with `n_train` training examples, or all if that is 0."""
    some, others = relabel(train, labels), relabel(test, labels)
    return (subset(some, n_train, seed) if 0 < n_train < len(some) else some), others


def draw(data: str, accuracy: Tensor, pairs: list[tuple[int, int]], run: Run) -> None:
    """How many test examples of each pair the association rule, backprop and the linear model get wrong."""
    wrong = 100 * (1 - accuracy[[0, 2, -1]])
    order = wrong[1].argsort(descending=True)
    with panels(1, 1, width=9, height=3.2) as (figure, axes):
        for row, name, colour in zip(wrong, ("association", "backprop", "linear"), (ORANGE, BLUE, GREY)):
            axes[0].plot(row[order].numpy(), ".-", color=colour, label=name, linewidth=0.8)
        names = [f"{first} {second}" for first, second in (pairs[index] for index in order)]
        axes[0].set_xticks(range(len(pairs)), names, rotation=90)
        axes[0].set(xlabel="pair of classes, the hardest for backprop first", ylabel="test error, %", title=data)
        axes[0].legend(frameon=False)
        keep(figure, run.folder, "pairs", "Test error of each pair of classes, one seed.")
