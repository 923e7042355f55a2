"""The same architecture with every weight trained end to end by backprop."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import BackpropClassifier, Descent, dense_body, draw_normal_
from neuropil.recipes.entrants import Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """Hidden weights start small, from N(0, 0.1^2), so that they can turn far."""
    body = dense_body(train, units, n=2.0)
    draw_normal_(body, rng, std=0.1)
    training = Descent(epochs=10, batch=100, lr=5e-3, decay=0.1, smoothing=0.1, steps=1500)
    return Entrant("backprop", "twin", BackpropClassifier(body, training=training))
