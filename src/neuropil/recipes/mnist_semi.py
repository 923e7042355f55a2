"""Few labels on MNIST: mSTDP that teaches itself the labels it is sure of, on images of which nobody said what they show.

A few images have a label, the rest of the training images have none. An image without a label is shown as it is, the
network settles, and if one label unit leads clearly, that label is taught on a turned, scaled and shifted copy of the
image: a teacher event like any other, only that the network is the teacher. Beside it, with the same labels: the same
network from the labelled images alone, backprop (same layer, same distortions), backprop that teaches itself in the
same way, random features and a linear model.

Measured: not yet.

Try: neuropil run mnist_semi --seeds 3 --out runs/mnist_semi
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from neuropil.data import Split, load, subset
from neuropil.evaluate import trial
from neuropil.learners import BackpropClassifier, Watch
from neuropil.learners.associative import Associative, Practice, Trial
from neuropil.recipes._associative import Settings, associative, augment, backprop, linear, practice, random_features
from neuropil.recipes._twins import Entrant
from neuropil.runs import Run, Tagged


@dataclass(frozen=True)
class Config(Settings):
    """Chosen on 10,000 images held out of the training part."""

    labels: tuple[int, ...] = (100, 1000)
    """numbers of labels"""
    lead: float = 0.5
    """an image without a label is taught the one that leads by so much when it is named"""
    copies: float = 0.15
    """labelled images are repeated until they are such a share of the others"""
    turn: float = 8.0
    """when labels are taught, images are turned by up to so many degrees, for backprop too"""
    scale: float = 0.08
    """and scaled and sheared by up to such a share"""
    shift: float = 1.0
    """and shifted by up to so many pixels"""
    names: int = 1
    """naming trials for each batch"""


class SelfTaught:
    """An associative network that has few labels, and images without."""

    def __init__(self, learner: Associative, images: Tensor, copies: float):
        self.learner, self.images, self.copies = learner, images, copies

    def fit(self, labelled: Split, *, rng: Generator, watch: Watch) -> "SelfTaught":
        """Learn from `labelled` and all images."""
        shown, labels = mixed(labelled, self.images, self.copies)
        self.learner.fit(shown, rng=rng, watch=watch, labels=labels)
        return self

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return self.learner.predict(x)


def mixed(labelled: Split, images: Tensor, copies: float) -> tuple[Split, Tensor]:
    """Labelled images, repeated until they are a share `copies` of `images`, and those; and the labels, -1 where none."""
    times = max(1, round(copies * len(images) / len(labelled)))
    x = torch.cat([labelled.x.repeat(times, *[1] * (labelled.x.ndim - 1)), images])
    labels = torch.cat([labelled.y.repeat(times), labelled.y.new_full((len(images),), -1)])
    return Split(x, labels.clamp(min=0), labelled.classes), labels
