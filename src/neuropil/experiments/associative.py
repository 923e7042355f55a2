"""Associative networks (mSTDP, aSTDP) beside their baselines: what `digits_mstdp` and `mnist_mstdp` share."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Generator, Tensor, nn

from neuropil.associative import (
    DRAW,
    NAME,
    NAME_PART,
    AssociativeNetwork,
    AssociativeTraining,
    Sampling,
    Settling,
    Teacher,
    from_tensors,
    to_tensors,
)
from neuropil.data import Split
from neuropil.experiments.comparison import After, Comparison, Method, single_seed
from neuropil.experiments.generation import log_generation_scores
from neuropil.experiments.machine import Machine
from neuropil.models import BackpropClassifier, Distort, FeatureClassifier, SupervisedTraining
from neuropil.models.training.augment import Augment
from neuropil.runs import TaggedTracker

NET = "associative."  # before the names of its tensors in a run


@dataclass(frozen=True)
class Settings(Machine):
    """What an associative experiment can be told."""

    seed: int = 0
    """of weights, order of examples, masks and spikes"""
    naming: tuple[int, ...] = (500,)
    """hidden units between pixels and label; the hidden layers of backprop and of random features too"""
    direct: bool = False
    """with two or more of these layers: whether pixels reach each of them, and each of them the label, directly"""
    drawing: int = 0
    """hidden units that draw; 0 learns to name only"""
    parts: int = 0
    """hidden units that name images of which a part is missing; 0 for none"""
    occluded: float = 0.0
    """share of the parts of images that it practises with which are all but a rectangle"""
    names: int = 2
    """naming trials with a whole image for each drawing trial, and as many with a part if there are `parts` units"""
    epochs: int = 6
    """passes over the images"""
    batch: int = 100
    """images in a trial"""
    naming_rate: float = 1e-3
    """learning rate of the synapses onto the naming units"""
    label_rate: float = 3e-3
    """learning rate of the synapses onto the label"""
    drawing_rate: float = 2e-3
    """learning rate of the synapses onto the drawing units"""
    pixel_rate: float = 2e-3
    """learning rate of the synapses onto the pixels"""
    decay: float = 0.65
    """factor of the rates from epoch to epoch"""
    gain: float = 0.5
    """spread of the first weights onto units that name, in units of Glorot's"""
    turn: float = 0.0
    """when labels are taught, images are turned by up to so many degrees, for backprop too"""
    scale: float = 0.0
    """and scaled and sheared by up to such a share"""
    shift: float = 0.0
    """and shifted by up to so many pixels"""
    settle: int = 4
    """most steps of settling while it learns, ten times as many later"""
    step: float = 1.0
    """size of a step of settling"""
    tolerance: float = 1e-2
    """settled when no free unit is further than this from where its drive sends it"""
    momentum: float = 0.0
    """of settling"""
    whisper: float = 0.1
    """share of their activity that missing pixels send to the units that draw"""
    teach: int = 2
    """steps of a teacher event"""
    strength: float = 0.5
    """of the teacher's pull"""
    reach: float = 0.0
    """factor of the numerical derivative that sets targets (aSTDP); 0 for none (mSTDP)"""
    backprop_epochs: int = 12
    """passes of backprop over the images"""
    baselines: bool = True
    """whether to train backprop, random features and a linear model beside it"""
    draw: int = 100
    """drawings of each class that the judge is shown, if it draws"""
    contrast: float = 1.0
    """of drawings, see `Sampling`"""
    sure: float = 0.8
    """a drawing counts once the network names it as asked and that label leads by so much; 0 lets every one count"""
    n_train: int = 0
    """use only that many training images; 0 for all"""
    threads: int = 1
    """threads of the CPU; 0 for as many as torch takes by itself"""


@dataclass(frozen=True)
class OneStep:
    """What aSTDP changes in the settings of mSTDP."""

    teach: int = 1
    """steps of a teacher event"""
    reach: float = 2.0
    """factor of the numerical derivative that sets targets (aSTDP); 0 for none (mSTDP)"""


def settling(settings: Settings) -> Settling:
    """How it settles."""
    return Settling(
        settings.settle,
        step=settings.step,
        momentum=settings.momentum,
        whisper=settings.whisper,
        tolerance=settings.tolerance,
        check=2,
    )


def teacher(settings: Settings) -> Teacher:
    """How teacher events go."""
    return Teacher(settings.teach, settings.strength, reach=settings.reach or None)


def sampling(settings: Settings) -> Sampling:
    """How it draws."""
    return Sampling(contrast=settings.contrast, sure=settings.sure or None)


def augment(settings: Settings) -> Augment | None:
    """What is made of the images when labels are taught."""
    if not any((settings.turn, settings.scale, settings.shift)):
        return None
    return Distort(settings.turn, settings.scale, settings.scale, settings.shift)


def associative(settings: Settings, train: Split, rng: Generator) -> Method:
    """The network under test."""
    learner = AssociativeNetwork(
        settings.naming,
        settings.drawing,
        settings.parts,
        settling=settling(settings),
        teacher=teacher(settings),
        practice=practice(settings),
        sampling=sampling(settings),
        direct=settings.direct,
        gains={"naming": settings.gain, "parts": settings.gain},
    )
    return Method("aSTDP" if settings.reach else "mSTDP", "local", learner, competes=False)


def practice(settings: Settings) -> AssociativeTraining:
    """How it learns."""
    parts = settings.names * (settings.parts > 0)
    trials = (*(NAME,) * settings.names, *(NAME_PART,) * parts, *(DRAW,) * (settings.drawing > 0))
    rates = {
        "naming": settings.naming_rate,
        "parts": settings.naming_rate,
        "label": settings.label_rate,
        "drawing": settings.drawing_rate,
        "pixels": settings.pixel_rate,
    }
    return AssociativeTraining(
        trials=tuple(replace(trial, occluded=settings.occluded) for trial in trials),
        epochs=settings.epochs,
        batch=settings.batch,
        rates=rates,
        lr_decay=settings.decay,
        augment=augment(settings),
    )


def hard_body(train: Split, hidden: tuple[int, ...], rng: Generator) -> nn.Sequential:
    """The layers of the naming path with the same activation, min(max(u, 0), 1), drawn by Glorot's rule."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten())
    sizes = (train.x[0].numel(), *hidden)
    for k, (inputs, units) in enumerate(zip(sizes, hidden), start=1):
        layer = nn.Linear(inputs, units)
        nn.init.xavier_normal_(layer.weight, generator=rng)
        nn.init.zeros_(layer.bias)
        layers["hidden" if k == 1 else f"hidden{k}"] = layer
        layers[f"active{k}"] = nn.Hardtanh(0, 1)
    return nn.Sequential(layers)


def backprop(settings: Settings, train: Split, rng: Generator) -> Method:
    """The same architecture, every weight by backprop."""
    training = SupervisedTraining(
        epochs=settings.backprop_epochs, batch=100, lr=2e-3, min_steps=1500, augment=augment(settings)
    )
    return Method("backprop", "baseline", BackpropClassifier(hard_body(train, settings.naming, rng), training=training))


def random_features(settings: Settings, train: Split, rng: Generator) -> Method:
    """The same architecture, its hidden weights as they were drawn."""
    readout = SupervisedTraining(epochs=20, batch=500, lr=1e-2, weight_decay=0.0, min_steps=1500)
    return Method(
        "random features", "baseline", FeatureClassifier(hard_body(train, settings.naming, rng), readout=readout)
    )


def linear(settings: Settings, train: Split, rng: Generator) -> Method:
    """Softmax regression on standardised pixels."""
    head = SupervisedTraining(epochs=20, batch=500, lr=4e-3, weight_decay=1e-3, min_steps=1500)
    return Method("linear", "baseline", FeatureClassifier(nn.Sequential(nn.Flatten()), readout=head))


def associative_comparison(data: str, settings: Settings) -> Comparison:
    """The associative network and its baselines on `data`, one seed."""
    builds = [associative, *((backprop, random_features, linear) if settings.baselines else ())]
    return single_seed(
        [partial(build, settings) for build in builds], data, settings.seed, settings.n_train, device=settings.device
    )


def save_and_score(settings: Settings) -> After:
    """Saves the network, so that `neuropil generate` and `neuropil complete` can use it, and judges its drawings."""

    def after(method: Method, train: Split, test: Split, tracker: TaggedTracker) -> None:
        if method.family != "local":
            return
        tracker.run.save(**{NET + name: part for name, part in to_tensors(method.learner).items()})
        if settings.drawing:
            log_generation_scores(
                method, train, test, each=settings.draw, seed=settings.seed, tracker=tracker, run=tracker.run
            )

    return after


def revive(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> AssociativeNetwork:
    """The network of a finished run, from its settings and its tensors."""
    mine = {key.removeprefix(NET): part for key, part in tensors.items() if key.startswith(NET)}
    wanted = ("settle", "step", "momentum", "whisper", "tolerance", "contrast", "sure")
    settings = Settings(**{name: config[name] for name in wanted if name in config})
    return from_tensors(mine, settling=settling(settings), sampling=sampling(settings))
