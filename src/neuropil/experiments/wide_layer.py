"""One wide layer of kernels on normalised, whitened patches: alone, or beside a deep network."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import nn

from neuropil.data import Split
from neuropil.models import Beside, LocalLearning, MirrorMean, PatchNormConv2d, SignedPower, stacked
from neuropil.models.description import layers_of
from neuropil.models.nn.convolution import Stack, convolutions
from neuropil.plasticity import SignedWTA


def wide_layer(
    train: Split, units: int, kernel: int, act: nn.Module, pool: nn.Module, *, stride: int, floor: float, seed: int,
    name: str = "conv",
) -> nn.Sequential:  # fmt: skip
    """``conv1``, ``act1``, ``pool1``: kernels on patches, and what is made of their drive.

    Args:
        train: images, on whose device it is made.
        units: kernels.
        kernel, stride: side of a kernel and distance between its positions, pixels.
        act, pool: what is made of the drive, and of that.
        floor: of the whitening, see `PatchNormConv2d.whiten_`; 0 for no whitening.
        seed: of the patches by which is whitened.
        name: in place of ``conv``.
    """
    conv = PatchNormConv2d(train.x.shape[1], units, kernel, stride).to(train.x.device)
    if floor:
        conv.whiten_(train, torch.Generator().manual_seed(seed), floor=floor)
    return stacked({name: conv, "act": act, "pool": pool})


def learning_of(layer: nn.Sequential) -> LocalLearning:
    """How the kernels of a wide layer learn, by a signed winner-take-all, where a recipe has no settings for that.

    Chosen on held-out images, see docs/results/wide.md.
    """
    rules = {name: SignedWTA(average=True) for name in convolutions(layer)}
    return LocalLearning(rules, epochs=2, batch=100, lr=0.1, patch_fraction=0.02)


def wide_and_deep(
    deep: nn.Sequential, wide: Mapping[str, nn.Sequential], *, lower: int = 0, mirror: bool = False
) -> nn.Sequential:
    """Wide layers, by name, and a deep network that look at the same images; without wide layers the deep one alone.

    Of what wide layers pool the square root is taken. With `mirror` features are means over an image and its mirror
    image, before that. So many layers of the deep network below its last, as `lower` says, give features as well.
    """
    mirrored: Callable[[nn.Sequential], nn.Sequential] = lambda one: MirrorMean(one) if mirror else one
    beside = {name: nn.Sequential(mirrored(one), SignedPower(0.5)) for name, one in wide.items()}
    depth = len(convolutions(deep))
    for layer in range(depth - lower, depth):
        beside[f"layer{layer}"] = mirrored(up_to(deep, layer))
    return Beside(OrderedDict[str, nn.Module](beside, deep=mirrored(deep))) if beside else mirrored(deep)


def up_to(deep: nn.Sequential, layer: int) -> Stack:
    """The same layers up to ``pool`` of the named depth, and averages over two by two of what that gives."""
    names = list(layers_of(deep))
    below = {name: deep.get_submodule(name) for name in names[: names.index(f"pool{layer}") + 1]}
    return Stack(OrderedDict[str, nn.Module](below, mean=nn.AvgPool2d(2, ceil_mode=True)))


def stacks_of(body: nn.Sequential) -> list[nn.Sequential]:
    """The wide layers, then the deep network, in what `wide_and_deep` makes of them."""
    found = [part for part in body.modules() if isinstance(part, Stack)]
    return [part for part in found if "mean" not in layers_of(part)]
