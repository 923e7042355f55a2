"""How to compare learners without fooling oneself: choice on a validation split, and accuracy against labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from neuropil.data import Split, hold_out, subset
from neuropil.errors import Refusal, require
from neuropil.evaluate.metrics.accuracy import Predicts, accuracy

Fit = Callable[[Split], Predicts]


class Selection(NamedTuple):
    """The setting that validation preferred, and what every setting reached there; `select` returns it."""

    best: str
    accuracy: dict[str, float]


def select(candidates: Mapping[str, Fit], train: Split, *, holdout_fraction: float = 1 / 6, seed: int = 0) -> Selection:
    """The candidate that is best on held-out training examples; no test example is ever read.

    Args:
        candidates: a name for each setting, and how to fit a fresh learner with it.
        train: the training data; a stratified fraction of it becomes the validation split.
        holdout_fraction: of `train`, in (0, 1).
        seed: of the validation split.

    Returns:
        the name of the best candidate, and the validation accuracy of each.
    """
    require(len(candidates) > 0, "select needs at least one candidate, got none.")
    rest, validation = hold_out(train, holdout_fraction, seed)
    reached = {name: accuracy(fit(rest), validation) for name, fit in candidates.items()}
    return Selection(max(reached, key=reached.__getitem__), reached)


def sample_efficiency(
    fit: Fit, train: Split, test: Split, counts: Sequence[int], *, seed: int = 0
) -> Iterator[tuple[int, float]]:
    """For each number of labels: (labels, test accuracy of what `fit` makes of that many labelled examples).

    The labelled examples are a stratified subset of `train`, the same ones for every learner with the same seed.
    """
    for count in counts:
        yield count, accuracy(fit(subset(train, count, seed)), test)


def label_counts(labels: Sequence[int], train: Split, seed: int) -> list[int]:
    """Those of `labels` that are below the training set and leave a label for every class.

    Raises:
        Refusal: there are some below the training set, and all are too few.
    """
    below, few = [count for count in labels if count < len(train)], {}
    for count in below:
        try:
            subset(train, count, seed)
        except Refusal as refusal:
            few[count] = refusal
    need = f"every class needs a label, got labels {list(few)} for {train.classes} classes; ask for more labels."
    require(not few or len(few) < len(below), need)
    return [count for count in below if count not in few]
