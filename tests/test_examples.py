"""Frozen training examples as weights: what their units are driven by."""

import pytest
import torch
from torch import nn

from common import rng
from neuropil.data import Split
from neuropil.experiments import examples
from neuropil.experiments.examples import start_at_examples_


def test_examples_come_from_all_of_the_data(monkeypatch):
    monkeypatch.setattr(examples, "SAMPLE", 20)
    x = torch.eye(200)  # sorted, each example unlike all others
    network = nn.Sequential(nn.Linear(200, 15))
    start_at_examples_(network, Split(x, torch.arange(200) // 20, 10), rng(1), spread=0.37)
    assert network[0].weight.argmax(1).unique().numel() == 15
    assert network[0].weight.argmax(1).max() >= 150


@pytest.mark.parametrize("x", [torch.rand(1, 6, generator=rng(3)), torch.rand(1, 6, generator=rng(3)).repeat(20, 1)])
def test_units_that_nothing_drives_differently_are_silent(x):
    network = nn.Sequential(nn.Linear(6, 4), nn.Hardtanh(0, 1), nn.Linear(4, 3))
    start_at_examples_(network, Split(x, torch.zeros(len(x), dtype=torch.int64), 1), rng(1), spread=0.37)
    assert not any(part.any() for part in network.parameters())


def test_rows_are_examples_without_their_mean_and_drives_have_the_spread():
    x = torch.rand(40, 1, 3, 4, generator=rng(2)) * torch.arange(1, 13).view(3, 4) / 12
    train = Split(x, torch.arange(40) % 2, 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.Hardtanh(0, 1), nn.Linear(7, 5))
    network[1].weight.data[:3, 8:] = 0  # a receptive field
    start_at_examples_(network, train, rng(1), spread=0.37)
    below = x.flatten(1)
    for layer in (network[1], network[3]):
        drive = layer(below).detach()
        torch.testing.assert_close(drive.mean(0), torch.zeros(len(layer.weight)), rtol=0, atol=1e-6)
        torch.testing.assert_close(drive.std(0), torch.full_like(drive[0], 0.37))
        centred, seen = below - below.mean(0), (layer.weight != 0).float()
        cosines = torch.stack([nn.functional.cosine_similarity(row, centred * s) for row, s in zip(layer.weight, seen)])
        assert cosines.max(1).values.tolist() == pytest.approx([1.0] * len(cosines), abs=1e-6)
        assert cosines.argmax(1).unique().numel() == len(cosines), "an example was taken twice"
        below = below if layer is network[3] else nn.functional.hardtanh(drive, 0, 1)
    assert (network[1].weight[:3, 8:] == 0).all()
    assert (network[1].weight[3:] != 0).all()
