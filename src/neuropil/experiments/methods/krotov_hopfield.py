"""Krotov-Hopfield: the winner moves towards its input, the k-th away from it. No label, no error, no backward pass.

https://doi.org/10.1073/pnas.1820458116
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.methods import READOUT, Method
from neuropil.models import FeatureClassifier, LocalLearning, dense_body, init_examples_
from neuropil.plasticity import KrotovHopfield


def build(train: Split, rng: Generator, units: int) -> Method:
    """Units start at random examples, so that every unit is near some data and none is wasted."""
    body = dense_body(train, units, n=2.0)
    init_examples_(body, train, rng)
    rule = KrotovHopfield(p=2.0, k=7, delta=0.4, average=True, sparse=True)
    learning = LocalLearning({"hidden": rule}, epochs=4, batch=100, lr=0.3, min_steps=1000)
    return Method("Krotov-Hopfield", "local", FeatureClassifier(body, learning=learning, readout=READOUT), norm=2.0)
