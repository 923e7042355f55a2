"""Centres of k-means, and whitened patches: the strongest simple ways to features without labels."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import require
from neuropil.models import gather_statistics_
from neuropil.models.description import layers_of
from neuropil.models.nn.convolution import convolutions, directions, whitening_of
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
    for name in convolutions(body):
        weight, x = body.get_parameter(f"{name}.weight"), _met(body, name, train, rng, count)
        start = x[torch.randperm(len(x), generator=rng)[: len(weight)].to(x.device)]
        weight.copy_(centres_of(x, start).view_as(weight))


@torch.no_grad()
def init_whitened_(
    body: nn.Sequential, train: Split, rng: Generator, *, floor: float = 4.0, sweeps: int = 0, count: int = 50_000
) -> None:
    r"""Make the plain kernels of `body` stand for whitened patches, or for centres of k-means of these, in place.

    A kernel that stands for c answers to a patch x by :math:`\langle c, (x - \bar x) P \rangle`, with P the whitening
    of patches with mean 0 and norm 1. That is linear in x, so :math:`c P` without its mean is an ordinary kernel, and
    the architecture stays as it is. Each c is one of these patches, whitened and at norm 1. Coates, Lee & Ng 2011.

    Args:
        body, train: as for `init_patches_`, with ``nn.Conv2d`` that has neither groups nor bias.
        rng: of the patches, no two of which are equal.
        floor: of the whitening, as for `PatchNormConv2d.whiten_`.
        sweeps: of k-means that starts at these patches; 0 for the patches themselves.
        count: patches from which the whitening and the centres come, about.

    Raises:
        Refusal: fewer different patches than kernels.
    """
    for name in convolutions(body):
        weight, z = body.get_parameter(f"{name}.weight"), directions(_met(body, name, train, rng, count))
        few = f"{name} has {len(weight)} kernels, which need as many patches that are not flat, got {len(z)}."
        require(len(z) >= len(weight), few)
        turn = whitening_of(z.double(), floor).to(z)
        x = F.normalize(z @ turn, dim=1)
        kernels = centres_of(x, _different(x, len(weight), rng), sweeps) @ turn
        weight.copy_((kernels - kernels.mean(1, keepdim=True)).view_as(weight))


def _met(body: nn.Sequential, name: str, train: Split, rng: Generator, count: int) -> Tensor:
    """Random patches as the layer `name` meets them, about `count`: (n, fan-in)."""
    below, layer = body[: list(layers_of(body)).index(name)], body.get_submodule(name)
    gather_statistics_(below, train)
    some = train[torch.randint(len(train), (min(len(train), 2000),), generator=rng).to(train.y.device)]
    each = -(-count // len(some))
    x = torch.cat(
        [sample_patches(layer, below(part.x), each * len(part), rng) for part in some.batches(min(100, len(some)))]
    )
    kernels = len(body.get_parameter(f"{name}.weight"))
    few = f"got {len(x)} for the {kernels} kernels of {layer}."
    require(len(x) >= kernels, f"kernels need as many patches to start from, {few}")
    return x


def _different(x: Tensor, count: int, rng: Generator) -> Tensor:
    """`count` random rows of `x`, no two of which are equal."""
    found: dict[bytes, int] = {}
    rows = x.cpu().numpy()
    for k in torch.randperm(len(x), generator=rng).tolist():
        found.setdefault(rows[k].tobytes(), k)
        if len(found) == count:
            break
    require(len(found) == count, f"{count} kernels need as many different patches, got {len(found)}.")
    return x[torch.tensor(list(found.values()), device=x.device)]
