"""A classifier whose neurons are all associated with a class and learn from their own events, all layers at once."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor, nn

from neuropil.checks import require
from neuropil.data import Split
from neuropil.learners.descent import passes
from neuropil.learners.layers import UnitNorm, unit
from neuropil.learners.readout import scores_of
from neuropil.learners.watch import Unwatched, Watch
from neuropil.plasticity import Association, associations, correlate, propose_, tap


class Sent(nn.Module):
    r"""What neurons send to the next layer: their answer :math:`s = 1 / (1 + e^{-\beta u})` to a drive u.

    Args:
        slope: beta.
        strongest: how many neurons send, together at unit length, the others are silent; None for all, as they are.
    """

    def __init__(self, slope: float, strongest: int | None = None):
        super().__init__()
        self.slope, self.strongest = slope, strongest

    def forward(self, drive: Tensor) -> Tensor:
        """(batch, neurons) drives to the same shape."""
        answer = torch.sigmoid(self.slope * drive)
        if self.strongest is None:
            return answer
        top = answer.topk(min(self.strongest, answer.shape[1]), 1)
        return unit(torch.zeros_like(answer).scatter(1, top.indices, top.values))

    def extra_repr(self) -> str:
        """The settings."""
        return f"slope={self.slope}, strongest={self.strongest}"


class Vote(nn.Module):
    """How strongly each class is associated with the drives of the last layer: the mean of its k largest, times beta.

    Args:
        rule: its classes, slope and k; without k all neurons of a class have a say, by their answers.
    """

    def __init__(self, rule: Association):
        super().__init__()
        self.rule = rule

    def forward(self, drive: Tensor) -> Tensor:
        """(batch, neurons) to (batch, classes)."""
        classes, k = self.rule.classes, self.rule.k
        short = -drive.shape[1] % classes  # associations of equal length, filled up with neurons that never win
        filled = nn.functional.pad(drive, (0, short), value=-torch.inf).unflatten(1, (-1, classes))
        if k is not None:
            return self.rule.slope * filled.topk(k, 1).values.mean(1)
        counts = associations(drive.shape[1], classes).bincount().to(drive)
        return torch.sigmoid(self.rule.slope * filled).sum(1) / counts


@dataclass(frozen=True)
class LabelEvents:
    """How the label events of a training set are gone through; the learning rate falls linearly to 0.

    Attributes:
        epochs: passes over the examples.
        batch: events in a step; a smaller data set is one batch.
        lr: first learning rate.
        adaptive: whether every synapse scales its changes by their running size (Adam, which uses nothing that the
            synapse does not see); otherwise plain SGD.
        steps: fewest steps; a small data set gets as many more epochs as this takes.
    """

    epochs: int = 10
    batch: int = 100
    lr: float = 4e-3
    adaptive: bool = True
    steps: int = 1

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch >= 1, f"LabelEvents needs epochs and batch >= 1, got {self}.")
        require(self.lr > 0, f"LabelEvents needs a positive learning rate, got lr={self.lr}.")


class AssociationClassifier:
    """Layers of neurons that are all associated with a class; every synapse learns from its two and the event.

    One forward pass hands every layer its input, then all layers learn at once, in any order, from that input and the
    label alone. As nothing comes down, a layer may even learn in a process of its own, one step behind the layer below,
    if labels travel with the activity: the weights come out the same.

    The classes have equally many neurons, give or take one, in every layer.

    Args:
        hidden: numbers of neurons of the layers; the last of them votes, there is no other output.
        k: how many neurons win among the associated and among the others; None for the plain rule without competition.
        slope: of the neurons' answers.
        strongest: how many neurons of a layer send, together at unit length; None for all, as they are.
        norm: whether an example is brought to unit length first, for images.
        events: how the label events are gone through.

    After `fit`: ``body_`` (up to the drives of the first layer ``hidden``) and ``network_`` (all, with the vote), both
    in evaluation mode.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (1000, 1000),
        *,
        k: int | None = 3,
        slope: float = 32.0,
        strongest: int | None = 24,
        norm: bool = True,
        events: LabelEvents | None = None,
    ):
        require(len(hidden) >= 1, "AssociationClassifier needs a layer of neurons, got hidden=().")
        self.hidden, self.k, self.slope = hidden, k, slope
        self.strongest, self.norm, self.events = strongest, norm, events or LabelEvents()

    def fit(self, train: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Draw a network and let all its layers learn from every example and its label."""
        watch, events, rule = watch or Unwatched(), self.events, self.rule(train.classes)
        network = self.fresh(train, rng)
        batch = min(events.batch, len(train))
        epochs = passes(len(train), epochs=events.epochs, batch=batch, steps=events.steps)
        make = torch.optim.Adam if events.adaptive else torch.optim.SGD
        optimizer = make(network.parameters(), lr=events.lr)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=epochs * -(-len(train) // batch))
        parts = {"network": network, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in watch.loop("association", epochs, **parts):
            right = torch.zeros((), device=train.y.device)
            for part in train.batches(batch, shuffle=rng):
                right += (associate_(network, rule, part).argmax(1) == part.y).sum()
                optimizer.step()
                schedule.step()
            watch.log("epoch", stage="association", epoch=epoch, train_accuracy=right.item() / len(train))
        network.zero_grad(set_to_none=True)
        self.network_ = network.eval().requires_grad_(False)
        self.body_ = network[: list(dict(network.named_children())).index("hidden") + 1]
        return self

    def fit_labels(self, labelled: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Learn everything afresh from `labelled` alone: without a label there is no event."""
        return self.fit(labelled, rng=rng, watch=watch)

    def rule(self, classes: int) -> Association:
        """What all layers learn by."""
        return Association(classes, slope=self.slope, k=self.k)

    def fresh(self, train: Split, rng: Generator) -> nn.Sequential:
        """A network for `train` whose neurons know nothing: weights N(0, 1 / inputs), thresholds 0."""
        rule = self.rule(train.classes)
        layers = OrderedDict[str, nn.Module](flat=nn.Flatten())
        if self.norm:
            layers["unit"] = UnitNorm()
        inputs = train.x[0].numel()
        for depth, neurons in enumerate(self.hidden, start=1):
            rule.check_neurons(neurons)
            if depth > 1:
                layers[f"sent{depth - 1}"] = Sent(self.slope, self.strongest)
            layers["hidden" if depth == 1 else f"hidden{depth}"] = layer = nn.Linear(inputs, neurons)
            nn.init.normal_(layer.weight, std=inputs**-0.5, generator=rng)
            nn.init.zeros_(layer.bias)
            inputs = neurons
        layers["vote"] = Vote(rule)
        return nn.Sequential(layers).to(train.x.device)

    def scores(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes): how strongly the last layer associates each class."""
        return scores_of(self.network_, x)

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels: the class with the strongest vote."""
        return self.scores(x).argmax(1)


@torch.no_grad()
def associate_(network: nn.Sequential, rule: Association, part: Split) -> Tensor:
    """One forward pass, and every layer's change into its gradient; (batch, classes) votes on the way."""
    layers = {name: layer for name, layer in network.named_children() if isinstance(layer, nn.Linear)}
    with tap(network, layers) as seen:
        votes = network(part.x)
    for name, layer in layers.items():
        pre, drive = seen[name]
        surprise = rule.surprise(layer, pre, part.y, drive)
        propose_(layer, correlate(layer, pre, surprise))
        layer.bias.grad = -surprise.sum(0)  # the threshold is a synapse from a neuron that always fires
    return votes
