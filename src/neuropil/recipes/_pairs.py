"""Every pair of classes as a task of its own, learners side by side; what counts is the mean over the pairs."""

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from neuropil.data import Split, subset
from neuropil.evaluate import trial
from neuropil.learners import Unwatched
from neuropil.recipes._association import Settings, learners
from neuropil.recipes._pictures import BLUE, GREY, ORANGE, keep, panels
from neuropil.runs import Run


class Result(Unwatched):
    """Keeps the result of a trial and forgets everything else."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = {}

    def log(self, kind: str, **row: Any) -> None:
        """Take the row of the result."""
        if kind == "result":
            self.row = row


def pairs_beside_twins(data: str, train: Split, test: Split, settings: Settings, run: Run) -> None:
    """Fit each learner on each pair of classes of `train`, read the pair's part of `test` once, log pairs and means."""
    run.note(data={data: {"train": train.checksum(), "test": test.checksum()}})
    builds, pairs = learners(settings), list(combinations(range(train.classes), 2))
    table = torch.zeros(len(builds), len(pairs), 5, dtype=torch.float64)
    names = ("n_train", "accuracy", "chance", "seconds", "peak_mb")
    for index in run.loop("pairs", len(pairs), table=table):
        first, second = pairs[index]
        some, others = pick(train, first, second), pick(test, first, second)
        if 0 < settings.n_train < len(some):
            some = subset(some, settings.n_train, settings.seed)
        for place, build in enumerate(builds):
            rng = torch.Generator().manual_seed(settings.seed)
            entrant, result = build(some, rng), Result()
            trial(entrant.learner, some, others, rng=rng, watch=result)
            table[place, index] = torch.tensor([result.row[name] for name in names])
            row = {"learner": entrant.name, "family": entrant.family, "data": data, "seed": settings.seed}
            run.log("pair", **row, pair=[first, second], accuracy=result.row["accuracy"])
            if index == len(pairs) - 1:
                mean = dict(zip(names, table[place].mean(0).tolist()))
                run.log("result", **row, **mean, pairs=len(pairs))
    draw(data, table[:, :, 1], pairs, run)


def pick(split: Split, first: int, second: int) -> Split:
    """The examples of two classes, which become 0 and 1."""
    chosen = (split.y == first) | (split.y == second)
    return Split(split.x[chosen], (split.y[chosen] == second).long(), 2)


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
