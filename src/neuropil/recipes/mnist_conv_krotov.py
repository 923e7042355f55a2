"""400 kernels of 5x5 that learn by Krotov-Hopfield on all of MNIST, beside backprop, frozen and linear twins.

Measured (--kernels 32, n = 3, 95 % interval): 98.55 +- 0.14 %; backprop 98.91 +- 0.17,
random features 98.28 +- 0.49.
400 kernels, one seed: 99.19 learned, 99.19 random. See docs/results/conv_krotov.md.

Try: neuropil run mnist_conv_krotov --seeds 3 --out runs/mnist_conv_krotov
"""

from dataclasses import dataclass
from typing import Literal

from neuropil.learners import Distort
from neuropil.recipes._conv_krotov import KrotovSettings, conv_krotov_comparison
from neuropil.recipes._twins import Comparison, beside_twins
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(KrotovSettings):
    """Chosen on images held out of the training images; see docs/results/conv_krotov.md."""

    pool: Literal["average", "max"] = "max"
    """what is kept of the activity of a kernel in a place"""


def comparison(config: Config) -> Comparison:
    """Who takes part, on what."""
    distort = Distort(turn=10, scale=0.1, shear=0.1, shift=1.5)
    return conv_krotov_comparison("mnist", config, augment=distort, copy=distort)


def main(config: Config, run: Run) -> None:
    """One seed."""
    beside_twins(comparison(config), config.labels, run)
