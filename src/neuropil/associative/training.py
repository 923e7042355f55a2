"""Settings of the training of an associative network, and the statistics of its epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.associative.connectivity import CLASSIFIERS, LABEL, PIXELS, Connectivity
from neuropil.associative.learning import Traces
from neuropil.associative.tasks import CLASSIFY, GENERATE, Task
from neuropil.data import Split
from neuropil.errors import needs, needs_numbers, require, unknown
from neuropil.models.training.augment import Augment
from neuropil.models.training.supervised import passes
from neuropil.plasticity.joint import WHOLE, Portion

GAINS = {"classification": 0.5, "completion": 0.5, "label": 0.5, "generation": 1.0, "pixels": 0.0}
LEARNING_RATES = {"classification": 1e-3, "completion": 1e-3, "label": 3e-3, "generation": 2e-3, "pixels": 2e-3}

SEEING = ("classification", "completion", "generation")  # roles of units that see pixels
INK = 105.0  # sum of an image's pixels up to which their rates hold; digits of MNIST have 103 on average


class Steps(NamedTuple):
    """How a network learns from so many examples: batches, passes, and what takes the steps."""

    batch: int
    epochs: int
    optimizer: torch.optim.Adam
    schedule: torch.optim.lr_scheduler.ExponentialLR


@dataclass(frozen=True)
class AssociativeTraining:
    """How an associative network learns.

    Attributes:
        tasks: every batch goes through each of them in turn.
        epochs: passes over the images.
        batch: images in a step; a smaller data set is one batch.
        learning_rates: of Adam, by the role of the postsynaptic population, where they differ from `LEARNING_RATES`.
            Those of units that see pixels are lower where images have more ink than digits, see `slowed`.
        feedback_lr_scale: factor of the learning rates of synapses from the label's side onto units that classify.
            They carry the nudge. As fast as the others they would fade, because a label that is predicted well hardly
            moves.
        lr_decay: factor of the learning rates from epoch to epoch.
        augment: maps (images, generator) to the images that are shown when the label is the target.
        min_steps: fewest batches; a small data set gets as many more epochs as this takes.

    Raises:
        Refusal: a setting outside its range, or a learning rate for a role that does not exist.
    """

    tasks: tuple[Task, ...] = (CLASSIFY, GENERATE)
    epochs: int = 18
    batch: int = 50
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    feedback_lr_scale: float = 0.01
    lr_decay: float = 0.9
    augment: Augment | None = None
    min_steps: int = 1

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, self.epochs >= 1 and self.batch >= 1, "epochs and batch >= 1")
        require(len(self.tasks) > 0, "AssociativeTraining needs at least one task, got none.")
        needs(self, 0 < self.lr_decay <= 1, "0 < lr_decay <= 1")
        needs(self, self.feedback_lr_scale >= 0, "feedback_lr_scale >= 0")
        by_role("learning rate", self.learning_rates, LEARNING_RATES)

    def steps(self, net: Connectivity, train: Split) -> Steps:
        """Adam with a rate for each role, which falls from pass to pass as far as in `epochs` passes."""
        batch = min(self.batch, len(train))
        epochs = passes(len(train), epochs=self.epochs, batch=batch, min_steps=self.min_steps)
        optimizer = torch.optim.Adam(self.parameter_groups(net, slowed(LEARNING_RATES, train)), betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, self.lr_decay ** (self.epochs / epochs))
        return Steps(batch, epochs, optimizer, schedule)

    def parameter_groups(
        self, net: Connectivity, usual: Mapping[str, float] = LEARNING_RATES
    ) -> list[dict[str, object]]:  # fmt: skip
        """Parameters and learning rates for the optimiser: one group for each projection, and one for each bias."""
        rates, order = by_role("learning rate", self.learning_rates, usual), list(net.sizes)
        found = [(bias, rates[net.roles[name]]) for name, bias in net.bias.items()]
        for pre, post in net.projections:
            above = order.index(pre) < order.index(post)
            feedback = net.roles[post] in CLASSIFIERS and pre != PIXELS and above
            rate = rates[net.roles[post]] * (self.feedback_lr_scale if feedback else 1)
            found.append((net.between(pre, post).weight, rate))
        return [{"params": [parameter], "lr": rate} for parameter, rate in found]


def slowed(rates: Mapping[str, float], train: Split) -> dict[str, float]:
    """Learning rates by role, of units that see pixels lower where images have more ink than `INK`.

    Adam moves every weight by about its rate, and so what a unit gets from an image by the rate times the image's sum.
    Where that is large units saturate.
    """
    ink = train[:1000].pixels().flatten(1).abs().sum(1).mean().item()
    return {role: rate * min(1.0, INK / max(ink, 1.0)) if role in SEEING else rate for role, rate in rates.items()}


def by_role(word: str, values: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
    """`values` of 0 or more by role, and the `usual` ones for the roles that they leave out."""
    for name in values:
        if name not in usual:
            raise unknown(f"role with a {word}", name, list(usual))
    require(min(values.values(), default=0) >= 0, f"an associative network needs each {word} >= 0, got {values}.")
    return {**usual, **values}


class EpochStatistics:
    """What is logged of one epoch, of which this process saw a `part`."""

    def __init__(self, part: Portion = WHOLE) -> None:
        self.part = part
        self.steps, self.unsettled, self.iterations = 0, 0, 0
        self.moved: dict[str, list[Tensor]] = {}
        self.right: list[Tensor] = []
        self.saturated = 0.0

    def add(self, task: Task, traces: Traces | None) -> None:
        """Take the numbers of one step, if it took place."""
        if traces is None:
            return
        before, after = traces.settled, traces.after
        self.steps += 1
        self.unsettled += not before.converged
        self.iterations += before.iterations
        if task.target == LABEL and task.clamped != "partial":
            known = traces.labels >= 0
            right = known & (before.state[LABEL].argmax(1) == traces.labels)
            self.right.append(torch.stack([right.sum(), known.sum()]))
        moved = (after[task.target] - before.state[task.target]).abs()
        self.moved.setdefault(task.target, []).append(moved.sum() / (traces.samples * moved.shape[1]))
        if self.steps % 100 == 1:
            hidden = torch.cat([s.flatten() for name, s in after.items() if name not in (PIXELS, LABEL)])
            idle = ((hidden <= 0) | (hidden >= 1)).sum().double()
            idle, count = self.part.sum(idle, idle.new_tensor(len(hidden)))
            self.saturated = (idle / count).item()

    def row(self) -> dict[str, float]:
        """Mean iterations of settling, fraction of steps that did not settle, and how far nudges moved each target.

        Also the fraction of the labelled images that the free phase classified correctly, where there are any.
        """
        moves = {name: self.part.sum(torch.stack(found))[0] for name, found in self.moved.items()}
        moved = {f"nudge_moved_{name}": one.mean().item() for name, one in moves.items()}
        steps, right = max(self.steps, 1), {}
        if self.right:
            total, count = self.part.sum(*torch.stack(self.right).sum(0).double())
            right = {"train_accuracy": (total / count).item()} if count > 0 else {}
        return {"iterations": self.iterations / steps, "unsettled_fraction": self.unsettled / steps, **moved, **right}
