"""The same architecture with all weights trained by backpropagation.

https://doi.org/10.1038/323533a0
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments import baselines
from neuropil.experiments.methods import Method
from neuropil.models import SupervisedTraining, dense_body, init_normal_


def build(train: Split, rng: Generator, units: int) -> Method:
    """Hidden weights start small, from N(0, 0.1^2), so that they can turn far."""
    network = dense_body(train, units, n=2.0)
    init_normal_(network, rng, std=0.1)
    training = SupervisedTraining(epochs=10, batch=100, lr=5e-3, weight_decay=0.1, smoothing=0.1, min_steps=1500)
    return baselines.backprop(network, training)
