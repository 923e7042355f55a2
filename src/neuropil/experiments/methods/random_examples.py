"""The same architecture with random training images as its hidden weights, unchanged: where the local rules start."""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.methods import READOUT, Method
from neuropil.models import FeatureClassifier, dense_body, init_examples_


def build(train: Split, rng: Generator, units: int) -> Method:
    """Frozen features, trained readout: what a local rule adds is what it adds to this."""
    body = dense_body(train, units, n=2.0)
    init_examples_(body, train, rng)
    return Method("random examples", "baseline", FeatureClassifier(body, readout=READOUT))
