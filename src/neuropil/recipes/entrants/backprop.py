"""The same architecture with every weight trained end to end by backprop."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import Backprop, BackpropClassifier, dense_body, draw_normal_
from neuropil.recipes.entrants import Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """Hidden weights drawn N(0, 1), inputs of unit norm, so drives start at scale 1."""
    body = dense_body(train, units, n=1.0)
    draw_normal_(body, rng)
    training = Backprop(epochs=30, batch=100, lr=1e-2, decay=0.1, steps=1500)
    return Entrant("backprop", "twin", BackpropClassifier(body, training=training))
