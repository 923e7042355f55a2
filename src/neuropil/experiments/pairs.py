"""Every pair of classes as a task of its own, learners side by side; what counts is the mean over the pairs."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

import torch
from torch import Generator, Tensor

from neuropil.data import Split, relabel, subset
from neuropil.errors import unknown
from neuropil.evaluate import fit_and_score
from neuropil.experiments.comparison import Comparison, Method, attempted, save_learned
from neuropil.experiments.pictures import BLUE, GREY, ORANGE, picture
from neuropil.runs import NullTracker, ResultRow, Row, Run, Tracker

COLOURS = {"association": ORANGE, "backprop": BLUE, "linear": GREY}
MEANS = ("n_train", "accuracy", "majority_rate", "seconds", "peak_mb")


class Result(NullTracker):
    """Keeps the row of the result and forgets everything else."""

    row: ResultRow

    def log(self, row: Row) -> None:
        """Take the row of the result."""
        if isinstance(row, ResultRow):
            self.row = row


def pair_comparisons(plan: Comparison, named: Sequence[str], n_train: int) -> list[Comparison]:
    """Every pair of classes of the data of `plan`, or only those `named` ("4 9"), as a comparison of its own.

    Args:
        plan: methods, data and the one seed.
        named: pairs of classes; all if none is named.
        n_train: use only that many training examples of each pair; 0 for all.
    """
    (seed,) = plan.seeds
    train, test = plan.splits(seed)
    known = {f"{first} {second}": (first, second) for first, second in combinations(range(train.classes), 2)}
    for name in named:
        if name not in known:
            raise unknown("pair of classes", name, known)

    def task(name: str, pair: tuple[int, int]) -> Comparison:
        labels = pair_labels(train.classes, *pair)
        splits = partial(pair_of, train, test, labels, n_train)
        if n_train:
            splits(seed)  # refuses too few examples before anything learns
        title, origin = f"{plan.data} {name.replace(' ', ' or ')}", plan.origin and plan.origin._replace(labels=labels)
        return Comparison(plan.builds, title, [seed], splits, name, origin)

    return [task(name, pair) for name, pair in known.items() if name in named or not named]


def run_pair_comparisons(whole: Comparison, plans: Sequence[Comparison], run: Run) -> None:
    """Fit each method on each pair of classes, read the pair's part of the test set once, log pairs and means.

    A method that refuses a pair, or diverges on it, has a row that says why, and no mean.

    Args:
        whole: the data that the pairs were taken from.
        plans: of the pairs, see `pair_comparisons`.
        run: takes the rows; every fit in it can be resumed.
    """
    (seed,), data = whole.seeds, f"{whole.data} pairs"
    train, test = whole.splits(seed)
    run.update_metadata(data={data: {"train": train.checksum(), "test": test.checksum()}})
    table = torch.zeros(len(whole.builds), len(plans), len(MEANS), dtype=torch.float64)
    for index in run.loop("pairs", len(plans), table=table):
        plan = plans[index]
        some, others = plan.splits(seed)
        for place, (name, build) in enumerate(plan.builds.items()):
            rng, result = torch.Generator().manual_seed(seed), Result()
            work: Any = partial(_score, train=some, test=others, rng=rng, result=result)
            done = attempted(build, some, rng, work, run=run, data=data, seed=seed, name=name, where=f"{plan.task}: ")
            if done is None:
                table[place, index] = torch.nan
                continue
            method, _ = done
            facts = {"accuracy": result.row.accuracy, "n_train": len(some), "data": plan.data, "seed": seed}
            save_learned(method, run, plan.origin, facts | {"place": index * len(plan.builds) + place}, plan.task)
            table[place, index] = torch.tensor([getattr(result.row, column) for column in MEANS])
            tags: dict[str, Any] = {"learner": method.name, "family": method.family, "seed": seed}
            metrics = {"pair": tuple(map(int, plan.task.split())), "accuracy": result.row.accuracy}
            run.log(Row(kind="pair", **tags, data=plan.data, metrics=metrics))
            if index == len(plans) - 1 and bool(table[place, :, 1].isfinite().all()):
                mean: dict[str, Any] = dict(zip(MEANS, table[place].mean(0).tolist()))
                mean["n_train"] = round(mean["n_train"])  # a row whose count is not whole cannot be read
                run.log(ResultRow(**tags, data=data, **mean, metrics={"pairs": len(plans)}))
    accuracy = {name: row for name, row in zip(whole.builds, table[:, :, 1]) if bool(row.isfinite().all())}
    plot_errors(data, accuracy, [plan.task for plan in plans], run)


def _score(method: Method, _: Tracker, *, train: Split, test: Split, rng: Generator, result: Result) -> None:
    """Fit the method and score it; the row goes into `result`."""
    fit_and_score(method.learner, train, test, rng=rng, tracker=result)


def pair_labels(classes: int, first: int, second: int) -> tuple[int, ...]:
    """What `relabel` makes of the classes: two of them become 0 and 1, the others are left out."""
    return tuple({first: 0, second: 1}.get(label, -1) for label in range(classes))


def pair_of(train: Split, test: Split, labels: tuple[int, ...], n_train: int, seed: int) -> tuple[Split, Split]:
    """(train, test) of two classes, with `n_train` training examples, or all if that is 0."""
    some, others = relabel(train, labels), relabel(test, labels)
    return (subset(some, n_train, seed) if 0 < n_train < len(some) else some), others


def plot_errors(data: str, accuracy: dict[str, Tensor], pairs: list[str], run: Run) -> None:
    """Plot the test error of the association rule, backprop and the linear model on each pair, as far as they ran."""
    wrong = {name: 100 * (1 - values) for name, values in accuracy.items() if name in COLOURS}
    if not wrong:
        return
    order = wrong.get("backprop", next(iter(wrong.values()))).argsort(descending=True)
    caption = "Test error of each pair of classes, one seed."
    with picture(run.folder, "pairs", caption, width=9, height=3.2) as axes:
        for name, row in wrong.items():
            axes[0].plot(row[order].numpy(), ".-", color=COLOURS[name], label=name, linewidth=0.8)
        axes[0].set_xticks(range(len(pairs)), [pairs[index] for index in order], rotation=90)
        axes[0].set(xlabel="pair of classes, the hardest for backprop first", ylabel="test error, %", title=data)
        axes[0].legend(frameon=False)
