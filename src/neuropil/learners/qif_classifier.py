"""A classifier of QIF neurons with exponentially decaying currents: who fires first names the class."""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.checks import require
from neuropil.data import Split
from neuropil.events import QIF, QIFNetwork
from neuropil.events.losses import first_spike_loss, first_to_fire
from neuropil.learners.adabelief import AdaBelief
from neuropil.learners.descent import passes
from neuropil.learners.watch import Unwatched, Watch


@dataclass(frozen=True)
class QIFTraining:
    """How the network is trained: AdaBelief, the rate falling to 0 along half a cosine, gradients clipped.

    The loss is the cross entropy of minus the first output times, pseudospikes included, times `sharpness`; a call for
    early spikes of the label's neuron; and `inside` times what its spike lacks to come `margin` before the end, so that
    it is an ordinary one, which a chip would see.

    Attributes:
        epochs: passes over the data.
        batch: examples in a step; a smaller data set is one batch.
        lr: first learning rate.
        sharpness: 1 / unit of the times in which outputs compete.
        early: weight of exp(t / T) - 1 of the label.
        inside: weight of max(0, t - T + margin) of the label.
        margin: in the unit of times.
        clip: largest norm of the gradient.
        steps: fewest steps; a small data set gets as many more epochs as this takes.
    """

    epochs: int = 150
    batch: int = 100
    lr: float = 5e-3
    sharpness: float = 10.0
    early: float = 0.02
    inside: float = 0.2
    margin: float = 0.3
    clip: float = 1.0
    steps: int = 500

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch >= 1, f"QIFTraining needs epochs and batch >= 1, got {self}.")
        positive = min(self.lr, self.sharpness, self.clip) > 0 and min(self.early, self.inside, self.margin) >= 0
        require(positive, f"QIFTraining needs lr, sharpness, clip > 0 and early, inside, margin >= 0, got {self}.")


class QIFClassifier:
    """Numbers become spike times, and layers of QIF neurons, trained by exact gradients, name the class.

    Args:
        hidden: numbers of neurons of the hidden layers.
        neuron, horizon: the kind of neuron and the end of a trial.
        span: an input of 1 spikes at `span`, one of 0 at 0; one more input always spikes at 0.
        training: how it is trained.

    After `fit`: ``network_``, in evaluation mode.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (120,),
        *,
        neuron: QIF | None = None,
        horizon: float = 4.0,
        span: float = 1.5,
        training: QIFTraining | None = None,
    ):
        require(0 < span <= horizon, f"QIFClassifier needs 0 < span <= horizon, got span={span}, horizon={horizon}.")
        self.hidden, self.neuron, self.horizon, self.span = hidden, neuron or QIF(), horizon, span
        self.training = training or QIFTraining()

    def encode(self, x: Tensor) -> Tensor:
        """(n, *shape) in [0, 1] to times (n, inputs + 1)."""
        return F.pad(x.flatten(1) * self.span, (0, 1))

    def fit(self, train: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Draw a network and train weights and first states on `train`."""
        watch, settings = watch or Unwatched(), self.training
        network = self._fresh(train, rng)
        optimizer = AdaBelief(network.parameters(), lr=settings.lr)
        batch = min(settings.batch, len(train))
        epochs = passes(len(train), epochs=settings.epochs, batch=batch, steps=settings.steps)
        cosine = lambda step: (1 + math.cos(math.pi * step / (epochs * math.ceil(len(train) / batch)))) / 2
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine)
        parts = {"network": network, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in watch.loop("exact spikes", epochs, **parts):
            total = 0.0
            for part in train.batches(batch, shuffle=rng):
                loss = self._loss(network, part)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
                optimizer.step()
                schedule.step()
                total += loss.item() * len(part)
            watch.log("epoch", stage="exact spikes", epoch=epoch, loss=total / len(train))
        self.network_ = network.eval().requires_grad_(False)
        return self

    def fit_labels(self, labelled: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Train everything afresh on `labelled` alone."""
        return self.fit(labelled, rng=rng, watch=watch)

    def _fresh(self, train: Split, rng: Generator) -> QIFNetwork:
        """Weights N(1, 4) from the inputs, N(0.5, 4) / sqrt(n) above, where n neurons send: some neurons fire."""
        sizes = (train.x[0].numel() + 1, *self.hidden, train.classes)
        network = QIFNetwork(sizes, neuron=self.neuron, horizon=self.horizon)
        layers: list[Any] = list(network.layers)
        for depth, layer in enumerate(layers):
            root = sizes[depth] ** 0.5 if depth else 1.0
            layer.draw_(rng, mean=(0.5 if depth else 1.0) / root, std=4 / root)
        return network

    def _loss(self, network: QIFNetwork, part: Split) -> Tensor:
        settings = self.training
        times = network(self.encode(part.x))[1][..., 0]
        scaled = times * settings.sharpness, part.y, self.horizon * settings.sharpness
        late = torch.relu(times.gather(1, part.y[:, None]) - self.horizon + settings.margin).mean()
        return first_spike_loss(*scaled, early=settings.early) + settings.inside * late

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes): minus the first output times, pseudospikes included."""
        return torch.cat([self.logits(part) for part in x.split(1000)])

    def logits(self, x: Tensor) -> Tensor:
        """The same with its exact gradient by `x`, through the times of the input spikes, and all at once."""
        return -self.network_(self.encode(x))[1][..., 0]

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels: who fires first, or would if the trial went on."""
        return self.scores(x).argmax(1)

    @torch.no_grad()
    def predict_ordinary(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels by spikes within the trial alone; -1 if there are none."""
        return torch.cat([first_to_fire(self.network_(self.encode(part))[0][-1].times) for part in x.split(1000)])

    @torch.no_grad()
    def activity(self, x: Tensor) -> list[Tensor]:
        """Spikes of every neuron for (n, *shape): (n, neurons) int64 for each layer, the outputs last."""
        parts = [
            [trial.times.isfinite().sum(-1) for trial in self.network_(self.encode(part))[0]] for part in x.split(1000)
        ]
        return [torch.cat(layer) for layer in zip(*parts)]
