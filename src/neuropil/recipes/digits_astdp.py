"""aSTDP on 8x8 digits: teacher events of one step, numerical derivatives set the targets; beside its baselines.

Our reconstruction from the abstract of Li 2022 (arXiv 2206.14137). All else is as in `digits_mstdp`.

Measured: test, mean and 95 % interval over 5 splits: 98.05 +- 0.49 % with a third of the teacher steps of digits_mstdp.

Try: neuropil run digits_astdp --seed 5 --seeds 5 --out runs/digits_astdp
"""

from dataclasses import dataclass

from neuropil.experiments.associative import OneStep, associative_comparison, save_and_score
from neuropil.experiments.associative import revive as revive
from neuropil.experiments.comparison import Comparison, run_comparison
from neuropil.recipes import digits_mstdp
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(OneStep, digits_mstdp.Config):
    """Chosen on images held out of the training part."""


def comparison(config: Config) -> Comparison:
    """Who takes part, on what."""
    return associative_comparison("digits", config)


def main(config: Config, run: Run) -> None:
    """One seed of the network and its baselines."""
    run_comparison(comparison(config), (), run, after=save_and_score(config))
