"""Few labels on MNIST: mSTDP that assigns pseudo-labels to images without a label.

A few training images have a label. The network classifies every other image as it is. If the answer is clear, the
network learns it from an augmented copy of the image, by a nudge like any other. The baselines have the same labels.
They are the same network from the labelled images alone, backprop with the same layers and augmentation, and backprop
with pseudo-labels. Frozen training images as weights, random features and a linear model stand beside them.

Measured: test, n = 3, mean and 95 % interval, 20,000 images: 95.24 +- 0.31 % with 100 labels (labelled images alone
84.03 +- 3.62, backprop 85.57 +- 2.09, backprop with pseudo-labels 90.88 +- 0.94, linear 69.81 +- 3.84), 96.18 +- 0.33
with 1000 (94.64 +- 0.34, 95.52 +- 0.50, 97.23 +- 0.13, 85.41 +- 0.72).

Group: associative. Minutes: 15. Data: mnist.

Try: neuropil run mnist_semi --seeds 3 --n-train 20000 --out runs/mnist_semi
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Generator, Tensor

from neuropil.associative import AssociativeNetwork, AssociativeTraining, Nudge, Settling, Task
from neuropil.data import Split, subset
from neuropil.errors import at_least
from neuropil.evaluate import fit_and_score
from neuropil.experiments.associative import distortion, end_to_end, random_examples, random_features
from neuropil.experiments.baselines import linear
from neuropil.experiments.comparison import Build, Method, Origin, attempted, data_splits, save_learned
from neuropil.experiments.settings import DataSettings
from neuropil.runs import Run, Tracker


@dataclass(frozen=True)
class Config(DataSettings):
    """Chosen on 10,000 images held out of the training images."""

    shares: ClassVar[bool] = True
    labels: tuple[int, ...] = (100, 1000)  # numbers of labels
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself

    # an image gets a pseudo-label if the activity of that label unit exceeds all others by this much
    pseudo_label_margin: float = 0.5
    labelled_fraction: float = 0.15  # labelled images are repeated until their number is this fraction of the others

    # hidden units of each layer between pixels and label; the baselines have the same layers
    classification_units: tuple[int, ...] = (500,)
    # augmentation: largest rotation of an image in degrees, for the baselines trained by backprop too
    rotation: float = 8.0
    scale: float = 0.08  # augmentation: largest relative change of size and shear (0.1 = ten per cent)
    shift: float = 1.0  # augmentation: largest shift in pixels
    epochs: int = 8  # passes over the training images
    batch: int = 100  # images in a step
    min_steps: int = 1000  # fewest steps of the network that learns from labelled images alone
    classification_lr: float = 1e-3  # learning rate of synapses onto the hidden units
    label_lr: float = 3e-3  # learning rate of synapses onto the label units
    lr_decay: float = 0.7  # factor of all learning rates after each epoch
    max_iterations: int = 4  # most iterations of settling during training; ten times as many in use
    nudge_steps: int = 3  # iterations of the nudged phase

    backprop_epochs: int = 12  # passes over the training images of the baselines trained by backprop
    backprop_min_steps: int = 1500  # fewest steps of these baselines
    n_rounds: int = 2  # how often backprop with pseudo-labels labels the images and starts again

    def __post_init__(self) -> None:
        at_least(0, self, "labelled_fraction", "n_rounds")


def main(config: Config, run: Run) -> None:
    """Each number of labels with every method in turn; each of them reads the test set once."""
    train, test = data_splits("mnist", config.n_train, config.seed, device=config.device)
    run.update_metadata(data={"mnist": {"train": train.checksum(), "test": test.checksum()}})
    builds = methods(config)
    for index in run.loop("labels and learners", len(config.labels) * len(builds)):
        count, build = config.labels[index // len(builds)], builds[index % len(builds)]
        labelled, rng = subset(train, count, config.seed), torch.Generator().manual_seed(config.seed)
        work = partial(score, labelled=labelled, test=test, rng=rng)
        data = f"mnist, {count} labels"
        done = attempted(build, train, rng, work, run=run, data=data, seed=config.seed)
        if done is not None:
            method, accuracy = done
            facts = {"accuracy": accuracy, "n_train": count, "data": data, "seed": config.seed, "place": index}
            many = {"name": f"{method.name}, {count} labels"} if len(config.labels) > 1 else {}
            save_learned(method, run, Origin("mnist"), {**facts, **many}, f"{count} labels")


def score(method: Method, tracker: Tracker, *, labelled: Split, test: Split, rng: Generator) -> float:
    """The accuracy of the method, fitted to the labelled images; those without a label it knows already."""
    return fit_and_score(method.learner, labelled, test, rng=rng, tracker=tracker)


def methods(config: Config) -> list[Build]:
    """The network with all images and with the labelled ones alone, and its baselines."""
    units, augment = config.classification_units, distortion(config.rotation, config.scale, config.shift)
    by_backprop = partial(
        end_to_end, units=units, epochs=config.backprop_epochs, min_steps=config.backprop_min_steps, augment=augment
    )
    pseudo = partial(backprop_with_pseudo_labels, config, by_backprop)
    own = (partial(with_pseudo_labels, config), partial(labelled_only, config))
    frozen = (partial(random_examples, units=units), partial(random_features, units=units))
    return [*own, pseudo, by_backprop, *frozen, linear]


def with_pseudo_labels(config: Config, train: Split, rng: Generator) -> Method:
    """The network takes its own confident answers for the missing labels.

    https://arxiv.org/abs/1912.00009
    """
    task = Task("label", "all", pseudo_label_margin=config.pseudo_label_margin)
    learner = SelfTraining(network(config, task), train.x, config.labelled_fraction)
    return Method("mSTDP with pseudo-labels", "local", learner)


def labelled_only(config: Config, train: Split, rng: Generator) -> Method:
    """The same network without the images that have no label.

    https://arxiv.org/abs/1912.00009
    """
    learner = network(config, Task("label", "all"), min_steps=config.min_steps)
    return Method("mSTDP, labelled images only", "local", learner)


def backprop_with_pseudo_labels(config: Config, by_backprop: Build, train: Split, rng: Generator) -> Method:
    """Backprop that takes its confident answers for labels and starts again. Lee 2013 (pseudo-labels)."""
    learner = PseudoLabels(by_backprop(train, rng).learner, train.x, config.labelled_fraction, config.n_rounds)
    return Method("backprop with pseudo-labels", "baseline", learner)


def network(config: Config, task: Task, *, min_steps: int = 1) -> AssociativeNetwork:
    """One hidden population, one task."""
    lr = {"classification": config.classification_lr, "label": config.label_lr}
    augment = distortion(config.rotation, config.scale, config.shift)
    training = AssociativeTraining(
        (task,), config.epochs, config.batch, lr, lr_decay=config.lr_decay, augment=augment, min_steps=min_steps
    )
    settling, nudge = Settling(config.max_iterations, step_size=1.0, check_every=2), Nudge(config.nudge_steps)
    return AssociativeNetwork(config.classification_units, settling=settling, nudge=nudge, training=training)


@dataclass
class SelfTraining:
    """A learner that has few labels, and images without.

    Attributes:
        learner: the associative network.
        unlabelled: (n, channels, height, width), without labels.
        labelled_fraction: as in `mixed`.
    """

    learner: Any
    unlabelled: Tensor
    labelled_fraction: float

    def fit(self, labelled: Split, *, rng: Generator, tracker: Tracker) -> Self:
        """Learn from `labelled` and all images."""
        self.learner.fit(mixed(labelled, self.unlabelled, self.labelled_fraction), rng=rng, tracker=tracker)
        return self

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        labels: Tensor = self.learner.predict(x)
        return labels

    def save(self, path: Path, *, about: Mapping[str, Any]) -> Path:
        """The learner alone."""
        file: Path = self.learner.save(path, about=about)
        return file


@dataclass
class PseudoLabels(SelfTraining):
    """Backprop with few labels, and images without: as `SelfTraining`, in rounds.

    Attributes:
        learner: is fitted afresh in every round, at first to the labelled images alone.
        n_rounds: how often it labels the images and learns from its confident answers.
        confidence: least probability of such an answer.
    """

    n_rounds: int = 2
    confidence: float = 0.95

    def fit(self, labelled: Split, *, rng: Generator, tracker: Tracker) -> Self:
        """Learn from `labelled` and all images."""
        self.learner.fit(labelled, rng=rng, tracker=tracker)
        for _ in range(self.n_rounds):
            self.learner.fit(self._with_answers(labelled), rng=rng, tracker=tracker)
        return self

    def _with_answers(self, labelled: Split) -> Split:
        """Repeated labelled images, and those of the others whose answer is confident."""
        images = Split.unlabelled(self.unlabelled, labelled.classes)
        batches = images.batches(min(1000, len(images)))
        probabilities = torch.cat([self.learner.decision_function(batch.x).softmax(1) for batch in batches])
        best, answer = probabilities.max(1)
        confident = best >= self.confidence
        shown = mixed(labelled, self.unlabelled[confident], self.labelled_fraction)
        return Split(shown.x, torch.cat([shown.labelled().y, answer[confident]]), labelled.classes)


def mixed(labelled: Split, images: Tensor, labelled_fraction: float) -> Split:
    """Repeated labelled images, then `images`, which have no label."""
    times = max(1, round(labelled_fraction * len(images) / len(labelled)))
    x = torch.cat([labelled.x.repeat(times, *[1] * (labelled.x.ndim - 1)), images])
    labels = torch.cat([labelled.y.repeat(times), labelled.y.new_full((len(images),), -1)])
    return Split(x, labels, labelled.classes)
