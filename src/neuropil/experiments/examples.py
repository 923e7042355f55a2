"""Dense layers whose weights are training examples, frozen: a baseline for rules that start at random weights."""

import torch
from torch import Generator, nn

from neuropil.data import Split
from neuropil.models.nn.layers import unit

SAMPLE = 5000  # examples over which the spread of a drive is measured


@torch.no_grad()
def start_at_examples_(network: nn.Sequential, train: Split, rng: Generator, *, spread: float) -> None:
    """Let every dense layer of `network` have random examples of `train` as weights, in place, from below.

    A row is an example as it reaches the layer, without the mean of all examples. Its length and bias are such that
    the drive of the unit has mean 0 and standard deviation `spread` over the examples. Where a weight was 0, as outside
    of a receptive field, it stays 0.
    """
    order = torch.randperm(len(train), generator=rng).to(train.y.device)
    x = train[order[:SAMPLE]].pixels()
    for layer in network:
        if isinstance(layer, nn.Linear):
            mean, units = x.mean(0), len(layer.weight)
            chosen = torch.arange(units, device=x.device) % len(x)
            rows = unit((x[chosen] - mean) * (layer.weight != 0))
            rows *= spread / ((x - mean) @ rows.T).std(0).clamp_min(1e-6)[:, None]
            layer.weight.copy_(rows)
            layer.bias.copy_(-rows @ mean)
        x = layer(x)
