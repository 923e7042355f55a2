"""A linear classifier: softmax regression, the least that anything with a hidden layer must beat.

https://hastie.su.domains/ElemStatLearn/
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments import baselines
from neuropil.experiments.methods import Method


def build(train: Split, rng: Generator, units: int) -> Method:
    """No hidden layer, so `units` does not matter."""
    return baselines.linear(train, rng)
