"""Features that a local rule learns without labels."""

import warnings
from collections import OrderedDict
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from neuropil.errors import enough_memory, require, unknown
from neuropil.plasticity import ExplainAway, HardWTA, KrotovHopfield, Learner, Rule, SoftHebb, attach
from neuropil.sklearn.checks import (
    Passes,
    batches,
    check_columns,
    check_numbers,
    check_rows,
    generator,
)

__all__ = ["HebbianFeatures"]

RULES: dict[str, Rule] = {  # at the settings that the page on rules names
    "explain_away": ExplainAway(),
    "hard_wta": HardWTA(),
    "krotov_hopfield": KrotovHopfield(p=2, k=2),
    "soft_hebb": SoftHebb(tau=0.002),
}


class HebbianFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features that units of one layer learn from examples without labels, by a local rule.

    A unit answers with max(0, w x + b). It starts at an example, or at random where there are more units than examples.
    It competes with the others for every example, see `attach`. While they learn, units see each column once as it is
    and once negated. The data may have any scale and offset; where columns differ much in spread, put a
    `StandardScaler` before.

    Args:
        n_units: how many features are learned.
        rule: "explain_away", "hard_wta", "krotov_hopfield" or "soft_hebb"; or a rule, such as ``ExplainAway(k=5)``.
        epochs: passes over the examples in `fit`; `partial_fit` makes one.
        batch_size: examples in a step.
        learning_rate: of the weights; 0.2 fits every rule, 0 leaves units where they start.
        random_state: seed of start and order.
        verbose: 1 prints a line for each pass of `fit`.

    Attributes:
        weights_: (n_units, n_features_in_).
        biases_: (n_units,).

    Raises:
        ValueError: what scikit-learn refuses; a single column, in which there is no direction to learn.

    Examples:
        >>> from neuropil.sklearn import HebbianFeatures
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> HebbianFeatures(n_units=50, random_state=0).fit_transform(X).shape
        (1797, 50)
    """

    weights_: NDArray[Any]
    biases_: NDArray[Any]
    _learner: Learner

    def __init__(
        self, n_units: int = 300, *, rule: str | Rule = "explain_away", epochs: int = 10, batch_size: int = 100,
        learning_rate: float = 0.2, random_state: Any = None, verbose: int = 0,
    ):  # fmt: skip
        self.n_units, self.rule, self.epochs, self.batch_size = n_units, rule, epochs, batch_size
        self.learning_rate, self.random_state, self.verbose = learning_rate, random_state, verbose

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn from the rows of X (n, features), from the start; y is not looked at."""
        x = self._begin(X)
        for _ in Passes(self).loop("epochs", self.epochs):
            self._learn(x)
        silent = float((self._answers(x.numpy()) == 0).all(1).mean())
        if silent > 0.5:
            cure = "scale the columns first, for example by RobustScaler, or leave outliers out"
            warnings.warn(f"no unit answers to {100 * silent:.0f} % of the rows; {cure}.", stacklevel=2)
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn from more rows, in one pass; the first call starts at its rows."""
        if not hasattr(self, "_learner"):
            x = self._begin(X)
        else:
            same = (self.n_units, self._rule()) == self._begun
            require(same, f"partial_fit goes on with the n_units and the rule of before, got {self}; call fit.")
            x = self._checked(X, reset=False)
        self._learn(x)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """The answers of the units, (n, n_units)."""
        check_is_fitted(self)
        return self._answers(self._checked(X, reset=False).numpy())

    def _answers(self, rows: NDArray[Any]) -> NDArray[Any]:
        """What the units make of rows."""
        found: NDArray[Any] = np.maximum(rows @ self.weights_.T + self.biases_, 0)
        return found

    @property
    def _n_features_out(self) -> int:
        return len(self.biases_)

    def _rule(self) -> Rule:
        """The rule, by settings that can be."""
        check_numbers(self, n_units=1, epochs=0, batch_size=1, learning_rate=0.0)
        if isinstance(self.rule, Rule):
            return self.rule
        cure = "a name such as 'explain_away', or a rule that was made, such as ExplainAway()"
        require(isinstance(self.rule, str), f"{type(self).__name__} needs as rule {cure}, got {self.rule!r}.")
        if self.rule not in RULES:
            raise unknown("rule", self.rule, RULES)
        return RULES[self.rule]

    def _checked(self, x: ArrayLike, *, reset: bool) -> Tensor:
        """Finite rows of as many features as before, in float64."""
        rows = check_rows(self, x, reset=reset)
        return torch.tensor(np.ascontiguousarray(rows))

    def _begin(self, x: ArrayLike) -> Tensor:
        """The rows, and units that start at some of them."""
        rule = self._rule()
        rows = self._checked(x, reset=True)
        features = check_columns(self, rows)
        rng = generator(self.random_state)
        with enough_memory():
            layer = nn.Linear(2 * features, self.n_units, dtype=rows.dtype)
        nn.init.normal_(layer.weight, std=(2 * features) ** -0.5, generator=rng)
        model = nn.Sequential(OrderedDict(units=layer))  # its name, for refusals
        with warnings.catch_warnings():  # a table has often fewer rows than there are units
            warnings.filterwarnings("ignore", ".* start at inputs")
            self._learner, self._begun = attach(model, {"units": rule}, both(rows), rng=rng), (self.n_units, rule)
        self._read()
        return rows

    def _learn(self, rows: Tensor) -> None:
        """One pass over the rows in random order."""
        learner = self._learner
        optimizer = torch.optim.SGD(learner.model.parameters(), lr=self.learning_rate)
        for batch in batches(rows, self.batch_size, learner.rng):
            learner.propose_(both(batch))
            optimizer.step()
            learner.settle_()
        self._read()

    def _read(self) -> None:
        """Weights and biases as arrays."""
        units = self._learner.model.get_submodule("units")
        weight, bias = (units.get_parameter(name).detach().numpy().copy() for name in ("weight", "bias"))
        on, off = np.split(weight, 2, axis=1)
        self.weights_, self.biases_ = on - off, bias


def both(rows: Tensor) -> Tensor:
    """Every input once as it is and once negated: rules look at a sample without its mean, which is then nothing."""
    return torch.cat([rows, -rows], 1)
