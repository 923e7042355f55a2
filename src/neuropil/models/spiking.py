"""A classifier of spiking neurons, trained by exact gradients: the output neuron that fires first names the class."""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from neuropil.data import Split
from neuropil.errors import needs, needs_numbers, require
from neuropil.models.contract import Classifier, FeatureLayer, as_examples, begin_fit
from neuropil.models.description import savable
from neuropil.models.training.adabelief import AdaBelief, descend_
from neuropil.models.training.augment import Augment
from neuropil.models.training.supervised import check_loss, passes
from neuropil.plasticity.joint import WHOLE, Portion, joined
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import NullTracker, Tracker
from neuropil.spiking import LIF, QIF, LIFNetwork, QIFNetwork, SpikingNetwork, SpikingOutput, Theta, ThetaNetwork
from neuropil.spiking.encoding import Encode, LatencyEncoding, LinearTimeEncoding, ThresholdEncoding
from neuropil.spiking.losses import first_spike_loss, first_to_fire

NETWORKS = {Theta: ThetaNetwork, QIF: QIFNetwork, LIF: LIFNetwork}
CHUNK = 1000  # examples simulated at once where no gradient is wanted


@dataclass(frozen=True)
class SpikeTimeTraining:
    """How a spiking network is trained: first-spike loss with pseudospikes, AdaBelief, a learning rate that falls.

    The loss has three terms. The first is the cross entropy of minus the first output times, times
    `inverse_temperature`. The second, weighted by `early_weight`, asks the label's neuron to fire early. The third,
    weighted by `late_weight`, asks it to fire at least `margin` before the end of the trial, to make it an
    ordinary spike. Neuromorphic hardware sees only these.

    Attributes:
        epochs: passes over the data.
        batch: examples in a step; a smaller data set is one batch.
        lr: first learning rate.
        lr_time_constant: in epoch n of N the rate is lr exp(-n / (lr_time_constant N)). None: it falls to 0 along half
            a cosine, step by step.
        augment: applied to the examples of every batch before they become spikes.
        flip_probability: fraction of the inputs of a batch, chosen afresh each time, that are flipped. Silent ones
            spike at the earliest time in the batch, others fall silent.
        inverse_temperature: 1 / unit of the times in which outputs compete.
        early_weight: weight of exp(t / T) - 1 of the label's first spike t; T is the end of the trial.
        late_weight: weight of max(0, t - T + margin) of the label's first spike.
        margin: in the unit of times.
        clip: largest norm of the gradient.
        weight_bump: added after a step to all weights into each neuron that was silent in more than `max_silent` of
            the examples. Only the lowest layer with such neurons gets it. It helps LIF neurons, which learn nothing
            while they are silent. After Goltz et al. 2021, Nat. Mach. Intell. 3, 823.
        max_silent: fraction of the examples of a batch.
        min_steps: fewest optimiser steps; a small data set gets as many more epochs as this takes.

    Raises:
        Refusal: a setting is out of its range.
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
    weight_bump: float = 0.0
    max_silent: float = 0.9
    min_steps: int = 500

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, self.epochs >= 1 and self.batch >= 1, "epochs and batch >= 1")
        constant = self.lr_time_constant
        needs(self, self.lr > 0 and (constant is None or constant > 0), "lr > 0 and lr_time_constant > 0 or None")
        needs(self, 0 <= self.flip_probability < 1, "0 <= flip_probability < 1")
        needs(self, min(self.inverse_temperature, self.clip) > 0, "inverse_temperature and clip > 0")
        terms = (self.early_weight, self.late_weight, self.margin, self.weight_bump)
        needs(self, min(terms) >= 0, "early_weight, late_weight, margin and weight_bump >= 0")
        needs(self, 0 <= self.max_silent <= 1, "0 <= max_silent <= 1")

    def schedule(self, optimizer: Optimizer, epochs: int, batches: int) -> LambdaLR:
        """The learning rate, to be moved on after each of the `batches` of each epoch."""
        constant = self.lr_time_constant
        if constant is None:
            factor = lambda step: (1 + math.cos(math.pi * step / (epochs * batches))) / 2
        else:
            factor = lambda step: math.exp(-(step // batches) / (constant * epochs))
        return LambdaLR(optimizer, factor)

    def times_of(self, x: Tensor, encode: Encode, rng: Generator) -> Tensor:
        """The examples of a batch as spike times of the inputs, augmented and with some inputs flipped."""
        return flip_inputs(encode(self.augment(x, rng) if self.augment else x), self.flip_probability, rng)

    def loss(self, times: Tensor, labels: Tensor, t_end: float) -> Tensor:
        """Of first output times (batch, classes), a mean; 0 for an empty batch."""
        if not len(times):
            return times.sum()
        late = torch.relu(times.gather(1, labels[:, None]) - t_end + self.margin).mean()
        scaled, end = times * self.inverse_temperature, t_end * self.inverse_temperature
        return first_spike_loss(scaled, labels, end, early_weight=self.early_weight) + self.late_weight * late

    @torch.no_grad()
    def bump_(self, network: SpikingNetwork, output: SpikingOutput, part: Portion = WHOLE) -> None:
        """Add `weight_bump` to weights into neurons that are silent too often, in the lowest layer that has some.

        `output` is that of a batch, or of the `part` of it that this process took.
        """
        for layer, spikes in zip(network.stack(), output.spikes if self.weight_bump else ()):
            quiet = spikes.isinf().all(-1).to(layer.weight)
            times, count = part.sum(quiet.sum(0), quiet.new_tensor(float(len(quiet))))
            silent = times / count > self.max_silent
            if silent.any():
                layer.weight += self.weight_bump * silent
                return


class SpikingClassifier(Classifier):
    """Stacked layers of spiking neurons, trained end to end by exact gradients; hidden layers may start silent.

    Args:
        hidden: numbers of neurons of the hidden layers.
        encode: turns examples (n, *shape) into spike times of the inputs (n, inputs).
        neuron, t_end: the kind of neuron (`Theta`, `QIF` or `LIF`) and the end of a trial.
        training: how it is trained.
        init_scale: by which the initial weights from the inputs are multiplied; many inputs need small ones.

    After `fit`: ``network_``, in evaluation mode, and ``start_``, the same before training.
    """

    shares = True
    shown = ("hidden", "encode", "neuron", "t_end", "training", "init_scale")

    def __init__(
        self, hidden: tuple[int, ...] = (100, 100), *, encode: Encode | None = None,
        neuron: Theta | QIF | LIF | None = None, t_end: float = 2.0, training: SpikeTimeTraining | None = None,
        init_scale: float = 1.0,
    ):  # fmt: skip
        self.hidden = hidden
        self.encode = encode or ThresholdEncoding()
        self.neuron, self.t_end = neuron or Theta(), t_end
        self.training, self.init_scale = training or SpikeTimeTraining(), init_scale
        needs_numbers(self, hidden=hidden, t_end=t_end, init_scale=init_scale)
        require(0 < init_scale < math.inf, f"a spiking network needs a finite init_scale > 0, got {init_scale}.")

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Initialise a network and train all its weights and first states on `train`."""
        begin_fit(self, train, rng)
        train.check_labelled("SpikingClassifier")
        tracker, settings = tracker or NullTracker(), self.training
        network = self.initialised(train, rng).to(train.x.device)
        self.start_ = deepcopy(network).eval().requires_grad_(False)
        optimizer = AdaBelief(network.parameters(), lr=settings.lr)
        epochs = passes(len(train), epochs=settings.epochs, batch=settings.batch, min_steps=settings.min_steps)
        schedule = settings.schedule(optimizer, epochs, math.ceil(len(train) / settings.batch))
        stage = "exact spikes"
        for epoch in tracker.loop(stage, epochs, network=network, optimizer=optimizer, schedule=schedule, rng=rng):
            with joined(network) as part:
                numbers = self._epoch(network, train, optimizer, schedule, rng, part)
            check_loss(stage, epoch, numbers["loss"])
            tracker.log(EpochRow(stage=stage, epoch=epoch, metrics=numbers))
        self.network_ = network.eval().requires_grad_(False)
        return self

    def initialised(self, train: Split, rng: Generator) -> SpikingNetwork:
        """An untrained network for `train`; see `init_` of its network."""
        inputs = self.encode(train[:1].pixels()).shape[1]
        make = NETWORKS[type(self.neuron)]
        network: SpikingNetwork = make((inputs, *self.hidden, train.classes), neuron=self.neuron, t_end=self.t_end)
        network.init_(rng)
        network.stack()[0].weight.data *= self.init_scale
        return network

    def _epoch(
        self, network: SpikingNetwork, train: Split, optimizer: Optimizer, schedule: LambdaLR, rng: Generator,
        part: Portion = WHOLE,
    ) -> dict[str, float]:  # fmt: skip
        """One pass; means over it of the loss, of spikes per hidden neuron, and of what was classified correctly."""
        settings = self.training
        loss_sum, spikes, correct = (torch.zeros((), device=train.x.device) for _ in range(3))
        for batch in train.batches(min(settings.batch, len(train)), shuffle=rng):
            output, y = network(part(settings.times_of(batch.x, self.encode, rng))), part(batch.y)
            times = output.times[..., 0]
            loss = settings.loss(times, y, self.t_end) * (len(y) / len(batch))
            descend_(loss, optimizer, schedule, settings.clip, part)
            network.clamp_phases_()
            settings.bump_(network, output, part)
            loss_sum += loss.detach() * len(batch)
            correct += (times.argmin(1) == y).sum()
            spikes += sum(layer.isfinite().sum() for layer in output.spikes[:-1])
        loss_sum, correct, spikes = part.sum(loss_sum, correct, spikes)
        means = {"loss": loss_sum, "train_accuracy": correct, "spikes": spikes / max(1, sum(self.hidden))}
        return {name: value.item() / len(train) for name, value in means.items()}

    def feature_layers(self) -> list[FeatureLayer]:
        """The hidden layers, from below; the activity of a neuron is its number of spikes in a trial."""
        return [
            FeatureLayer(f"layers.{depth}", SpikeCounts(self.encode, self.network_, depth), layer.weight.detach().T)
            for depth, layer in enumerate(self.network_.stack()[:-1])
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes): minus the first output times, pseudospikes included.

        Its gradient by `x`, through the times of the input spikes, is exact.
        A `LatencyEncoding` with levels passes the gradient straight through; an encoding that moves no spike with `x`
        (`ThresholdEncoding`) leaves none.
        """
        times: Tensor = self.network_(self.encode(as_examples(self, x))).times
        return -times[..., 0]

    @torch.no_grad()
    def predict_from_spikes(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels by spikes within the trial alone, as hardware would see them; -1 without any."""
        return torch.cat(
            [first_to_fire(self.network_(self.encode(chunk)).spikes[-1]) for chunk in as_examples(self, x).split(CHUNK)]
        )

    @torch.no_grad()
    def activity(self, x: Tensor, network: SpikingNetwork | None = None) -> list[Tensor]:
        """Spikes of every neuron for (n, *shape): (n, neurons) int64 for each layer, the outputs last.

        Of the trained network, if no other is given.
        """
        run = network or self.network_
        chunks = [[t.isfinite().sum(-1) for t in run(self.encode(chunk)).spikes] for chunk in x.split(CHUNK)]
        return [torch.cat(layer) for layer in zip(*chunks)]


class SpikeCounts(nn.Module):
    """How often the neurons of one layer spike in a trial.

    Args:
        encode: turns examples into spike times of the inputs.
        network: of spiking neurons.
        depth: which layer, 0 is the lowest.
    """

    def __init__(self, encode: Encode, network: SpikingNetwork, depth: int):
        super().__init__()
        self.encode, self.network, self.depth = encode, network, depth

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) to (batch, neurons)."""
        output: SpikingOutput = self.network(self.encode(x))
        return output.spikes[self.depth].isfinite().sum(-1)


def flip_inputs(times: Tensor, fraction: float, rng: Generator) -> Tensor:
    """Flip a `fraction` of the entries of `times` (n, inputs), chosen with replacement, in place.

    Silent inputs get the earliest time there is in the batch, the others fall silent.
    """
    flips = round(fraction * times.numel())
    if flips:
        flat = times.view(-1)
        where = torch.randint(len(flat), (flips,), generator=rng).to(flat.device)
        flat[where] = torch.where(flat[where].isinf(), flat.min(), torch.inf)
    return times


savable(SpikeTimeTraining, ThresholdEncoding, LatencyEncoding, LinearTimeEncoding, Theta, QIF, LIF)
savable(ThetaNetwork, QIFNetwork, LIFNetwork, settings=("sizes", "neuron", "t_end"))
savable(SpikingClassifier, learned=("start_", "network_"), for_learning=("training",))
