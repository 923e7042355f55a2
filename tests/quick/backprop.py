"""A baseline of few steps, for tests of what happens to a comparison."""

from neuropil import SupervisedTraining
from neuropil.experiments import baselines


def build(train, rng, units=20):
    """A network with as many hidden units, trained end to end."""
    network = baselines.relu_network([train.x[0].numel(), units], rng)
    return baselines.backprop(network, SupervisedTraining(epochs=3, lr=1e-2, min_steps=30))
