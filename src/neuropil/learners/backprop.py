"""The twin: the same architecture, every weight trained end to end by backprop."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor, nn

from neuropil.checks import require
from neuropil.data import Split
from neuropil.learners.readout import featurise, fresh_head, passes, scores_of, supervised_epoch
from neuropil.learners.watch import Unwatched, Watch


@dataclass(frozen=True)
class Backprop:
    """How a whole network is trained: softmax cross entropy, AdamW, learning rate falling linearly to 0.

    Attributes:
        epochs: passes over the data.
        batch: examples in a step; a smaller data set is one batch.
        lr: first learning rate.
        decay: AdamW's decoupled weight decay.
        smoothing: share of every label that is spread evenly over all classes.
        steps: fewest steps; a small data set gets as many more epochs as this takes.
    """

    epochs: int = 30
    batch: int = 100
    lr: float = 1e-3
    decay: float = 1e-3
    smoothing: float = 0.0
    steps: int = 500

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch >= 1, f"Backprop needs epochs and batch >= 1, got {self}.")
        require(self.lr > 0 and self.decay >= 0, f"Backprop needs lr > 0 and decay >= 0, got {self}.")


class BackpropClassifier:
    """A body and a linear head trained together by backprop.

    The features are standardised once, by their statistics before training, so that the head starts from the scale
    that the readout of `FeatureClassifier` enjoys; after that no statistics move.

    Args:
        body: maps (batch, *shape) in [0, 1] to features; it is copied, the original stays as it is.
        training: how the network is trained.

    After `fit`: ``body_`` and ``network_`` (body, standardisation, head), both in evaluation mode.
    """

    def __init__(self, body: nn.Sequential, *, training: Backprop | None = None):
        self.body = body
        self.training = training or Backprop()

    def fit(self, train: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Train everything on `train`, from the body as it was given."""
        watch, settings = watch or Unwatched(), self.training
        self.body_ = deepcopy(self.body).requires_grad_(True)
        network = nn.Sequential(self.body_, nn.Flatten(), fresh_head(featurise(self.body_, train)))
        optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.decay)
        epochs = passes(len(train), epochs=settings.epochs, batch=settings.batch, steps=settings.steps)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=epochs)
        parts = {"network": network, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in watch.loop("backprop", epochs, **parts):
            loss = supervised_epoch(
                network, train, optimizer, batch=settings.batch, smoothing=settings.smoothing, rng=rng
            )
            schedule.step()
            watch.log("epoch", stage="backprop", epoch=epoch, loss=loss)
        self.network_ = network.eval().requires_grad_(False)
        return self

    def fit_labels(self, labelled: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Train everything afresh on `labelled` alone: backprop learns nothing from images without labels."""
        return self.fit(labelled, rng=rng, watch=watch)

    def scores(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes) logits."""
        return scores_of(self.network_, x)

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return self.scores(x).argmax(1)
