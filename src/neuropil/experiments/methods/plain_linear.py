"""Softmax regression on the pixels as they are, with strong weight decay: the linear classifier hard to attack."""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments import baselines
from neuropil.experiments.methods import Method


def build(train: Split, rng: Generator, units: int) -> Method:
    """No hidden layer, so `units` does not matter."""
    return baselines.plain_linear(train, rng)
