"""Theta neurons trained end to end by exact gradients: bright pixels spike early, who fires first names the class."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import ExactSpikes, Latency, SpikingClassifier
from neuropil.recipes.entrants import Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """One hidden layer of `units` neurons, most of them and all outputs silent at first."""
    low, high = (float(value) for value in train.pixels().aminmax())
    training = ExactSpikes(
        epochs=20, batch=50, lr=5e-3, decay=None, flip=0.0, sharpness=3.0, inside=0.1, margin=0.1, clip=0.1, steps=300
    )
    encode = Latency(1.5, low=low, high=high, levels=16)
    learner = SpikingClassifier((units,), encode=encode, horizon=2.75, training=training)
    return Entrant("exact spikes", "events", learner)
