"""Completion on MNIST by the network of a finished run: half an image, random pixels, an occlusion, the label alone.

For each way of hiding, two rows: the squared error per missing pixel when the label is given, beside the class mean
and the mean image; and the accuracy when it is not, beside a backprop network with as many hidden units as name parts,
trained for just that way of hiding on images turned, scaled and shifted alike.

Measured: test, n = 3, mean and 95 % interval: squared error 33.0 +- 0.3 % below the class mean's from the upper half,
60.7 +- 4.9 % from a random half, 28.1 +- 1.2 % where the centre is hidden; the label is named right in 91.7 +- 1.2,
97.1 +- 0.8 and 77.8 +- 2.4 % of them, by backprop of 1000 units in 94.2 +- 0.6, 98.7 +- 0.3 and 88.0 +- 0.5 %.

Try: neuropil run mnist_mstdp --out runs/one, then neuropil run mnist_complete --of runs/one --out runs/complete
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from neuropil.associative import AssociativeNetwork
from neuropil.associative.tasks import half_images
from neuropil.data import Split, load, subset
from neuropil.errors import require
from neuropil.evaluate import accuracy
from neuropil.experiments.associative import Settings, augment, hard_body, revive
from neuropil.experiments.generation import class_means
from neuropil.experiments.machine import Machine
from neuropil.models import BackpropClassifier, SupervisedTraining
from neuropil.models.training.augment import Augment
from neuropil.runs import Row, Run, TaggedTracker, Tracker, read


@dataclass(frozen=True)
class Config(Machine):
    """Which network is asked, and what."""

    of: str = ""
    """folder of a finished run of mnist_mstdp, or of another recipe whose network draws"""
    n_test: int = 10000
    """test images"""
    n_train: int = 0
    """the baseline learns from only that many training images; 0 for all"""
    baseline_epochs: int = 10
    """passes of the baseline over the images, for each way of hiding; 0 for no baseline"""
    seed: int = 0
    """of the hidden pixels and of the baseline"""
    threads: int = 1
    """threads of the CPU; 0 for as many as torch takes by itself"""


def main(config: Config, run: Run) -> None:
    """Every way of hiding in turn; the test images are read once for each."""
    require(bool(config.of), "setting 'of' needs the folder of a finished run, for example --of runs/one.")
    record = read(Path(config.of))
    require(record.finished, f"the run in {config.of} is not finished; go on with: neuropil run --resume {config.of}")
    tensors = {name: part.to(config.device) for name, part in record.tensors().items()}
    learner = revive(record.config, tensors)
    changes = augment(Settings(**{name: record.config[name] for name in ("turn", "scale", "shift")}))
    (data,) = record.facts["data"]
    train, test = (part.to(config.device) for part in load(data, seed=record.config["seed"]))
    if config.n_train:
        train = subset(train, config.n_train, config.seed)
    run.update_metadata(data={data: {"train": train.checksum(), "test": test.checksum()}})
    test = test[: config.n_test]
    rng = torch.Generator().manual_seed(config.seed)
    masks = {name: mask.to(config.device) for name, mask in ways_of_hiding(test.x.shape[1:], rng).items()}
    for index in run.loop("ways of hiding", len(masks)):
        name = list(masks)[index]
        mask = masks[name]
        tracker = TaggedTracker(run, learner="mSTDP", family="local", data=data, seed=config.seed)
        tracker.log(Row(kind="completion", metrics={"given": name, **errors(learner, train, test, mask)}))
        if mask.any():
            named = learner.scores_from_part(test.pixels(), mask).argmax(1)
            metrics = {"given": name, "accuracy": (named == test.y).double().mean().item()}
            if config.baseline_epochs:
                baseline = baseline_for(learner, train, mask, config, changes, tracker)
                metrics["backprop_accuracy"] = accuracy(baseline, test)
            tracker.log(Row(kind="classification from a part", metrics=metrics))


def ways_of_hiding(shape: torch.Size, rng: torch.Generator) -> dict[str, Tensor]:
    """Masks of one image each, 1 where a pixel is given."""
    _, height, width = shape
    frame = torch.ones(shape)
    frame[:, height // 4 : height - height // 4, width // 4 : width - width // 4] = 0
    return {
        "upper half": half_images(shape)[0].view(shape),
        "left half": half_images(shape)[2].view(shape),
        "random half": (torch.rand(shape, generator=rng) < 0.5).float(),
        "all but the centre": frame,
        "label alone": torch.zeros(shape),
    }


def errors(learner: AssociativeNetwork, train: Split, test: Split, mask: Tensor) -> dict[str, float]:
    """Squared error per missing pixel, label given: of the network, of the class means, of the mean image."""
    x, missing = test.pixels(), 1 - mask
    guesses = {
        "squared_error": learner.complete(x, mask, labels=test.y),
        "class_mean_error": class_means(train)[test.y],
        "mean_error": train.pixels().mean(0, keepdim=True),
    }
    share = missing.sum() * len(x)
    return {name: (((guess - x) * missing).square().sum() / share).item() for name, guess in guesses.items()}


def baseline_for(
    learner: AssociativeNetwork, train: Split, mask: Tensor, config: Config, changes: Augment | None, tracker: Tracker
) -> BackpropClassifier:
    """Backprop with as many hidden units as name parts, trained on images changed alike with just these pixels hidden.

    Args:
        learner: the network to which it is the baseline.
        train: what to learn from.
        mask: of one image, 1 where a pixel is given.
        config: passes and seed.
        changes: what is made of an image before its pixels are hidden.
        tracker: takes the rows.
    """
    rng = torch.Generator().manual_seed(config.seed)
    hidden = (learner.parts,) if learner.parts else learner.naming
    body = nn.Sequential(OrderedDict(given=Given(mask), **dict(hard_body(train, hidden, rng).named_children())))
    training = SupervisedTraining(epochs=config.baseline_epochs, batch=100, lr=2e-3, augment=changes)
    return BackpropClassifier(body, training=training).fit(train, rng=rng, tracker=tracker)


class Given(nn.Module):
    """Silences the pixels that are not given.

    Args:
        mask: of one image, 1 where a pixel is given.
    """

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to the same shape."""
        return x * self.mask
