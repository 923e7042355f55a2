"""One wide layer on whitened patches of CIFAR-10: four local rules beside k-means and random patches of the same width.

All methods have the same architecture and the same readout, ridge regression in closed form. What differs is where the
kernels come from. A signed winner-take-all, Krotov-Hopfield, SoftHebb or a plain winner-take-all learn them without
labels. K-means and random patches are the baselines that such features have to beat.
Coates, Lee & Ng 2011 (AISTATS); Thiry et al. 2021 (ICLR), whose kernels are random patches.

Measured: n = 5, 95 % interval, 200 kernels, 10,000 images: signed winner-take-all 66.91 +- 0.40 %, Krotov-Hopfield
66.47 +- 0.35, SoftHebb 66.22 +- 0.17, winner-take-all 65.48 +- 0.31, k-means 66.21 +- 0.14, random patches
64.83 +- 0.31, random features 60.35 +- 0.56, backprop 64.71 +- 0.20, linear 38.09 +- 0.41.

Group: Hebbian features. Minutes: 20. Data: cifar10, fashion_mnist, mnist.

Try: neuropil run cifar_wide --n-train 10000 --seeds 5
Try: neuropil run cifar_wide --learners signed_wta k_means random_patches --units 400
"""

from dataclasses import dataclass
from typing import Literal

from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.experiments.baselines import backprop, methods
from neuropil.experiments.comparison import Method, run_comparison
from neuropil.experiments.k_means import init_centres_
from neuropil.experiments.settings import BackpropSettings
from neuropil.experiments.wide_layer import wide_layer
from neuropil.models import (
    CReLU,
    FeatureClassifier,
    LocalLearning,
    RidgeRegression,
    SignedPower,
    SignedStep,
    Triangle,
    init_kernels_,
    init_patches_,
)
from neuropil.plasticity import HardWTA, KrotovHopfield, Rule, SignedWTA, SoftHebb
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(BackpropSettings):
    """Chosen on images held out of the training images; see docs/results/wide.md."""

    data: str = "cifar10"  # data set: cifar10, fashion_mnist, mnist; or images of your own, by path
    units: int = 200  # kernels of every method that has them
    kernel: int = 6  # side of a kernel, pixels
    stride: int = 2  # pixels between positions of a kernel
    whitening_floor: float = 0.1  # floor of the whitening of patches, see `PatchNormConv2d.whiten_`; 0 for no whitening
    # what is pooled of an answer: both its signs, each for itself; whether it is there, by sign; or what is above the
    # mean of all kernels
    code: Literal["both signs", "steps", "triangle"] = "both signs"
    threshold: float = 0.1  # what an answer has to exceed to count, with both signs and with steps
    grid: int = 3  # side of the grid over which answers are averaged, cells
    power: float = 0.5  # power of these averages; below 1 it evens them out
    epochs: int = 2  # passes of the kernels over the images, without labels
    batch: int = 100  # images in a step of the kernels
    patch_fraction: float = 0.02  # fraction of the patches of each image from which the kernels learn
    lr: float = 0.1  # first learning rate of a kernel for the patches that it won, falls linearly to 0
    tau: float = 0.025  # temperature of SoftHebb
    k: int = 7  # rank of the kernel that moves away from the patch under Krotov-Hopfield
    delta: float = 0.4  # how far that kernel moves, relative to the winner
    # penalties of the readouts to choose from, on a fifth of the labelled examples
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    # numbers of labels for the sample-efficiency curves; those not below the training set are left out
    labels: tuple[int, ...] = (500, 5000)
    backprop_epochs: int = 6  # passes of backprop over the examples
    backprop_batch: int = 20  # examples in a step of backprop
    backprop_lr: float = 5e-4  # first learning rate of backprop, falls linearly to 0
    backprop_min_steps: int = 400  # fewest steps of backprop, where labels are few

    def __post_init__(self) -> None:
        at_least(1, self, "units", "kernel", "stride", "grid")


def network_for(config: Config, train: Split, *, power: float | None = None) -> nn.Sequential:
    """Convolution on normalised, whitened patches; the code; averages on a grid."""
    codes = {"both signs": CReLU(threshold=config.threshold), "steps": SignedStep(config.threshold)}
    code = codes.get(config.code, Triangle())
    pool, floor = nn.AdaptiveAvgPool2d(config.grid), config.whitening_floor
    how = {"stride": config.stride, "floor": floor, "seed": config.seed}
    network = wide_layer(train, config.units, config.kernel, code, pool, **how)  # type: ignore[arg-type]
    power = config.power if power is None else power
    if power != 1:
        network.add_module("power1", SignedPower(power))
    return network


def with_readout(
    config: Config, name: str, network: nn.Sequential, rule: Rule | None = None, lr: float = 1.0
) -> Method:
    """Kernels that learn by `rule`, or stay as they are, under ridge regression."""
    learning = None
    if rule is not None:
        fraction = config.patch_fraction
        learning = LocalLearning({"conv1": rule}, config.epochs, config.batch, lr, patch_fraction=fraction)
    learner = FeatureClassifier(network, learning=learning, readout=RidgeRegression(config.strengths))
    return Method(name, "local" if rule else "baseline", learner, norm=2.0 if rule else None)


def at_patches(config: Config, train: Split, rng: Generator) -> nn.Sequential:
    """The network with random patches as kernels, where all rules start."""
    network = network_for(config, train)
    init_patches_(network, train, rng)
    return network


def signed_wta(config: Config, train: Split, rng: Generator) -> Method:
    """The kernel that answers a patch most strongly, by either sign, learns from it by Oja's rule.

    https://doi.org/10.1007/BF00275687
    """
    rule = SignedWTA(average=True)
    return with_readout(config, "signed winner-take-all", at_patches(config, train, rng), rule, config.lr)


def hard_wta(config: Config, train: Split, rng: Generator) -> Method:
    """The kernel nearest to a patch moves towards it.

    https://doi.org/10.1007/BF00344744
    """
    rule = HardWTA(average=True)
    return with_readout(config, "winner-take-all", at_patches(config, train, rng), rule, config.lr)


def krotov_hopfield(config: Config, train: Split, rng: Generator) -> Method:
    """The kernel nearest to a patch moves towards it, the k-th moves away.

    https://doi.org/10.1073/pnas.1820458116
    """
    rule = KrotovHopfield(p=2, k=config.k, delta=config.delta, average=True)
    return with_readout(config, "Krotov-Hopfield", at_patches(config, train, rng), rule, config.lr)


def soft_hebb(config: Config, train: Split, rng: Generator) -> Method:
    """Kernels compete softly; each moves towards a patch by its share.

    https://arxiv.org/abs/2209.11883
    """
    rate = config.units * config.lr
    return with_readout(config, "SoftHebb", at_patches(config, train, rng), SoftHebb(tau=config.tau), rate)


def k_means(config: Config, train: Split, rng: Generator) -> Method:
    """The same architecture with centres of k-means as kernels.

    https://proceedings.mlr.press/v15/coates11a.html
    """
    network = network_for(config, train)
    init_centres_(network, train, rng)
    return with_readout(config, "k-means", network)


def random_patches(config: Config, train: Split, rng: Generator) -> Method:
    """The same architecture with random patches as kernels, frozen: where all rules start.

    https://arxiv.org/abs/2101.07528
    """
    return with_readout(config, "random patches", at_patches(config, train, rng))


def random_features(config: Config, train: Split, rng: Generator) -> Method:
    """The same architecture with kernels from N(0, 1 / fan-in), frozen.

    https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    """
    network = network_for(config, train)
    init_kernels_(network, rng)
    return with_readout(config, "random features", network)


def end_to_end(config: Config, train: Split, rng: Generator) -> Method:
    """The same architecture, trained with backpropagation.

    https://doi.org/10.1038/323533a0
    """
    network = network_for(config, train, power=1.0)  # a root has an infinite gradient at 0
    init_kernels_(network, rng)
    return backprop(network, config.end_to_end(config.backprop_min_steps))


METHODS = methods(
    signed_wta, krotov_hopfield, soft_hebb, hard_wta, k_means, random_patches, random_features, backprop=end_to_end
)


def main(config: Config, run: Run) -> None:
    """Train all methods with one seed, score them on the test images, log everything."""
    run_comparison(config.plan(METHODS, config.data, min_side=config.kernel), config.labels, run)
