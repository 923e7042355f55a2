"""A logistic regression on features that a local rule learns without labels."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Generator
from torch.nn.functional import cross_entropy

from neuropil.errors import require
from neuropil.plasticity import Rule
from neuropil.sklearn.checks import (
    check_batch,
    check_columns,
    check_flag,
    check_rows,
    generator,
)
from neuropil.sklearn.features import HebbianFeatures

__all__ = ["HebbianClassifier"]

READOUT_RATE = 1e-2  # learning rate of a readout that learns from batch to batch


class HebbianClassifier(ClassifierMixin, BaseEstimator):
    """A logistic regression on features that a local rule learns without labels, see `HebbianFeatures`.

    Args:
        n_units, rule, epochs, batch_size, learning_rate, random_state, verbose: of the features.
        C: inverse strength of the L2 penalty of the logistic regression, on features of unit variance.
        passthrough: whether the logistic regression sees the columns beside the features. A random vector functional
            link has such direct links (Pao et al. 1994, Neurocomputing 6): what is linear need not be learned anew.
        class_weight: weight of each class in its loss, {label: weight}; None for 1 each. The word "balanced",
            in `fit` only, is the inverse of how often a class occurs.
        max_iter: steps of its solver, at most.

    Attributes:
        classes_: the labels, sorted.
        features_: the fitted `HebbianFeatures`.
        readout_: the fitted pipeline of scaler and logistic regression on its features, which the columns follow.
        n_iter_: steps that its solver took; in `partial_fit`, all of its steps since it began.

    Raises:
        ValueError: what scikit-learn and `HebbianFeatures` refuse.

    Examples:
        >>> from neuropil.sklearn import HebbianClassifier
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.model_selection import cross_val_score
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> X, y = load_wine(return_X_y=True)
        >>> model = make_pipeline(StandardScaler(), HebbianClassifier(random_state=0))
        >>> bool(cross_val_score(model, X, y).mean() > 0.95)
        True
    """

    classes_: NDArray[Any]
    features_: HebbianFeatures
    readout_: Any
    n_iter_: NDArray[Any]
    _optimizer: torch.optim.Adam
    _rng: Generator

    def __init__(
        self, n_units: int = 300, *, rule: str | Rule = "explain_away", epochs: int = 10, batch_size: int = 100,
        learning_rate: float = 0.2, C: float = 1.0, passthrough: bool = True, max_iter: int = 1000,
        random_state: Any = None, verbose: int = 0, class_weight: dict[Any, float] | str | None = None,
    ):  # fmt: skip
        self.n_units, self.rule, self.epochs, self.batch_size = n_units, rule, epochs, batch_size
        self.learning_rate, self.C, self.max_iter, self.random_state = learning_rate, C, max_iter, random_state
        self.verbose, self.passthrough, self.class_weight = verbose, passthrough, class_weight

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn features from the rows of X (n, features), then their classes y (n,) of any kind."""
        x, labels = check_rows(self, X, y, reset=True)
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        require(len(self.classes_) > 1, f"{type(self).__name__} needs two classes or more, got one class.")
        self._fresh(x)
        self.features_.fit(x)
        self.readout_.fit(self._seen(x), labels)
        self.n_iter_ = self.readout_[-1].n_iter_
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Learn from more rows, in one pass: features without their classes, then the readout; also after `fit`.

        The readout goes down the gradient of the loss that `fit` minimises, in batches (Adam). So it is near to that of
        `fit` after many rows, and not the same.

        Args:
            X, y: rows (n, features) and their classes (n,).
            classes: all that will ever come; needed in the first call.
        """
        first = not hasattr(self, "features_")
        x, indices = check_batch(self, X, y, classes, first=first)
        if first:
            self._fresh(x)
        same = self.passthrough == self._sees_columns
        require(same, f"partial_fit goes on with the passthrough of before, got {self.passthrough}; call fit.")
        once = "balanced weights need all rows at once, in fit; give class_weight as {label: weight}, got 'balanced'."
        require(self.class_weight != "balanced", once)
        self.features_.set_params(**{name: getattr(self, name) for name in self.features_.get_params()})
        self.features_.partial_fit(x)
        features = self._seen(x)
        scaler, readout = (step for _, step in self.readout_.steps)
        scaler.partial_fit(features)
        if not hasattr(readout, "coef_"):
            many = len(self.classes_) if len(self.classes_) > 2 else 1
            readout.coef_, readout.intercept_ = np.zeros((many, features.shape[1])), np.zeros(many)
            readout.classes_ = self.classes_
        self._descend(readout, scaler.transform(features), indices)
        return self

    def _fresh(self, rows: NDArray[Any]) -> None:
        """Features and readout that know nothing."""
        check_flag(self, "passthrough")
        check_columns(self, rows)
        self._sees_columns = self.passthrough
        self.features_ = HebbianFeatures(**{name: getattr(self, name) for name in HebbianFeatures().get_params()})
        readout = LogisticRegression(C=self.C, max_iter=self.max_iter, class_weight=self.class_weight)
        self.readout_ = make_pipeline(StandardScaler(), readout)
        self.__dict__.pop("_optimizer", None)

    def _seen(self, rows: NDArray[Any]) -> NDArray[Any]:
        """What the readout sees of rows."""
        found = self.features_.transform(rows)
        return np.hstack([found, rows]) if self._sees_columns else found

    def _descend(self, readout: LogisticRegression, x: NDArray[Any], indices: NDArray[Any]) -> None:
        """One pass of Adam over the rows, in random order."""
        if not hasattr(self, "_optimizer"):
            start = [torch.tensor(part).requires_grad_() for part in (readout.coef_, readout.intercept_)]
            self._optimizer, self._rng = torch.optim.Adam(start, lr=READOUT_RATE), generator(self.random_state)
            self.n_iter_ = np.zeros(1, int)
        coef, intercept = self._optimizer.param_groups[0]["params"]
        weights = torch.from_numpy(compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_))
        rows, y, seen = torch.from_numpy(x), torch.from_numpy(indices), self.readout_[0].n_samples_seen_
        for index in torch.randperm(len(rows), generator=self._rng).split(self.batch_size):
            scores = rows[index] @ coef.T + intercept
            if scores.shape[1] == 1:
                scores = torch.cat([torch.zeros_like(scores), scores], 1)
            loss = (weights[y[index]] * cross_entropy(scores, y[index], reduction="none")).mean()
            loss = loss + coef.square().sum() / (2 * self.C * seen)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self.n_iter_ += 1
        readout.coef_, readout.intercept_ = (part.detach().numpy().copy() for part in (coef, intercept))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest class of every row, (n,)."""
        return self._read(X, "predict")

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """The probability of every class of `classes_`, (n, classes)."""
        return self._read(X, "predict_proba")

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """The score of every class, (n, classes); of two classes that of the second, (n,)."""
        return self._read(X, "decision_function")

    def _read(self, x: ArrayLike, what: str) -> NDArray[Any]:
        check_is_fitted(self)
        found: NDArray[Any] = getattr(self.readout_, what)(self._seen(check_rows(self, x, reset=False)))
        return found
