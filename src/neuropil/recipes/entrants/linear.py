"""A linear model: softmax regression on standardised pixels. The least that anything with a hidden layer must beat."""

from torch import Generator, nn

from neuropil.data import Split
from neuropil.learners import Descent, FeatureClassifier
from neuropil.recipes.entrants import Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """No hidden layer, so neither `units` nor `rng` matters."""
    readout = Descent(lr=1e-2, decay=0.1, steps=1500)
    return Entrant("linear", "twin", FeatureClassifier(nn.Sequential(nn.Flatten()), readout=readout))
