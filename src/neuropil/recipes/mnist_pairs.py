"""The association rule on all 45 pairs of MNIST digits, each a task of its own, beside its baselines; the mean counts.

Our reconstruction from the abstract of Gupta 2020 (arXiv 2011.12012), which speaks of binary tasks.

Measured: test, n = 3, mean and 95 % interval of the mean over the pairs: 99.46 +- 0.04 %; backprop 99.52 +- 0.02, the
plain rule 98.60 +- 0.01, linear 98.17 +- 0.01, random features 97.13 +- 0.36.

Group: association. Minutes: 4. Data: mnist.

Try: neuropil run mnist_pairs --seeds 3 --out runs/mnist_pairs
"""

from dataclasses import dataclass

from neuropil.experiments.comparison import Comparison, data_splits
from neuropil.experiments.pairs import PairSettings, run_pair_comparisons, tasks
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(PairSettings):
    """Small networks on few images; chosen on held-out training images of the four hardest pairs."""

    hidden: tuple[int, ...] = (200, 200)
    """neurons of each layer; backprop and random features have the same and a linear head on top"""
    epochs: int = 10
    """passes of the association rule over the examples"""
    lr: float = 2e-2
    """first learning rate of the association rule, falls linearly to 0"""
    plain_epochs: int = 6
    """passes of the plain rule, without competition"""
    backprop_epochs: int = 6
    """passes of backprop over the examples"""
    backprop_batch: int = 100
    """examples in a step of backprop"""
    backprop_lr: float = 1e-3
    """first learning rate of backprop, falls linearly to 0"""
    readout_epochs: int = 6
    """passes of the linear heads over the examples"""
    n_train: int = 4000
    """use only that many training examples of each pair; 0 for all"""


def comparison(config: Config) -> list[Comparison]:
    """Who takes part, on each pair."""
    return tasks("mnist", *data_splits("mnist", 0, config.seed, device=config.device), config)


def main(config: Config, run: Run) -> None:
    """One seed."""
    run_pair_comparisons("mnist", *data_splits("mnist", 0, config.seed, device=config.device), config, run)
