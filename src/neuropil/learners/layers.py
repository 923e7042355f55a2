"""The layers that Hebbian features need besides PyTorch's own; none of them keeps statistics of a batch."""

import torch
from torch import Generator, Tensor, nn

from neuropil.checks import require


class UnitNorm(nn.Module):
    """Every sample divided by its Euclidean norm over all axes but the first; a sample of zeros stays zero."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) to the same shape, each sample of norm 1 or 0."""
        norm = x.flatten(1).norm(dim=1).view(-1, *[1] * (x.dim() - 1))
        return x / torch.where(norm > 0, norm, 1)


class RePU(nn.Module):
    r"""Rectified power unit: :math:`\max(x, 0)^n`. Krotov & Hopfield 2019 use n = 4.5 on Hebbian features.

    Args:
        n: the power, at least 1; 1 is the ReLU.
    """

    def __init__(self, n: float = 4.5):
        super().__init__()
        require(n >= 1, f"RePU needs a power n >= 1, got {n}.")
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        positive = x.relu()
        return positive if self.n == 1 else positive.pow(self.n)

    def extra_repr(self) -> str:
        """The power."""
        return f"n={self.n}"


class Standardise(nn.Module):
    """Features shifted and scaled by fixed numbers, set once from training features: batch-free.

    A feature that never varies keeps its scale of 1, so it becomes zero, not infinite.

    Args:
        features: number of features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def fit_(self, x: Tensor) -> "Standardise":
        """Take mean and standard deviation from `x` (n, features)."""
        std, mean = torch.std_mean(x, 0, correction=0)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(std > 0, std, 1))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to the same shape."""
        return (x - self.mean) / self.scale


def draw_normal_(layer: nn.Linear, rng: Generator, *, mean: float = 0.0, std: float = 1.0) -> nn.Linear:
    """Draw the weight of `layer` from a normal distribution with `rng`; the bias, if any, becomes zero."""
    with torch.no_grad():
        layer.weight.normal_(mean, std, generator=rng)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
