"""What a run keeps for the eye: receptive fields, small images with a word below each, samples, a trial of spikes."""

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.data.masks import image_mask
from neuropil.evaluate.robustness import PGD, Boundary, Linf, Suite, victim_of
from neuropil.evaluate.robustness.attacks.gradient import with_gradient
from neuropil.evaluate.robustness.harness import craft
from neuropil.experiments.spikes import log_rasters
from neuropil.models import SpikingClassifier, receptive_fields
from neuropil.runs import ImagesRow, TaggedTracker

LOOKED_AT, SHOWN, SIDE = 1000, 10, 64  # test examples looked at, images of a kind, pixels of their larger side


def save_pictures(learner: Any, train: Split, test: Split, tracker: TaggedTracker) -> None:
    """Save receptive fields before and after learning, mistakes, samples, completed images, and a trial of spikes."""
    if isinstance(learner, SpikingClassifier):
        log_rasters(learner, train, tracker)
    if train.x.ndim != 4:
        return
    if hasattr(learner, "network_"):
        save_fields(learner, train, tracker)
    log_mistakes(learner, test, tracker)
    if getattr(learner, "generates", False):
        rng = torch.Generator().manual_seed(tracker.seed or 0)
        images = learner.generate(torch.arange(train.classes), SHOWN, rng).images
        tracker.run.save(**{f"samples.{tracker.learner}": images})
        log_completed(learner, test, tracker, rng)


def save_fields(learner: Any, train: Split, tracker: TaggedTracker) -> None:
    """Save the receptive fields of the first layer, and those from which learning started, where they are known."""
    shape, name = train.x.shape[1:], tracker.learner
    after = receptive_fields(learner.network_, shape)
    tracker.run.save(**{f"fields.{name}": after})
    start = getattr(learner, "start_", getattr(learner, "body", None))
    if hasattr(learner, "fresh"):  # initialised at the beginning of its fit
        start = learner.fresh(train, torch.Generator().manual_seed(tracker.seed or 0))
    if isinstance(start, nn.Module) and any(module.ndim > 1 for module in start.parameters()):
        before = receptive_fields(start, shape)
        if not torch.equal(before.cpu(), after.cpu()):
            tracker.run.save(**{f"fields_before.{name}": before.half()})


def keep_images(
    tracker: TaggedTracker, title: str, images: Tensor, words: list[str], caption: str, per_line: int = 0
) -> None:
    """Save small images (n, channels, height, width) in [0, 1] as bytes, and log the row that says what they are."""
    if images.shape[1] not in (1, 3) or len(images) == 0:
        return
    large = max(images.shape[2:]) / SIDE
    if large > 1:
        images = F.interpolate(images, size=[max(1, int(side / large)) for side in images.shape[2:]], mode="area")
    name = f"images.{title}.{tracker.data}.{tracker.learner}"
    tracker.run.save(**{name: (images.clamp(0, 1) * 255).round().to(torch.uint8)})
    tracker.log(ImagesRow(title=title, tensor=name, words=words, caption=caption, per_line=per_line))


def spread(split: Split, count: int) -> Split:
    """`count` examples from all over `split`, or all."""
    return split[torch.linspace(0, len(split) - 1, min(count, len(split))).long().to(split.y.device)]


def named(split: Split, labels: Tensor) -> list[str]:
    """The names of classes, or their numbers where they have none."""
    return [split.names[label] if split.names else str(label) for label in labels.tolist()]


def log_examples(test: Split, tracker: TaggedTracker) -> None:
    """Keep test images: the first of each class, of at most 2 * `SHOWN` classes."""
    if test.x.ndim != 4:
        return
    labels = test.y.unique()[: 2 * SHOWN]
    some = test[torch.stack([(test.y == label).nonzero()[0, 0] for label in labels])]
    keep_images(tracker, "Test images", some.pixels(), named(test, some.y), "One of each class.")


@torch.no_grad()
def log_mistakes(learner: Any, test: Split, tracker: TaggedTracker) -> None:
    """Keep the first test images that `learner` misclassifies, of `LOOKED_AT` from all over the test set."""
    some, images, words = spread(test, LOOKED_AT), [], []
    for part in some.batches(min(100, len(some))):
        given = torch.as_tensor(learner.predict(part.x)).to(part.y)  # a learner of one's own may give an array
        wrong = given != part.y
        images.append(part.x[wrong])
        words += [f"{y} → {one}" for y, one in zip(named(test, part.y[wrong]), named(test, given[wrong]))]
        if len(words) >= SHOWN:
            break
    caption = "Below each: its true class → the class that the method gave."
    keep_images(tracker, "Misclassified test images", torch.cat(images)[:SHOWN], words[:SHOWN], caption)


def log_completed(learner: Any, test: Split, tracker: TaggedTracker, rng: Generator) -> None:
    """Keep test images of which the network gets the upper half and the label, and what it makes of the rest."""
    some = spread(test, SHOWN)
    x, labels = some.pixels(), some.y
    mask = image_mask("top", x.shape[1:]).to(x)
    made = [learner.complete(x, mask, labels=labels), learner.complete(x, mask, labels=labels, rng=rng)]
    rows = [x, x * mask, *made]
    caption = "From above: test images, what the network gets besides the label, what it expects below, and one sample."
    keep_images(tracker, "Completed images", torch.cat(rows), [], caption, len(x))


def log_adversarial(learner: Any, test: Split, tracker: TaggedTracker, suite: Suite) -> None:
    """Keep correctly classified test images, and what an attack in Linf, of the middle budget, makes of them."""
    if test.x.ndim != 4:
        return
    victim, norm, some = with_gradient(victim_of(learner, test.classes), test), Linf(), spread(test, 100)
    right = (victim.predict(some.pixels()) == some.y).nonzero()[: SHOWN - 2, 0]
    if len(right) == 0:
        return
    some = some[right]
    rng = torch.Generator().manual_seed(tracker.seed or 0)
    size = sorted(suite.linf)[len(suite.linf) // 2]
    attack: Any
    name, attack = "the boundary attack", Boundary(victim.predict, norm, rng, suite.attack_queries, test.pixels())
    if victim.forward is not None:
        name, attack = "PGD", PGD(victim.forward, norm, rng, suite.attack_steps, suite.attack_restarts)
    moved = norm.clip(some.pixels(), craft(attack, some, norm=norm, size=size), size)
    given, labels = named(test, victim.predict(moved)), named(test, some.y)
    words = labels + [f"{y} → {one}" if y != one else f"{y}, held" for y, one in zip(labels, given)]
    caption = f"Above test images, below the same under {name}, Linf {size:g}."
    keep_images(tracker, "Adversarial images", torch.cat([some.pixels(), moved]), words, caption, len(some))
