"""Supervised training by gradient descent: of a linear readout on frozen features, or of a whole network."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import Diverged, needs, needs_numbers, require
from neuropil.models.description import savable
from neuropil.models.training.augment import Augment
from neuropil.plasticity.joint import Portion, joined
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import Tracker


@dataclass(frozen=True)
class SupervisedTraining:
    """Softmax cross entropy and AdamW, with a learning rate that falls linearly to 0.

    Attributes:
        epochs: passes over the examples.
        batch: examples in a step; a smaller data set is one batch.
        lr: first learning rate.
        weight_decay: AdamW's decoupled weight decay.
        smoothing: label smoothing, the fraction of every label that is spread evenly over all classes.
        min_steps: fewest optimiser steps; a small data set gets as many more epochs as this takes.
        augment: maps a batch and a generator to the augmented batch; None for none.

    Raises:
        Refusal: a setting out of range.

    Examples:
        >>> SupervisedTraining(epochs=5, lr=1e-2).weight_decay
        0.001
    """

    epochs: int = 20
    batch: int = 500
    lr: float = 4e-3
    weight_decay: float = 1e-3
    smoothing: float = 0.0
    min_steps: int = 500
    augment: Augment | None = None

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, self.epochs >= 1 and self.batch >= 1, "epochs and batch >= 1")
        needs(self, self.lr > 0 and self.weight_decay >= 0, "lr > 0 and weight_decay >= 0")
        needs(self, 0 <= self.smoothing < 1, "0 <= smoothing < 1")

    def fit_(self, network: nn.Module, train: Split, *, stage: str, rng: Generator, tracker: Tracker) -> None:
        """Train all of `network` in place; loop and rows are named `stage`. It ends frozen, in evaluation mode."""
        train.check_labelled("supervised training")
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        epochs = passes(len(train), epochs=self.epochs, batch=self.batch, min_steps=self.min_steps)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=epochs)
        for epoch in tracker.loop(stage, epochs, network=network, optimizer=optimizer, schedule=schedule, rng=rng):
            with joined(network) as part:
                metrics = self._epoch(network, train, optimizer, part, rng)
            check_loss(stage, epoch, metrics["loss"])
            schedule.step()
            tracker.log(EpochRow(stage=stage, epoch=epoch, metrics=metrics))
        network.eval().requires_grad_(False)

    def _epoch(
        self, network: nn.Module, train: Split, optimizer: torch.optim.Optimizer, part: Portion, rng: Generator
    ) -> dict[str, float]:
        """One pass; the mean loss and the fraction classified correctly on the way."""
        total, correct = (torch.zeros((), device=train.y.device) for _ in range(2))
        for batch in train.batches(min(self.batch, len(train)), shuffle=rng):
            x, y = part(self.augment(batch.x, rng) if self.augment else batch.x), part(batch.y)
            scores = network(x)
            loss = self._loss(scores, y, len(batch))
            optimizer.zero_grad()
            loss.backward()
            part.add_gradients_(network.parameters())
            optimizer.step()
            total += loss.detach() * len(batch)
            correct += (scores.argmax(1) == y).sum()
        total, correct = part.sum(total, correct)
        return {"loss": total.item() / len(train), "train_accuracy": correct.item() / len(train)}

    def _loss(self, scores: Tensor, y: Tensor, count: int) -> Tensor:
        """What these examples add to the mean loss over the `count` of a batch."""
        if len(y) == count:
            return F.cross_entropy(scores, y, label_smoothing=self.smoothing)
        return F.cross_entropy(scores, y, label_smoothing=self.smoothing, reduction="sum") / count


def check_loss(stage: str, epoch: int, loss: float) -> None:
    """Refuse to go on with a loss that is NaN or infinite."""
    if not math.isfinite(loss):
        raise Diverged(f"{stage} diverged: its loss is {loss} in epoch {epoch}; lower its learning rate.")


def passes(examples: int, *, epochs: int, batch: int, min_steps: int) -> int:
    """`epochs`, or as many as `min_steps` batches take."""
    require(examples > 0, "training needs examples to learn from, got a split of none.")
    return max(epochs, math.ceil(min_steps / math.ceil(examples / batch)))


savable(SupervisedTraining)
