"""One wide layer of kernels on normalised, whitened patches: alone, or beside a deep network."""

import torch
from torch import nn

from neuropil.data import Split
from neuropil.models import LocalLearning, PatchNormConv2d, stacked
from neuropil.plasticity import SignedWTA

LEARNING = LocalLearning({"conv1": SignedWTA(average=True)}, epochs=2, batch=100, lr=0.1, patch_fraction=0.02)
"""How its kernels learn where a recipe has no settings for that; chosen on held-out images, docs/results/wide.md."""


def wide_layer(
    train: Split, units: int, kernel: int, act: nn.Module, *, stride: int, floor: float, grid: int, seed: int
) -> nn.Sequential:
    """``conv1``, ``act1``, ``pool1``: patches of `train`, what is made of the drive, averages on a grid.

    Args:
        train: images, on whose device it is made.
        units: kernels.
        kernel, stride: side of a kernel and distance between its positions, pixels.
        act: what is made of the drive.
        floor: of the whitening, see `PatchNormConv2d.whiten_`; 0 for no whitening.
        grid: side of the grid, cells.
        seed: of the patches by which is whitened.
    """
    conv = PatchNormConv2d(train.x.shape[1], units, kernel, stride).to(train.x.device)
    if floor:
        conv.whiten_(train, torch.Generator().manual_seed(seed), floor=floor)
    return stacked({"conv": conv, "act": act, "pool": nn.AdaptiveAvgPool2d(grid)})
