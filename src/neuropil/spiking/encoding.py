"""Encodings of numbers as spike times: (n, *shape) in, (n, inputs) out, inf where there is no spike."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil.errors import Refusal, needs_numbers, require

__all__ = ["Encode", "LatencyEncoding", "LinearTimeEncoding", "ThresholdEncoding"]

Encode = Callable[[Tensor], Tensor]


def check(encoding: object, x: Tensor) -> Tensor:
    """(n, *shape) as (n, inputs), if these are numbers that can be encoded; a GPU would have to be waited for.

    Raises:
        Refusal: whole numbers, such as bytes of images; NaN, where `x` lies on the CPU.
    """
    who, cure = type(encoding).__name__, "give split.pixels() or x / 255"
    if not x.is_floating_point():
        raise Refusal(f"{who} needs values in a floating dtype, got {x.dtype}; {cure}.")
    looks = x.device.type == "cpu" and not torch.compiler.is_compiling()
    if looks and bool(x.isnan().any()):
        raise Refusal(f"{who} needs numbers, got NaN in {int(x.isnan().flatten(1).any(1).sum())} of {len(x)} examples.")
    return x.flatten(1)


@dataclass(frozen=True)
class ThresholdEncoding:
    """Values above `threshold` spike once, all at the same `time`; the others never.

    Attributes:
        threshold: on values in [0, 1]; 127.5 / 255 takes pixels of 128 and more.
        time: of all spikes, in the unit of the network's times.

    >>> ThresholdEncoding(time=0.5)(torch.tensor([[0.2, 0.9]]))
    tensor([[   inf, 0.5000]])
    """

    threshold: float = 127.5 / 255
    time: float = 0.0201

    def __post_init__(self) -> None:
        needs_numbers(self)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, *shape) in [0, 1] to times (n, inputs)."""
        time = x.new_full((), self.time, dtype=torch.result_type(x, self.time))
        return torch.where(check(self, x) > self.threshold, time, torch.inf)


@dataclass(frozen=True)
class LatencyEncoding:
    """The larger a value the earlier its spike: at `last` (high - x) / (high - low); never at `low` or below.

    Attributes:
        last: time at which a value just above `low` would spike.
        low, high: range of the values; larger ones spike at once.
        levels: number of evenly spaced times from 0 on to which spikes are moved back; 0 leaves them where they are.
            Many spikes at the same time cost a network of theta neurons hardly more than one. The gradient of a time
            is then that of the spike before it was moved (straight-through), as the exact one is 0.

    Raises:
        Refusal: an empty range, or a negative `last` or `levels`.

    >>> LatencyEncoding(last=2.0)(torch.tensor([[0.0, 0.25, 1.0]]))
    tensor([[   inf, 1.5000, 0.0000]])
    """

    last: float = 1.0
    low: float = 0.0
    high: float = 1.0
    levels: int = 0

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.low < self.high and self.last >= 0, f"LatencyEncoding needs low < high and last >= 0, got {self}.")
        require(self.levels >= 0, f"LatencyEncoding needs levels >= 0, got {self}.")

    def __call__(self, x: Tensor) -> Tensor:
        """(n, *shape) to times (n, inputs)."""
        x = check(self, x)
        delay = (self.high - x).clamp(min=0) * (self.last / (self.high - self.low))
        if self.levels:
            level = ((self.high - x).clamp(min=0) * (self.levels / (self.high - self.low))).floor()
            level = level.clamp(max=self.levels - 1)  # a value just above `low` may round to one more
            delay = (level * (self.last / self.levels)).detach() + (delay - delay.detach())
        return torch.where(x > self.low, delay, torch.inf)


@dataclass(frozen=True)
class LinearTimeEncoding:
    """The larger a value the later its spike: at `span` x; one more input, the last, always spikes at 0.

    Attributes:
        span: time of the spike of a 1.

    Raises:
        Refusal: a span that is not positive.

    >>> LinearTimeEncoding(2.0)(torch.tensor([[0.25, 1.0]]))
    tensor([[0.5000, 2.0000, 0.0000]])
    """

    span: float = 1.5

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.span > 0, f"LinearTimeEncoding needs span > 0, got span={self.span}.")

    def __call__(self, x: Tensor) -> Tensor:
        """(n, *shape), not negative, to times (n, inputs + 1)."""
        return F.pad(check(self, x) * self.span, (0, 1))
