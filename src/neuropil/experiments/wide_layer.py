"""One wide layer of kernels on normalised, whitened patches: alone, or beside a deep network."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import nn

from neuropil.data import Split
from neuropil.models import Beside, LocalLearning, MirrorMean, PatchNormConv2d, SignedPower, stacked
from neuropil.models.nn.convolution import Stack, convolutions
from neuropil.plasticity import SignedWTA


def wide_layer(
    train: Split, units: int, kernel: int, act: nn.Module, *, stride: int, floor: float, grid: int, seed: int,
    name: str = "conv",
) -> nn.Sequential:  # fmt: skip
    """``conv1``, ``act1``, ``pool1``: patches of `train`, what is made of the drive, averages on a grid.

    Args:
        train: images, on whose device it is made.
        units: kernels.
        kernel, stride: side of a kernel and distance between its positions, pixels.
        act: what is made of the drive.
        floor: of the whitening, see `PatchNormConv2d.whiten_`; 0 for no whitening.
        grid: side of the grid, cells.
        seed: of the patches by which is whitened.
        name: in place of ``conv``.
    """
    conv = PatchNormConv2d(train.x.shape[1], units, kernel, stride).to(train.x.device)
    if floor:
        conv.whiten_(train, torch.Generator().manual_seed(seed), floor=floor)
    return stacked({name: conv, "act": act, "pool": nn.AdaptiveAvgPool2d(grid)})


def learning_of(layer: nn.Sequential) -> LocalLearning:
    """How the kernels of a wide layer learn, by a signed winner-take-all, where a recipe has no settings for that.

    Chosen on held-out images, see docs/results/wide.md.
    """
    rules = {name: SignedWTA(average=True) for name in convolutions(layer)}
    return LocalLearning(rules, epochs=2, batch=100, lr=0.1, patch_fraction=0.02)


def side_by_side(deep: nn.Sequential, wide: Mapping[str, nn.Sequential], *, mirror: bool) -> nn.Sequential:
    """Wide layers, by name, and a deep network that look at the same images; without wide layers the deep one alone.

    Of what wide layers pool the square root is taken. With `mirror` features are means over an image and its mirror
    image, before that.
    """
    mirrored: Callable[[nn.Sequential], nn.Sequential] = lambda one: MirrorMean(one) if mirror else one
    if not wide:
        return mirrored(deep)
    rooted = {name: nn.Sequential(mirrored(one), SignedPower(0.5)) for name, one in wide.items()}
    return Beside(OrderedDict[str, nn.Module](rooted, deep=mirrored(deep)))


def stacks_of(body: nn.Sequential) -> list[nn.Sequential]:
    """The wide layers, then the deep network, in what `side_by_side` makes of them."""
    return [part for part in body.modules() if isinstance(part, Stack)]
