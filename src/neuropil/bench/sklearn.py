"""How estimators classify small data sets of scikit-learn, beside a logistic regression and units that do not learn.

Five-fold cross-validation with default settings after a `StandardScaler`; each seed shuffles the folds anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuropil.errors import at_least
from neuropil.report.stats import interval
from neuropil.sklearn import HebbianClassifier

CAPTION = """
Accuracy, %, mean and 95 % interval over {seeds} shuffles of five folds; start: the same units, learning_rate=0.
"""
DATA = {"wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
MODELS: dict[str, Callable[[int], Any]] = {
    "logistic regression": lambda seed: LogisticRegression(max_iter=1000),
    "start": lambda seed: HebbianClassifier(learning_rate=0, random_state=seed),
    "Hebbian": lambda seed: HebbianClassifier(random_state=seed),
}


@dataclass(frozen=True)
class Config:
    """What to measure."""

    seeds: int = 5  # shuffles of the folds

    def __post_init__(self) -> None:
        at_least(1, self, "seeds")


def main(config: Config) -> list[dict[str, Any]]:
    """One row per data set: the accuracies of each model by seed, in [0, 1]."""
    rows = []
    for data, load in DATA.items():
        x, y = load(return_X_y=True)
        row: dict[str, Any] = {"data": data, "seeds": config.seeds, **{name: [] for name in MODELS}}
        for seed in range(config.seeds):
            folds = StratifiedKFold(5, shuffle=True, random_state=seed)
            for name, make in MODELS.items():
                scores = cross_val_score(make_pipeline(StandardScaler(), make(seed)), x, y, cv=folds)
                row[name].append(float(scores.mean()))
        rows.append(row)
    return rows


def cells(row: dict[str, Any]) -> dict[str, str]:
    """What a row shows in a terminal; the rest is in the JSON."""
    shown = {"data": row["data"]}
    for name in MODELS:
        shown[name] = "{:.2f} ± {:.2f}".format(*interval(100 * value for value in row[name]))
    for name in list(MODELS)[:2]:
        less = interval(100 * (ours - other) for ours, other in zip(row["Hebbian"], row[name]))
        shown[f"minus {name}"] = "{:+.2f} ± {:.2f}".format(*less)
    return shown
