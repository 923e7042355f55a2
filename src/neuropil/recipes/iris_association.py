"""The association rule on the three pairs of iris species, each a task of its own, beside its baselines.

Every seed is another split. Our reconstruction from the abstract of Gupta 2020 (arXiv 2011.12012), which speaks of
iris.

Measured: 98.08 +- 0.58 % (n = 20, mean of the three pairs); backprop 97.92 +- 0.75, linear 97.75 +- 0.68, the plain
rule 97.67 +- 0.82, random features 92.33 +- 1.25.

Group: start here. Minutes: 1. Data: iris.

Try: neuropil run iris_association --seeds 20 --out runs/iris_association
"""

from dataclasses import dataclass

from neuropil.experiments.comparison import Comparison, data_splits
from neuropil.experiments.pairs import PairSettings, run_pair_comparisons, tasks
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(PairSettings):
    """Small networks on four lengths; chosen on held-out parts of the training examples."""

    hidden: tuple[int, ...] = (20, 20)
    """neurons of each layer; backprop and random features have the same and a linear head on top"""
    columns: tuple[int, ...] = (1, 1)
    """into how many columns each layer is cut; neurons compete within theirs"""
    field: int = 0
    """there is no image"""
    k: int = 3
    """how many neurons win among the associated, and among the others"""
    strongest: int = 10
    """how many neurons send"""
    slope: float = 8.0
    """of the neurons' answers"""
    norm: bool = False
    """lengths of flowers mean something"""
    batch: int = 20
    """label events in a step"""
    lr: float = 1e-2
    """first learning rate of the association rule, falls linearly to 0"""
    backprop_batch: int = 20
    """examples in a step of backprop"""
    backprop_lr: float = 3e-3
    """first learning rate of backprop, falls linearly to 0"""
    plain_lr: float = 3e-2
    """first learning rate of the plain rule"""
    steps: int = 400
    """fewest steps of every learner"""


def comparison(config: Config) -> list[Comparison]:
    """Who takes part, on each pair."""
    return tasks("iris", *data_splits("iris", 0, config.seed, device=config.device), config)


def main(config: Config, run: Run) -> None:
    """One seed, and so one split."""
    run_pair_comparisons("iris", *data_splits("iris", 0, config.seed, device=config.device), config, run)
