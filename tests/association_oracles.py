"""What a label event tells each neuron, by loops."""

import math

import torch
from torch import Tensor

from neuropil.plasticity import Association


def error_by_hand(rule: Association, drive: Tensor, label: Tensor) -> Tensor:
    """t - s of who takes part, (batch, neurons): a loop over samples and neurons, competition by sorting."""
    out = torch.zeros_like(drive)
    size = drive.shape[1] // rule.columns
    for b, y in enumerate(label.tolist()):
        for column in range(rule.columns):
            camps = [[], []]
            for j in range(column * size, (column + 1) * size):
                camps[j % rule.classes == y].append((drive[b, j].item(), j))
            for fires, camp in enumerate(camps):
                for u, j in sorted(camp, reverse=True)[: rule.k]:
                    out[b, j] = fires - 1 / (1 + math.exp(-rule.slope * u))
    return out
