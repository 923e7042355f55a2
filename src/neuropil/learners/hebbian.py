"""Features learned by local rules (or by nobody) under a supervised linear readout."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Protocol, Self, cast

import torch
from torch import Generator, Tensor, nn

from neuropil.checks import require, unknown
from neuropil.data import Split
from neuropil.learners.descent import Descent, passes
from neuropil.learners.readout import featurise, fresh_head, scores_of
from neuropil.learners.watch import Unwatched, Watch
from neuropil.plasticity import propose_, tap


class Rule(Protocol):
    """What learns a layer: its input and its output (computed if not given) to a change of its weight."""

    def __call__(self, layer: nn.Module, pre: Tensor, post: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class LocalLearning:
    """How the layers of a body learn without labels and without a backward pass.

    The learning rate falls linearly to 0. Greedily, each layer learns on the output of the finished layers below it;
    together, all layers learn from the same forward pass.

    Attributes:
        rules: a rule for each layer that learns, by its name in the body.
        epochs: passes over the images, for each layer (greedily) or for all (together).
        batch: images in a step; no more than there are.
        lr: first learning rate of plain SGD.
        together: whether all layers learn at once.
        steps: fewest steps; a small data set gets as many more epochs as this takes.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    epochs: int = 20
    batch: int = 100
    lr: float = 0.02
    together: bool = False
    steps: int = 1

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch >= 1, f"LocalLearning needs epochs and batch >= 1, got {self}.")
        require(self.lr > 0, f"LocalLearning needs a positive learning rate, got lr={self.lr}.")

    def fit_(self, body: nn.Sequential, train: Split, *, rng: Generator, watch: Watch) -> None:
        """Let the named layers of `body` learn in place."""
        names = [name for name, _ in body.named_children()]
        for name in self.rules:
            if name not in names:
                raise unknown("layer", name, names)
        ordered = [name for name in names if name in self.rules]
        stages = [ordered] if self.together else [[name] for name in ordered]
        for stage in filter(None, stages):
            below = cast(nn.Sequential, body[: names.index(stage[-1]) + 1])
            self._stage(below, stage, train, rng=rng, watch=watch)

    def _stage(self, body: nn.Sequential, stage: list[str], train: Split, *, rng: Generator, watch: Watch) -> None:
        """Let the layers of one stage learn; the last of them is the last of `body`."""
        weights = {name: body.get_parameter(f"{name}.weight") for name in stage}
        optimizer = torch.optim.SGD(weights.values(), lr=self.lr)
        epochs = passes(len(train), epochs=self.epochs, batch=self.batch, steps=self.steps)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=epochs)
        title = "features " + " + ".join(stage)
        for epoch in watch.loop(title, epochs, body=body, optimizer=optimizer, schedule=schedule, rng=rng):
            before = {name: weight.detach().clone() for name, weight in weights.items()}
            for part in train.batches(self.batch, shuffle=rng):
                self._propose(body, stage, part.x)
                optimizer.step()
            schedule.step()
            for name in stage:
                watch.log("epoch", stage=f"features {name}", epoch=epoch, moved=_moved(before[name], weights[name]))

    def _propose(self, body: nn.Sequential, stage: list[str], x: Tensor) -> None:
        """One batch: every rule's change into the gradient of its layer."""
        with torch.no_grad():
            if len(stage) == 1:  # its rule needs what reaches the layer, not what the layer makes of it
                propose_(body[-1], self.rules[stage[0]](body[-1], body[:-1](x)))
                return
            with tap(body, stage) as seen:
                body(x)
        for name, activity in seen.items():
            layer = body.get_submodule(name)
            propose_(layer, self.rules[name](layer, *activity))


def _moved(before: Tensor, after: Tensor) -> float:
    """How far a weight moved, as a share of its length."""
    return ((after.detach() - before).norm() / before.norm()).item()


class FeatureClassifier:
    """A linear readout, trained by gradient descent, on a body that no gradient ever reaches.

    With rules the body learns locally first (Hebbian features); without, it stays as it was drawn (random features) or
    has nothing to learn (a linear model is a body that only flattens).

    Args:
        body: maps (batch, *shape) in [0, 1] to features; it is copied, the original stays as it is.
        learning: how the body learns; None for a frozen body.
        readout: how the head is trained.

    After `fit`: ``body_``, the learned body in evaluation mode, and ``network_``, body and trained head.
    """

    def __init__(self, body: nn.Sequential, *, learning: LocalLearning | None = None, readout: Descent | None = None):
        self.body = body
        self.learning = learning
        self.readout = readout or Descent()

    def fit(self, train: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Learn the features from all images of `train` and the readout from all its labels."""
        watch = watch or Unwatched()
        self.body_ = deepcopy(self.body).requires_grad_(False)
        if self.learning is not None:
            self.learning.fit_(self.body_, train, rng=rng, watch=watch)
        self.body_.zero_grad(set_to_none=True)
        return self.fit_labels(train, rng=rng, watch=watch)

    def fit_labels(self, labelled: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Learn only the readout afresh, from `labelled`; the features stay as `fit` left them."""
        features = featurise(self.body_.eval(), labelled)
        head = fresh_head(features)
        self.readout.fit_(head, features, stage="readout", rng=rng, watch=watch or Unwatched())
        self.network_ = nn.Sequential(self.body_, nn.Flatten(), head)
        return self

    def scores(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes) logits."""
        return scores_of(self.network_, x)

    def logits(self, x: Tensor) -> Tensor:
        """The same with its exact gradient by `x`, and all at once: for attacks and saliency."""
        return self.network_(x)

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return self.scores(x).argmax(1)
