"""Local methods beside their baselines on one data set: accuracy with intervals, labels needed, cost, robustness.

Each method has a file in `neuropil/experiments/methods`, whose name is its short name. With `--attack` every trained
model is attacked, corrupted and damaged as well; checks for gradient masking say which curves are invalid.

Measured: digits, n = 5, 95 % interval, correct under all attacks of Linf 0.1: hard WTA 77.3 +- 2.9 %, Krotov-Hopfield
69.3 +- 4.2, plain linear 50.2 +- 2.1, backprop 28.6 +- 2.8; see docs/results/robustness.md.

Group: start here. Minutes: 8. Data: any.

Try: neuropil compare --data digits --seeds 5 --out demo

Try: neuropil compare --data photos/ --learners ./mine.py backprop linear

Try: neuropil compare --data digits --attack --out runs/robustness_digits
"""

from dataclasses import dataclass
from typing import ClassVar

from neuropil.errors import at_least
from neuropil.experiments.comparison import Comparison, plan_on
from neuropil.experiments.methods import builders
from neuropil.experiments.robustness import Attacks, run_seeds
from neuropil.experiments.settings import ComparisonSettings
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(Attacks, ComparisonSettings):
    """Settings of the comparison; the methods' own settings are in their files."""

    shares: ClassVar[bool] = True
    data: str = "digits"  # data set, by name (`neuropil data list`), or data of your own: a path
    # independent repetitions; each has its own weights, order of examples and, without an official test set, split
    seeds: int = 5
    seed: int = 0  # first seed
    units: int = 300  # hidden units of every method that has them
    # numbers of labels for the sample-efficiency curves; those too few or too many for the training set are left out
    labels: tuple[int, ...] = (20, 50, 100, 300)
    attack: bool = False  # also attack, corrupt and damage every trained model, and report it

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, self, "seeds")
        at_least(10, self, "units")


def comparison(config: Config) -> Comparison:
    """The methods and their data."""
    builds = builders(config.learners, config.units)
    seeds = range(config.seed, config.seed + config.seeds)
    return plan_on(config.data, config.n_train, seeds, builds, config.device)


def main(config: Config, run: Run) -> None:
    """Train, score and, if asked, attack all methods, seed by seed."""
    run_seeds(comparison(config), config.labels, run, attacks=config if config.attack else None)
