"""A classifier of spiking neurons: whoever fires first names the class, trained by exact gradients."""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from neuropil.data import Split
from neuropil.errors import require
from neuropil.models.contract import FeatureLayer
from neuropil.models.training.adabelief import AdaBelief
from neuropil.models.training.augment import Augment
from neuropil.models.training.supervised import passes
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import NullTracker, Tracker
from neuropil.spiking import QIF, QIFLayer, QIFNetwork, Theta, ThetaNetwork
from neuropil.spiking.encoding import Encode, ThresholdEncoding
from neuropil.spiking.losses import first_spike_loss, first_to_fire

Network = ThetaNetwork | QIFNetwork


@dataclass(frozen=True)
class SpikeTimeTraining:
    """How a spiking network is trained: first-spike loss with pseudospikes, AdaBelief, a learning rate that falls.

    The loss is the cross entropy of minus the first output times, times `sharpness`; a call for early spikes of the
    label's neuron; and `inside` times what its spike lacks to come `margin` before the end, so that it is an ordinary
    one, which a chip would see.

    Attributes:
        epochs: passes over the data.
        batch: examples in a step; a smaller data set is one batch.
        lr: first learning rate.
        lr_time_constant: in epoch n of N the rate is lr exp(-n / (decay N)); None: it falls to 0 along half a cosine,
            step by step.
        augment: what is made of the examples of every batch before they become spikes.
        flip_probability: share of the inputs of a batch, drawn afresh each time, that are turned round: silent ones
            spike when the
            encoding's earliest do, others fall silent.
        inverse_temperature: 1 / unit of the times in which outputs compete.
        early_weight: weight of exp(t / T) - 1 of the label.
        late_weight: weight of max(0, t - T + margin) of the label.
        margin: in the unit of times.
        clip: largest norm of the gradient.
        min_steps: fewest steps; a small data set gets as many more epochs as this takes.
    """

    epochs: int = 100
    batch: int = 1000
    lr: float = 4e-3
    lr_time_constant: float | None = 1.0
    augment: Augment | None = None
    flip_probability: float = 0.02
    inverse_temperature: float = 1.0
    early_weight: float = 0.01
    late_weight: float = 0.0
    margin: float = 0.3
    clip: float = math.inf
    min_steps: int = 500

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch >= 1, f"SpikeTimeTraining needs epochs and batch >= 1, got {self}.")
        require(
            self.lr > 0 and (self.lr_time_constant is None or self.lr_time_constant > 0),
            f"SpikeTimeTraining needs lr > 0 and decay > 0 or None, got {self}.",
        )
        require(
            0 <= self.flip_probability < 1,
            f"SpikeTimeTraining needs 0 <= flip < 1, a share of the inputs, got flip={self.flip_probability}.",
        )
        fine = (
            min(self.inverse_temperature, self.clip) > 0 and min(self.early_weight, self.late_weight, self.margin) >= 0
        )
        require(fine, f"SpikeTimeTraining needs sharpness, clip > 0 and early, inside, margin >= 0, got {self}.")

    def schedule(self, optimizer: torch.optim.Optimizer, epochs: int, batches: int) -> LambdaLR:
        """The learning rate, to be moved on after each of the `batches` of each epoch."""
        decay = self.lr_time_constant
        if decay is None:
            factor = lambda step: (1 + math.cos(math.pi * step / (epochs * batches))) / 2
        else:
            factor = lambda step: math.exp(-(step // batches) / (decay * epochs))
        return LambdaLR(optimizer, factor)

    def times_of(self, x: Tensor, encode: Encode, rng: Generator) -> Tensor:
        """The examples of a batch as spike times of the inputs, augmented and with some turned round."""
        return flip_inputs(encode(self.augment(x, rng) if self.augment else x), self.flip_probability, rng)

    def loss(self, times: Tensor, labels: Tensor, t_end: float) -> Tensor:
        """Of first output times (batch, classes)."""
        late = torch.relu(times.gather(1, labels[:, None]) - t_end + self.margin).mean()
        scaled, end = times * self.inverse_temperature, t_end * self.inverse_temperature
        return first_spike_loss(scaled, labels, end, early_weight=self.early_weight) + self.late_weight * late


class SpikingClassifier:
    """A stack of spiking neurons trained end to end; hidden layers may start silent.

    Args:
        hidden: numbers of neurons of the hidden layers.
        encode: makes input spike times (n, inputs) of examples (n, *shape).
        neuron, horizon: the kind of neuron (`Theta` or `QIF`) and the end of a trial.
        training: how it is trained.

    After `fit`: ``network_``, in evaluation mode, and ``start_``, the same before training.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (100, 100),
        *,
        encode: Encode | None = None,
        neuron: Theta | QIF | None = None,
        t_end: float = 2.0,
        training: SpikeTimeTraining | None = None,
    ):
        self.hidden = hidden
        self.encode = encode or ThresholdEncoding()
        self.neuron, self.t_end = neuron or Theta(), t_end
        self.training = training or SpikeTimeTraining()

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Draw a network and train all its weights and first states on `train`."""
        tracker, settings = tracker or NullTracker(), self.training
        network = self.fresh(train, rng).to(train.x.device)
        self.start_ = deepcopy(network).eval().requires_grad_(False)
        optimizer = AdaBelief(network.parameters(), lr=settings.lr)
        epochs = passes(len(train), epochs=settings.epochs, batch=settings.batch, min_steps=settings.min_steps)
        schedule = settings.schedule(optimizer, epochs, math.ceil(len(train) / settings.batch))
        parts = {"network": network, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in tracker.loop("exact spikes", epochs, **parts):
            numbers = self._epoch(network, train, optimizer, schedule, rng)
            tracker.log(EpochRow(stage="exact spikes", epoch=epoch, metrics=numbers))
        self.network_ = network.eval().requires_grad_(False)
        return self

    def refit_readout(self, labelled: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Train everything afresh on `labelled` alone."""
        return self.fit(labelled, rng=rng, tracker=tracker)

    def fresh(self, train: Split, rng: Generator) -> Network:
        """A network for `train`, its weights drawn from `rng`.

        Theta neurons: uniform within +-0.5 / sqrt(n), n the inputs of a neuron. QIF neurons: N(1, 4^2) from the inputs
        of the network, N(0.5, 4^2) / sqrt(n) above, with which some fire.
        """
        inputs = self.encode(train[:1].pixels()).shape[1]
        sizes = (inputs, *self.hidden, train.classes)
        if isinstance(self.neuron, Theta):
            network = ThetaNetwork(sizes, neuron=self.neuron, t_end=self.t_end)
            for weight in (layer.weight for layer in network.stack()):
                nn.init.uniform_(weight, -0.5, 0.5, generator=rng).data.div_(len(weight) ** 0.5)
            return network
        other = QIFNetwork(sizes, neuron=self.neuron, t_end=self.t_end)
        for depth, layer in enumerate(cast(list[QIFLayer], list(other.layers))):
            root = sizes[depth] ** 0.5 if depth else 1.0
            layer.draw_(rng, mean=(0.5 if depth else 1.0) / root, std=4 / root)
        return other

    def _epoch(
        self,
        network: Network,
        train: Split,
        optimizer: torch.optim.Optimizer,
        schedule: LambdaLR,
        rng: Generator,
    ) -> dict[str, float]:
        """One pass; means over it of the loss, of spikes per hidden neuron, and of what was named right."""
        settings = self.training
        loss_sum, spikes, right = (torch.zeros((), device=train.x.device) for _ in range(3))
        for part in train.batches(min(settings.batch, len(train)), shuffle=rng):
            trains, times = spikes_of(network, settings.times_of(part.x, self.encode, rng))
            loss = settings.loss(times, part.y, self.t_end)
            optimizer.zero_grad()
            loss.backward()
            if settings.clip < math.inf:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            schedule.step()
            if isinstance(network, ThetaNetwork):
                network.clamp_phases_()
            loss_sum += loss.detach() * len(part)
            right += (times.argmin(1) == part.y).sum()
            spikes += sum(layer.isfinite().sum() for layer in trains[:-1])
        n = len(train)
        named = {"loss": loss_sum, "train_accuracy": right, "spikes": spikes / max(1, sum(self.hidden))}
        return {name: value.item() / n for name, value in named.items()}

    def feature_layers(self) -> list[FeatureLayer]:
        """The hidden layers, from below; the activity of a neuron is its number of spikes in a trial."""
        weights = [layer.get_parameter("weight").detach().T for layer in self.network_.layers]
        return [
            FeatureLayer(f"layers.{depth}", SpikeCounts(self.encode, self.network_, depth), weight)
            for depth, weight in enumerate(weights[:-1])
        ]

    @torch.no_grad()
    def decision_function(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes): minus the first output times, pseudospikes included."""
        return torch.cat([self.forward(part) for part in x.split(1000)])

    def forward(self, x: Tensor) -> Tensor:
        """The same with its exact gradient by `x`, through the times of the input spikes, and all at once.

        A `LatencyEncoding` with levels passes the gradient straight through; an encoding that moves no spike with `x`
        (`ThresholdEncoding`) leaves none.
        """
        return -spikes_of(self.network_, self.encode(x))[1]

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels: who fires first, or would if the trial went on."""
        return self.decision_function(x).argmax(1)

    @torch.no_grad()
    def predict_from_spikes(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels by spikes within the trial alone, as a chip would see them; -1 without any."""
        parts = (spikes_of(self.network_, self.encode(part))[0] for part in x.split(1000))
        return torch.cat([first_to_fire(trains[-1]) for trains in parts])

    @torch.no_grad()
    def activity(self, x: Tensor, network: Network | None = None) -> list[Tensor]:
        """Spikes of every neuron for (n, *shape): (n, neurons) int64 for each layer, the outputs last.

        Of the trained network, if no other is given.
        """
        run = network or self.network_
        parts = [[t.isfinite().sum(-1) for t in spikes_of(run, self.encode(part))[0]] for part in x.split(1000)]
        return [torch.cat(layer) for layer in zip(*parts)]


class SpikeCounts(nn.Module):
    """How often the neurons of one layer spike in a trial.

    Args:
        encode: makes input spike times of examples.
        network: of spiking neurons.
        depth: which layer, 0 is the lowest.
    """

    def __init__(self, encode: Encode, network: Network, depth: int):
        super().__init__()
        self.encode, self.network, self.depth = encode, network, depth

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) to (batch, neurons)."""
        return spikes_of(self.network, self.encode(x))[0][self.depth].isfinite().sum(-1)


def spikes_of(network: Network, times: Tensor) -> tuple[list[Tensor], Tensor]:
    """Ordinary spikes of every layer, each (batch, neurons, spikes), and first output times, pseudospikes included."""
    if isinstance(network, ThetaNetwork):
        answer = network(times)
        return list(answer.trains), answer.times[..., 0]
    trials, first = network(times)
    return [trial.times for trial in trials], first[..., 0]


def flip_inputs(times: Tensor, share: float, rng: Generator) -> Tensor:
    """`times` (n, inputs) with a `share` of the entries, drawn with replacement, turned round, in place: silent inputs
    get the earliest time there is in the batch, the others fall silent.
    """
    flips = round(share * times.numel())
    if flips:
        flat = times.view(-1)
        where = torch.randint(len(flat), (flips,), generator=rng)
        flat[where] = torch.where(flat[where].isinf(), flat.min(), torch.inf)
    return times
