"""One learner, one data set, one seed: fit on the training data, read the test set once, write down everything."""

from typing import Any, Protocol

from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.errors import Diverged
from neuropil.evaluate.metrics.accuracy import Predicts, confusion, fraction_correct, majority_rate
from neuropil.evaluate.metrics.cost import peak_memory
from neuropil.runs.rows import ConfusionRow, ResultRow, WarningRow
from neuropil.runs.tracker import Tracker


class Learns(Predicts, Protocol):
    """What `fit_and_score` asks of a learner."""

    def fit(self, train: Split, *, rng: Generator, tracker: Any) -> Any:
        """Learn from `train`."""


def fit_and_score(learner: Learns, train: Split, test: Split, *, rng: Generator, tracker: Tracker) -> float:
    """The test accuracy of `learner` after it learned from `train`, logged with its confusion matrix and its cost.

    Args:
        learner: is fitted in place.
        train: everything it may see while it learns.
        test: read once, after learning.
        rng: all randomness of the fit.
        tracker: takes the rows and is handed to `fit`.

    Raises:
        Diverged: its scores of some of the first test examples are NaN.
    """
    start = tracker.seconds
    with peak_memory() as peak:
        learner.fit(train, rng=rng, tracker=tracker)
    seconds = tracker.seconds - start
    _check_scores(learner, test)
    counts, n, rate = confusion(learner, test), len(train), majority_rate(test)
    right = fraction_correct(counts)
    tracker.log(ResultRow(n_train=n, accuracy=right, majority_rate=rate, seconds=seconds, peak_mb=peak.mb))
    tracker.log(ConfusionRow(matrix=counts.tolist(), classes=test.names or None))
    _warn_of_one_answer(counts, test, tracker)
    return right


def _check_scores(learner: Learns, test: Split, *, n: int = 1000) -> None:
    """Refuse scores that are NaN, whose largest is always class 0; a learner without scores passes."""
    if hasattr(learner, "decision_function"):
        wrong = int(learner.decision_function(test[:n].pixels()).isnan().any(1).sum())
        if wrong:
            raise Diverged(f"the scores of {wrong} of {len(test[:n])} test examples are NaN; lower the learning rate.")


def _warn_of_one_answer(counts: Tensor, test: Split, tracker: Tracker) -> None:
    """Log that a learner tells no test examples apart, if there were several classes to tell apart."""
    given = counts.sum(0).nonzero().flatten().tolist()
    if len(given) > 1 or int((counts.sum(1) > 0).sum()) < 2:
        return
    named = test.names[given[0]] if test.names and given[0] < test.classes else given[0]
    what = f"class {named}" if given[0] < test.classes else "none of the classes"
    tracker.log(WarningRow(message=f"it gives one answer to all {len(test)} test examples: {what}."))
