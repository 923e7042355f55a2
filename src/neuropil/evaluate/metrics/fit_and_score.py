"""One learner, one data set, one seed: fit on the training data, read the test set once, write down everything."""

from typing import Any, Protocol

from torch import Generator

from neuropil.data import Split
from neuropil.evaluate.metrics.accuracy import Predicts, confusion, fraction_correct
from neuropil.evaluate.metrics.cost import peak_memory


class Learns(Predicts, Protocol):
    """What a trial asks of a learner."""

    def fit(self, train: Split, *, rng: Generator, tracker: Any) -> Any:
        """Learn from `train`."""
        ...


class Tracker(Protocol):
    """What a trial asks of the notebook it writes into."""

    @property
    def seconds(self) -> float:
        """Time at work so far, s, which goes on correctly in a run that was resumed."""
        ...

    def log(self, kind: str, **row: Any) -> None:
        """Take one row."""
        ...


def trial(learner: Learns, train: Split, test: Split, *, rng: Generator, tracker: Tracker) -> float:
    """The test accuracy of `learner` after it learned from `train`, logged with its confusion matrix and its cost.

    Args:
        learner: is fitted in place.
        train: everything it may see while it learns.
        test: read once, after learning.
        rng: all randomness of the fit.
        watch: takes the rows and is handed to `fit`.
    """
    start = tracker.seconds
    with peak_memory() as peak:
        learner.fit(train, rng=rng, tracker=tracker)
    seconds = tracker.seconds - start
    counts = confusion(learner, test)
    right = fraction_correct(counts)
    chance = test.y.bincount().max().item() / len(test)
    numbers = {"n_train": len(train), "accuracy": right, "chance": chance}
    tracker.log("result", **numbers, seconds=seconds, peak_mb=peak.mb)
    tracker.log("confusion", matrix=counts.tolist())
    return right
