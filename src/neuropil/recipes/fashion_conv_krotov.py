"""400 kernels of 5x5 that learn by Krotov-Hopfield on all of Fashion-MNIST, beside backprop, frozen and linear twins.

Try: neuropil run fashion_conv_krotov --seeds 3 --out runs/fashion_conv_krotov
"""

from dataclasses import dataclass

from neuropil.recipes._conv_krotov import KrotovSettings, conv_krotov_comparison
from neuropil.recipes._twins import Comparison, beside_twins
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(KrotovSettings):
    """Chosen on images held out of the training images; see docs/results/conv_krotov.md."""


def comparison(config: Config) -> Comparison:
    """Who takes part, on what."""
    return conv_krotov_comparison("fashion_mnist", config)


def main(config: Config, run: Run) -> None:
    """One seed."""
    beside_twins(comparison(config), config.labels, run)
