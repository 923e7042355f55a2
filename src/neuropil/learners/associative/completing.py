"""What is missing, pixel by pixel: some free units fire or stay silent and count as given from then on."""

import torch
from torch import Generator

from neuropil.learners.associative.settling import Masks, Settled, Settling, drive_of
from neuropil.learners.associative.trials import spikes
from neuropil.learners.associative.wiring import State, Wiring


@torch.no_grad()
def fire_missing_(
    net: Wiring, settling: Settling, state: State, free: Masks, *, rounds: int, rng: Generator
) -> Settled:
    r"""A sample of the pixels, in place: :math:`P(x) = \prod_k P(x_k | x_1 \dots x_{k-1})`.

    In each round the network settles, and the next free pixels, in an order drawn for every row, spike with
    the probability that is their activity; they keep what they did, as if it had been given. Since the network
    learned to predict random parts from the rest, the rounds multiply to a sample, not to the mean.
    In the end the pixels show what they are driven to by the hidden units that the spikes have settled, so they are
    grey again.

    Args:
        net, settling: as in `Settling`; of its steps each round makes those that it needs.
        state, free: first activity and who is free; both are changed. ``free["pixels"]`` is 1 where a pixel is missing.
        rounds: more rounds, fewer pixels that are drawn without knowing of each other.
        rng: of order and spikes.
    """
    missing = free["pixels"]
    assert missing is not None
    pixels, left = state["pixels"], missing.clone()
    free["pixels"] = left
    luck = torch.rand(pixels.shape, generator=rng, device=rng.device).to(pixels)
    turn = luck.masked_fill(missing == 0, 2).argsort(1).argsort(1) / missing.sum(1, keepdim=True).clamp(min=1)
    for done in range(1, rounds + 1):
        settled = settling(net, state, free)
        now = (turn < done / rounds) & (left > 0)
        pixels.copy_(torch.where(now, spikes(pixels, rng), pixels))
        left.masked_fill_(now, 0)
    for name in [name for name in free if name != "pixels"]:
        sweep(net, settling, state, free, name)
    grey = drive_of(net, state, "pixels", free, settling.whisper)
    pixels.copy_(torch.where(missing > 0, grey.clamp_(0, 1), pixels))
    return settled


def sweep(net: Wiring, settling: Settling, state: State, free: Masks, name: str) -> None:
    """One group goes to where its drive sends it; the given units of it stay."""
    goal, mask = drive_of(net, state, name, free, settling.whisper).clamp_(0, 1), free[name]
    state[name].copy_(goal if mask is None else torch.where(mask > 0, goal, state[name]))
