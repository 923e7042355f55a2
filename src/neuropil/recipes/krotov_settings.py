"""How the settings of mnist_krotov and fashion_krotov were chosen: one change at a time, on held-out training images.

The test set is never read. Every row of the table is the chosen setting with one change, for the local learner, for
backprop and for random features.

Measured: see docs/results/mnist_krotov.md and docs/results/fashion_krotov.md.

Group: searches. Minutes: 90. Data: mnist, fashion_mnist.

Try: neuropil run krotov_settings --data mnist --out runs/krotov_settings
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from neuropil.data import hold_out
from neuropil.experiments.comparison import data_splits
from neuropil.experiments.krotov import Settings, backprop, krotov_hopfield, random_features
from neuropil.experiments.machine import Machine
from neuropil.experiments.selection import Candidate, judge_candidates
from neuropil.runs import Run

CHANGES: dict[Any, list[dict[str, Any]]] = {
    krotov_hopfield: [
        {},
        {"k": 2},
        {"k": 20},
        {"delta": 0.0},
        {"delta": 0.2},
        {"delta": 0.6},
        {"lr": 0.1},
        {"epochs": 2},
        {"epochs": 12},
        {"n": 1.0},
        {"n": 3.0},
        {"smoothing": 0.0},
        {"decay": 1.0},
        {"readout_epochs": 20},
        {"readout_lr": 2e-3},
    ],
    backprop: [
        {},
        {"std_backprop": 0.1},
        {"std_backprop": 0.02},
        {"backprop_lr": 1e-3},
        {"backprop_lr": 4e-3},
        {"backprop_epochs": 20},
        {"n_backprop": 1.0},
        {"smoothing": 0.0},
        {"decay": 0.1},
    ],
    random_features: [{}, {"n_random": 2.0}, {"decay_random": 0.0}, {"decay_random": 0.3}],
}


@dataclass(frozen=True)
class Config(Machine):
    """What to choose settings for."""

    data: Literal["mnist", "fashion_mnist"] = "mnist"
    """data set"""
    seed: int = 0
    """of the weights and of the held-out part"""
    share: float = 1 / 6
    """of the training images that is held out"""
    units: int = 2000
    """hidden units"""
    n_train: int = 0
    """use only that many training images; 0 for all"""


def main(config: Config, run: Run) -> None:
    """Fit every candidate on the rest, judge it on the held-out part."""
    train, _ = data_splits(config.data, config.n_train, config.seed, device=config.device)
    rest, held = hold_out(train, config.share, config.seed)
    chosen = Settings(units=config.units, seed=config.seed)
    candidates = [
        Candidate(build.__name__, change, partial(build, replace(chosen, **change)))
        for build, changes in CHANGES.items()
        for change in changes
    ]
    judge_candidates(candidates, rest, held, seed=config.seed, run=run)
