"""The same architecture with random training images as its hidden weights, unchanged: where the local rules start."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import FeatureClassifier, dense_body, draw_examples_
from neuropil.recipes.entrants import READOUT, Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """Frozen features, trained readout: what a local rule adds is what it adds to this."""
    body = dense_body(train, units, n=2.0)
    draw_examples_(body, train, rng)
    return Entrant("random examples", "twin", FeatureClassifier(body, readout=READOUT))
