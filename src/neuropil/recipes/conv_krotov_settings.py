"""How the settings of mnist_conv_krotov and its like were chosen, and where learned beats random.

One change at a time, on held-out training images; the test set is never read. Every row is judged with all labels and
with 1 % of them.

Measured: see docs/results/conv_krotov.md.

Group: searches. Minutes: 90. Data: mnist, fashion_mnist, cifar10.

Try: neuropil run conv_krotov_settings --data mnist --n-train 12000 --out runs/conv_krotov_settings
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from neuropil.data import hold_out
from neuropil.errors import at_least, unknown
from neuropil.experiments.comparison import data_splits
from neuropil.experiments.machine import Machine
from neuropil.experiments.selection import Candidate, judge_candidates
from neuropil.recipes import cifar_krotov, fashion_conv_krotov, mnist_conv_krotov
from neuropil.runs import Run

RECIPES: dict[str, Any] = {"mnist": mnist_conv_krotov, "fashion_mnist": fashion_conv_krotov, "cifar10": cifar_krotov}
SHARE = 100  # of the labels, one in that many is given once more
SHAPES: list[dict[str, Any]] = [
    {"kernel": 5},
    {"kernel": 7},
    {"kernel": 9},
    {"grid": 5},
    {"grid": 6},
    {"pool": "average"},
    {"pool": "max"},
]
CHANGES: dict[str, list[dict[str, Any]]] = {
    "Krotov-Hopfield": [
        {},
        {"delta": 0.0},
        {"delta": 0.2},
        {"delta": 0.6},
        {"k": 2},
        {"share": 0.002},
        {"share": 0.1},
        {"share": 1.0},
        {"epochs": 1},
        *SHAPES,
        {"n": 0.7},
        {"n": 2.0},
        {"whiten": 0.0},
        {"whiten": 0.1},
        {"decay": 1.0},
        {"readout_lr": 1e-3},
        {"copies": 1},
    ],
    "backprop": [
        {},
        {"backprop_lr": 1e-4},
        {"backprop_lr": 3e-4},
        {"backprop_lr": 1e-3},
        {"backprop_lr": 4e-3},
        {"backprop_epochs": 2},
        {"backprop_epochs": 12},
        {"n_backprop": 2.0},
    ],
    "random patches": [{}],
    "random features": [{}, *SHAPES, {"n_random": 0.7}, {"n_random": 2.0}],
    "linear": [{}],
}


@dataclass(frozen=True)
class Config(Machine):
    """What to choose settings for."""

    data: Literal["mnist", "fashion_mnist", "cifar10"] = "mnist"
    """data set"""
    seed: int = 0
    """of the weights and of the held-out part"""
    held: float = 1 / 6
    """share of the training images that is held out"""
    kernels: int = 0
    """kernels of every learner that has them; 0 for as many as the recipe has"""
    n_train: int = 0
    """use only that many training images; 0 for all"""
    learners: tuple[str, ...] = tuple(CHANGES)
    """whose settings to change"""

    def __post_init__(self) -> None:
        at_least(0, self, "kernels", "n_train")
        for name in self.learners:
            if name not in CHANGES:
                raise unknown("learner", name, CHANGES)


def main(config: Config, run: Run) -> None:
    """Fit every candidate on the rest, judge it on the held-out part."""
    train, _ = data_splits(config.data, config.n_train, config.seed, device=config.device)
    rest, held = hold_out(train, config.held, config.seed)
    recipe = RECIPES[config.data]
    chosen = recipe.Config(seed=config.seed)
    chosen = replace(chosen, kernels=config.kernels or chosen.kernels)
    build = lambda name, change: recipe.comparison(replace(chosen, learners=(name,), **change)).builds[0]
    candidates = [Candidate(name, change, build(name, change)) for name in config.learners for change in CHANGES[name]]
    judge_candidates(candidates, rest, held, seed=config.seed, labels=(len(rest) // SHARE,), run=run)
