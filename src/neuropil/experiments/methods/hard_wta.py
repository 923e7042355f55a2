"""Hard winner-take-all: the winner moves to the mean of what it wins, online k-means with angles.

https://doi.org/10.1007/BF00344744
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.methods import READOUT, Method
from neuropil.models import FeatureClassifier, LocalLearning, dense_body, init_examples_
from neuropil.plasticity import HardWTA


def build(train: Split, rng: Generator, units: int) -> Method:
    """Units start at random examples."""
    body = dense_body(train, units, n=2.0)
    init_examples_(body, train, rng)
    rule = HardWTA(sparse=True)
    learning = LocalLearning({"hidden": rule}, epochs=4, batch=100, lr=0.05, min_steps=450, reduction="sum")
    return Method("hard WTA", "local", FeatureClassifier(body, learning=learning, readout=READOUT))
