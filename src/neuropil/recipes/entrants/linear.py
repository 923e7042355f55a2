"""A linear model: softmax regression on standardised pixels. The least that anything with a hidden layer must beat."""

from torch import Generator, nn

from neuropil.data import Split
from neuropil.learners import FeatureClassifier
from neuropil.recipes.entrants import Entrant


def build(train: Split, units: int, rng: Generator) -> Entrant:
    """No hidden layer, so neither `units` nor `rng` matters."""
    return Entrant("linear", "twin", FeatureClassifier(nn.Sequential(nn.Flatten())))
