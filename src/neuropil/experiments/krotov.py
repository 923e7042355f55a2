"""Krotov-Hopfield features beside their baselines: the experiment that `mnist_krotov` and `fashion_krotov` set up."""

from dataclasses import dataclass
from functools import partial

from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.experiments.comparison import Comparison, Method, single_seed
from neuropil.experiments.machine import Machine
from neuropil.models import (
    BackpropClassifier,
    FeatureClassifier,
    LocalLearning,
    SupervisedTraining,
    dense_body,
    init_examples_,
    init_normal_,
)
from neuropil.plasticity import KrotovHopfield


@dataclass(frozen=True)
class Settings(Machine):
    """What a Krotov-Hopfield experiment can be told."""

    seed: int = 0
    """of weights and order of examples"""
    units: int = 2000
    """hidden units of every learner that has them"""
    k: int = 7
    """rank of the unit that unlearns"""
    delta: float = 0.4
    """strength of unlearning"""
    lr: float = 0.3
    """first learning rate of the hidden units, falls linearly to 0"""
    epochs: int = 4
    """passes over the images, without labels"""
    batch: int = 200
    """images in a step of the hidden units"""
    n: float = 2.0
    """power of the rectified activation (RePU) of learned features and random examples"""
    n_random: float = 1.0
    """the same for random features, which prefer another"""
    n_backprop: float = 2.0
    """the same for backprop"""
    std_backprop: float = 0.05
    """spread of the hidden weights that backprop starts from"""
    readout_epochs: int = 50
    """passes of the readouts over the features"""
    readout_batch: int = 1000
    """examples in a step of the readouts"""
    readout_lr: float = 1e-2
    """first learning rate of the readouts, falls linearly to 0"""
    decay: float = 0.0
    """weight decay of the readout of learned features and random examples, and of backprop"""
    decay_random: float = 1.0
    """weight decay of the readout of random features"""
    smoothing: float = 0.1
    """label smoothing of every network with a hidden layer"""
    linear_lr: float = 4e-3
    """first learning rate of the linear model, which has neither decay nor smoothing"""
    backprop_epochs: int = 10
    """passes of backprop over the images"""
    backprop_lr: float = 2e-3
    """first learning rate of backprop, falls linearly to 0"""
    labels: tuple[int, ...] = (100, 1000, 10000)
    """numbers of labels for the sample-efficiency curves; those not below the training set are left out"""
    n_train: int = 0
    """use only that many training images; 0 for all"""

    def __post_init__(self) -> None:
        at_least(1, self, "units")


def readout(settings: Settings, decay: float) -> SupervisedTraining:
    """The same head for everybody but for its weight decay."""
    return SupervisedTraining(
        epochs=settings.readout_epochs,
        batch=settings.readout_batch,
        lr=settings.readout_lr,
        weight_decay=decay,
        smoothing=settings.smoothing,
    )


def krotov_hopfield(settings: Settings, train: Split, rng: Generator) -> Method:
    """Units start at random images; the winner moves towards the image, the k-th away from it."""
    body = dense_body(train, settings.units, n=settings.n)
    init_examples_(body, train, rng)
    rule = KrotovHopfield(p=2, k=settings.k, delta=settings.delta, average=True, sparse=True)
    learning = LocalLearning({"hidden": rule}, epochs=settings.epochs, batch=settings.batch, lr=settings.lr)
    learner = FeatureClassifier(body, learning=learning, readout=readout(settings, settings.decay))
    return Method("Krotov-Hopfield", "local", learner, norm=2.0)


def backprop(settings: Settings, train: Split, rng: Generator) -> Method:
    """The same architecture, trained end to end."""
    body = dense_body(train, settings.units, n=settings.n_backprop)
    init_normal_(body, rng, std=settings.std_backprop)
    training = SupervisedTraining(
        epochs=settings.backprop_epochs,
        batch=500,
        lr=settings.backprop_lr,
        weight_decay=settings.decay,
        smoothing=settings.smoothing,
    )
    return Method("backprop", "baseline", BackpropClassifier(body, training=training))


def random_examples(settings: Settings, train: Split, rng: Generator) -> Method:
    """The same architecture where the local rule starts: random images as weights, frozen."""
    body = dense_body(train, settings.units, n=settings.n)
    init_examples_(body, train, rng)
    return Method("random examples", "baseline", FeatureClassifier(body, readout=readout(settings, settings.decay)))


def random_features(settings: Settings, train: Split, rng: Generator) -> Method:
    """The same architecture with weights from N(0, 1), frozen."""
    body = dense_body(train, settings.units, n=settings.n_random)
    init_normal_(body, rng)
    return Method(
        "random features", "baseline", FeatureClassifier(body, readout=readout(settings, settings.decay_random))
    )


def linear(settings: Settings, train: Split, rng: Generator) -> Method:
    """Softmax regression on standardised pixels."""
    head = SupervisedTraining(epochs=20, batch=500, lr=settings.linear_lr, weight_decay=0.0)
    return Method("linear", "baseline", FeatureClassifier(nn.Sequential(nn.Flatten()), readout=head))


def krotov_comparison(data: str, settings: Settings) -> Comparison:
    """The local learner and its baselines on `data`, one seed."""
    builds = [
        partial(build, settings) for build in (krotov_hopfield, backprop, random_examples, random_features, linear)
    ]
    return single_seed(builds, data, settings.seed, settings.n_train, device=settings.device)
