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
from neuropil.experiments.selection import Candidate, score_candidates
from neuropil.experiments.settings import ComparisonSettings
from neuropil.runs import Run

Experiment = Literal["mnist_krotov", "fashion_krotov", "mnist_conv_krotov", "fashion_conv_krotov", "cifar_krotov"]
Tried = dict[str, dict[str, tuple[Any, ...]]]  # for each method and each of its settings, the values besides the chosen
SHAPES: dict[str, tuple[Any, ...]] = {"kernel": (5, 7, 9), "grid": (5, 6), "pool": ("average", "max")}
DENSE: Tried = {
    "krotov_hopfield": {
        "k": (2, 20), "delta": (0.0, 0.2, 0.6), "lr": (0.1,), "epochs": (2, 12), "power": (1.0, 3.0),
        "smoothing": (0.0,), "weight_decay": (1.0,), "readout_epochs": (20,), "readout_lr": (2e-3,),
    },
    "backprop": {
        "backprop_init_std": (0.1, 0.02), "backprop_lr": (1e-3, 4e-3), "backprop_epochs": (20,),
        "backprop_power": (1.0,), "smoothing": (0.0,), "backprop_weight_decay": (0.1,),
    },
    "random_features": {"random_power": (2.0,), "random_weight_decay": (0.0, 0.3)},
}  # fmt: skip
CONVOLUTIONAL: Tried = {
    "krotov_hopfield": {
        "delta": (0.0, 0.2, 0.6), "k": (2,), "patch_fraction": (0.002, 0.1, 1.0), "epochs": (1,), **SHAPES,
        "power": (0.7, 2.0), "whitening_floor": (0.0, 0.1),
        "weight_decay": (1.0,), "readout_lr": (1e-3,), "n_augmented": (1,),
    },
    "backprop": {"backprop_lr": (1e-4, 3e-4, 1e-3, 4e-3), "backprop_epochs": (2, 12), "backprop_power": (2.0,)},
    "random_patches": {},
    "k_means": {},
    "random_features": {**SHAPES, "random_power": (0.7, 2.0)},
    "linear": {},
}  # fmt: skip
TRIED = {"mnist_krotov": DENSE, "mnist_conv_krotov": CONVOLUTIONAL}
WIDTH = {"mnist_krotov": "units", "mnist_conv_krotov": "kernels"}


@dataclass(frozen=True)
class Config(ComparisonSettings):
    """What to choose settings for."""

    experiment: Experiment = "mnist_krotov"  # recipe, or variant of a recipe, whose settings are changed
    changes: int = 0  # try only that many changes of each method; 0 for all
    width: int = 0  # hidden units or kernels of every method that has them; 0 for as many as the recipe has
    holdout_fraction: float = 1 / 6  # fraction of the training images that is held out
    label_fraction: float = 0.01  # fraction of the labels with which every candidate is scored once more

    def __post_init__(self) -> None:
        at_least(0, self, "changes", "width", "n_train", "label_fraction")


def main(config: Config, run: Run) -> None:
    """Fit every candidate on the rest, score it on the held-out images."""
    rows = tomllib.loads((resources.files("neuropil.recipes") / "variants.toml").read_text(encoding="utf-8"))
    row = rows.get(config.experiment, {"base": config.experiment, "words": ""})
    recipe, tried, width = import_module(f"neuropil.recipes.{row['base']}"), TRIED[row["base"]], WIDTH[row["base"]]
    chosen = tyro.cli(recipe.Config, args=shlex.split(row["words"]))
    chosen = replace(chosen, seed=config.seed, **({width: config.width} if config.width else {}))
    candidates = [
        Candidate(
            name, change, replace(chosen, learners=(name,), **change).plan(recipe.METHODS, chosen.data).builds[name]
        )
        for name in select({name: name for name in tried}, config.learners)
        for change in changes(tried[name])[: config.changes or None]
    ]
    train, _ = data_splits(chosen.data, config.n_train, config.seed, device=config.device)
    rest, held = hold_out(train, config.holdout_fraction, config.seed)
    labels = [round(config.label_fraction * len(rest))] if config.label_fraction else []
    score_candidates(candidates, rest, held, seed=config.seed, labels=labels, run=run)


def changes(tried: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """No change, then one value of one setting at a time."""
    return [{}, *({name: value} for name, values in tried.items() for value in values)]
