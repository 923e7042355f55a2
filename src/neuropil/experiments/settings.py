"""Settings that recipes share. A `Config` inherits them, and gives a default of its own where it needs another."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from neuropil.errors import at_least
from neuropil.experiments.comparison import Build, Comparison, Methods, plan_on
from neuropil.experiments.machine import Machine
from neuropil.experiments.own_learners import chosen
from neuropil.models import Distort, Mirror, SupervisedTraining
from neuropil.models.training.augment import Augment

DISTORT, SHIFT = Distort(rotation=10, scale=0.1, shear=0.1, shift=1.5), Distort(rotation=0, scale=0, shear=0, shift=1)
AUGMENT: dict[str, Augment] = {"mnist": DISTORT, "fashion_mnist": SHIFT, "cifar10": Mirror()}
"""How images are augmented for backprop, afresh in every pass; images of other data sets are shifted."""
AUGMENT_COPIES: dict[str, Augment] = {**AUGMENT, "cifar10": Mirror(1.0)}
"""How the copies of images are augmented from which readouts learn."""


@dataclass(frozen=True)
class DataSettings(Machine):
    """From how many examples is learned, with which seed."""

    seed: int = 0  # seed of all that is random, such as first weights and the order of examples
    n_train: int = 0  # use only that many training examples; 0 for all


@dataclass(frozen=True)
class ComparisonSettings(DataSettings):
    """Besides, which methods learn."""

    learners: tuple[str, ...] = ()  # methods to run, by short name, or ./mine.py; all if none is named

    def plan(self, methods: Methods, data: str, *, min_side: int = 0) -> Comparison:
        """The named ones of `methods` on a data set. Each is called with these settings, the examples, a generator.

        With `min_side` above 0, data are refused that are no images with at least so many pixels a side.
        """
        at_least(0, self, *(name for name in vars(self) if name.endswith("weight_decay")))
        builds: dict[str, Build] = {name: partial(build, self) for name, build in methods.items()}
        own = chosen(builds, self.learners, getattr(self, "units", None))
        return plan_on(data, self.n_train, [self.seed], own, self.device, min_side)


@dataclass(frozen=True)
class BackpropSettings(ComparisonSettings):
    """Besides, how the baseline is trained that learns end to end."""

    backprop_epochs: int = 10  # passes of backprop over the examples
    backprop_batch: int = 500  # examples in a step of backprop
    backprop_lr: float = 2e-3  # first learning rate of backprop, falls linearly to 0
    backprop_weight_decay: float = 0.1  # weight decay of backprop
    smoothing: float = 0.1  # label smoothing of every network with a hidden layer

    def end_to_end(self, min_steps: int, augment: Augment | None = None) -> SupervisedTraining:
        """How all weights of a network are trained by backprop."""
        epochs, batch, decay = self.backprop_epochs, self.backprop_batch, self.backprop_weight_decay
        return SupervisedTraining(epochs, batch, self.backprop_lr, decay, self.smoothing, min_steps, augment)


@dataclass(frozen=True)
class FeatureSettings(BackpropSettings):
    """Besides, how linear readouts of learned and of frozen features are trained, and with how many labels."""

    shares: ClassVar[bool] = True
    # numbers of labels for the sample-efficiency curves; those not below the training set are left out
    labels: tuple[int, ...] = ()
    readout_epochs: int = 12  # passes of the readouts over the features
    readout_batch: int = 500  # examples in a step of the readouts
    readout_lr: float = 1e-3  # first learning rate of the readouts, falls linearly to 0
    readout_min_steps: int = 200  # fewest steps of the readouts, where labels are few
    weight_decay: float = 0.0  # weight decay of the readouts
    backprop_min_steps: int = 500  # fewest steps of backprop, where labels are few

    def readout(self, weight_decay: float | None = None) -> SupervisedTraining:
        """How a readout is trained; with `weight_decay` in place of the chosen one if that is given."""
        decay = self.weight_decay if weight_decay is None else weight_decay
        epochs, batch, lr = self.readout_epochs, self.readout_batch, self.readout_lr
        return SupervisedTraining(epochs, batch, lr, decay, self.smoothing, self.readout_min_steps)


@dataclass(frozen=True)
class AugmentedSettings(FeatureSettings):
    """Besides, the augmented copies of images from which readouts learn."""

    n_augmented: int = 0  # augmented copies of every labelled image from which readouts learn besides the image
    # fewest examples of the readouts, copies included; few labels get as many more copies as this takes
    min_examples: int = 0

    def copies(self, data: str) -> dict[str, Any]:
        """The augmented copies, as arguments of `FeatureClassifier`."""
        augment = AUGMENT_COPIES.get(data, SHIFT) if self.n_augmented or self.min_examples else None
        return {"n_augmented": self.n_augmented, "augment": augment, "min_examples": self.min_examples}
