"""Krotov-Hopfield features beside their twins: the experiment that `mnist_krotov` and `fashion_krotov` set up."""

from dataclasses import dataclass
from functools import partial

from torch import Generator, nn

from neuropil.checks import at_least
from neuropil.data import Split
from neuropil.learners import (
    BackpropClassifier,
    Descent,
    FeatureClassifier,
    LocalLearning,
    dense_body,
    draw_examples_,
    draw_normal_,
)
from neuropil.plasticity import KrotovHopfield
from neuropil.recipes._twins import Comparison, Entrant, of_one_seed


@dataclass(frozen=True)
class Settings:
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


def readout(settings: Settings, decay: float) -> Descent:
    """The same head for everybody but for its weight decay."""
    return Descent(
        epochs=settings.readout_epochs,
        batch=settings.readout_batch,
        lr=settings.readout_lr,
        decay=decay,
        smoothing=settings.smoothing,
    )


def krotov_hopfield(settings: Settings, train: Split, rng: Generator) -> Entrant:
    """Units start at random images; the winner moves towards the image, the k-th away from it."""
    body = dense_body(train, settings.units, n=settings.n)
    draw_examples_(body, train, rng)
    rule = KrotovHopfield(p=2, k=settings.k, delta=settings.delta, average=True, sparse=True)
    learning = LocalLearning({"hidden": rule}, epochs=settings.epochs, batch=settings.batch, lr=settings.lr)
    learner = FeatureClassifier(body, learning=learning, readout=readout(settings, settings.decay))
    return Entrant("Krotov-Hopfield", "local", learner, norm=2.0)


def backprop(settings: Settings, train: Split, rng: Generator) -> Entrant:
    """The same architecture, trained end to end."""
    body = dense_body(train, settings.units, n=settings.n_backprop)
    draw_normal_(body, rng, std=settings.std_backprop)
    training = Descent(
        epochs=settings.backprop_epochs,
        batch=500,
        lr=settings.backprop_lr,
        decay=settings.decay,
        smoothing=settings.smoothing,
    )
    return Entrant("backprop", "twin", BackpropClassifier(body, training=training))


def random_examples(settings: Settings, train: Split, rng: Generator) -> Entrant:
    """The same architecture where the local rule starts: random images as weights, frozen."""
    body = dense_body(train, settings.units, n=settings.n)
    draw_examples_(body, train, rng)
    return Entrant("random examples", "twin", FeatureClassifier(body, readout=readout(settings, settings.decay)))


def random_features(settings: Settings, train: Split, rng: Generator) -> Entrant:
    """The same architecture with weights from N(0, 1), frozen."""
    body = dense_body(train, settings.units, n=settings.n_random)
    draw_normal_(body, rng)
    return Entrant("random features", "twin", FeatureClassifier(body, readout=readout(settings, settings.decay_random)))


def linear(settings: Settings, train: Split, rng: Generator) -> Entrant:
    """Softmax regression on standardised pixels."""
    head = Descent(epochs=20, batch=500, lr=settings.linear_lr, decay=0.0)
    return Entrant("linear", "twin", FeatureClassifier(nn.Sequential(nn.Flatten()), readout=head))


def krotov_comparison(data: str, settings: Settings) -> Comparison:
    """The local learner and its twins on `data`, one seed."""
    builds = [
        partial(build, settings) for build in (krotov_hopfield, backprop, random_examples, random_features, linear)
    ]
    return of_one_seed(builds, data, settings.seed, settings.n_train)
