"""What all estimators ask of their settings and of their data."""

import time
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import Generator, Tensor

from neuropil.errors import require

LARGEST = 1e100  # entry of the data, whose squares are summed; all of them below 1 / LARGEST are too small likewise


class Passes:
    """Prints the passes of a fit where its estimator is verbose."""

    def __init__(self, estimator: Any):
        said: Any = estimator.verbose
        self.who, self.start = type(estimator).__name__, time.perf_counter()
        fine = isinstance(said, Integral) and int(said) >= 0
        require(fine, f"{self.who} needs verbose as True, False or a whole number >= 0, got {said!r}.")
        self.prints = bool(said)

    @property
    def seconds(self) -> float:
        """Since the fit began."""
        return time.perf_counter() - self.start

    def loop(self, title: str, count: int, **state: Any) -> Iterator[int]:
        """0 .. count - 1, with a line after each."""
        for index in range(count):
            yield index
            if self.prints:
                print(f"{self.who}: {title}, {index + 1} of {count}, {self.seconds:.1f} s", flush=True)

    def log(self, row: Any) -> None:
        """Rows are not kept."""


def check_numbers(estimator: BaseEstimator, **least: float) -> None:
    """Refuse settings that are not numbers of at least so much; whole ones where the least is an int."""
    for name, low in least.items():
        value: Any = getattr(estimator, name)
        kind, what = (Integral, "a whole number") if isinstance(low, int) else (Real, "a finite number")
        fine = isinstance(value, kind) and not isinstance(value, bool) and low <= float(value) < np.inf
        require(fine, f"{type(estimator).__name__} needs {name} as {what} >= {low:g}, got {value!r}.")


def check_flag(estimator: BaseEstimator, name: str) -> None:
    """Refuse a setting that is neither True nor False."""
    value = getattr(estimator, name)
    fine = isinstance(value, bool | np.bool_)
    require(fine, f"{type(estimator).__name__} needs {name} as True or False, got {value!r}.")


def check_columns(estimator: BaseEstimator, rows: NDArray[Any] | Tensor) -> int:
    """How many columns there are; one alone is refused, because rows of length 1 would all be alike."""
    features = rows.shape[1]
    require(features > 1, f"{type(estimator).__name__} needs 2 features or more, got n_features = {features}.")
    return features


def check_rows(estimator: BaseEstimator, x: ArrayLike, *labels: ArrayLike, reset: bool, nan: bool = False) -> Any:
    """Finite rows in float64 of as many features as before, and the labels with them; `nan` lets missing ones pass."""
    few: dict[str, Any] = {"ensure_min_samples": 2} if reset else {}
    finite = {"ensure_all_finite": "allow-nan"} if nan else {}
    found = validate_data(estimator, x, *labels, dtype=np.float64, reset=reset, **few, **finite)
    rows: NDArray[Any] = found[0] if labels else found
    largest = float(np.fmax.reduce(np.abs(rows), axis=None, initial=0))  # of those that are not missing
    fits = largest == 0 or 1 / LARGEST <= largest <= LARGEST
    who, cure = type(estimator).__name__, "scale the columns first, for example by MaxAbsScaler"
    require(fits, f"{who} needs entries from {1 / LARGEST:g} to {LARGEST:g}, got {largest:g}; {cure}.")
    return found


def check_batch(
    estimator: Any, x: ArrayLike, y: ArrayLike, classes: ArrayLike | None, *, first: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of a `partial_fit`, and the places of their labels in ``classes_``, which the `first` call is told."""
    rows, labels = check_rows(estimator, x, y, reset=first)
    return rows, _class_indices(estimator, labels, classes, first=first)


def _class_indices(estimator: Any, labels: NDArray[Any], classes: ArrayLike | None, *, first: bool) -> NDArray[Any]:
    who = type(estimator).__name__
    told = not first or classes is not None
    require(told, f"{who}.partial_fit needs classes=, all that will ever come, in its first call.")
    given = None if classes is None else np.unique(np.asarray(classes))
    if given is not None and first:
        check_classification_targets(given)
        require(len(given) > 1, f"{who} needs two classes or more, got one class.")
        estimator.classes_ = given
    same = given is None or np.array_equal(given, estimator.classes_)
    require(same, f"{who}.partial_fit goes on with the classes of before, {estimator.classes_}, got {given}.")
    check_classification_targets(labels)
    known = np.isin(labels, estimator.classes_)
    require(bool(known.all()), f"{who} knows the classes {estimator.classes_}, got {np.unique(labels[~known])} too.")
    found: NDArray[Any] = np.searchsorted(estimator.classes_, labels)
    return found


def generator(random_state: Any) -> Generator:
    """A generator of torch from a seed of scikit-learn."""
    return Generator().manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))


def batches(rows: Tensor, size: int, rng: Generator) -> Iterator[Tensor]:
    """The rows in random order, in batches of about `size`, none of them small."""
    order = torch.randperm(len(rows), generator=rng)
    yield from (rows[index] for index in order.tensor_split(max(1, round(len(rows) / size))))
