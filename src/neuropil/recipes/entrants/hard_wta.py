"""Hard winner-take-all: the winner moves to the mean of what it wins, online k-means with angles."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import FeatureClassifier, LocalLearning, dense_body, draw_examples_
from neuropil.plasticity import HardWTA
from neuropil.recipes.entrants import READOUT, Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """Units start at random examples."""
    body = dense_body(train, units, n=2.0)
    draw_examples_(body, train, rng)
    learning = LocalLearning({"hidden": HardWTA(sparse=True)}, epochs=4, batch=100, lr=0.05, steps=450)
    return Entrant("hard WTA", "local", FeatureClassifier(body, learning=learning, readout=READOUT))
