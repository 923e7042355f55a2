"""Images as spikes, step by step; a sample's spikes depend on its index and the seed, not on its batch."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.errors import Refusal, check_seconds, needs, needs_numbers

M32 = 0xFFFFFFFF
GOLDEN = 0x9E3779B9


def mix(x: Tensor) -> Tensor:
    """32 bits that look random, from 32 bits: int64 to int64. The hash lowbias32 of Wellons 2018."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & M32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & M32
    return x ^ (x >> 16)


def sample_keys(index: Tensor, seed: int) -> Tensor:
    """A key of 32 bits for each sample, (batch,) int64."""
    return mix((index & M32) ^ mix(torch.full_like(index, (seed + GOLDEN) & M32)))


def thresholds(probability: Tensor) -> Tensor:
    """Below which 32 random bits are a spike, int64."""
    return (probability.double().clamp(0, 1) * 2.0**32).round().long()


@dataclass(frozen=True)
class BernoulliEncoding:
    """In every step a neuron spikes with the probability x times `probability`, independently of all others.

    Whether neuron i of a sample spikes in step t is decided by a hash of seed, index of the sample, t and i. So a
    sample has the same spikes in any batch, order, dtype and on any device. Keys have 32 bits: of 60,000 samples some
    300 pairs share their random numbers, some steps apart.

    Attributes:
        probability: of a spike in a step where x is 1.
        steps: how many.

    Raises:
        Refusal: a probability that is none; x that is negative or leads to a probability above 1; no index.

    Examples:
        >>> encode = BernoulliEncoding(probability=0.5, steps=1000)
        >>> index = torch.tensor([7])
        >>> spikes = encode.raster(torch.tensor([[0.0, 1.0]]), index, seed=0)
        >>> spikes.shape, spikes.mean(0).tolist()
        (torch.Size([1000, 1, 2]), [[0.0, 0.492000013589859]])
    """

    probability: float = 0.1
    steps: int = 100

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, 0 <= self.probability <= 1 and self.steps >= 1, "0 <= probability <= 1 and steps >= 1")

    def __call__(self, x: Tensor, index: Tensor, seed: int) -> Iterator[Tensor]:
        """The spikes of each step, (batch, *shape), made when they are asked for.

        Args:
            x: (batch, *shape), 0 or more, floating.
            index: of each sample in its data set, (batch,) int64.
            seed: of all.
        """
        return encoded(self, x, index, seed, self.probability, self.steps)

    def raster(self, x: Tensor, index: Tensor, seed: int) -> Tensor:
        """All steps at once, (time, batch, *shape)."""
        return torch.stack(list(self(x, index, seed)))


@dataclass(frozen=True)
class _Presentation:
    """Spikes at a rate, for a while."""

    rate: float = 63.75
    duration: float = 0.35
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, slow=("duration",), duration=self.duration)
        needs(self, self.rate >= 0, "rate >= 0, in Hz")

    @property
    def steps(self) -> int:
        """How many steps a presentation has."""
        return round(self.duration / self.dt)


@dataclass(frozen=True)
class PoissonEncoding(_Presentation):
    """Spikes at the rate x times `rate`: in a step with the probability that a Poisson process has one or more there.

    That is 1 - exp(-rate dt), so at most one spike in a step. Random numbers are those of `BernoulliEncoding`.

    Attributes:
        rate: where x is 1, Hz.
        duration: of a presentation, s; the nearest number of steps.
        dt: length of a step, s.

    Raises:
        Refusal: times in ms or shorter than a step; a negative rate; x that is negative; no index.

    Examples:
        >>> encode = PoissonEncoding(rate=100.0, duration=1.0)
        >>> encode.raster(torch.ones(1, 1), torch.tensor([0]), seed=0).sum().item()
        94.0
    """

    def __call__(self, x: Tensor, index: Tensor, seed: int) -> Iterator[Tensor]:
        """The spikes of each step, (batch, *shape); arguments as of `BernoulliEncoding`."""
        check(self, x, index)
        return encoded(self, -torch.expm1(-x.double() * (self.rate * self.dt)), index, seed, 1.0, self.steps, x.dtype)

    def raster(self, x: Tensor, index: Tensor, seed: int) -> Tensor:
        """All steps at once, (time, batch, *shape)."""
        return torch.stack(list(self(x, index, seed)))


@dataclass(frozen=True)
class RateEncoding(_Presentation):
    """Regular spikes at the rate x times `rate`, not random: a spike where the phase x rate t passes an integer.

    Attributes:
        rate, duration, dt: as of `PoissonEncoding`.

    Raises:
        Refusal: as of `PoissonEncoding`; x times `rate` of more than one spike in a step.

    Examples:
        >>> RateEncoding(rate=250.0, duration=8e-3).raster(torch.ones(1, 1)).flatten().tolist()
        [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    """

    def __call__(self, x: Tensor) -> Iterator[Tensor]:
        """The spikes of each step, (batch, *shape)."""
        check(self, x, None)
        per_step = x.double() * (self.rate * self.dt)
        if float(per_step.max()) > 1:
            raise Refusal(f"RateEncoding needs at most one spike in a step, got {float(per_step.max()):g}; lower dt.")
        rounded = torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps / 2  # as x may be: 0.7 is a bit less
        per_step = per_step * (1 + rounded)
        for t in range(self.steps):
            yield (((t + 1) * per_step + 1e-9).floor() - (t * per_step + 1e-9).floor()).to(x.dtype)

    def raster(self, x: Tensor) -> Tensor:
        """All steps at once, (time, batch, *shape)."""
        return torch.stack(list(self(x)))


def check(encoding: object, x: Tensor, index: Tensor | None) -> None:
    """Refuse values and indices that cannot be encoded."""
    who = type(encoding).__name__
    if not x.is_floating_point() or (x.numel() and not bool((x >= 0).all())):
        got = f"{float(x.min()):g}" if x.is_floating_point() else f"{x.dtype}"
        raise Refusal(f"{who} needs values of 0 or more in a floating dtype, got {got}; use split.pixels() or x / 255.")
    if index is not None and (index.dtype != torch.int64 or index.shape != x.shape[:1]):
        got, cure = f"{tuple(index.shape)} in {index.dtype}", "give the place of each sample in its data set"
        raise Refusal(f"{who} needs an index for each sample, ({len(x)},) in torch.int64, got {got}; {cure}.")


def encoded(
    encoding: object, x: Tensor, index: Tensor, seed: int, factor: float, steps: int, dtype: torch.dtype | None = None
) -> Iterator[Tensor]:
    """Spikes with the probability x times `factor` in each step."""
    check(encoding, x, index)
    probability = x.double() * factor
    if probability.numel() and float(probability.max()) > 1:
        what = f"{type(encoding).__name__} needs probabilities up to 1, got {float(probability.max()):g}"
        raise Refusal(f"{what}; bring values to [0, 1], for example x / 255.")
    return _spikes(probability, index, seed, steps, dtype or x.dtype)


def _spikes(probability: Tensor, index: Tensor, seed: int, steps: int, dtype: torch.dtype) -> Iterator[Tensor]:
    limit = thresholds(probability).flatten(1)
    keys = sample_keys(index, seed)
    line = (torch.arange(limit.shape[1], device=limit.device) * GOLDEN) & M32
    for t in range(steps):
        now = mix((keys + t) & M32)
        yield (mix(now[:, None] ^ line) < limit).to(dtype).view(probability.shape)
