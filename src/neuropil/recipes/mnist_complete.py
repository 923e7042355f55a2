"""Completion on MNIST by the network of a finished run: half an image, random pixels, an occlusion, the label alone.

For each mask there are two rows. The first has the squared error per missing pixel when the label is known, beside the
class mean and the mean image. The second has the accuracy when the label is unknown, beside a backprop network. That
has as many hidden units as the completion population, and is trained for just that mask with the same augmentation.

Measured: test, n = 3, mean and 95 % interval: squared error 33.0 +- 0.3 % below the class mean's from the upper half,
60.7 +- 4.9 % from a random half, 28.1 +- 1.2 % where the centre is missing; 91.7 +- 1.2, 97.1 +- 0.8 and 77.8 +- 2.4 %
of them are classified correctly, by backprop of 1000 units 94.2 +- 0.6, 98.7 +- 0.3 and 88.0 +- 0.5 %.

Group: associative. Minutes: 10. Data: mnist.

Try: neuropil run mnist_mstdp --out runs/one, then neuropil run mnist_complete --of runs/one --out runs/complete
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import neuropil
from neuropil.associative import AssociativeNetwork
from neuropil.data import Split, load, subset
from neuropil.data.masks import image_mask
from neuropil.errors import require
from neuropil.evaluate import accuracy
from neuropil.experiments.associative import hidden_layers
from neuropil.experiments.generation import class_means
from neuropil.experiments.machine import Machine
from neuropil.models import BackpropClassifier, SupervisedTraining
from neuropil.runs import Row, Run, TaggedTracker, Tracker

MASKS = {  # name in the rows, and what is known
    "upper half": "top", "left half": "left", "random half": "random",
    "all but the centre": "frame", "label alone": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Config(Machine):
    """The network, and the images that it completes."""

    of: str = ""  # folder of a finished run of mnist_mstdp, or of another recipe whose network generates
    n_test: int = 10000  # number of test images
    n_train: int = 0  # number of training images of the baseline; 0 for all
    baseline_epochs: int = 10  # passes of the baseline over the training images, for each mask; 0 for no baseline
    seed: int = 0  # seed of the random mask and of the baseline
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself


def main(config: Config, run: Run) -> None:
    """Every mask in turn; the test images are read once for each."""
    require(bool(config.of), "setting 'of' needs a finished run or a network of the zoo, for example --of runs/one.")
    learner: AssociativeNetwork = neuropil.load(config.of, can="complete", device=config.device)
    about = neuropil.saved_models(config.of, can="complete")[0].about
    data = about["origin"]["data_set"]
    train, test = (part.to(config.device) for part in load(data, seed=about["seed"]))
    if config.n_train:
        train = subset(train, config.n_train, config.seed)
    run.update_metadata(data={data: {"train": train.checksum(), "test": test.checksum()}})
    test = test[: config.n_test]
    rng = torch.Generator().manual_seed(config.seed)
    masks = {name: image_mask(keep, test.x.shape[1:], rng).to(config.device) for name, keep in MASKS.items()}
    for index in run.loop("masks", len(masks)):
        name = list(masks)[index]
        mask = masks[name]
        tracker = TaggedTracker(run, learner="mSTDP", family="local", data=data, seed=config.seed)
        tracker.log(Row(kind="completion", metrics={"known": name, **errors(learner, train, test, mask)}))
        if mask.any():
            correct = (learner.predict(test.pixels(), mask) == test.y).double().mean().item()
            metrics = {"known": name, "accuracy": correct}
            if config.baseline_epochs:
                beside = TaggedTracker(run, learner=f"backprop, {name}", family="baseline", data=data, seed=config.seed)
                baseline = baseline_for(learner, train, mask, config, beside)
                metrics["backprop_accuracy"] = accuracy(baseline, test)
            tracker.log(Row(kind="partial classification", metrics=metrics))


def errors(learner: AssociativeNetwork, train: Split, test: Split, mask: Tensor) -> dict[str, float]:
    """Squared error per missing pixel, label known: of the network, of the class means, of the mean image."""
    x, missing = test.pixels(), 1 - mask
    made, mean = learner.complete(x, mask, labels=test.y), train.pixels().mean(0, keepdim=True)
    guesses = {"squared_error": made, "class_mean_error": class_means(train)[test.y], "mean_error": mean}
    count = missing.sum() * len(x)
    return {name: (((guess - x) * missing).square().sum() / count).item() for name, guess in guesses.items()}


def baseline_for(
    learner: AssociativeNetwork, train: Split, mask: Tensor, config: Config, tracker: Tracker
) -> BackpropClassifier:
    """Backprop of the same number of hidden units, trained on images with the same augmentation and just this mask.

    Args:
        learner: the network to which it is the baseline.
        train: training images.
        mask: of one image, 1 where a pixel is known.
        config: passes and seed.
        tracker: takes the rows.
    """
    rng = torch.Generator().manual_seed(config.seed)
    hidden = (learner.completion_units,) if learner.completion_units else learner.classification_units
    layers = hidden_layers(train, hidden, rng)
    body = nn.Sequential(OrderedDict(masked=Masked(mask), **dict(layers.named_children())))
    augment = learner.training.augment
    training = SupervisedTraining(epochs=config.baseline_epochs, batch=100, lr=2e-3, augment=augment)
    return BackpropClassifier(body, training=training).fit(train, rng=rng, tracker=tracker)


class Masked(nn.Module):
    """Silences the pixels that are missing.

    Args:
        mask: of one image, 1 where a pixel is known.
    """

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to the same shape."""
        return x * self.mask
