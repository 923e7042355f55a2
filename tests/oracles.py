"""Oracles that know nothing of `correlate`: they nudge one weight at a time and loop over samples and units."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class OwnLinear(nn.Linear):
    """A dense layer of somebody's own, which no fast branch may claim: it sees its input twice as strong."""

    def forward(self, x: Tensor) -> Tensor:
        """The output for (batch, in)."""
        return super().forward(2 * x)


# name -> (layer, shape of its input); small, because the oracles pass once over every weight
GEOMETRIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: nn.Linear(4, 5, bias=False), (6, 4)),
    "dense with bias": (lambda: nn.Linear(4, 5), (6, 4)),
    "dense, extra axes": (lambda: nn.Linear(4, 5, bias=False), (2, 3, 2, 4)),
    "dense, many samples": (lambda: nn.Linear(2, 5, bias=False), (9, 2)),
    "dense of one's own": (lambda: OwnLinear(4, 5, bias=False), (6, 4)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3), (2, 2, 6)),
    "conv2d": (lambda: nn.Conv2d(2, 4, (2, 3), bias=False), (2, 2, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(1, 3, 2), (2, 1, 3, 3, 3)),
    "conv2d, stride and padding": (lambda: nn.Conv2d(1, 4, 3, stride=2, padding=1), (2, 1, 5, 4)),
    "conv2d, dilation": (lambda: nn.Conv2d(1, 3, 2, dilation=2), (2, 1, 4, 5)),
    "conv2d, groups": (lambda: nn.Conv2d(4, 6, 2, groups=2, bias=False), (2, 4, 3, 3)),
    "conv1d, reflect": (lambda: nn.Conv1d(1, 4, 3, padding=1, padding_mode="reflect"), (2, 1, 5)),
    "conv2d, circular": (lambda: nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular"), (2, 1, 3, 3)),
    "conv2d, same": (lambda: nn.Conv2d(1, 3, 3, padding="same"), (2, 1, 3, 3)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1), (2, 2, 3)),
    "transposed 2d, groups": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2, output_padding=1, bias=False),
        (2, 4, 2, 2),
    ),
    "transposed 3d": (lambda: nn.ConvTranspose3d(1, 3, 2, dilation=2), (2, 1, 2, 2, 2)),
}
FEW = ["dense with bias", "conv2d", "conv2d, groups", "conv1d, reflect", "transposed 2d, groups"]


def make(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    """The layer of that geometry with N(0, 1/2) weights and an input for it, always the same."""
    torch.manual_seed(0)
    factory, shape = GEOMETRIES[name]
    layer = factory().double()
    with torch.no_grad():
        layer.weight.normal_(std=0.7)
    return layer.to(dtype), torch.randn(shape, dtype=torch.float64).to(dtype)


def correlate_by_hand(layer: nn.Module, pre: Tensor, post: Tensor) -> Tensor:
    """Nudge one weight at a time; the layer is linear in it."""
    base, out = layer(pre), torch.zeros_like(layer.weight)
    flat = layer.weight.data.view(-1)
    for k in range(flat.numel()):
        flat[k] += 1
        out.view(-1)[k] = (post * (layer(pre) - base)).sum()
        flat[k] -= 1
    return out


class Unfolded:
    """A layer taken apart by nudging: what every weight of every unit sees in every sample.

    Attributes:
        owner: of every weight the unit that has it; given where an input has so many zeros that it does not show.
        index: for every unit the flat indices of its weights, in order.
        patch: for every unit what those weights see, (samples, fan-in); every position is a sample.
        bias: of every unit.
    """

    def __init__(self, layer: nn.Module, pre: Tensor, owner: Tensor | None = None) -> None:
        dense = isinstance(layer, nn.Linear)
        flat = layer.weight.data.view(-1)
        base = self._samples(layer(pre), dense)
        seen = []
        for k in range(flat.numel()):
            flat[k] += 1
            seen.append(self._samples(layer(pre), dense) - base)  # (samples, units)
            flat[k] -= 1
        owner = torch.stack(seen).abs().sum(1).argmax(1) if owner is None else owner
        self.owner = owner
        self.units = base.shape[1]
        self.index = [(owner == unit).nonzero().flatten() for unit in range(self.units)]
        self.patch = [
            torch.stack([seen[k][:, unit] for k in index.tolist()], 1) for unit, index in enumerate(self.index)
        ]
        self.bias = layer.bias.detach() if layer.bias is not None else base.new_zeros(self.units)
        self.weight = [flat[index].clone() for index in self.index]
        self.shape = layer.weight.shape

    @staticmethod
    def _samples(out: Tensor, dense: bool) -> Tensor:
        return out.detach().movedim(-1 if dense else 1, -1).flatten(0, -2)

    def change(self, law: "Law") -> Tensor:
        """The sum over samples of what `law` (weights, patches, drives, sample) says for every unit."""
        total = torch.zeros(self.shape.numel(), dtype=torch.float64)
        for s in range(len(self.patch[0])):
            x = [patch[s] for patch in self.patch]
            u = [float(w @ v + b) for w, v, b in zip(self.weight, x, self.bias)]
            for unit, index in enumerate(self.index):
                total[index] += law(unit, self.weight, x, u)
        return total.view(self.shape)


Law = Callable[[int, list[Tensor], list[Tensor], list[float]], Tensor]


def hebb(j: int, w: list[Tensor], x: list[Tensor], u: list[float]) -> Tensor:
    """u x."""
    return u[j] * x[j]


def oja(j: int, w: list[Tensor], x: list[Tensor], u: list[float]) -> Tensor:
    """u (x - u w)."""
    return u[j] * (x[j] - u[j] * w[j])


def sanger(groups: int) -> Law:
    """u_j (x - sum over the units i <= j of its group of u_i w_i)."""

    def law(j: int, w: list[Tensor], x: list[Tensor], u: list[float]) -> Tensor:
        size = len(w) // groups
        rest = x[j].clone()
        for i in range(j - j % size, j + 1):
            rest -= u[i] * w[i]
        return u[j] * rest

    return law


def bcm(theta: list[float]) -> Law:
    """u (u - theta) x."""
    return lambda j, w, x, u: u[j] * (u[j] - theta[j]) * x[j]


def instar(j: int, w: list[Tensor], x: list[Tensor], u: list[float]) -> Tensor:
    """x - w for the winner."""
    return x[j] - w[j] if u[j] == max(u) else 0 * x[j]


def signed(j: int, w: list[Tensor], x: list[Tensor], u: list[float]) -> Tensor:
    """Oja's rule for the unit with the largest answer, up to sign."""
    answer = [float(r @ v) for r, v in zip(w, x)]  # without a bias, which would favour one sign
    won = max(range(len(w)), key=lambda i: abs(answer[i])) == j
    return answer[j] * (x[j] - answer[j] * w[j]) if won else 0 * w[j]


def krotov(p: float, k: int, delta: float) -> Law:
    """g (x - <powered w, x> w), g = 1 for the winner and -delta for the k-th."""

    def law(j: int, w: list[Tensor], x: list[Tensor], u: list[float]) -> Tensor:
        drive = [
            sum(math.copysign(abs(a) ** (p - 1), a) * b for a, b in zip(r.tolist(), v.tolist())) for r, v in zip(w, x)
        ]
        rank = sorted(range(len(w)), key=lambda i: -drive[i]).index(j)
        g = {0: 1.0, k - 1: -delta}.get(rank, 0.0)
        return g * (x[j] - drive[j] * w[j])

    return law


def soft(tau: float, anti: bool) -> Law:
    """y (x - u w) with y = softmax(u / tau), flipped for the losers if `anti`."""

    def law(j: int, w: list[Tensor], x: list[Tensor], u: list[float]) -> Tensor:
        y = math.exp(u[j] / tau) / sum(math.exp(v / tau) for v in u)
        return (-y if anti and u[j] != max(u) else y) * (x[j] - u[j] * w[j])

    return law


def explain_away(k: int) -> Law:
    """y (x - sum y_i w_i), the sum over the winners that see the same channels; y = max(u, 0) of the k largest."""

    def law(j: int, w: list[Tensor], x: list[Tensor], u: list[float]) -> Tensor:
        y = [max(v, 0.0) if sorted(u, reverse=True).index(v) < k else 0.0 for v in u]
        rest = x[j].clone()
        for i in range(len(w)):
            if torch.allclose(x[i], x[j]):
                rest -= y[i] * w[i]
        return y[j] * rest

    return law
