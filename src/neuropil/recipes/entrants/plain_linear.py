"""Softmax regression on the pixels as they are, weights kept small: the linear model that is hard to fool."""

from torch import Generator, nn

from neuropil.data import Split
from neuropil.learners import BackpropClassifier, Descent
from neuropil.recipes.entrants import Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """`linear` divides every pixel by its spread, so that pixels which hardly vary weigh much; this one does not."""
    training = Descent(lr=1e-2, decay=1.0, steps=1500)
    return Entrant(
        "plain linear", "twin", BackpropClassifier(nn.Sequential(nn.Flatten()), training=training, standardise=False)
    )
