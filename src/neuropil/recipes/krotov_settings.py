"""How the settings of the Krotov-Hopfield recipes were chosen: one change at a time, on held-out training images.

The test set is never read. Every row of the table is the recipe with one change, scored with all labels and with one
percent of them.

Measured: see docs/results/mnist_krotov.md, docs/results/fashion_krotov.md and docs/results/conv_krotov.md.

Group: searches. Minutes: 90. Data: mnist, fashion_mnist, cifar10.

Try: neuropil run krotov_settings --experiment mnist_krotov --out runs/krotov_settings
Try: neuropil run krotov_settings --experiment mnist_conv_krotov --n-train 12000 --out runs/conv_krotov_settings
"""

import shlex
import tomllib
from dataclasses import dataclass, replace
from importlib import import_module, resources
from typing import Any, Literal

import tyro

from neuropil.data import hold_out
from neuropil.errors import at_least
from neuropil.experiments.comparison import data_splits, select
from neuropil.experiments.machine import Machine
from neuropil.experiments.selection import Candidate, score_candidates
from neuropil.runs import Run

SHAPES: list[dict[str, Any]] = [
    {"kernel": 5},
    {"kernel": 7},
    {"kernel": 9},
    {"grid": 5},
    {"grid": 6},
    {"pool": "average"},
    {"pool": "max"},
]
Experiment = Literal["mnist_krotov", "fashion_krotov", "mnist_conv_krotov", "fashion_conv_krotov", "cifar_krotov"]
Changes = dict[str, list[dict[str, Any]]]
DENSE: Changes = {
    "krotov_hopfield": [
        {},
        {"k": 2},
        {"k": 20},
        {"delta": 0.0},
        {"delta": 0.2},
        {"delta": 0.6},
        {"lr": 0.1},
        {"epochs": 2},
        {"epochs": 12},
        {"power": 1.0},
        {"power": 3.0},
        {"smoothing": 0.0},
        {"weight_decay": 1.0},
        {"readout_epochs": 20},
        {"readout_lr": 2e-3},
    ],
    "backprop": [
        {},
        {"backprop_init_std": 0.1},
        {"backprop_init_std": 0.02},
        {"backprop_lr": 1e-3},
        {"backprop_lr": 4e-3},
        {"backprop_epochs": 20},
        {"backprop_power": 1.0},
        {"smoothing": 0.0},
        {"backprop_weight_decay": 0.1},
    ],
    "random_features": [{}, {"random_power": 2.0}, {"random_weight_decay": 0.0}, {"random_weight_decay": 0.3}],
}
CONVOLUTIONAL: Changes = {
    "krotov_hopfield": [
        {},
        {"delta": 0.0},
        {"delta": 0.2},
        {"delta": 0.6},
        {"k": 2},
        {"patch_fraction": 0.002},
        {"patch_fraction": 0.1},
        {"patch_fraction": 1.0},
        {"epochs": 1},
        *SHAPES,
        {"power": 0.7},
        {"power": 2.0},
        {"whitening_floor": 0.0},
        {"whitening_floor": 0.1},
        {"weight_decay": 1.0},
        {"readout_lr": 1e-3},
        {"n_augmented": 1},
    ],
    "backprop": [
        {},
        {"backprop_lr": 1e-4},
        {"backprop_lr": 3e-4},
        {"backprop_lr": 1e-3},
        {"backprop_lr": 4e-3},
        {"backprop_epochs": 2},
        {"backprop_epochs": 12},
        {"backprop_power": 2.0},
    ],
    "random_patches": [{}],
    "random_features": [{}, *SHAPES, {"random_power": 0.7}, {"random_power": 2.0}],
    "linear": [{}],
}
WIDTH = {"mnist_krotov": "units", "mnist_conv_krotov": "kernels"}
CHANGES = {"mnist_krotov": DENSE, "mnist_conv_krotov": CONVOLUTIONAL}


@dataclass(frozen=True)
class Config(Machine):
    """What to choose settings for."""

    experiment: Literal[
        "mnist_krotov", "fashion_krotov", "mnist_conv_krotov", "fashion_conv_krotov", "cifar_krotov"
    ] = "mnist_krotov"
    """recipe, or variant of a recipe, whose settings are changed"""
    learners: tuple[str, ...] = ()
    """methods whose settings are changed, by short name; all if none is named"""
    changes: int = 0
    """try only that many changes of each method; 0 for all"""
    width: int = 0
    """hidden units or kernels of every method that has them; 0 for as many as the recipe has"""
    seed: int = 0
    """seed of the weights and of the held-out images"""
    holdout_fraction: float = 1 / 6
    """fraction of the training images that is held out"""
    label_fraction: float = 0.01
    """fraction of the labels with which every candidate is scored once more"""
    n_train: int = 0
    """use only that many training images; 0 for all"""

    def __post_init__(self) -> None:
        at_least(0, self, "changes", "width", "n_train", "label_fraction")


def main(config: Config, run: Run) -> None:
    """Fit every candidate on the rest, score it on the held-out images."""
    rows = tomllib.loads((resources.files("neuropil.recipes") / "variants.toml").read_text(encoding="utf-8"))
    row = rows.get(config.experiment, {"base": config.experiment, "words": ""})
    recipe, width = (
        import_module(f"neuropil.recipes.{row['base']}"),
        "units" if "conv" not in row["base"] else "kernels",
    )
    chosen = tyro.cli(recipe.Config, args=shlex.split(row["words"]))
    chosen = replace(chosen, seed=config.seed, **({width: config.width} if config.width else {}))
    known = CHANGES[row["base"]]
    candidates = [
        Candidate(name, change, recipe.comparison(replace(chosen, learners=(name,), **change)).builds[0])
        for name in select({name: name for name in known}, config.learners)
        for change in known[name][: config.changes or None]
    ]
    train, _ = data_splits(chosen.data, config.n_train, config.seed, device=config.device)
    rest, held = hold_out(train, config.holdout_fraction, config.seed)
    labels = [round(config.label_fraction * len(rest))] if config.label_fraction else []
    score_candidates(candidates, rest, held, seed=config.seed, labels=labels, run=run)
