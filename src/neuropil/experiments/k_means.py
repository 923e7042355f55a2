"""Centres of k-means: the strongest simple way to features that is not local."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import require
from neuropil.models import gather_statistics_
from neuropil.models.nn.convolution import convolutions
from neuropil.plasticity.patches import sample_patches

PIECE = 10_000  # rows that are compared with all centres at a time
SWEEPS = 20


def centres_of(x: Tensor, start: Tensor, sweeps: int = SWEEPS) -> Tensor:
    """Spherical k-means: directions of the means of those x (n, d) nearest to each; one that has none stays."""
    v = F.normalize(start, dim=1)
    for _ in range(sweeps):
        nearest = torch.cat([(part @ v.T).argmax(1) for part in x.split(PIECE)])
        sums = torch.zeros_like(v).index_add_(0, nearest, x)
        v = torch.where(sums.norm(dim=1, keepdim=True) > 0, F.normalize(sums, dim=1), v)
    return v


def k_means_centres(x: Tensor, count: int, seed: int) -> Tensor:
    """`count` centres of mini-batch k-means of the rows of `x`, float32 on its device."""
    from sklearn.cluster import MiniBatchKMeans  # here, because it takes a while to load

    found = MiniBatchKMeans(count, batch_size=2000, n_init=1, max_iter=SWEEPS, random_state=seed)
    return torch.from_numpy(found.fit(x.cpu().numpy()).cluster_centers_).float().to(x.device)


@torch.no_grad()
def init_centres_(body: nn.Sequential, train: Split, rng: Generator, *, count: int = 100_000) -> None:
    """Make the kernels of `body` centres of spherical k-means of patches as their layer meets them, in place.

    From below, so that each layer meets what the centres below it make of the images. Coates, Lee & Ng 2011 (AISTATS).

    Args:
        body, train: as for `init_patches_`.
        rng: of the patches; the first ones are the first centres.
        count: patches, about.
    """
    names = [name for name, _ in body.named_children()]
    for name in convolutions(body):
        below, layer, weight = body[: names.index(name)], body.get_submodule(name), body.get_parameter(f"{name}.weight")
        gather_statistics_(below, train)
        some = train[torch.randint(len(train), (min(len(train), 2000),), generator=rng).to(train.y.device)]
        each = -(-count // len(some))
        parts = [
            sample_patches(layer, below(part.x), each * len(part), rng) for part in some.batches(min(100, len(some)))
        ]
        x = torch.cat(parts)
        few = f"got {len(x)} for the {len(weight)} kernels of {layer}."
        require(len(x) >= len(weight), f"k-means needs as many patches that are not flat as centres, {few}")
        start = x[torch.randperm(len(x), generator=rng)[: len(weight)].to(x.device)]
        weight.copy_(centres_of(x, start).view_as(weight))
