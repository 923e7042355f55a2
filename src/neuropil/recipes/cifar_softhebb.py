"""Three layers of convolutional SoftHebb on CIFAR-10, beside backprop, frozen random features and a linear classifier.

In every layer the kernels at a position compete softly: the update is Hebbian for the winner, anti-Hebbian for the
others. All layers learn at once, in a single pass over the images, without labels. Then the kernels are frozen, and a
linear readout learns the labels.
Journe et al. 2023 (ICLR), "Hebbian Deep Learning Without Feedback".

Measured: test, n = 3, mean and 95 % interval: 75.20 +- 0.65 % (51.4 +- 2.0 with 500 labels); random features
68.50 +- 0.37, backprop with six passes 76.78 +- 0.61 (two passes 66.6 +- 4.9), linear 39.6 +- 1.7.
The published width: 81.89 +- 0.71 % (58.0 +- 2.5 with 500 labels), in 23 minutes on one core of a processor; random
features 75.32 +- 0.56.

Group: Hebbian features. Minutes: 30. Data: cifar10, mnist.

Try: neuropil run cifar_softhebb --seeds 3 --out runs/cifar_softhebb
Try: neuropil run cifar_softhebb --channels 96 384 1536 --readout-lr 3e-4 --learners soft_hebb
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Generator, nn

from neuropil.data import Split
from neuropil.distributed.stages import learn_pass_, stage_of
from neuropil.errors import at_least, require
from neuropil.experiments.baselines import backprop, methods
from neuropil.experiments.comparison import Method, run_comparison
from neuropil.experiments.k_means import SWEEPS, init_centres_, init_whitened_
from neuropil.experiments.self_taught import SelfTaught
from neuropil.experiments.settings import AUGMENT, SHIFT, AugmentedSettings
from neuropil.experiments.wide_layer import learning_of, stacks_of, wide_and_deep, wide_layer
from neuropil.models import (
    BandedRidge,
    Beside,
    CReLU,
    FeatureClassifier,
    RidgeRegression,
    SignedStep,
    Triangle,
    gather_statistics_,
    init_kernels_,
    init_patches_,
    rate_by_norm,
    stacked,
)
from neuropil.models.features import Learning
from neuropil.models.training.local import log_progress
from neuropil.plasticity import SoftHebb, propose_, tap
from neuropil.plasticity.joint import joined
from neuropil.runs import Run, Tracker

POOLED = 5  # side of the squares, three positions apart, over which wide layers average


@dataclass(frozen=True)
class Config(AugmentedSettings):
    """Chosen on images held out of the training images; see docs/results/softhebb.md.

    Tuples hold a number for every layer, from below.
    """

    layered: ClassVar[bool] = True
    data: str = "cifar10"  # data set: cifar10, mnist; or images of your own, by path
    channels: tuple[int, ...] = (24, 96, 384)  # kernels of each layer
    kernels: tuple[int, ...] = (5, 3, 3)  # sides of the kernels, pixels; odd
    tau: tuple[float, ...] = (1.0, 1.54, 4.0)  # temperatures of the competition
    lr: tuple[float, ...] = (0.08, 0.005, 0.01)  # learning rates of the layers, for a kernel whose norm is far from 1
    # power of |1 - norm| by which the learning rate of a kernel falls as its norm gets near 1
    norm_lr_power: float = 0.5
    init_norm: float = 25.0  # norm of the first kernels
    batch: int = 10  # images in a step of the kernels
    epochs: int = 1  # passes of the kernels over the images, without labels
    max_images: int = 0  # use only that many images for these passes; 0 for all
    power: tuple[float, ...] = (0.7, 1.4, 1.0)  # powers of the triangle activation of learned and of random features
    # floor of the whitening of random patches and of k-means, see `init_whitened_`; 0 for patches as they are
    whitening_floor: float = 4.0
    # powers of the activation of backprop; below 1 the gradient is infinite where a kernel falls silent
    backprop_power: tuple[float, ...] = (1.0, 1.0, 1.0)
    # numbers of labels for the sample-efficiency curves; those not below the training set are left out
    labels: tuple[int, ...] = (500, 5000)
    weight_decay: float = 3.0  # weight decay of the readouts
    # penalty of readouts that are ridge regression, in closed form; 0 for softmax regression by gradient descent
    ridge: float = 0.0
    mirror: bool = False  # features are means over an image and its mirror image; not those of backprop
    # kernels of each side in wide layers of whitened patches, which look at the same images; 0 for none
    beside: int = 0
    beside_kernels: tuple[int, ...] = (6,)  # sides of the kernels of the wide layers, pixels
    lower: int = 0  # how many layers below the last give features as well, to readouts by ridge regression
    # shares of wide layers, of lower layers and of the last one, see `BandedRidge`; all alike if none is named
    band_shares: tuple[float, ...] = ()
    # what `BandedRidge` multiplies; bfloat16 takes less time where the processor has units for it
    precision: Literal["float32", "bfloat16"] = "float32"
    # how often readouts of few labels learn from their own answers, see `SelfTaught`; not those of backprop and linear
    self_taught_rounds: int = 0
    n_augmented: int = 1  # augmented copies of every labelled image from which readouts learn besides the image
    backprop_epochs: int = 6  # passes of backprop over the examples
    backprop_batch: int = 20  # examples in a step of backprop
    backprop_lr: float = 5e-4  # first learning rate of backprop, falls linearly to 0
    backprop_min_steps: int = 400  # fewest steps of backprop, where labels are few

    def __post_init__(self) -> None:
        at_least(1, self, "channels", "kernels")
        at_least(0, self, "init_norm", "whitening_floor", "self_taught_rounds", "ridge", "beside", "lower")
        names = ("channels", "kernels", "tau", "lr", "power", "backprop_power")
        numbers = {name: len(getattr(self, name)) for name in names}
        alike = len(set(numbers.values())) == 1
        require(alike, f"SoftHebb needs one setting for every layer, got numbers of {numbers}.")
        require(min(self.tau) > 0, f"SoftHebb needs temperatures tau > 0, got {self.tau}.")
        require(all(k % 2 for k in self.kernels), f"SoftHebb needs odd kernels, got {self.kernels}.")
        if self.beside or self.lower:
            self._check_bands()

    def _check_bands(self) -> None:
        banded = self.ridge > 0 and self.n_augmented == self.min_examples == self.self_taught_rounds == 0
        needed = "ridge above 0, n_augmented=0, min_examples=0 and self_taught_rounds=0"
        require(banded, f"wide or lower layers beside the last one need {needed}; --mirror is in place of copies.")
        at_least(1, self, "beside_kernels")
        depth = len(self.channels)
        require(self.lower < depth, f"{depth} layers have at most {depth - 1} below the last, got lower={self.lower}.")
        parts = 1 + self.lower + len(self.beside_kernels) * (self.beside > 0)
        fine = len(self.band_shares) in (0, parts) and all(share > 0 for share in self.band_shares)
        require(fine, f"band_shares needs {parts} numbers > 0, or none, got {self.band_shares}.")


def network_for(
    config: Config, train: Split, rng: Generator, powers: Sequence[float], init_norm: float = 1.0
) -> nn.Sequential:
    """Per layer: batch normalisation, convolution, triangle activation, pooling; the last layer pools by averages.

    Where the last has an odd number of positions, as on 28 x 28 pixels, those at the border are averaged as well.
    Kernels start at random, with norms of about `init_norm`; the statistics of the normalisation are those of `train`.
    """
    depth, channels = len(config.channels), (train.x.shape[1], *config.channels)
    stages: list[dict[str, nn.Module]] = []
    for k, (kernel, power) in enumerate(zip(config.kernels, powers)):
        size = {"padding": kernel // 2, "padding_mode": "reflect"}
        conv = nn.Conv2d(channels[k], channels[k + 1], kernel, bias=False, **size)  # type: ignore[arg-type]
        pool = nn.AvgPool2d(2, ceil_mode=True) if k == depth - 1 else nn.MaxPool2d(4, 2, 1)
        norm = nn.BatchNorm2d(channels[k], affine=False)
        stages.append({"norm": norm, "conv": conv, "act": Triangle(power), "pool": pool})
    network = stacked(*stages).to(train.x.device)
    init_kernels_(network, rng, scale=init_norm)
    gather_statistics_(network, train)
    return network


@dataclass(frozen=True)
class SoftCompetition:
    """How the kernels learn: all layers at once, from one forward pass."""

    config: Config

    def fit_(self, network: nn.Sequential, train: Split, *, rng: Generator, tracker: Tracker) -> None:
        """Let the convolutions of `network` learn from the images of `train`, in place."""
        train = train[: self.config.max_images or len(train)]
        *wide, deep = stacks_of(network)
        self._fit_deep(deep, train, rng, tracker)
        for one in wide:
            learning_of(one).fit_(one, train, rng=rng, tracker=tracker)

    def _fit_deep(self, network: nn.Sequential, train: Split, rng: Generator, tracker: Tracker) -> None:
        config = self.config
        names = [f"conv{depth}" for depth in range(1, len(config.channels) + 1)]
        rules = {name: SoftHebb(tau=tau, anti=True, normalise=True) for name, tau in zip(names, config.tau)}
        weights = [network.get_parameter(f"{name}.weight") for name in names]
        optimizer = torch.optim.SGD([{"params": [weight], "lr": lr} for weight, lr in zip(weights, config.lr)])
        rate_by_norm(optimizer, config.norm_lr_power)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=config.epochs)
        network.train()
        below = cast(nn.Sequential, network[:-2])  # up to the last convolution
        state: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        size = min(config.batch, len(train))
        stage = stage_of(below, rules, (train[:size].pixels(), train.y[:size]))
        for epoch in tracker.loop(f"features {' + '.join(names)}", config.epochs, **state):
            before = [weight.detach().clone() for weight in weights]
            if stage is None:
                self._pass(below, rules, train, optimizer, rng)
            else:
                learn_pass_(stage, train.batches(size, shuffle=rng), optimizer)
            schedule.step()
            for name, weight in zip(names, before):
                log_progress(tracker, network, name, train, epoch=epoch, before=weight)

    @torch.no_grad()
    def _pass(
        self, below: nn.Sequential, rules: dict[str, SoftHebb], train: Split, optimizer: torch.optim.Optimizer,
        rng: Generator,
    ) -> None:  # fmt: skip
        """Every layer learns from the same forward pass of each batch."""
        with joined(below) as part:
            for images in train.batches(min(self.config.batch, len(train)), shuffle=rng):
                with tap(below, rules) as seen:
                    below(part(images.x))
                for name, rule in rules.items():
                    conv = below.get_submodule(name)
                    propose_(conv, rule(conv, *seen[name]))
                optimizer.step()


def wide_layers(
    config: Config, train: Split, init_: Callable[[nn.Sequential], None], *, steps: bool = True
) -> dict[str, nn.Sequential]:
    """The wide layers beside the deep network by the sides of their kernels; without steps they have gradients."""
    made = {}
    for side in config.beside_kernels if config.beside else ():
        code, name = SignedStep(0.1) if steps else CReLU(threshold=0.1), f"conv{side}x"
        how = {"stride": 1, "floor": 0.1, "seed": config.seed, "name": name}
        one = wide_layer(train, config.beside, side, code, nn.AvgPool2d(POOLED, 3), **how)  # type: ignore[arg-type]
        made[f"{side}x{side}"] = one
        init_(one)
    return made


def with_readout(
    config: Config, deep: nn.Sequential, wide: dict[str, nn.Sequential], name: str, learning: Learning | None = None
) -> Method:
    """Kernels that learn by `learning`, or stay as they are, under a readout that may teach itself."""
    body, copies = wide_and_deep(deep, wide, lower=config.lower, mirror=config.mirror), config.copies(config.data)
    readout: Any = RidgeRegression((config.ridge,)) if config.ridge else config.readout()
    if config.beside or config.lower:
        readout = BandedRidge(config.band_shares, (config.ridge,), precision=config.precision)
    learner = FeatureClassifier(body, learning=learning, readout=readout, **copies)
    if config.self_taught_rounds:
        learner = SelfTaught(learner, config.self_taught_rounds)
    return Method(name, "local" if learning else "baseline", learner, norm=2.0 if learning else None)


def soft_hebb(config: Config, train: Split, rng: Generator) -> Method:
    """Kernels that start with a large norm and learn without labels; those of wide layers by a signed winner-take-all.

    https://arxiv.org/abs/2209.11883
    """
    network = network_for(config, train, rng, config.power, config.init_norm)
    wide = wide_layers(config, train, lambda one: init_patches_(one, train, rng))
    return with_readout(config, network, wide, "SoftHebb", SoftCompetition(config))


def end_to_end(config: Config, train: Split, rng: Generator) -> Method:
    """The same architecture, trained with backpropagation on augmented images.

    https://doi.org/10.1038/323533a0
    """
    network = network_for(config, train, rng, config.backprop_power)
    wide = wide_layers(config, train, lambda one: init_kernels_(one, rng), steps=False)
    body = Beside(*wide.values(), network) if wide else network
    return backprop(body, config.end_to_end(config.backprop_min_steps, AUGMENT.get(config.data, SHIFT)))


def random_patches(config: Config, train: Split, rng: Generator) -> Method:
    """The same architecture with random patches as kernels, each as its layer meets it, whitened, frozen.

    https://proceedings.mlr.press/v15/coates11a.html
    """
    network = network_for(config, train, rng, config.power)
    if config.whitening_floor:
        init_whitened_(network, train, rng, floor=config.whitening_floor)
    else:
        init_patches_(network, train, rng)
    wide = wide_layers(config, train, lambda one: init_patches_(one, train, rng))
    return with_readout(config, network, wide, "random patches")


def k_means(config: Config, train: Split, rng: Generator) -> Method:
    """The same architecture with centres of k-means as kernels, of patches as their layer meets them, whitened.

    https://proceedings.mlr.press/v15/coates11a.html
    """
    network = network_for(config, train, rng, config.power)
    if config.whitening_floor:
        init_whitened_(network, train, rng, floor=config.whitening_floor, sweeps=SWEEPS)
    else:
        init_centres_(network, train, rng)
    wide = wide_layers(config, train, lambda one: init_centres_(one, train, rng))
    return with_readout(config, network, wide, "k-means")


def random_features(config: Config, train: Split, rng: Generator) -> Method:
    """The same architecture with its first kernels, frozen.

    https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
    """
    network = network_for(config, train, rng, config.power, config.init_norm)
    wide = wide_layers(config, train, lambda one: init_kernels_(one, rng))
    return with_readout(config, network, wide, "random features")


METHODS = methods(soft_hebb, random_patches, k_means, random_features, backprop=end_to_end)


def main(config: Config, run: Run) -> None:
    """Train all methods with one seed, score them on the test images, log everything.

    `plan` loads the data and hands the training images to each of the methods above. `run_comparison` fits what they
    return, scores its `predict` once on the test images, and logs and saves it, then does so with fewer labels.
    """
    least = max(config.beside_kernels) + POOLED if config.beside else 8
    run_comparison(config.plan(METHODS, config.data, min_side=least), config.labels, run)
