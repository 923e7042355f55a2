"""A classifier whose neurons are all associated with a class and learn from their own input and the label alone."""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self, cast

import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.errors import needs, needs_numbers, require
from neuropil.models.contract import Classifier, FeatureLayer, as_batch, as_examples, begin_fit, fitting
from neuropil.models.description import savable
from neuropil.models.nn.columns import PopulationVote, TopKSigmoid
from neuropil.models.nn.layers import UnitNorm
from neuropil.models.training.memory import OptimizerMemory
from neuropil.models.training.supervised import passes
from neuropil.plasticity import Association, associations, correlate, gains, propose_, tap
from neuropil.plasticity.joint import WHOLE, Portion, joined
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import NullTracker, Tracker

Rules = Mapping[str, Association]  # of the layers, by name


class AssociationLearning(Protocol):
    """How associated layers learn."""

    def fit_(
        self, network: nn.Sequential, rules: Rules, mask: Tensor | None, train: Split, *,
        rng: Generator, tracker: Tracker,
    ) -> None:  # fmt: skip
        """Let the layers of `network` learn in place; `mask` is that of `AssociationClassifier.mask`."""


@dataclass(frozen=True)
class AssociationTraining:
    """How the label events of a training set are gone through; the learning rate falls linearly to 0.

    Attributes:
        epochs: passes over the examples.
        batch: events in a step; a smaller data set is one batch.
        lr: first learning rate. It multiplies the sum over the events of a step, not their mean. For Adam that makes no
            difference; plain SGD takes as many times smaller rates as a batch is larger.
        adaptive: whether every synapse scales its changes by their running size (Adam, which uses nothing that the
            synapse does not see); otherwise plain SGD.
        min_steps: fewest steps; a small data set gets as many more epochs as this takes.
    """

    epochs: int = 10
    batch: int = 100
    lr: float = 1e-2
    adaptive: bool = True
    min_steps: int = 1

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, self.epochs >= 1 and self.batch >= 1, "epochs and batch >= 1")
        needs(self, self.lr > 0, "a learning rate lr > 0")

    def fit_(
        self, network: nn.Sequential, rules: Rules, mask: Tensor | None, train: Split, *,
        rng: Generator, tracker: Tracker,
    ) -> None:  # fmt: skip
        """Let all layers of `network` learn at once, in place, from every example and its label."""
        batch = min(self.batch, len(train))
        epochs = passes(len(train), epochs=self.epochs, batch=batch, min_steps=self.min_steps)
        optimizer = self.optimizer(network)
        steps = epochs * math.ceil(len(train) / batch)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=steps)
        for epoch in tracker.loop(
            "association", epochs, network=network, optimizer=optimizer, schedule=schedule, rng=rng
        ):
            right = torch.zeros((), device=train.y.device)
            with joined(network) as part:
                for events in (part(one) for one in train.batches(batch, shuffle=rng)):
                    votes = associate_(network, rules, events, mask, part)
                    right += (votes.argmax(1) == events.y).sum()
                    optimizer.step()
                    schedule.step()
            accuracy = part.sum(right)[0].item() / len(train)
            log_likeness(tracker, network, rules, epoch=epoch, accuracy=accuracy)

    def optimizer(self, network: nn.Sequential) -> torch.optim.Optimizer:
        """What takes the steps of all layers, at the first learning rate."""
        make = torch.optim.Adam if self.adaptive else torch.optim.SGD
        return make(network.parameters(), lr=self.lr, fused=True)


class AssociationClassifier(Classifier):
    """Layers of neurons that are all associated with a class; every synapse learns from its two and the event.

    One forward pass hands every layer its input, then all layers learn at once, in any order, from that input and the
    label alone. As nothing comes down, a layer may even learn in a process of its own, one step behind the layer below,
    if labels travel with the activity: the weights come out the same.

    The classes have equally many neurons, give or take one, in every column of every layer.

    Args:
        hidden: numbers of neurons of the layers; the last of them votes, there is no other output.
        columns: into how many columns each layer is cut, see `Association`.
        receptive_field: side of the square of pixels that reaches a column of the first layer, None for all pixels.
            Columns lie on a square grid.
        k: how many neurons win among the associated and among the others; None for the plain rule without competition.
        slope: of the neurons' answers.
        n_send: how many neurons of a column send; None for all, as they are.
        unit_norm_input: whether an example is brought to unit length first.
        training: how the layers learn, for example `AssociationTraining`.

    After `fit`: ``network_``, all layers and the vote, in evaluation mode.
    """

    shares = True
    shown = ("hidden", "columns", "receptive_field", "k", "slope", "n_send", "training")

    def __init__(
        self, hidden: tuple[int, ...] = (1000, 1000), *, columns: tuple[int, ...] | None = None,
        receptive_field: int | None = None, k: int | None = 3, slope: float = 32.0, n_send: int | None = 24,
        unit_norm_input: bool = True, training: AssociationLearning | None = None,
    ):  # fmt: skip
        needs_numbers(
            self, hidden=hidden, columns=columns, k=k, slope=slope, n_send=n_send, receptive_field=receptive_field
        )  # fmt: skip
        require(len(hidden) >= 1, "AssociationClassifier needs a layer of neurons, got hidden=().")
        columns = columns or (1,) * len(hidden)
        got = f"got columns={columns} and hidden={hidden}."
        require(len(columns) == len(hidden), f"AssociationClassifier needs columns for each layer, {got}")
        self.hidden, self.columns, self.receptive_field = hidden, columns, receptive_field
        self.k, self.slope, self.n_send = k, slope, n_send
        self.unit_norm_input, self.training = unit_norm_input, training or AssociationTraining()
        self._memory: OptimizerMemory | None = None

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Initialise a network and let all its layers learn from every example and its label."""
        begin_fit(self, train, rng)
        train.check_labelled("AssociationClassifier")
        network, rules, mask = self.fresh(train, rng), self.rules(train.classes), self.mask(train)
        self.training.fit_(network, rules, mask, train, rng=rng, tracker=tracker or NullTracker())
        network.zero_grad(set_to_none=True)
        self.network_ = network.eval().requires_grad_(False)
        self._forget()
        return self

    def begin(self, x: Tensor, classes: int, *, rng: Generator) -> Self:
        """Make the network for examples like those of `x` (n, *shape), and its optimiser; it knows nothing yet."""
        example = Split.unlabelled(x[:1], classes)
        begin_fit(self, example, rng)
        self._forget()
        self.network_ = self.fresh(example, rng).eval().requires_grad_(False)
        self._ready_for(example)
        return self

    def partial_fit(
        self, x: Tensor, y: Tensor, *, classes: int | None = None, rng: Generator | None = None
    ) -> Self:  # fmt: skip
        """All layers learn once from one batch, at the first learning rate of `training`.

        Args:
            x: (batch, *shape), as for `predict`.
            y: (batch,) labels, int64.
            classes: number of all classes; needed in the first call.
            rng: of the first weights; needed in the first call.
        """
        fitted = "network_" in vars(self)
        batch = as_batch(self, x, y, classes, self.network_[-1].classes if fitted else None)
        if not fitted:
            self.begin(x, batch.classes, rng=cast(Generator, rng))
        if "optimizer_" not in vars(self):
            self._ready_for(batch)
        as_examples(self, batch.x)  # refuses another device
        with fitting(self, batch.x):
            associate_(self.network_, self.rules(batch.classes), batch, self.mask_)
        self.optimizer_.step()
        return self

    def _ready_for(self, example: Split) -> None:
        """What learning needs besides the network."""
        self.optimizer_ = cast(AssociationTraining, self.training).optimizer(self.network_)
        self.mask_ = self.mask(example)
        if self._memory is not None:
            self._memory.into_(self.optimizer_)
            self._memory = None

    def _forget(self) -> None:
        """What was of another network."""
        vars(self).pop("optimizer_", None)
        self._memory = None

    @property
    def memory_(self) -> OptimizerMemory | None:
        """What the optimiser of `partial_fit` remembers; None if it has none."""
        return OptimizerMemory.of(self.optimizer_) if "optimizer_" in vars(self) else self._memory

    @memory_.setter
    def memory_(self, memory: OptimizerMemory | None) -> None:
        self._memory = memory

    def rules(self, classes: int) -> dict[str, Association]:
        """What each layer learns by, by its name in the network."""
        names = ["hidden", *(f"hidden{depth}" for depth in range(2, len(self.hidden) + 1))]
        make = partial(Association, classes, slope=self.slope, k=self.k)
        return {name: make(columns=columns) for name, columns in zip(names, self.columns)}

    def fresh(self, train: Split, rng: Generator) -> nn.Sequential:
        """A network for `train` whose neurons know nothing: weights N(0, 1 / inputs), thresholds 0."""
        layers, rules = OrderedDict[str, nn.Module](flat=nn.Flatten()), self.rules(train.classes)
        if self.unit_norm_input:
            layers["unit"] = UnitNorm()
        inputs = train.x[0].numel()
        for (name, rule), neurons in zip(rules.items(), self.hidden):
            rule.check_units(neurons)
            layers[name] = layer = nn.Linear(inputs, neurons)
            nn.init.normal_(layer.weight, generator=rng)
            nn.init.zeros_(layer.bias)
            mask = self.mask(train) if name == "hidden" else None
            seen = torch.ones_like(layer.weight) if mask is None else mask.cpu()
            layer.weight.data.mul_(seen / seen.sum(1, keepdim=True).sqrt())
            layers[f"sent_{name}"] = TopKSigmoid(self.slope, self.n_send, rule.columns)
            inputs = neurons
        layers.popitem()  # the last layer does not send, it votes
        layers["vote"] = PopulationVote(neurons, rule.classes, k=rule.k, slope=rule.slope, columns=rule.columns)
        return nn.Sequential(layers).to(train.x.device)

    def mask(self, train: Split) -> Tensor | None:
        """(neurons, inputs) 1 where a neuron of the first layer has a synapse, 0 elsewhere; None if all have all."""
        if self.receptive_field is None:
            return None
        return fields(train.x.shape[1:], self.receptive_field, self.columns[0], self.hidden[0]).to(train.x.device)

    def feature_layers(self) -> list[FeatureLayer]:
        """The layers below the one that votes, from below; a single layer is both."""
        names, places = list(self.rules(2)), list(dict(self.network_.named_children()))
        return [
            FeatureLayer(name, self.network_[: places.index(name) + 1], self.network_.get_parameter(f"{name}.weight"))
            for name in names[:-1] or names
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes): how strongly the last layer associates each class; with its gradient by `x`."""
        return cast(Tensor, self.network_(as_examples(self, x)))


@torch.no_grad()
def associate_(
    network: nn.Sequential, rules: Rules, events: Split, mask: Tensor | None = None, part: Portion = WHOLE
) -> Tensor:
    """One forward pass, and every layer's change into its gradient; (batch, classes) votes on the way.

    Args:
        network: learns in place.
        rules: of its layers, by name.
        events: a batch, or this process's part of it.
        mask: of the synapses of the first layer, see `AssociationClassifier.mask`.
        part: what took that part.
    """
    with tap(network, rules) as seen:
        votes: Tensor = network(events.x)
    for name, rule in rules.items():
        layer, (pre, drive) = network.get_submodule(name), seen[name]
        error = gains(rule, layer, pre, drive, label=events.y)
        # the threshold is a synapse from a neuron that always fires
        change, bias = part.sum(correlate(layer, pre, error), error.sum(0))
        propose_(layer, change if mask is None or name != "hidden" else change * mask, bias)
    return votes


def fields(shape: tuple[int, ...], side: int, columns: int, neurons: int) -> Tensor:
    """(neurons, inputs) 1 where an input reaches a neuron: one square per column, on a square grid over the image."""
    images = len(shape) == 3
    require(images, f"fields need images (channels, height, width), got {shape[0]} inputs; use receptive_field=None.")
    across = math.isqrt(columns)
    require(across**2 == columns, f"columns with fields lie on a square grid, got {columns}; use 1, 4, 9, 16, 25, ...")
    require(1 <= side <= min(shape[1:]), f"a field needs a side of 1 to {min(shape[1:])} pixels, got {side}.")
    mask = torch.zeros(columns, *shape)
    tops, lefts = (torch.linspace(0, size - side, across).round().long().tolist() for size in shape[1:])
    for column in range(columns):
        top, left = tops[column // across], lefts[column % across]
        mask[column, :, top : top + side, left : left + side] = 1
    return mask.flatten(1).repeat_interleave(neurons // columns, 0)


def log_likeness(tracker: Tracker, network: nn.Sequential, rules: Rules, *, epoch: int, accuracy: float) -> None:
    """Log the accuracy on the training examples in a pass, and how alike neurons of one class are, see `likeness`."""
    alike, alike_column = likeness(network.get_parameter("hidden.weight"), rules["hidden"])
    metrics = {"train_accuracy": accuracy, "alike": alike, "alike_column": alike_column}
    tracker.log(EpochRow(stage="association", epoch=epoch, metrics=metrics))


def likeness(weight: Tensor, rule: Association) -> tuple[float, float]:
    """Mean absolute correlation of the weights of two neurons of one association, in [0, 1].

    Returns:
        That of any two, and that of two in one column over the inputs that they see.
    """
    rows, classes = weight.detach(), range(rule.classes)
    columns = [block[:, block.abs().sum(0) > 0] for block in rows.chunk(rule.columns)]
    labels = associations(len(rows), rule.classes).chunk(rule.columns)
    own = [block[labels[c] == label] for c, block in enumerate(columns) for label in classes]
    return _correlation(rows[label :: rule.classes] for label in classes), _correlation(own)


def _correlation(groups: Iterable[Tensor]) -> float:
    """Mean over all pairs of rows of each group, then over the groups that have pairs; 0 without any."""
    tables = [torch.corrcoef(rows).abs() for rows in groups if len(rows) > 1]
    means = [(table.sum() - table.trace()) / (table.numel() - len(table)) for table in tables]
    return torch.stack(means).mean().item() if means else 0.0


savable(AssociationTraining)
savable(AssociationClassifier, learned=("network_",), for_learning=("training",), going_on=("memory_",))
