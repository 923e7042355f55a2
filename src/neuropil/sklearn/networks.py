"""Classifiers that are networks of neuropil: what they share; STDP, exact spike times."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from neuropil.associative import CLASSIFY, GENERATE, AssociativeNetwork, AssociativeTraining, Settling
from neuropil.data import Split
from neuropil.errors import enough_memory, require
from neuropil.models import SpikeTimeTraining, SpikingClassifier
from neuropil.sklearn.checks import Passes, check_numbers, check_rows, generator
from neuropil.spiking import LatencyEncoding, Theta


class NetworkClassifier(ClassifierMixin, BaseEstimator, ABC):
    """What the three share: every column is scaled, a network learns in float32, and its scores become probabilities.

    Probabilities are a softmax of the scores times one number. It makes the labels of the training examples as likely
    as can be. Guo et al. 2017 (ICML) choose it on examples that were held out.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    min_steps: int
    random_state: Any
    verbose: int
    classes_: NDArray[Any]
    network_: Any
    low_: NDArray[Any]
    span_: NDArray[Any]

    @abstractmethod
    def _model(self, rows: int) -> Any:
        """The model, not fitted, for so many examples."""

    def _extent(self, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(what becomes 0, how much becomes 1) in every column."""
        return rows.min(0), np.ptp(rows, 0)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from the rows of X (n, features) and their classes y (n,) of any kind."""
        rows, labels = check_rows(self, X, y, reset=True)
        check_classification_targets(labels)
        self._check_training()
        self.classes_, indices = np.unique(labels, return_inverse=True)
        require(len(self.classes_) > 1, f"{type(self).__name__} needs two classes or more, got one class.")
        self.low_, span = self._extent(rows)
        self.span_ = np.where(span > 0, span, 1)
        train = Split(self._scaled(rows).float(), torch.tensor(indices), len(self.classes_))
        with enough_memory():
            model = self._model(len(rows)).fit(train, rng=generator(self.random_state), tracker=Passes(self))
        for part in ("net_", "network_"):
            if part in vars(model):
                getattr(model, part).double()  # so that no row depends on the others by rounding
        self.network_ = model
        return self._calibrated(rows, indices)

    def _calibrated(self, rows: NDArray[Any], indices: NDArray[Any]) -> Self:
        """With the temperature at which the classes of these rows are likeliest."""
        self._inverse_temperature = 1.0
        self._inverse_temperature = likeliest(self._scores(rows), indices)
        return self

    def _check_training(self) -> None:
        check_numbers(self, epochs=1, batch_size=1, min_steps=1)
        require(self.learning_rate > 0, f"{type(self).__name__} needs learning_rate > 0, got {self.learning_rate!r}.")

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of every row, (n,)."""
        scores = self._checked_scores(X)
        found: NDArray[Any] = self.classes_[scores.argmax(1)]
        return found

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """The probability of every class of `classes_`, (n, classes)."""
        found: NDArray[Any] = softmax(self._checked_scores(X), axis=1)
        return found

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """The score of every class, (n, classes); of two classes that of the second less that of the first, (n,)."""
        scores = self._checked_scores(X)
        return scores if len(self.classes_) > 2 else scores[:, 1] - scores[:, 0]

    def _checked_scores(self, x: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        return self._scores(check_rows(self, x, reset=False))

    def _scores(self, rows: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = self.network_.decision_function(self._scaled(rows)).numpy()
        return found * self._inverse_temperature

    def _scaled(self, rows: NDArray[Any]) -> Tensor:
        """Rows as the network meets them: 0 to 1 in the range of the training data, cut off beyond."""
        return torch.tensor(np.clip((rows - self.low_) / self.span_, 0, 1))


def likeliest(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """The factor of `scores` (n, classes), from 0.01 to 100 of their spread, with which `labels` are likeliest."""
    unit = scores / (scores.std() or 1)
    loss = lambda t: -log_softmax(np.exp(t) * unit, 1)[np.arange(len(labels)), labels].mean()
    best = minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded").x
    return float(np.exp(best) / (scores.std() or 1))


class STDPNetworkClassifier(NetworkClassifier):
    """One network of STDP synapses that classifies rows, generates rows of a class and fills in missing entries.

    See `neuropil.AssociativeNetwork`. Columns are scaled to 0 to 1 first, and cut off beyond the training data.

    Args:
        n_units: units that classify.
        n_generation_units: units that generate and fill in; 0 for a network that only classifies.
        epochs: passes over the examples.
        batch_size: examples in a step.
        learning_rate: of synapses onto units that classify; the others have theirs in proportion.
        min_steps: fewest steps; a small data set gets as many more passes as this takes.
        random_state: seed of first weights, order and masks.
        verbose: 1 prints a line for each pass.

    Attributes:
        classes_: the labels, sorted.
        network_: the fitted model of neuropil.
        low_, span_: least value and range of every column.

    Raises:
        ValueError: what scikit-learn refuses; settings that cannot be.

    Examples:
        >>> from neuropil.sklearn import STDPNetworkClassifier
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> model = STDPNetworkClassifier(64, n_generation_units=32, min_steps=200, random_state=0).fit(X, y)
        >>> model.score(X, y) > 0.95
        True
        >>> model.sample([0, 0, 2], random_state=0).shape
        (3, 13)
    """

    def __init__(
        self, n_units: int = 128, *, n_generation_units: int = 64, epochs: int = 30, batch_size: int = 50,
        learning_rate: float = 3e-3, min_steps: int = 500, random_state: Any = None, verbose: int = 0,
    ):  # fmt: skip
        self.n_units, self.n_generation_units = n_units, n_generation_units
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.min_steps, self.random_state, self.verbose = min_steps, random_state, verbose

    def sample(self, y: ArrayLike, *, random_state: Any = None) -> NDArray[Any]:
        """One row for each of the classes `y` (n,), as the network generates them: (n, features)."""
        check_is_fitted(self)
        nothing = np.full((len(np.asarray(y)), self.n_features_in_), np.nan)
        return self._filled(nothing, y, generator(random_state))

    def complete(self, X: ArrayLike, y: ArrayLike | None = None, *, random_state: Any = None) -> NDArray[Any]:
        """Rows with their missing entries, NaN in X (n, features), filled in; the others stay as they are.

        Args:
            X: rows.
            y: their classes; without, the network settles on one by itself.
            random_state: makes the entries a sample; without, they are what the network expects, a mean.
        """
        check_is_fitted(self)
        rows = check_rows(self, X, reset=False, nan=True)
        return self._filled(rows, y, None if random_state is None else generator(random_state))

    def _filled(self, rows: NDArray[Any], y: ArrayLike | None, rng: Generator | None) -> NDArray[Any]:
        require(self.n_generation_units > 0, "n_generation_units=0 makes a network that fills nothing in; set it.")
        known, labels = ~np.isnan(rows), None
        if y is not None:
            classes = np.asarray(y)
            require(
                bool(np.isin(classes, self.classes_).all()), f"the network knows classes {self.classes_}, got others."
            )
            labels = torch.tensor(np.searchsorted(self.classes_, classes))
        scaled = self._scaled(np.where(known, rows, self.low_))
        filled = self.network_.complete(scaled, torch.tensor(known), labels=labels, rng=rng).numpy()
        found: NDArray[Any] = np.where(known, rows, filled * self.span_ + self.low_)
        return found

    def _model(self, rows: int) -> AssociativeNetwork:
        check_numbers(self, n_units=1, n_generation_units=0)
        rate, tasks = self.learning_rate, (CLASSIFY, GENERATE) if self.n_generation_units else (CLASSIFY,)
        rates = {"classification": rate, "label": 3 * rate, "generation": rate / 2, "pixels": 3 * rate}
        training = AssociativeTraining(
            tasks, epochs=self.epochs, batch=self.batch_size, learning_rates=rates, min_steps=self.min_steps
        )
        settling = Settling(4, step_size=1.0, check_every=2)
        return AssociativeNetwork((self.n_units,), self.n_generation_units, settling=settling, training=training)


class SpikeTimeClassifier(NetworkClassifier):
    """A layer of spiking neurons trained by exact gradients of spike times; the output that fires first is the class.

    See `neuropil.SpikingClassifier`. Columns are scaled to 0 to 1 first, and cut off beyond the training data. Every
    column is two inputs: one spikes earlier the larger the entry, the other the smaller. Other settings are as in the
    recipe `mnist_theta_best`. The first fit on a machine compiles kernels, for half a minute or more.

    Args:
        n_units: hidden neurons.
        epochs: passes over the examples.
        batch_size: examples in a step.
        learning_rate: first one, falls to 0.
        min_steps: fewest steps; a small data set gets as many more passes as this takes.
        random_state: seed of first weights and order.
        verbose: 1 prints a line for each pass.

    Attributes:
        classes_: the labels, sorted.
        network_: the fitted model of neuropil.
        low_, span_: least value and range of every column.

    Raises:
        ValueError: what scikit-learn refuses; settings that cannot be.

    Examples:
        >>> from neuropil.sklearn import SpikeTimeClassifier
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> SpikeTimeClassifier(20, learning_rate=0.02, min_steps=100, random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    def __init__(
        self, n_units: int = 100, *, epochs: int = 20, batch_size: int = 50, learning_rate: float = 5e-3,
        min_steps: int = 500, random_state: Any = None, verbose: int = 0,
    ):  # fmt: skip
        self.n_units, self.epochs, self.batch_size, self.learning_rate = n_units, epochs, batch_size, learning_rate
        self.min_steps, self.random_state, self.verbose = min_steps, random_state, verbose

    def _scaled(self, rows: NDArray[Any]) -> Tensor:
        scaled = super()._scaled(rows)
        return torch.cat([scaled, 1 - scaled], 1)

    def _model(self, rows: int) -> SpikingClassifier:
        check_numbers(self, n_units=1)
        steps = (self.epochs, self.batch_size, self.learning_rate)
        training = SpikeTimeTraining(
            *steps, lr_time_constant=None, flip_probability=0.0, inverse_temperature=3.0, late_weight=0.1, margin=0.1,
            clip=0.5, min_steps=self.min_steps,
        )  # fmt: skip
        encode, neuron = LatencyEncoding(levels=8), Theta(drive=1.75)
        return SpikingClassifier((self.n_units,), encode=encode, neuron=neuron, t_end=2.5, training=training)
