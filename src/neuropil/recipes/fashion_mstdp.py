"""mSTDP on Fashion-MNIST: the network of `mnist_mstdp` on clothes, beside its twins.

Our reconstruction from the abstract of Li 2019 (arXiv 1912.00009).

Measured: not yet.

Try: neuropil run fashion_mstdp --out runs/fashion_mstdp
"""

from dataclasses import dataclass

from neuropil.recipes import mnist_mstdp
from neuropil.recipes._associative import beside_twins
from neuropil.recipes._associative import revive as revive
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(mnist_mstdp.Config):
    """Chosen on 10,000 images held out of the training part."""


def main(config: Config, run: Run) -> None:
    """One seed of the network and its twins."""
    beside_twins("fashion_mnist", config, run)
