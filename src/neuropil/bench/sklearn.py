"""How estimators classify small data sets of scikit-learn, beside a logistic regression and units that do not learn.

Cross-validation with default settings after a `StandardScaler`; each seed shuffles the folds anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuropil.errors import at_least, unknown
from neuropil.report.stats import interval
from neuropil.sklearn import (
    AssociationRuleClassifier,
    HebbianClassifier,
    SpikeTimeClassifier,
    STDPNetworkClassifier,
)

CAPTION = """
Accuracy, %, mean and 95 % interval over {seeds} shuffles of the folds; start: the same units, learning_rate=0.
"""
DATA = {"iris": load_iris, "wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
PARTS = 15  # batches of a model that sees each row once


class OnePass(ClassifierMixin, BaseEstimator):
    """`partial_fit` of a model on one batch after the other, each row once."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, x: Any, y: Any) -> "OnePass":
        """See all rows once."""
        self.classes_ = np.unique(y)
        for part in np.array_split(np.arange(len(x)), PARTS):
            self.model.partial_fit(x[part], y[part], classes=self.classes_)
        return self

    def predict(self, x: Any) -> Any:
        """Classes of rows."""
        return self.model.predict(x)


MODELS: dict[str, Callable[[int], Any]] = {
    "logistic regression": lambda seed: LogisticRegression(max_iter=1000),
    "start": lambda seed: HebbianClassifier(learning_rate=0, random_state=seed),
    "Hebbian": lambda seed: HebbianClassifier(random_state=seed),
    "features alone": lambda seed: HebbianClassifier(passthrough=False, random_state=seed),
    "association rule": lambda seed: AssociationRuleClassifier(random_state=seed),
    "STDP network": lambda seed: STDPNetworkClassifier(random_state=seed),
    "spike times": lambda seed: SpikeTimeClassifier(random_state=seed),
    "SGD, one pass": lambda seed: OnePass(SGDClassifier(loss="log_loss", random_state=seed)),
    "Hebbian, one pass": lambda seed: OnePass(HebbianClassifier(random_state=seed)),
    "association rule, one pass": lambda seed: OnePass(AssociationRuleClassifier(random_state=seed)),
}
FIRST = tuple(MODELS)[:3]


@dataclass(frozen=True)
class Config:
    """What to measure."""

    seeds: int = 5  # shuffles of the folds
    folds: int = 5  # of each shuffle; 1 for one test set with a fifth of the rows
    models: tuple[str, ...] = FIRST  # those compared
    data: tuple[str, ...] = tuple(DATA)  # data sets

    def __post_init__(self) -> None:
        at_least(1, self, "seeds", "folds")
        for kind, names, known in (("model", self.models, list(MODELS)), ("data set", self.data, list(DATA))):
            for name in names:
                if name not in known:
                    raise unknown(kind, name, known)


def main(config: Config) -> list[dict[str, Any]]:
    """One row per data set: the accuracies of each model by seed, in [0, 1]."""
    rows = []
    for data in config.data:
        x, y = DATA[data](return_X_y=True)
        row: dict[str, Any] = {"data": data, "seeds": config.seeds, **{name: [] for name in config.models}}
        for seed in range(config.seeds):
            whole = StratifiedKFold(max(config.folds, 2), shuffle=True, random_state=seed)
            folds = whole if config.folds > 1 else StratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
            for name in config.models:
                scores = cross_val_score(make_pipeline(StandardScaler(), MODELS[name](seed)), x, y, cv=folds)
                row[name].append(float(scores.mean()))
        rows.append(row)
    return rows


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    shown = {"data": row["data"]}
    models = [name for name in MODELS if name in row]
    for name in models:
        shown[name] = "{:.2f} ± {:.2f}".format(*interval(100 * value for value in row[name]))
    pairs = [(models[-1], other) for other in models[:-1]] if models[-1] == "Hebbian" else []
    pairs = pairs or [(ours, models[0]) for ours in models[1:]]
    for ours, other in pairs:
        less = interval(100 * (one - two) for one, two in zip(row[ours], row[other]))
        who = "" if ours == "Hebbian" else f"{ours} "
        shown[f"{who}minus {other}"] = "{:+.2f} ± {:.2f}".format(*less)
    return shown
