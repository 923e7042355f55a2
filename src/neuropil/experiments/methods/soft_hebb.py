"""SoftHebb: every unit learns in proportion to its share of a softmax over all units.

https://doi.org/10.1088/2634-4386/aca710
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.methods import READOUT, Method
from neuropil.models import FeatureClassifier, LocalLearning, dense_body, init_examples_
from neuropil.plasticity import SoftHebb


def build(train: Split, rng: Generator, units: int) -> Method:
    """Units start at random examples; the temperature is in units of the cosine between input and weight."""
    body = dense_body(train, units, n=2.0)
    init_examples_(body, train, rng)
    rule = SoftHebb(tau=0.05)
    learning = LocalLearning({"hidden": rule}, epochs=4, batch=100, lr=0.02, min_steps=450, reduction="sum")
    return Method("SoftHebb", "local", FeatureClassifier(body, learning=learning, readout=READOUT), norm=2.0)
