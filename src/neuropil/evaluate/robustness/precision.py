"""Fewer bits for each weight, after learning: copies of a learner whose weights are rounded."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.errors import require, unknown
from neuropil.evaluate.metrics.accuracy import accuracy
from neuropil.evaluate.robustness.damage import check_used, copied, weights_of
from neuropil.evaluate.robustness.victim import victim_of

Learner = TypeVar("Learner")
Scale = Literal["layer", "unit"]
CLIPS = torch.linspace(0.2, 1.0, 41)  # fractions of the largest weight that are tried as the largest level


def rounded(weight: Tensor, bits: int, scale: Scale = "layer") -> Tensor:
    r"""`weight` in few bits: the nearest of :math:`2^{bits} - 1` even levels from -c to c, or with one bit of -c and c.

    Of 41 candidates c is the one with the least squared error of the weights. With one bit it is the mean of their
    absolute values, which is the best (Rastegari et al. 2016, arXiv 1603.05279). A weight of 0 is no synapse: it stays
    0 and has no part in the mean. 16 bits are float16.

    Args:
        weight: (units, *inputs).
        bits: 1 to 8, or 16.
        scale: whether each "layer" has its c, or each "unit".

    Raises:
        Refusal: other bits, another word for the scale, or a weight too large for float16.

    >>> rounded(torch.tensor([[0.9, -0.1, -0.5]]), 1)
    tensor([[ 0.5000, -0.5000, -0.5000]])
    """
    require(bits in (*range(1, 9), 16), f"weights can be rounded to 1 to 8 bits or to 16 (float16), got {bits}.")
    if scale not in ("layer", "unit"):
        raise unknown("scale of rounded weights", scale, ("layer", "unit"))
    if bits == 16:
        half, top = weight.half(), torch.finfo(torch.half).max
        require(bool(half.isfinite().all()), f"float16 needs weights up to {top:g}, got larger ones; take fewer bits.")
        return half.to(weight)
    rows = weight.reshape(1 if scale == "layer" else len(weight), -1)
    if bits == 1:
        synapses = rows.count_nonzero(1)[:, None].clamp(min=1)
        return (rows.sign() * (rows.abs().sum(1, keepdim=True) / synapses)).view_as(weight)
    steps, largest = 2 ** (bits - 1) - 1, rows.abs().amax(1, keepdim=True)
    best, least = rows, torch.full_like(largest, torch.inf)
    for clip in CLIPS.tolist():
        step = (clip / steps * largest).clamp(min=torch.finfo(weight.dtype).tiny)
        nearest = (rows / step).round_().clamp_(-steps, steps) * step
        error = (nearest - rows).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, nearest, best), torch.minimum(error, least)
    return best.view_as(weight)


def with_bits(learner: Learner, bits: int, scale: Scale = "layer") -> Learner:
    """A copy of `learner`, fitted, whose weights are `rounded`; biases and all else stay. The original stays as it is.

    >>> network = torch.nn.Linear(100, 10)
    >>> with_bits(network, 2).weight.unique().numel()
    3
    """
    copy = copied(learner)
    weights = weights_of(copy)
    require(len(weights) > 0, f"few bits need weights, and {type(learner).__name__} has none.")
    with torch.no_grad():
        for weight in weights:
            weight.copy_(rounded(weight, bits, scale))
    return copy


def accuracy_with_bits(
    learner: Any, test: Split, bits: Sequence[int] = (16, 8, 4, 3, 2, 1), scale: Scale = "layer"
) -> Iterator[tuple[int, float]]:
    """(bits, accuracy) with the weights of `learner` rounded to each number of bits.

    Raises:
        Refusal: as `with_bits`, or the weights that were found are not those it predicts with.
    """
    check_used(learner, test)
    for few in bits:
        yield few, accuracy(victim_of(with_bits(learner, few, scale), test.classes), test)
