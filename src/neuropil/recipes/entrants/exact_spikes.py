"""Theta neurons trained end to end by exact gradients: bright pixels spike early, who fires first names the class."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import ExactSpikes, Latency, SpikingClassifier
from neuropil.recipes.entrants import Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """One hidden layer of `units` neurons, silent at first."""
    low, high = (float(value) for value in train.pixels().aminmax())
    training = ExactSpikes(epochs=60, batch=100, lr=1e-2, flip=0.0, steps=500)
    learner = SpikingClassifier((units,), encode=Latency(low=low, high=high), training=training)
    return Entrant("exact spikes", "events", learner)
