"""How an associative network practises, and the numbers of its epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuropil.associative.connectivity import State
from neuropil.associative.settling import Settled
from neuropil.associative.tasks import DRAW, NAME, Trial
from neuropil.errors import require, unknown
from neuropil.models.training.augment import Augment

GAINS = {"naming": 0.5, "parts": 0.5, "label": 0.5, "drawing": 1.0, "pixels": 0.0}
RATES = {"naming": 1e-3, "parts": 1e-3, "label": 3e-3, "drawing": 2e-3, "pixels": 2e-3}


@dataclass(frozen=True)
class AssociativeTraining:
    """How an associative network learns.

    Attributes:
        trials: kinds of trials; every batch goes through each of them in turn.
        epochs: passes over the images.
        batch: images in a trial; a smaller data set is one batch.
        rates: learning rates of Adam, by the group that the synapses end on, where they differ from `RATES`; "naming"
            stands for all layers that name.
        feedback: factor of the rates of synapses from the label's side onto units that name. They carry the teacher's
            word; as fast as the others they fade, because a label that is guessed well hardly moves.
        lr_decay: factor of the rates from epoch to epoch.
        augment: what is made of the images when labels are taught.
        min_steps: fewest batches; a small data set gets as many more epochs as this takes.
    """

    trials: tuple[Trial, ...] = (NAME, DRAW)
    epochs: int = 18
    batch: int = 50
    rates: Mapping[str, float] = field(default_factory=lambda: RATES)
    feedback: float = 0.01
    lr_decay: float = 0.9
    augment: Augment | None = None
    min_steps: int = 1

    def __post_init__(self) -> None:
        require(self.epochs >= 1 and self.batch >= 1, f"Practice needs epochs and batch >= 1, got {self}.")
        require(len(self.trials) > 0, "Practice needs at least one kind of trial, got none.")
        require(0 < self.lr_decay <= 1, f"Practice needs 0 < decay <= 1, got decay={self.lr_decay}.")
        require(self.feedback >= 0, f"Practice needs feedback >= 0, got feedback={self.feedback}.")
        by_kind("rate", self.rates, RATES)


def by_kind(word: str, values: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
    """`values` of 0 or more by kind of group, and the `usual` ones for the kinds that they leave out."""
    for name in values:
        if name not in usual:
            raise unknown(f"kind of group with a {word}", name, list(usual))
    require(min(values.values(), default=0) >= 0, f"an associative network needs each {word} >= 0, got {values}.")
    return {**usual, **values}


class Tally:
    """Numbers of one epoch."""

    def __init__(self) -> None:
        self.trials, self.unsettled, self.steps = 0, 0, 0
        self.error: dict[str, list[Tensor]] = {}
        self.stuck = 0.0

    def count(self, trial: Trial, outcome: tuple[Settled, State] | None) -> None:
        """Take the numbers of one trial, if it took place."""
        if outcome is None:
            return
        settled, after = outcome
        self.trials += 1
        self.unsettled += not settled.done
        self.steps += settled.steps
        moved = (after[trial.taught] - settled.state[trial.taught]).abs().mean()
        self.error.setdefault(trial.taught, []).append(moved)
        if self.trials % 100 == 1:
            hidden = torch.cat([s.flatten() for name, s in after.items() if name not in ("pixels", "label")])
            self.stuck = ((hidden <= 0) | (hidden >= 1)).float().mean().item()

    def numbers(self) -> dict[str, float]:
        """Mean steps of settling, share of trials that did not settle, and how far teachers moved what they taught."""
        moved = {f"moved_{name}": torch.stack(found).mean().item() for name, found in self.error.items()}
        trials = max(self.trials, 1)
        return {"steps": self.steps / trials, "unsettled": self.unsettled / trials, **moved}
