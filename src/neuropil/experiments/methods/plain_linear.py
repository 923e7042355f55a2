"""Softmax regression on the pixels as they are, with strong weight decay: the linear classifier hard to attack.

https://hastie.su.domains/ElemStatLearn/
"""

from dataclasses import replace

from torch import Generator

from neuropil.data import Split
from neuropil.experiments import baselines
from neuropil.experiments.methods import Method


def build(train: Split, rng: Generator, units: int) -> Method:
    """No hidden layer, so `units` does not matter."""
    strong = replace(baselines.LINEAR, weight_decay=1.0)
    return baselines.linear_classifier("plain linear", strong, standardise=False)
