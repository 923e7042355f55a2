"""The supervised linear head on features that no longer change."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.checks import require
from neuropil.data import Split
from neuropil.learners.layers import Standardise
from neuropil.learners.watch import Watch


@dataclass(frozen=True)
class Readout:
    """How a linear head is trained: softmax cross entropy, AdamW, learning rate falling linearly to 0.

    Attributes:
        epochs: passes over the features.
        batch: examples in a step; a smaller data set is one batch.
        lr: first learning rate.
        decay: AdamW's decoupled weight decay.
        smoothing: share of every label that is spread evenly over all classes.
        steps: fewest steps; a small data set gets as many more epochs as this takes.
    """

    epochs: int = 20
    batch: int = 500
    lr: float = 4e-3
    decay: float = 1e-3
    smoothing: float = 0.0
    steps: int = 500

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch >= 1, f"Readout needs epochs and batch >= 1, got {self}.")
        require(self.lr > 0 and self.decay >= 0, f"Readout needs lr > 0 and decay >= 0, got {self}.")

    def fit(self, features: Split, *, rng: Generator, watch: Watch) -> nn.Sequential:
        """A fresh head trained on `features` (n, d): standardised by their statistics, then linear, (n, classes)."""
        head = fresh_head(features)
        optimizer = torch.optim.AdamW(head.parameters(), lr=self.lr, weight_decay=self.decay)
        epochs = passes(len(features), epochs=self.epochs, batch=self.batch, steps=self.steps)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=epochs)
        parts = {"head": head, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in watch.loop("readout", epochs, **parts):
            loss = supervised_epoch(head, features, optimizer, batch=self.batch, smoothing=self.smoothing, rng=rng)
            schedule.step()
            watch.log("epoch", stage="readout", epoch=epoch, loss=loss)
        return head.eval().requires_grad_(False)


def passes(examples: int, *, epochs: int, batch: int, steps: int) -> int:
    """`epochs`, or as many as `steps` batches take."""
    return max(epochs, math.ceil(steps / math.ceil(examples / batch)))


def fresh_head(features: Split) -> nn.Sequential:
    """Standardisation by the statistics of `features`, then a linear layer of zeros: (n, d) to (n, classes)."""
    linear = nn.Linear(features.x.shape[1], features.classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(Standardise(linear.in_features).fit_(features.x), linear).to(features.x)


def supervised_epoch(
    model: nn.Module, train: Split, optimizer: torch.optim.Optimizer, *, batch: int, smoothing: float, rng: Generator
) -> float:
    """One pass of softmax cross entropy by backprop through `model`; the mean loss on the way."""
    total = torch.zeros((), device=train.y.device)
    for part in train.batches(min(batch, len(train)), shuffle=rng):
        loss = F.cross_entropy(model(part.x), part.y, label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(part)
    return total.item() / len(train)


@torch.no_grad()
def featurise(body: nn.Module, split: Split, *, batch: int = 1000) -> Split:
    """`split` seen through `body` in evaluation mode: (n, features) float32, labels as they were."""
    training = body.training
    body.eval()
    seen, start = torch.empty(0), 0
    for part in split.batches(min(batch, len(split))):
        features = body(part.x).flatten(1)
        if start == 0:
            seen = features.new_empty(len(split), features.shape[1])
        seen[start : start + len(part)] = features
        start += len(part)
    body.train(training)
    return Split(seen, split.y, split.classes)


@torch.no_grad()
def scores_of(model: nn.Module, x: Tensor, *, batch: int = 1000) -> Tensor:
    """(n, classes) scores, made in batches so that memory does not grow with n."""
    return torch.cat([model(part) for part in x.split(batch)])
