"""mSTDP on 8x8 digits: one network of STDP synapses names, draws and completes, beside its baselines.

Our reconstruction from the abstract of Li 2019 (arXiv 1912.00009).

Measured: test, mean and 95 % interval over 5 splits: 98.27 +- 0.57 % (backprop of the same layer with the same
distortions 99.00 +- 0.72, random features 97.83 +- 0.62, linear 96.10 +- 0.55).

Try: neuropil run digits_mstdp --seed 5 --seeds 5 --out runs/digits_mstdp
"""

from dataclasses import dataclass

from neuropil.experiments.associative import Settings, associative_comparison, save_and_score
from neuropil.experiments.associative import revive as revive
from neuropil.experiments.comparison import Comparison, run_comparison
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(Settings):
    """Chosen on images held out of the training part."""

    naming: tuple[int, ...] = (256,)
    """hidden units between pixels and label; the hidden layers of backprop and of random features too"""
    drawing: int = 128
    """hidden units that draw; 0 learns to name only"""
    parts: int = 128
    """hidden units that name images of which a part is missing; 0 for none"""
    names: int = 1
    """naming trials with a whole image for each drawing trial"""
    epochs: int = 50
    """passes over the images"""
    batch: int = 50
    """images in a trial"""
    naming_rate: float = 3e-3
    """learning rate of the synapses onto the naming units"""
    label_rate: float = 1e-2
    """learning rate of the synapses onto the label"""
    pixel_rate: float = 1e-2
    """learning rate of the synapses onto the pixels"""
    decay: float = 0.95
    """factor of the rates from epoch to epoch"""
    gain: float = 1.0
    """spread of the first weights onto units that name, in units of Glorot's"""
    turn: float = 8.0
    """when labels are taught, images are turned by up to so many degrees, for backprop too"""
    scale: float = 0.05
    """and scaled and sheared by up to such a share"""
    shift: float = 0.5
    """and shifted by up to so many pixels"""
    teach: int = 3
    """steps of a teacher event"""
    backprop_epochs: int = 50
    """passes of backprop over the images"""


def comparison(config: Config) -> Comparison:
    """Who takes part, on what."""
    return associative_comparison("digits", config)


def main(config: Config, run: Run) -> None:
    """One seed of the network and its baselines."""
    run_comparison(comparison(config), (), run, after=save_and_score(config))
