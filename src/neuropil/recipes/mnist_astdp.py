"""aSTDP on MNIST: teacher events of one step, numerical derivatives set the targets; beside its baselines.

Our reconstruction from the abstract of Li 2022 (arXiv 2206.14137). All else is as in `mnist_mstdp`.

Measured: test, n = 3, mean and 95 % interval: 98.68 +- 0.05 %, 0.09 +- 0.13 below mnist_mstdp of the same seeds with a
third of the teacher steps. The baselines are the same: backprop 98.76 +- 0.17, random features 94.52 +- 0.41,
linear 92.67 +- 0.07.

Try: neuropil run mnist_astdp --seeds 3 --out runs/mnist_astdp
"""

from dataclasses import dataclass

from neuropil.experiments.associative import OneStep, associative_comparison, save_and_score
from neuropil.experiments.associative import revive as revive
from neuropil.experiments.comparison import Comparison, run_comparison
from neuropil.recipes import mnist_mstdp
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(OneStep, mnist_mstdp.Config):
    """Chosen on 10,000 images held out of the training part."""


def comparison(config: Config) -> Comparison:
    """Who takes part, on what."""
    return associative_comparison("mnist", config)


def main(config: Config, run: Run) -> None:
    """One seed of the network and its baselines."""
    run_comparison(comparison(config), (), run, after=save_and_score(config))
