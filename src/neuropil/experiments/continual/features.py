"""Features of the first task's images, without its labels: pixels, random, chosen, clustered or learned locally."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import require
from neuropil.experiments.k_means import centres_of
from neuropil.models import (
    CentredUnitNorm,
    LocalLearning,
    PatchNormConv2d,
    Triangle,
    dense_body,
    init_examples_,
    init_kernels_,
    init_normal_,
    init_patches_,
    stacked,
)
from neuropil.models.training.readout import featurise
from neuropil.plasticity import KrotovHopfield, Rule
from neuropil.plasticity.patches import sample_patches
from neuropil.runs import NullTracker

N_PATCHES = 50_000  # that k-means clusters, at most
N_CENTRED = 2000  # images of the first task from which the mean of features comes, at most


@dataclass(frozen=True)
class Architecture:
    """Below the head: a dense layer, or a convolution whose activity is pooled.

    Attributes:
        units: of the dense layer, or kernels.
        kernel: side of a kernel, pixels; 0 for a dense layer.
        stride: pixels from one position of a kernel to the next.
        grid: side of the grid over which activity is pooled, cells.
        maximum: whether a cell has its largest activity, and not the mean.
        whitening_floor: of patches, see `PatchNormConv2d.whiten_`; 0 for none.
    """

    units: int
    kernel: int = 0
    stride: int = 1
    grid: int = 1
    maximum: bool = True
    whitening_floor: float = 0.0

    @property
    def layer(self) -> str:
        """The name of the layer that learns."""
        return "conv1" if self.kernel else "hidden"

    def body(self, first: Split, rng: Generator, *, power: float) -> nn.Sequential:
        """The network below the features, weights not set; `first` gives the mean image, or the whitening."""
        if not self.kernel:
            body = dense_body(first, self.units, n=power)
        else:
            shape = first.x.shape[1:]
            fits = len(shape) == 3 and min(shape[1:]) >= self.kernel
            require(
                fits, f"kernels of side {self.kernel} need images at least as large, got {tuple(shape)}; use dense."
            )
            conv = PatchNormConv2d(shape[0], self.units, self.kernel, self.stride).to(first.x.device)
            if self.whitening_floor:
                conv.whiten_(first, rng, floor=self.whitening_floor)
            pool = (nn.AdaptiveMaxPool2d if self.maximum else nn.AdaptiveAvgPool2d)(self.grid)
            body = stacked({"conv": conv, "act": Triangle(power), "pool": pool})
        return body

    def centred(self, body: nn.Sequential, first: Split) -> nn.Sequential:
        """`body` with features as directions from their mean over some of the first task's images."""
        body.add_module("flat", nn.Flatten())
        features = featurise(body, first[:N_CENTRED])
        body.add_module("direction_of_features", CentredUnitNorm(features.x.shape[1]).to(features.x).fit_(features))
        return body

    def rule(self) -> Rule:
        """What the layer learns by."""
        return KrotovHopfield(p=2.0, k=min(7, self.units), delta=0.4, average=True)


Features = Callable[[Architecture, Split, Generator], nn.Sequential]


def pixels(how: Architecture, first: Split, rng: Generator) -> nn.Sequential:
    """Pixels as they are: a linear model."""
    return how.centred(nn.Sequential(), first)


def random_features(how: Architecture, first: Split, rng: Generator) -> nn.Sequential:
    """Weights from a normal distribution; they see nothing."""
    body = how.body(first, rng, power=1.0)
    if how.kernel:
        init_kernels_(body, rng)
    else:
        init_normal_(body, rng)
    return how.centred(body, first)


def patches(how: Architecture, first: Split, rng: Generator) -> nn.Sequential:
    """Random patches of the first task's images as kernels, or random images as units."""
    return how.centred(_chosen(how, first, rng), first)


@torch.no_grad()
def k_means(how: Architecture, first: Split, rng: Generator) -> nn.Sequential:
    """Centres of 20 sweeps of k-means over the first task's images, or over 50,000 of their patches."""
    body = _chosen(how, first, rng)
    weight = body.get_parameter(f"{how.layer}.weight")
    if how.kernel:
        some = first[torch.randperm(len(first), generator=rng)[:5000].to(first.y.device)]
        x = sample_patches(body.get_submodule(how.layer), some.pixels(), N_PATCHES, rng)
    else:
        x = torch.cat([body[:2](part.x) for part in first.batches(min(1000, len(first)))])
    weight.copy_(centres_of(x, weight.flatten(1), 20).view_as(weight))
    return how.centred(body, first)


def local(how: Architecture, first: Split, rng: Generator) -> nn.Sequential:
    """Random patches or images that then learn by Krotov-Hopfield, in one pass over the first task's images."""
    body, fraction = _chosen(how, first, rng), 0.1 if how.kernel else 1.0
    learning = LocalLearning({how.layer: how.rule()}, epochs=1, batch=100, lr=0.1, patch_fraction=fraction)
    learning.fit_(body, first, rng=rng, tracker=NullTracker())
    return how.centred(body, first)


def _chosen(how: Architecture, first: Split, rng: Generator) -> nn.Sequential:
    """Examples or patches as weights, below the features."""
    body = how.body(first, rng, power=1.0 if how.kernel else 2.0)
    if how.kernel:
        init_patches_(body, first, rng)
    else:
        init_examples_(body, first, rng)
    return body


FEATURES: Mapping[str, Features] = {
    "pixels": pixels, "random": random_features, "patches": patches, "k_means": k_means, "local": local
}  # fmt: skip
