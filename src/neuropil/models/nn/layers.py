"""The layers that Hebbian features need besides PyTorch's own; none of them keeps statistics of a batch."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import needs_numbers, require
from neuropil.models.description import layers_of, savable

CONSTANT = 0.5  # beside the columns of a table; chosen by cross-validation within four fifths of iris and of wine


class UnitNorm(nn.Module):
    """Every sample divided by its Euclidean norm over all axes but the first; a sample of zeros stays zero."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) to the same shape, each sample of norm 1 or 0."""
        return unit(x.flatten(1)).view_as(x)


class CentredUnitNorm(nn.Module):
    r"""The direction in which a sample departs from the mean: :math:`e(e(x) - \mu)`, e(x) = x / |x|.

    Images are positive, so all of them point roughly the same way, and the angle to a unit's weight is nearly the same
    for all. Without the mean direction :math:`\mu` they spread, and units that compete by angle can tell them apart.

    A direction does not tell how long a sample was, which in a table may be what tells classes apart. A constant beside
    the features keeps it: the longer the sample, the smaller the part of the constant.

    Args:
        features: length of a sample.
        constant: size of the constant in root mean squares of the norm of the examples; 0: there is none.

    >>> rows = Split(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]), torch.tensor([0, 1]), 2)
    >>> CentredUnitNorm(2, constant=0.5).fit_(rows)(rows.x)
    tensor([[ 0.6000,  0.8000,  0.0000],
            [-0.6000, -0.8000,  0.0000]])
    """

    mean: Tensor
    beside: Tensor

    def __init__(self, features: int, constant: float = 0.0):
        super().__init__()
        needs_numbers(self, constant=constant)
        require(0 <= constant < float("inf"), f"CentredUnitNorm needs a constant >= 0, got {constant}.")
        self.features, self.constant = features, constant
        self.register_buffer("mean", torch.zeros(features + (constant > 0)))
        if constant:
            self.register_buffer("beside", torch.tensor(float(constant)))

    def fit_(self, train: Split, *, batch: int = 1000) -> "CentredUnitNorm":
        """Take the mean direction of the flattened examples of `train`; it stays fixed from then on."""
        parts = partial(train.batches, min(batch, len(train)))
        if self.constant:
            squares = sum(part.x.square().sum() for part in parts())
            self.beside.copy_(self.constant * (squares / len(train)) ** 0.5)
        total = torch.zeros_like(self.mean, device=train.x.device)
        for part in parts():
            total += unit(self.widened(part.x.flatten(1))).sum(0)
        self.mean.copy_(total / len(train))
        return self

    def widened(self, x: Tensor) -> Tensor:
        """`x` (n, features) with the constant as its last column, if there is one."""
        return torch.cat([x, self.beside.to(x).expand(x.shape[0], 1)], dim=1) if self.constant else x

    def forward(self, x: Tensor) -> Tensor:
        """(batch, features) to the same shape, or one more with a constant; each of norm 1 (or 0)."""
        return unit(unit(self.widened(x)) - self.mean)

    def extra_repr(self) -> str:
        """The length of a sample and the constant."""
        return f"features={self.features}" + (f", constant={self.constant}" if self.constant else "")


def unit(x: Tensor) -> Tensor:
    """Every row of `x` (n, d) divided by its Euclidean norm; a row of zeros stays zero."""
    norm = x.norm(dim=1, keepdim=True)
    return x / torch.where(norm > 0, norm, 1)


class RePU(nn.Module):
    r"""Rectified power unit: :math:`\max(x, 0)^n`. Krotov & Hopfield 2019 use n = 4.5 on Hebbian features.

    Args:
        n: the power, at least 1; 1 is the ReLU.
    """

    def __init__(self, n: float = 4.5):
        super().__init__()
        needs_numbers(self, n=n)
        require(n >= 1, f"RePU needs a power n >= 1, got {n}.")
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        positive = x.relu()
        return positive if self.n == 1 else positive.pow(self.n)

    def extra_repr(self) -> str:
        """The power."""
        return f"n={self.n}"


class CReLU(nn.Module):
    """RePU of x beside RePU of -x: for features whose sign carries no meaning, such as principal components.

    Args:
        n: the power, at least 1.
        threshold: what an answer has to exceed, by either sign; the rest of it counts. 0 or more.
    """

    def __init__(self, n: float = 1.0, threshold: float = 0.0):
        super().__init__()
        needs_numbers(self, n=n, threshold=threshold)
        require(0 <= threshold < float("inf"), f"CReLU needs a threshold >= 0, got {threshold}.")
        self.n, self.threshold, self.power = n, threshold, RePU(n)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, units, *positions) to (batch, 2 units, *positions)."""
        up, down = (x - self.threshold, -x - self.threshold) if self.threshold else (x, -x)
        return torch.cat([self.power(up), self.power(down)], dim=1)

    def extra_repr(self) -> str:
        """The power and the threshold."""
        return f"n={self.n}, threshold={self.threshold}"


class SignedStep(nn.Module):
    """1 where x exceeds a threshold, beside 1 where -x does, and 0 elsewhere; averages of it count how often.

    It has no gradient, so it is for frozen features.

    Args:
        threshold: 0 or more.

    >>> SignedStep(0.1)(torch.tensor([[0.3, -0.2, 0.05]]))
    tensor([[1., 0., 0., 0., 1., 0.]])
    """

    def __init__(self, threshold: float = 0.0):
        super().__init__()
        needs_numbers(self, threshold=threshold)
        require(0 <= threshold < float("inf"), f"SignedStep needs a threshold >= 0, got {threshold}.")
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """(batch, units, *positions) to (batch, 2 units, *positions)."""
        return torch.cat([x > self.threshold, x < -self.threshold], dim=1).to(x.dtype)

    def extra_repr(self) -> str:
        """The threshold."""
        return f"threshold={self.threshold}"


class SignedPower(nn.Module):
    r"""The power of the size, with the sign kept: :math:`\mathrm{sign}(x) |x|^n`.

    At n = 1/2 it evens out pooled sums, of which a few are large (Perronnin, Sanchez & Mensink 2010, ECCV). Its
    gradient is infinite at 0 below n = 1, so it is for frozen features.

    Args:
        n: the power, above 0.

    >>> SignedPower(0.5)(torch.tensor([-4.0, 0.0, 9.0]))
    tensor([-2.,  0.,  3.])
    """

    def __init__(self, n: float = 0.5):
        super().__init__()
        needs_numbers(self, n=n)
        require(0 < n < float("inf"), f"SignedPower needs a power n > 0, got {n}.")
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return x.abs().pow_(self.n).mul_(x.sign())

    def extra_repr(self) -> str:
        """The power."""
        return f"n={self.n}"


class MaskedLinear(nn.Linear):
    """A dense layer in which some weights are missing: they stay out of the sum and get no gradient.

    Args:
        mask: (units, inputs), 1 where a unit has a weight for an input and 0 elsewhere.
    """

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) to (batch, units)."""
        return F.linear(x, self.weight * self.mask, self.bias)


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
        self.features = features
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


@torch.no_grad()
def init_normal_(body: nn.Sequential, rng: Generator, *, std: float = 1.0) -> None:
    """Initialise the weight of the layer ``hidden`` of `body` from N(0, std^2), in place."""
    weight = body.get_parameter("hidden.weight")
    weight.copy_(torch.empty_like(weight, device=rng.device).normal_(0, std, generator=rng))


@torch.no_grad()
def init_examples_(body: nn.Sequential, train: Split, rng: Generator) -> None:
    """Initialise every row of ``hidden`` with a random example of `train` as it reaches that layer, in place.

    Examples are repeated only if there are more units than examples.
    """
    weight = body.get_parameter("hidden.weight")
    below = body[: list(layers_of(body)).index("hidden")]
    order = torch.randperm(len(train), generator=rng)
    chosen = order[torch.arange(len(weight)) % len(train)]
    weight.copy_(below(train[chosen.to(train.y.device)].pixels().to(weight.device)))


def dense_body(train: Split, units: int, *, n: float) -> nn.Sequential:
    """Flatten, centre and normalise (fitted to `train`, on its device), a layer ``hidden`` without bias, RePU(n).

    In a table, where `train.x` has two axes, ``hidden`` sees a constant beside the columns; see `CentredUnitNorm`.

    >>> train = Split(torch.rand(20, 1, 4, 4), torch.arange(20) % 2, 2)
    >>> dense_body(train, 8, n=2.0)(train.x).shape
    torch.Size([20, 8])
    """
    direction = CentredUnitNorm(train.x[0].numel(), constant=CONSTANT if train.x.ndim == 2 else 0.0).fit_(train)
    layers = OrderedDict[str, nn.Module](
        flat=nn.Flatten(),
        direction=direction,
        hidden=nn.Linear(len(direction.mean), units, bias=False),
        act=RePU(n),
    )
    return nn.Sequential(layers).to(train.x.device)


def receptive_fields(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """The weight of the first layer that has one, (units, *shape) for a dense layer, as it is for a convolution.

    A dense weight is (units, inputs) in an ``nn.Linear`` and (inputs, units) in a layer of spiking neurons.
    """
    layer = next(module for module in network.modules() if isinstance(getattr(module, "weight", None), Tensor))
    weight = layer.get_parameter("weight").detach()
    if weight.ndim > 2:
        return weight
    return (weight if isinstance(layer, nn.Linear) else weight.T).reshape(-1, *shape)


savable(UnitNorm, CentredUnitNorm, RePU, CReLU, SignedStep, SignedPower, MaskedLinear, Standardise)
