"""Spherical k-means: the strongest simple way to features that is not local."""

import torch
from torch import Tensor
from torch.nn import functional as F


def centres_of(x: Tensor, start: Tensor, sweeps: int) -> Tensor:
    """The directions of the means of those x (n, d) that are nearest to each; one that has none stays."""
    v = F.normalize(start, dim=1)
    for _ in range(sweeps):
        nearest = (x @ v.T).argmax(1)
        sums = torch.zeros_like(v).index_add_(0, nearest, x)
        v = torch.where(sums.norm(dim=1, keepdim=True) > 0, F.normalize(sums, dim=1), v)
    return v
