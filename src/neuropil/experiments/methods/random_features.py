"""The same architecture with the hidden weights as they were drawn, N(0, 1): what the wiring alone achieves."""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.methods import READOUT, Method
from neuropil.models import FeatureClassifier, dense_body, init_normal_


def build(train: Split, rng: Generator, units: int) -> Method:
    """Frozen features, trained readout."""
    body = dense_body(train, units, n=1.0)
    init_normal_(body, rng)
    return Method("random features", "baseline", FeatureClassifier(body, readout=READOUT))
