"""Dense layers whose weights are training examples, frozen: a baseline for rules that start at random weights."""

import torch
from torch import Generator, nn

from neuropil.data import Split
from neuropil.models.nn.layers import unit

SAMPLE = 5000  # examples over which the spread of a drive is measured
ALIKE = 1e-5  # a spread of this fraction of the largest activity is rounding


@torch.no_grad()
def start_at_examples_(network: nn.Sequential, train: Split, rng: Generator, *, spread: float) -> None:
    """Let every dense layer of `network` have random examples of `train` as weights, in place, from below.

    A row is an example as it reaches the layer, without the mean of all examples. Its length and bias are such that
    the drive of the unit has mean 0 and standard deviation `spread` over the examples. Where a weight was 0, as outside
    of a receptive field, it stays 0. A unit whose drive is the same for all examples gets weights of 0.
    """
    order = torch.randperm(len(train), generator=rng).to(train.y.device)
    x = train[order[:SAMPLE]].pixels()
    for layer in network:
        if isinstance(layer, nn.Linear):
            mean, units = x.mean(0), len(layer.weight)
            chosen = torch.arange(units, device=x.device) % len(x)
            rows = unit((x[chosen] - mean) * (layer.weight != 0))
            deviation = ((x - mean) @ rows.T).std(0, correction=min(1, len(x) - 1))
            rows *= torch.where(deviation > ALIKE * x.abs().amax(), spread / deviation, 0)[:, None]
            layer.weight.copy_(rows)
            layer.bias.copy_(-rows @ mean)
        x = layer(x)
