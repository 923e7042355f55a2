"""A convolution that learns by Krotov-Hopfield beside its baselines: what `mnist_conv_krotov` and its like set up."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.experiments.comparison import Build, Comparison, single_seed
from neuropil.experiments.convolutional import (
    Settings,
    backprop,
    chosen,
    copied,
    draw_kernels,
    end_to_end,
    frozen,
    linear,
    local,
    readout,
)
from neuropil.models import LocalLearning, PatchNormConv2d, Triangle, init_patches_, stacked
from neuropil.models.training.augment import Augment
from neuropil.plasticity import KrotovHopfield

POOLS: Mapping[str, type[nn.Module]] = {"average": nn.AdaptiveAvgPool2d, "max": nn.AdaptiveMaxPool2d}


@dataclass(frozen=True)
class KrotovSettings(Settings):
    """What a convolutional Krotov-Hopfield experiment can be told."""

    kernels: int = 400
    """kernels of every learner that has them"""
    kernel: int = 5
    """side of a kernel, pixels"""
    whiten: float = 0.0
    """floor of the whitening of patches, see `PatchNormConv2d.whiten_`; 0 for patches as they are"""
    pool: Literal["average", "max"] = "average"
    """what is kept of the activity of a kernel in a place"""
    grid: int = 4
    """side of the grid of places"""
    n: float = 1.0
    """power of the triangle activation of learned features and random patches"""
    n_random: float = 1.0
    """the same for random features"""
    n_backprop: float = 1.0
    """the same for backprop"""
    backprop_epochs: int = 6
    """passes of backprop over the images"""
    k: int = 7
    """rank of the unit that unlearns"""
    delta: float = 0.4
    """strength of unlearning"""
    lr: float = 0.3
    """first learning rate of the kernels, falls linearly to 0"""
    epochs: int = 2
    """passes over the images, without labels"""
    batch: int = 100
    """images in a step of the kernels"""
    share: float = 0.02
    """of the patches of each image that the kernels learn from"""

    def __post_init__(self) -> None:
        at_least(1, self, "kernels", "kernel", "grid")


def one_layer(settings: KrotovSettings, n: float, train: Split) -> nn.Sequential:
    """Normalised patches, `kernels` kernels, triangle to the power `n`, one number for each kernel and place."""
    conv = PatchNormConv2d(train.x.shape[1], settings.kernels, settings.kernel)
    if settings.whiten:
        conv.to(train.x.device).whiten_(train, Generator().manual_seed(settings.seed), floor=settings.whiten)
    return stacked({"conv": conv, "act": Triangle(n), "pool": POOLS[settings.pool](settings.grid)})


def learning(settings: KrotovSettings) -> LocalLearning:
    """The winner of a patch moves towards it, the k-th away from it; patches are a random share of all."""
    rule = KrotovHopfield(p=2, k=settings.k, delta=settings.delta, average=True)
    return LocalLearning(
        {"conv1": rule}, epochs=settings.epochs, batch=settings.batch, lr=settings.lr, patch_fraction=settings.share
    )


def all_methods(settings: KrotovSettings, augment: Augment, copy: Augment) -> dict[str, Build]:
    """The local learner and its baselines.

    Where heads see copies of the images, altered by `copy`, backprop sees images altered by `augment`, afresh in every
    pass.
    """
    body = lambda n: partial(one_layer, settings, n)
    head, seen, name = readout(settings), copied(settings, copy), "Krotov-Hopfield"
    return {
        name: local(name, body(settings.n), init_patches_, learning(settings), head, copies=seen),
        "backprop": backprop(body(settings.n_backprop), end_to_end(settings, augment if seen.augment else None)),
        "random patches": frozen("random patches", body(settings.n), init_patches_, head, copies=seen),
        "random features": frozen("random features", body(settings.n_random), draw_kernels, head, copies=seen),
        "linear": linear(settings.linear_lr),
    }


def conv_krotov_comparison(data: str, settings: KrotovSettings, *, augment: Augment, copy: Augment) -> Comparison:
    """Everybody on `data`, or who is named in the settings, one seed; `augment` and `copy` as for `all_methods`."""
    builds = chosen(all_methods(settings, augment, copy), settings.learners)
    return single_seed(builds, data, settings.seed, settings.n_train, device=settings.device)
