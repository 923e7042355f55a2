"""The same architecture with random training examples as frozen hidden weights: where the local rules start.

https://proceedings.mlr.press/v15/coates11a.html
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments import baselines
from neuropil.experiments.methods import READOUT, Method
from neuropil.models import dense_body, init_examples_


def build(train: Split, rng: Generator, units: int) -> Method:
    """Frozen features, trained readout: what a local rule adds is what it adds to this."""
    network = dense_body(train, units, n=2.0)
    init_examples_(network, train, rng)
    return baselines.frozen_features(network, READOUT, name="random examples")
