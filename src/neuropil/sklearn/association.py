"""A classifier that learns by the association rule, at once or from batch to batch."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.errors import enough_memory, require
from neuropil.models import AssociationClassifier, AssociationTraining
from neuropil.models.association import associate_
from neuropil.sklearn.checks import check_batch, generator
from neuropil.sklearn.networks import NetworkClassifier

__all__ = ["AssociationRuleClassifier"]


class AssociationRuleClassifier(NetworkClassifier):
    """Layers of neurons that are all associated with a class, and learn from their own input and the label alone.

    See `neuropil.AssociationClassifier`. Columns are brought to mean 0 and variance 1 first. A constant column follows
    them: rows are brought to length 1, and would lose how far they are from the mean.

    Args:
        n_units: neurons of the layer, or of each of several layers, (200, 100).
        k: how many of the neurons of the class, and of the others, win and learn; None for the rule without
            competition.
        slope: of the neurons' answers.
        epochs: passes over the examples.
        batch_size: examples in a step.
        learning_rate: first one, falls to 0.
        min_steps: fewest steps; a small data set gets as many more passes as this takes.
        random_state: seed of first weights and order.
        verbose: 1 prints a line for each pass of `fit`.

    Attributes:
        classes_: the labels, sorted.
        network_: the fitted model of neuropil.
        low_, span_: mean and standard deviation of every column.

    Raises:
        ValueError: what scikit-learn refuses; settings that cannot be.

    Examples:
        >>> from neuropil.sklearn import AssociationRuleClassifier
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> AssociationRuleClassifier(60, min_steps=200, random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    _optimizer: torch.optim.Adam
    _rng: Generator
    _moments: tuple[int, Any, Any]  # rows seen, mean and variance of their columns

    def __init__(
        self, n_units: int | tuple[int, ...] = 300, *, k: int | None = 3, slope: float = 8.0, epochs: int = 20,
        batch_size: int = 50, learning_rate: float = 1e-2, min_steps: int = 500, random_state: Any = None,
        verbose: int = 0,
    ):  # fmt: skip
        self.n_units, self.k, self.slope, self.epochs, self.batch_size = n_units, k, slope, epochs, batch_size
        self.learning_rate, self.min_steps, self.random_state = learning_rate, min_steps, random_state
        self.verbose = verbose

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Learn from more rows, in one pass at the first learning rate; also after `fit`.

        Mean and standard deviation of the columns are those of all rows so far. Probabilities suit the rows of the last
        call.

        Args:
            X, y: rows (n, features) and their classes (n,).
            classes: all that will ever come; needed in the first call.
        """
        first = not hasattr(self, "network_")
        rows, indices = check_batch(self, X, y, classes, first=first)
        self._check_training()
        old, new = self._model(1) if first else self.network_, self._model(1)
        same = all(getattr(old, name) == getattr(new, name) for name in ("hidden", "k", "slope"))
        require(same, f"partial_fit goes on with the n_units, k and slope of before, got {self}; call fit.")
        self._see(rows, first=first)
        if not hasattr(self, "_optimizer"):
            self._rng = generator(self.random_state)
        train = Split(self._scaled(rows).float(), torch.tensor(indices), len(self.classes_))
        if first:
            self._begin(train)
        self._learn(train)
        return self._calibrated(rows, indices)

    def _begin(self, train: Split) -> None:
        """A network that knows nothing."""
        with enough_memory():
            model = self._model(len(train))
            model.network_ = model.fresh(train, self._rng).eval()
        self.network_ = model

    def _learn(self, train: Split) -> None:
        """One pass over the rows in random order, in float32 as in `fit`."""
        model, network = self.network_, self.network_.network_.float()
        if not hasattr(self, "_optimizer"):
            self._optimizer = torch.optim.Adam(network.parameters(), fused=True)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        network.requires_grad_()
        for batch in train.batches(min(self.batch_size, len(train)), shuffle=self._rng):
            associate_(network, model.rules(train.classes), batch)
            self._optimizer.step()
        network.zero_grad()
        network.requires_grad_(False).double()

    def _see(self, rows: NDArray[Any], *, first: bool) -> None:
        """Mean and standard deviation of the columns, of these rows and all before (Chan et al. 1983)."""
        seen, mean, variance = (0, 0.0, 0.0) if first else self._moments
        total = seen + len(rows)
        delta, new = rows.mean(0) - mean, len(rows) / total
        variance = (1 - new) * variance + new * rows.var(0) + new * (1 - new) * delta**2
        self._moments = total, mean + new * delta, variance
        self.low_, self.span_ = self._moments[1], np.where(variance > 0, np.sqrt(variance), 1)

    def _extent(self, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        self.__dict__.pop("_optimizer", None)
        self._moments = len(rows), rows.mean(0), rows.var(0)
        return rows.mean(0), rows.std(0)

    def _scaled(self, rows: NDArray[Any]) -> Tensor:
        scaled = torch.tensor((rows - self.low_) / self.span_)
        return torch.cat([scaled, torch.ones_like(scaled[:, :1])], 1)

    def _model(self, rows: int) -> AssociationClassifier:
        hidden = (self.n_units,) if isinstance(self.n_units, int) else tuple(self.n_units)
        training = AssociationTraining(self.epochs, self.batch_size, self.learning_rate, min_steps=self.min_steps)
        return AssociationClassifier(hidden, k=self.k, slope=self.slope, training=training)
