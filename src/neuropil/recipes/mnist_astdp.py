"""aSTDP on MNIST: teacher events of one step, numerical derivatives set the targets; beside its twins.

Our reconstruction from the abstract of Li 2022 (arXiv 2206.14137). All else is as in `mnist_mstdp`.

Measured: not at full size yet.

Try: neuropil run mnist_astdp --seeds 3 --out runs/mnist_astdp
"""

from dataclasses import dataclass

from neuropil.recipes import mnist_mstdp
from neuropil.recipes._associative import OneStep, beside_twins
from neuropil.recipes._associative import revive as revive
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(OneStep, mnist_mstdp.Config):
    """Chosen on 10,000 images held out of the training part."""


def main(config: Config, run: Run) -> None:
    """One seed of the network and its twins."""
    beside_twins("mnist", config, run)
