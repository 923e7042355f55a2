"""The baselines of every comparison: one linear, one trained by backpropagation, one with frozen features.

Each is one function for the whole project. A recipe hands over its architecture and its settings.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Generator, nn

from neuropil.data import Split
from neuropil.experiments.comparison import Method, Methods
from neuropil.models import BackpropClassifier, FeatureClassifier, SupervisedTraining
from neuropil.models.training.augment import Augment

LINEAR = SupervisedTraining(epochs=20, batch=500, lr=1e-2, weight_decay=0.0, min_steps=1500)
"""Chosen on held-out training images, see docs/results/baselines.md."""


def linear(train: Split, rng: Generator, *, training: SupervisedTraining = LINEAR) -> Method:
    """Softmax regression: what any network with a hidden layer has to beat.

    https://hastie.su.domains/ElemStatLearn/

    Pixels are taken as they are; the features of a table, which may have different units, are standardised.
    """
    return linear_classifier("linear", training, standardise=train.x.ndim == 2)


def methods(*builders: Callable[..., Method], **renamed: Callable[..., Method]) -> Methods:
    """What a recipe compares, by short name: that of the function, or its keyword. The linear model is always there.

    Args:
        builders, renamed: functions of (config, train, rng), as `Methods` has them.
    """
    named = {builder.__name__: builder for builder in builders}
    return {**named, **renamed, "linear": lambda config, train, rng: linear(train, rng)}


def linear_classifier(name: str, training: SupervisedTraining, *, standardise: bool) -> Method:
    """Softmax regression on inputs as they are, or standardised."""
    learner = BackpropClassifier(nn.Sequential(nn.Flatten()), training=training, standardise=standardise)
    return Method(name, "baseline", learner)


def backprop(network: nn.Sequential, training: SupervisedTraining, *, name: str = "backprop") -> Method:
    """The architecture of the method under test with a linear layer on top, trained end to end.

    Args:
        network: everything below the linear layer, initialised.
        training: how all weights are trained.
        name: as it stands in tables.
    """
    return Method(name, "baseline", BackpropClassifier(network, training=training))


def relu_network(sizes: Sequence[int], rng: Generator) -> nn.Sequential:
    """Dense layers with ReLU on flattened inputs, from the inputs to the last hidden layer; He et al. 2015."""
    body = nn.Sequential(nn.Flatten())
    for inputs, units in pairwise(sizes):
        layer = nn.Linear(inputs, units)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=rng)
        nn.init.zeros_(layer.bias)
        body.extend([layer, nn.ReLU()])
    return body


def frozen_features(
    network: nn.Sequential,
    readout: SupervisedTraining,
    *,
    name: str = "random features",
    n_augmented: int = 0,
    augment: Augment | None = None,
    min_examples: int = 0,
) -> Method:
    """The architecture of the method under test with its initial weights, frozen, and a trained linear readout.

    Args:
        network: everything below the readout, initialised.
        readout: how the readout is trained.
        name: as it stands in tables.
        n_augmented, augment, min_examples: augmented copies for the readout, see `FeatureClassifier`.
    """
    copies = {"n_augmented": n_augmented, "augment": augment, "min_examples": min_examples}
    return Method(name, "baseline", FeatureClassifier(network, readout=readout, **copies))  # type: ignore[arg-type]
