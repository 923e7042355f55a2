"""SoftHebb: every unit learns in proportion to its share of a softmax over all units."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import FeatureClassifier, LocalLearning, dense_body, draw_examples_
from neuropil.plasticity import SoftHebb
from neuropil.recipes.entrants import READOUT, Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """Units start at random examples; the temperature is in units of the cosine between input and weight."""
    body = dense_body(train, units, n=2.0)
    draw_examples_(body, train, rng)
    learning = LocalLearning({"hidden": SoftHebb(tau=0.05)}, epochs=4, batch=100, lr=0.02, steps=450)
    return Entrant("SoftHebb", "local", FeatureClassifier(body, learning=learning, readout=READOUT), norm=2.0)
