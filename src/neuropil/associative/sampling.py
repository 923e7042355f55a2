"""What is missing, pixel by pixel: some free units fire or stay silent and count as given from then on."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from neuropil.associative.connectivity import State, Wiring
from neuropil.associative.settling import Masks, Settling, drive_of
from neuropil.associative.tasks import spikes
from neuropil.errors import require


@dataclass(frozen=True)
class Sampling:
    """How a sample of missing pixels comes about.

    Attributes:
        rounds: missing pixels fire in so many rounds; more rounds, fewer that are drawn without knowing of each other.
        repaints: how often a quarter of them, another one each time, is hidden again and fires anew, in a tenth of the
            rounds; what was drawn early, from little, is thus drawn again from much.
        contrast: slope of the pixels' activation around 1/2 when the sample is shown. With slope 1 a pixel shows the
            mean of what it might be, which is paler than any one image.
        sure: if a label was given, the sample counts only once the network itself names it so, that label's drive
            leading all others by this much; until then it is drawn again. None lets every sample count.
        tries: most samples drawn for one; the one with the largest lead is kept.
    """

    rounds: int = 40
    repaints: int = 10
    contrast: float = 1.0
    sure: float | None = None
    tries: int = 10

    def __post_init__(self) -> None:
        require(self.rounds >= 1 and self.tries >= 1, f"Sampling needs rounds and tries >= 1, got {self}.")
        require(self.repaints >= 0 and self.contrast > 0, f"Sampling needs repaints >= 0 and contrast > 0, got {self}.")


@torch.no_grad()
def fire_missing_(
    net: Wiring, settling: Settling, state: State, free: Masks, *, sampling: Sampling, rng: Generator
) -> None:
    r"""A sample of the pixels, in place: :math:`P(x) = \prod_k P(x_k | x_1 \dots x_{k-1})`.

    In each round the network settles, and the next free pixels, in an order drawn for every row, spike with
    the probability that is their activity; they keep what they did, as if it had been given. Since the network
    learned to predict random parts from the rest, the rounds multiply to a sample, not to the mean.
    In the end the pixels show what they are driven to by the hidden units that the spikes have settled, so they are
    grey again.

    Args:
        net, settling: as in `Settling`; of its steps each round makes those that it needs.
        state, free: first activity and who is free; both are changed. ``free["pixels"]`` is 1 where a pixel is missing.
        sampling: rounds, repaints and contrast count here.
        rng: of order and spikes.
    """
    missing = free["pixels"]
    assert missing is not None
    pixels, left = state["pixels"], missing.clone()
    free["pixels"] = left
    _fire_(net, settling, state, free, sampling.rounds, rng)
    for _ in range(sampling.repaints):
        left.copy_((torch.rand(left.shape, generator=rng, device=rng.device) < 0.25).to(left)).mul_(missing)
        pixels.mul_(1 - left)
        _fire_(net, settling, state, free, max(1, sampling.rounds // 10), rng)
    for name in [name for name in free if name != "pixels"]:
        sweep(net, settling, state, free, name)
    drive = drive_of(net, state, "pixels", free, settling.whisper)
    shown = drive.sub_(0.5).mul_(sampling.contrast).add_(0.5).clamp_(0, 1)
    pixels.copy_(torch.where(missing > 0, shown, pixels))


def _fire_(net: Wiring, settling: Settling, state: State, free: Masks, rounds: int, rng: Generator) -> None:
    """All free pixels fire, in `rounds` rounds; then none is free any more."""
    pixels, left = state["pixels"], free["pixels"]
    assert left is not None
    luck = torch.rand(pixels.shape, generator=rng, device=rng.device).to(pixels)
    turn = luck.masked_fill(left == 0, 2).argsort(1).argsort(1) / left.sum(1, keepdim=True).clamp(min=1)
    for done in range(1, rounds + 1):
        settling(net, state, free)
        now = (turn < done / rounds) & (left > 0)
        pixels.copy_(torch.where(now, spikes(pixels, rng), pixels))
        left.masked_fill_(now, 0)


def lead(drives: Tensor, labels: Tensor) -> Tensor:
    """(n,) by how much the drive of each row's label, out of (n, classes), leads all others."""
    own = drives.gather(1, labels[:, None])
    return own[:, 0] - drives.scatter(1, labels[:, None], -torch.inf).amax(1)


def sweep(net: Wiring, settling: Settling, state: State, free: Masks, name: str) -> None:
    """One group goes to where its drive sends it; the given units of it stay."""
    goal, mask = drive_of(net, state, name, free, settling.whisper).clamp_(0, 1), free[name]
    state[name].copy_(goal if mask is None else torch.where(mask > 0, goal, state[name]))
