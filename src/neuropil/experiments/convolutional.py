"""Convolutional features beside their baselines: the room that every experiment with local learning in depth shares.

A recipe says how a body is made (`stacked`) and how its layers learn (`LocalLearning`), and composes who takes part::

    builds = [
        local("SoftHebb", body, draw_kernels, learning, head),
        backprop(body, training),
        frozen("random patches", body, init_patches_, head),
        frozen("random features", body, draw_kernels, head),
        linear(head),
    ]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import unknown
from neuropil.experiments.comparison import Build, Method
from neuropil.experiments.machine import Machine
from neuropil.models import (
    BackpropClassifier,
    FeatureClassifier,
    LocalLearning,
    SupervisedTraining,
    gather_statistics_,
    init_kernels_,
)
from neuropil.models.training.augment import Augment

Body = Callable[[Split], nn.Sequential]
Start = Callable[[nn.Sequential, Split, Generator], None]


class Copies(NamedTuple):
    """The altered copies that a head learns from besides the images themselves, see `FeatureClassifier`."""

    n_augmented: int = 0
    augment: Augment | None = None
    min_examples: int = 0


NONE = Copies()


@dataclass(frozen=True)
class Settings(Machine):
    """What every convolutional experiment can be told, but for its body and how that learns."""

    seed: int = 0
    """of weights and order of examples"""
    readout_epochs: int = 12
    """passes of the readouts over the features"""
    readout_batch: int = 500
    """examples in a step of the readouts"""
    readout_lr: float = 3e-3
    """first learning rate of the readouts, falls linearly to 0"""
    readout_steps: int = 200
    """fewest steps of the readouts, where labels are few"""
    decay: float = 0.1
    """weight decay of the readouts"""
    smoothing: float = 0.1
    """label smoothing of every network with kernels"""
    copies: int = 0
    """altered copies of every labelled image that heads on frozen or learned features see besides the image"""
    examples: int = 0
    """fewest examples of these heads, copies included: few labels get as many more copies as this takes"""
    linear_lr: float = 4e-3
    """first learning rate of the linear model, which has neither decay nor smoothing"""
    backprop_epochs: int = 2
    """passes of backprop over the images"""
    backprop_batch: int = 20
    """images in a step of backprop"""
    backprop_lr: float = 1e-3
    """first learning rate of backprop, falls linearly to 0"""
    backprop_decay: float = 0.1
    """weight decay of backprop"""
    backprop_steps: int = 400
    """fewest steps of backprop, where labels are few"""
    labels: tuple[int, ...] = (600, 6000)
    """numbers of labels for the sample-efficiency curves; those not below the training set are left out"""
    n_train: int = 0
    """use only that many training images; 0 for all"""
    learners: tuple[str, ...] = ()
    """who takes part, by name; everybody if none is named"""


def readout(settings: Settings) -> SupervisedTraining:
    """The same head for everybody with frozen or locally learned features."""
    return SupervisedTraining(
        epochs=settings.readout_epochs,
        batch=settings.readout_batch,
        lr=settings.readout_lr,
        weight_decay=settings.decay,
        smoothing=settings.smoothing,
        min_steps=settings.readout_steps,
    )


def copied(settings: Settings, copy: Augment | None) -> Copies:
    """What these heads learn from besides the images, altered by `copy`."""
    return Copies(settings.copies, copy, settings.examples) if settings.copies or settings.examples else NONE


def end_to_end(settings: Settings, augment: Augment | None = None) -> SupervisedTraining:
    """How backprop trains; `augment` alters its images afresh in every pass."""
    return SupervisedTraining(
        epochs=settings.backprop_epochs,
        batch=settings.backprop_batch,
        lr=settings.backprop_lr,
        weight_decay=settings.backprop_decay,
        smoothing=settings.smoothing,
        min_steps=settings.backprop_steps,
        augment=augment,
    )


def draw_kernels(body: nn.Sequential, train: Split, rng: Generator) -> None:
    """Kernels from N(0, 1 / fan-in): where frozen random features and backprop start."""
    init_kernels_(body, rng)


def local(
    name: str,
    body: Body,
    start: Start,
    learning: LocalLearning,
    head: SupervisedTraining,
    *,
    norm: float | None = 2.0,
    copies: Copies = NONE,
) -> Build:
    """Kernels that learn locally from where `start` puts them; `norm` is that of their rule, see `Method`."""

    def build(train: Split, rng: Generator) -> Method:
        network = started(body, start, train, rng)
        learner = FeatureClassifier(network, learning=learning, readout=head, **copies._asdict())
        return Method(name, "local", learner, norm=norm)

    return build


def frozen(name: str, body: Body, start: Start, head: SupervisedTraining, *, copies: Copies = NONE) -> Build:
    """The same architecture with the kernels that `start` draws, unchanged."""

    def build(train: Split, rng: Generator) -> Method:
        network = started(body, start, train, rng)
        return Method(name, "baseline", FeatureClassifier(network, readout=head, **copies._asdict()))

    return build


def backprop(body: Body, training: SupervisedTraining, start: Start = draw_kernels) -> Build:
    """The same architecture, trained end to end."""

    def build(train: Split, rng: Generator) -> Method:
        return Method("backprop", "baseline", BackpropClassifier(started(body, start, train, rng), training=training))

    return build


def linear(lr: float) -> Build:
    """Softmax regression on standardised pixels."""

    def build(train: Split, rng: Generator) -> Method:
        head = SupervisedTraining(epochs=20, batch=500, lr=lr, weight_decay=0.0)
        return Method("linear", "baseline", FeatureClassifier(nn.Sequential(nn.Flatten()), readout=head))

    return build


def chosen(known: Mapping[str, Build], names: Sequence[str]) -> list[Build]:
    """Who is named, or everybody if nobody is."""
    for name in names:
        if name not in known:
            raise unknown("learner", name, list(known))
    return [known[name] for name in names or known]


def started(body: Body, start: Start, train: Split, rng: Generator) -> nn.Sequential:
    """A fresh body with its first kernels and, where it has such layers, statistics that go with them."""
    network = body(train).to(train.x.device)
    start(network, train, rng)
    gather_statistics_(network, train)
    return network
