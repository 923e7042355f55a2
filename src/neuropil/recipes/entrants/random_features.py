"""The same architecture with the hidden weights as they were drawn, N(0, 1): what the wiring alone achieves."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import FeatureClassifier, dense_body, draw_normal_
from neuropil.recipes.entrants import READOUT, Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """Frozen features, trained readout."""
    body = dense_body(train, units, n=1.0)
    draw_normal_(body, rng)
    return Entrant("random features", "twin", FeatureClassifier(body, readout=READOUT))
