"""aSTDP on 8x8 digits: teacher events of one step, numerical derivatives set the targets; beside its twins.

Our reconstruction from the abstract of Li 2022 (arXiv 2206.14137). All else is as in `digits_mstdp`.

Measured: test, mean and 95 % interval over 5 splits: 98.05 +- 0.49 % with a third of the teacher steps of digits_mstdp.

Try: neuropil run digits_astdp --seed 5 --seeds 5 --out runs/digits_astdp
"""

from dataclasses import dataclass

import torch

from neuropil.recipes import digits_mstdp
from neuropil.recipes._associative import OneStep, associative_comparison, keep_and_judge
from neuropil.recipes._associative import revive as revive
from neuropil.recipes._twins import Comparison, beside_twins
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(OneStep, digits_mstdp.Config):
    """Chosen on images held out of the training part."""


def comparison(config: Config) -> Comparison:
    """Who takes part, on what."""
    return associative_comparison("digits", config)


def main(config: Config, run: Run) -> None:
    """One seed of the network and its twins."""
    torch.set_num_threads(1)
    beside_twins(comparison(config), (), run, after=keep_and_judge(config))
