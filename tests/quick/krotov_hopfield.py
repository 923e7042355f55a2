"""A local learner and a readout of few steps, for tests of what happens to a comparison."""

from torch import nn

import neuropil as npl
from neuropil.experiments.comparison import Method


def build(train, rng, units=20):
    """Krotov-Hopfield features under a readout."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(train.x[0].numel(), units, bias=False), nn.ReLU())
    nn.init.normal_(body[1].weight, generator=rng)
    learning = npl.LocalLearning({"1": npl.KrotovHopfield(p=2, k=2)}, epochs=3, batch=50, lr=0.1)
    readout = npl.SupervisedTraining(epochs=3, lr=1e-2, min_steps=30)
    return Method("Krotov-Hopfield", "local", npl.FeatureClassifier(body, learning=learning, readout=readout))
