"""Samples of missing pixels: free units spike or stay silent, some at a time, and are clamped from then on."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from neuropil.associative.connectivity import PIXELS, Connectivity, State
from neuropil.associative.settling import Masks, Settling, drive_of
from neuropil.associative.tasks import spikes
from neuropil.errors import needs, needs_numbers

RESAMPLED = 0.25  # fraction of the missing pixels that is sampled again each time


class Samples(NamedTuple):
    """Generated images, of `AssociativeNetwork.generate`.

    Attributes:
        images: (n, *shape).
        attempts: (n,) how many were generated for each, see `Sampling.accept_margin`.
    """

    images: Tensor
    attempts: Tensor


@dataclass(frozen=True)
class Sampling:
    """How missing pixels are sampled.

    Attributes:
        n_rounds: missing pixels spike in this many rounds, each of which knows the earlier ones.
        n_resamples: how often a quarter of them, another one each time, is sampled again, in a tenth of the rounds.
            What was sampled early, from little, is thus sampled again from much.
        contrast: slope around 1/2 with which pixels show a sample in the end. Slope 1 shows means, which are paler
            than any single image.
        accept_margin: a sample with a given label is accepted once the network classifies it so. The drive of the label
            must exceed all others by this much; until then it is sampled again. None accepts every sample.
        max_attempts: most samples for one image; that with the largest margin is kept.
        max_iterations: most sweeps of settling in a round; None for as many as in training.

    Raises:
        Refusal: a setting outside its range.
    """

    n_rounds: int = 40
    n_resamples: int = 10
    contrast: float = 1.0
    accept_margin: float | None = None
    max_attempts: int = 10
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, self.n_rounds >= 1 and self.max_attempts >= 1, "n_rounds and max_attempts >= 1")
        needs(self, self.n_resamples >= 0 and self.contrast > 0, "n_resamples >= 0 and contrast > 0")
        needs(self, self.max_iterations is None or self.max_iterations >= 1, "max_iterations >= 1 or None")


@torch.no_grad()
def sample_missing_(
    net: Connectivity, settling: Settling, state: State, free: Masks, *, sampling: Sampling, rng: Generator
) -> None:
    r"""A sample of the missing pixels, in place: :math:`P(x) = \prod_k P(x_k | x_1 \dots x_{k-1})`.

    In each round the network settles, and the next free pixels, in random order for every row, spike with the
    probability that is their activity. They are clamped from then on. The network has learned to predict random parts
    from the rest, hence the rounds multiply to a sample, not to the mean. In the end the pixels show the drive from the
    hidden units that the spikes have settled, so they are grey again.

    Args:
        net, settling: as in `Settling`; a round makes as many iterations as it needs, see `Sampling`.
        state, free: first activity and who is free; both are changed. ``free["pixels"]`` is 1 where a pixel is missing.
        sampling: rounds, resamples and contrast count here.
        rng: of order and spikes.
    """
    settling = replace(settling, max_iterations=sampling.max_iterations or settling.max_iterations)
    missing = free[PIXELS]
    assert missing is not None
    pixels, left = state[PIXELS], missing.clone()
    free[PIXELS] = left
    _spike_in_rounds_(net, settling, state, free, sampling.n_rounds, rng)
    for _ in range(sampling.n_resamples):
        left.copy_((torch.rand(left.shape, generator=rng, device=rng.device) < RESAMPLED).to(left)).mul_(missing)
        pixels.mul_(1 - left)
        _spike_in_rounds_(net, settling, state, free, max(1, sampling.n_rounds // 10), rng)
    for name, mask in free.items():  # to where the drive sends them; clamped units stay
        if name != PIXELS:
            goal = drive_of(net, state, name, free, settling.free_unit_gain).clamp_(0, 1)
            state[name].copy_(goal if mask is None else torch.where(mask > 0, goal, state[name]))
    drive = drive_of(net, state, PIXELS, free, settling.free_unit_gain)
    shown = drive.sub_(0.5).mul_(sampling.contrast).add_(0.5).clamp_(0, 1)
    pixels.copy_(torch.where(missing > 0, shown, pixels))


def _spike_in_rounds_(
    net: Connectivity, settling: Settling, state: State, free: Masks, n_rounds: int, rng: Generator
) -> None:
    """All free pixels spike or stay silent, in rounds; then none is free any more."""
    pixels, left = state[PIXELS], free[PIXELS]
    assert left is not None
    order = torch.rand(pixels.shape, generator=rng, device=rng.device).to(pixels)
    rank = order.masked_fill(left == 0, 2).argsort(1).argsort(1) / left.sum(1, keepdim=True).clamp(min=1)
    for done in range(1, n_rounds + 1):
        settling(net, state, free)
        now = (rank < done / n_rounds) & (left > 0)
        pixels.copy_(torch.where(now, spikes(pixels, rng), pixels))
        left.masked_fill_(now, 0)


def margin(drives: Tensor, labels: Tensor) -> Tensor:
    """(n,) by how much the drive of each row's label, out of (n, classes), exceeds all others."""
    own = drives.gather(1, labels[:, None])
    return own[:, 0] - drives.scatter(1, labels[:, None], -torch.inf).amax(1)
