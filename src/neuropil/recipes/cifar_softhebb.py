"""Three layers of convolutional SoftHebb on CIFAR-10, beside backprop, frozen and linear baselines.

Measured: test, n = 3, mean and 95 % interval: 75.20 +- 0.65 % (51.4 +- 2.0 with 500 labels); random features
68.50 +- 0.37, backprop with six passes 76.78 +- 0.61 (two passes 66.6 +- 4.9), linear 39.6 +- 1.7.
The published width: 81.89 +- 0.71 % (58.0 +- 2.5 with 500 labels), in 23 minutes on one core of a processor; random
features 75.32 +- 0.56.

Group: Hebbian features. Minutes: 30. Data: cifar10.

Try: neuropil run cifar_softhebb --seeds 3 --out runs/cifar_softhebb
Try: neuropil run cifar_softhebb --channels 96 384 1536 --readout-lr 3e-4 --learners SoftHebb
"""

from dataclasses import dataclass

from neuropil.experiments.comparison import Comparison, run_comparison
from neuropil.experiments.softhebb import SoftSettings, softhebb_comparison
from neuropil.models import Mirror
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(SoftSettings):
    """Chosen on images held out of the training images; see docs/results/softhebb.md."""

    copies: int = 1
    decay: float = 3.0
    backprop_epochs: int = 6
    labels: tuple[int, ...] = (500, 5000)


def comparison(config: Config) -> Comparison:
    """Who takes part, on what."""
    return softhebb_comparison("cifar10", config, Mirror(), copy=Mirror(1.0))


def main(config: Config, run: Run) -> None:
    """One seed."""
    run_comparison(comparison(config), config.labels, run)
