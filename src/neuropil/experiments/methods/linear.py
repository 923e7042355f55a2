"""A linear model: softmax regression on standardised pixels. The least that anything with a hidden layer must beat."""

from torch import Generator, nn

from neuropil.data import Split
from neuropil.experiments.methods import Method
from neuropil.models import FeatureClassifier, SupervisedTraining


def build(train: Split, rng: Generator, units: int) -> Method:
    """No hidden layer, so neither `units` nor `rng` matters."""
    readout = SupervisedTraining(lr=1e-2, weight_decay=0.1, min_steps=1500)
    return Method("linear", "baseline", FeatureClassifier(nn.Sequential(nn.Flatten()), readout=readout))
