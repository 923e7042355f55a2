"""A classifier of theta neurons: whoever fires first names the class, trained by exact gradients."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor, nn

from neuropil.checks import require
from neuropil.data import Split
from neuropil.events.losses import first_spike_loss, first_to_fire
from neuropil.events.theta import Theta
from neuropil.events.theta_layer import ThetaNetwork
from neuropil.learners.adabelief import AdaBelief
from neuropil.learners.descent import passes
from neuropil.learners.watch import Unwatched, Watch


@dataclass(frozen=True)
class Bright:
    """Values above `threshold` spike once, all at the same `time`; the others never.

    Attributes:
        threshold: on values in [0, 1]; 127.5 / 255 takes pixels of 128 and more.
        time: of all spikes, in the unit of the network's times.
    """

    threshold: float = 127.5 / 255
    time: float = 0.0201

    def __call__(self, x: Tensor) -> Tensor:
        """(n, *shape) in [0, 1] to times (n, inputs)."""
        return torch.where(x.flatten(1) > self.threshold, self.time, torch.inf)


@dataclass(frozen=True)
class Latency:
    """The larger a value the earlier its spike: at `last` (high - x) / (high - low); never at `low` or below.

    Attributes:
        last: time at which a value just above `low` would spike.
        low, high: range of the values; larger ones spike at once.
    """

    last: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """(n, *shape) to times (n, inputs)."""
        x = x.flatten(1)
        delay = (self.high - x).clamp(min=0) * (self.last / (self.high - self.low))
        return torch.where(x > self.low, delay, torch.inf)


Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExactSpikes:
    """How a spiking network is trained: first-spike loss with pseudospikes, AdaBelief, a rate that decays by epochs.

    Attributes:
        epochs: passes over the data.
        batch: examples in a step; a smaller data set is one batch.
        lr: first learning rate; in epoch n of N it is lr exp(-n / (decay N)).
        decay: decay constant of the rate, as a share of all epochs.
        flip: share of the inputs of a batch, drawn afresh each time, that are turned round: silent ones spike when the
            encoding's earliest do, others fall silent.
        early: weight of the term of the loss that asks for early spikes.
        steps: fewest steps; a small data set gets as many more epochs as this takes.
    """

    epochs: int = 100
    batch: int = 1000
    lr: float = 4e-3
    decay: float = 1.0
    flip: float = 0.02
    early: float = 0.01
    steps: int = 500

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch >= 1, f"ExactSpikes needs epochs and batch >= 1, got {self}.")
        require(self.lr > 0 and self.decay > 0, f"ExactSpikes needs lr > 0 and decay > 0, got {self}.")
        require(0 <= self.flip < 1, f"ExactSpikes needs 0 <= flip < 1, a share of the inputs, got flip={self.flip}.")


class SpikingClassifier:
    """A stack of theta neurons trained end to end; hidden layers may start silent.

    Args:
        hidden: numbers of neurons of the hidden layers.
        encode: makes input spike times (n, inputs) of examples (n, *shape).
        neuron, horizon: the kind of neuron and the end of a trial.
        training: how it is trained.

    After `fit`: ``network_``, in evaluation mode.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (100, 100),
        *,
        encode: Encode | None = None,
        neuron: Theta | None = None,
        horizon: float = 2.0,
        training: ExactSpikes | None = None,
    ):
        self.hidden = hidden
        self.encode = encode or Bright()
        self.neuron, self.horizon = neuron or Theta(), horizon
        self.training = training or ExactSpikes()

    def fit(self, train: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Draw a network and train all its weights and first phases on `train`."""
        watch, settings = watch or Unwatched(), self.training
        network = self.fresh(train, rng)
        optimizer = AdaBelief(network.parameters(), lr=settings.lr)
        epochs = passes(len(train), epochs=settings.epochs, batch=settings.batch, steps=settings.steps)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, math.exp(-1 / (settings.decay * epochs)))
        parts = {"network": network, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in watch.loop("exact spikes", epochs, **parts):
            numbers = self._epoch(network, train, optimizer, rng)
            schedule.step()
            watch.log("epoch", stage="exact spikes", epoch=epoch, **numbers)
        self.network_ = network.eval().requires_grad_(False)
        return self

    def fit_labels(self, labelled: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Train everything afresh on `labelled` alone."""
        return self.fit(labelled, rng=rng, watch=watch)

    def fresh(self, train: Split, rng: Generator) -> ThetaNetwork:
        """A network for `train`, its weights drawn from `rng`, uniform within +-0.5 / sqrt(inputs of a neuron)."""
        sizes = (train.x[0].numel(), *self.hidden, train.classes)
        network = ThetaNetwork(sizes, neuron=self.neuron, horizon=self.horizon)
        for weight in (layer.weight for layer in network.stack()):
            nn.init.uniform_(weight, -0.5, 0.5, generator=rng).data.div_(len(weight) ** 0.5)
        return network

    def _epoch(
        self, network: ThetaNetwork, train: Split, optimizer: torch.optim.Optimizer, rng: Generator
    ) -> dict[str, float]:
        """One pass; means over it of the loss, of spikes per hidden neuron, and of what was named right."""
        settings = self.training
        loss_sum, spikes, right = (torch.zeros(()) for _ in range(3))
        for part in train.batches(min(settings.batch, len(train)), shuffle=rng):
            times = turned(self.encode(part.x), settings.flip, rng)
            answer = network(times)
            loss = first_spike_loss(answer.times[..., 0], part.y, self.horizon, early=settings.early)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            network.keep_phases_()
            loss_sum += loss.detach() * len(part)
            right += (answer.times[..., 0].argmin(1) == part.y).sum()
            spikes += sum(trains.isfinite().sum() for trains in answer.trains[:-1])
        n = len(train)
        named = {"loss": loss_sum, "train_accuracy": right, "spikes": spikes / max(1, sum(self.hidden))}
        return {name: value.item() / n for name, value in named.items()}

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes): minus the first output times, pseudospikes included."""
        return torch.cat([-self.network_(self.encode(part)).times[..., 0] for part in x.split(1000)])

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels: who fires first, or would if the trial went on."""
        return self.scores(x).argmax(1)

    @torch.no_grad()
    def predict_ordinary(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels by spikes within the trial alone, as a chip would see them; -1 without any."""
        return torch.cat([first_to_fire(self.network_(self.encode(part)).trains[-1]) for part in x.split(1000)])

    @torch.no_grad()
    def activity(self, x: Tensor, network: ThetaNetwork | None = None) -> list[Tensor]:
        """Spikes of every neuron for (n, *shape): (n, neurons) int64 for each layer, the outputs last.

        Of the trained network, if no other is given.
        """
        run = network or self.network_
        parts = [[t.isfinite().sum(-1) for t in run(self.encode(part)).trains] for part in x.split(1000)]
        return [torch.cat(layer) for layer in zip(*parts)]


def turned(times: Tensor, share: float, rng: Generator) -> Tensor:
    """`times` (n, inputs) with a `share` of the entries, drawn with replacement, turned round, in place: silent inputs
    get the earliest time there is in the batch, the others fall silent.
    """
    flips = round(share * times.numel())
    if flips:
        flat = times.view(-1)
        where = torch.randint(len(flat), (flips,), generator=rng)
        flat[where] = torch.where(flat[where].isinf(), flat.min(), torch.inf)
    return times
