"""Softmax regression on the pixels as they are, weights kept small: the linear model that is hard to fool."""

from torch import Generator, nn

from neuropil.data import Split
from neuropil.experiments.methods import Method
from neuropil.models import BackpropClassifier, SupervisedTraining


def build(train: Split, rng: Generator, units: int) -> Method:
    """`linear` divides every pixel by its spread, so that pixels which hardly vary weigh much; this one does not."""
    training = SupervisedTraining(lr=1e-2, weight_decay=1.0, min_steps=1500)
    return Method(
        "plain linear",
        "baseline",
        BackpropClassifier(nn.Sequential(nn.Flatten()), training=training, standardise=False),
    )
