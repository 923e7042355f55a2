"""Deep SoftHebb beside its baselines: the experiment that `mnist_softhebb` and `cifar_softhebb` set up.

Journe et al. 2023 (ICLR), "Hebbian Deep Learning Without Feedback": in every layer the units at a position compete
softly, the winner learns and the losers unlearn, all layers at once, in a single pass over the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import at_least, require
from neuropil.experiments.comparison import Comparison, single_seed
from neuropil.experiments.convolutional import (
    Settings,
    backprop,
    chosen,
    copied,
    end_to_end,
    frozen,
    linear,
    local,
    readout,
)
from neuropil.models import LocalLearning, Triangle, init_kernels_, stacked
from neuropil.models.training.augment import Augment
from neuropil.plasticity import SoftHebb


@dataclass(frozen=True)
class SoftSettings(Settings):
    """What a SoftHebb experiment can be told; tuples hold a number for every layer, from below."""

    channels: tuple[int, ...] = (24, 96, 384)
    """units at a position"""
    kernels: tuple[int, ...] = (5, 3, 3)
    """sides of the kernels, pixels; odd"""
    tau: tuple[float, ...] = (1.0, 1.54, 4.0)
    """temperatures of the competition"""
    lr: tuple[float, ...] = (0.08, 0.005, 0.01)
    """learning rates, before they fall with the distance of a unit's norm from 1"""
    n: tuple[float, ...] = (0.7, 1.4, 1.0)
    """powers of the triangle activation of learned and of random features"""
    n_backprop: tuple[float, ...] = (1.0, 1.0, 1.0)
    """the same for backprop; below 1 the gradient is infinite where a unit falls silent"""
    norm_rate: float = 0.5
    """power of |1 - norm| in the learning rate of a unit"""
    spread: float = 25.0
    """norm of the first kernels"""
    batch: int = 10
    """images in a step of the kernels"""
    epochs: int = 1
    """passes over the images, without labels"""
    images: int = 0
    """use only that many images for it; 0 for all"""
    readout_lr: float = 1e-3
    """first learning rate of the readouts, falls linearly to 0"""
    backprop_lr: float = 5e-4
    """first learning rate of backprop, falls linearly to 0"""

    def __post_init__(self) -> None:
        at_least(1, self, "channels", "kernels")
        at_least(0, self, "spread")
        lengths = {name: len(getattr(self, name)) for name in ("channels", "kernels", "tau", "lr", "n", "n_backprop")}
        require(
            len(set(lengths.values())) == 1, f"SoftHebb needs one setting for every layer, got numbers of {lengths}."
        )
        require(all(k % 2 for k in self.kernels), f"SoftHebb needs odd kernels, got {self.kernels}.")


def deep(settings: SoftSettings, n: Sequence[float], train: Split) -> nn.Sequential:
    """Per layer: batch normalisation, convolution, triangle to the power `n`, pooling; the last pools by averages.

    Where the last has an odd number of positions, as on 28 x 28 pixels, those at the border are averaged as well.
    """
    depth, channels = len(settings.channels), (train.x.shape[1], *settings.channels)
    stages: list[dict[str, nn.Module]] = []
    for k, (kernel, power) in enumerate(zip(settings.kernels, n)):
        size = {"padding": kernel // 2, "padding_mode": "reflect"}
        conv = nn.Conv2d(channels[k], channels[k + 1], kernel, bias=False, **size)  # type: ignore[arg-type]
        pool = nn.AvgPool2d(2, ceil_mode=True) if k == depth - 1 else nn.MaxPool2d(4, 2, 1)
        norm = nn.BatchNorm2d(channels[k], affine=False)
        stages.append({"norm": norm, "conv": conv, "act": Triangle(power), "pool": pool})
    return stacked(*stages)


def hebbian(settings: SoftSettings) -> LocalLearning:
    """All layers at once, as published."""
    layers = [f"conv{k}" for k in range(1, len(settings.channels) + 1)]
    return LocalLearning(
        {name: SoftHebb(tau=tau, anti=True, normalise=True) for name, tau in zip(layers, settings.tau)},
        epochs=settings.epochs,
        max_images=settings.images,
        batch=settings.batch,
        lr=dict(zip(layers, settings.lr)),
        norm_rate=settings.norm_rate,
        joint=True,
    )


def softhebb_comparison(data: str, settings: SoftSettings, augment: Augment, copy: Augment) -> Comparison:
    """The local learner and its baselines on `data`, one seed.

    `augment` alters the images of backprop, afresh in every pass; `copy` those copies that the heads see.
    """

    def wide(body: nn.Sequential, train: Split, rng: Generator) -> None:
        init_kernels_(body, rng, scale=settings.spread)

    body, head, seen = partial(deep, settings, settings.n), readout(settings), copied(settings, copy)
    all_methods = {
        "SoftHebb": local("SoftHebb", body, wide, hebbian(settings), head, copies=seen),
        "backprop": backprop(partial(deep, settings, settings.n_backprop), end_to_end(settings, augment)),
        "random features": frozen("random features", body, wide, head, copies=seen),
        "linear": linear(settings.linear_lr),
    }
    builds = chosen(all_methods, settings.learners)
    return single_seed(builds, data, settings.seed, settings.n_train, device=settings.device)
