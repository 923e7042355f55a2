"""Spiking units that compete, learn by STDP without labels, and vote with the labels that they are given afterwards."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Generator, Tensor, nn

from neuropil._threads import share_out
from neuropil.data import Split
from neuropil.errors import needs_numbers, require
from neuropil.models.contract import Classifier, FeatureLayer, as_examples, begin_fit, copied, feature_layers_of
from neuropil.models.description import savable
from neuropil.models.features import Learning
from neuropil.plasticity import PairSTDP
from neuropil.runs import EpochRow
from neuropil.runs.tracker import NullTracker, Tracker
from neuropil.spiking import ConductanceLIF, PoissonEncoding
from neuropil.spiking.clock.conductance import REACH, unit_nodes
from neuropil.spiking.clock.encodings import GOLDEN, M32, mix, sample_keys
from neuropil.spiking.clock.linear import steps_of
from neuropil.spiking.kernels.cpu.competition import Constants, present

NEURON = ConductanceLIF(theta_plus=3e-5)
RULE = PairSTDP(a_plus=1e-2, a_minus=5e-5, pairing="nearest")
ENCODING = PoissonEncoding(rate=128.0, duration=0.25)
MEAN_DRIVE = 1.6 * 78.4  # excitation times the sum of weights
PART = 1000  # images between two looks at how learning goes


class CompetitiveUnits(nn.Module):
    """Units that see all inputs and inhibit each other: images in, counts of spikes out.

    A presentation starts at rest. In each step the input spikes add their weights to the excitatory conductance of
    every unit. The unit that is furthest above its threshold spikes, if any is, and adds `inhibition` to the inhibitory
    conductance of all others. Images that are answered by fewer than `min_spikes` spikes are shown again, 1.5, 2,
    2.5, ... times as bright. The spikes of an image depend on its pixels and `seed` alone.

    Before each presentation from which they learn, the weights of a unit are scaled to add up to `total`. That may take
    some above 1. A unit that spikes brings its weights to 1 at most, and no change takes a weight below 0.

    Args:
        inputs, units: how many.
        neuron, rule, encoding: of the units, of their synapses (pairs of nearest spikes), of the images.
        excitation: conductance that a spike opens at a weight of 1, in units of the leak conductance. None: 1.6 if
            weights add up to 78.4, more if to less, so that the mean drive of a unit does not depend on the inputs.
        inhibition: conductance that a spike of another unit opens, in the same units.
        total: sum of the weights of a unit, at most the number of inputs. None: a tenth of it.
        min_spikes: that answer an image.
        attempts: how often an image is shown at most.
        seed: of the spikes of the inputs.

    Raises:
        Refusal: numbers out of range, a total above the number of inputs, parts with different dt, another rule.
    """

    def __init__(
        self, inputs: int, units: int, neuron: ConductanceLIF = NEURON, rule: PairSTDP = RULE,
        encoding: PoissonEncoding = ENCODING, excitation: float | None = None, inhibition: float = 17.0,
        total: float | None = None, min_spikes: int = 5, attempts: int = 8, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        needs_numbers(
            self, inputs=inputs, units=units, excitation=excitation, inhibition=inhibition, total=total,
            min_spikes=min_spikes, attempts=attempts, seed=seed,
        )  # fmt: skip
        total = inputs / 10 if total is None else total
        fine = min(inputs, units, attempts) >= 1 and min_spikes >= 0 and inhibition >= 0 and total > 0
        got = f"inputs={inputs}, units={units}, attempts={attempts}, inhibition={inhibition}, total={total}"
        require(fine, f"CompetitiveUnits needs inputs, units, attempts >= 1, inhibition >= 0, total > 0, got {got}.")
        what = f"CompetitiveUnits learn weights up to 1, so that total can be {inputs} at most, got {total}"
        require(total <= inputs, f"{what}; None is a tenth of that.")
        steps = {neuron.dt, rule.dt, encoding.dt}
        require(len(steps) == 1, f"neuron, rule and encoding need the same dt, got {sorted(steps)}.")
        known = rule.pairing == "nearest" and rule.dependence is None
        require(known, "CompetitiveUnits learn by PairSTDP(pairing='nearest') without a weight dependence.")
        self.inputs, self.units, self.neuron, self.rule, self.encoding = inputs, units, neuron, rule, encoding
        self.excitation = MEAN_DRIVE / total if excitation is None else excitation
        self.inhibition, self.total = inhibition, total
        self.min_spikes, self.attempts, self.seed = min_spikes, attempts, seed
        self.weight = nn.Parameter(torch.zeros(units, inputs), requires_grad=False)
        self.theta: Tensor
        self.register_buffer("theta", torch.zeros(units))

    def init_(self, rng: Generator) -> None:
        """Weights from 0 to 0.3, evenly."""
        self.weight.copy_(0.3 * torch.rand(self.weight.shape, generator=rng))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) in [0, 1] to spikes of each unit, (n, units): steps, whose gradient is 0 almost everywhere."""
        return self._present(x, 0, learns=False) + 0 * x.sum(1, keepdim=True)

    def learn_(self, x: Tensor, epoch: int = 0) -> Tensor:
        """The same, while weights and thresholds change, one image after the other; every epoch has its own spikes."""
        silent = int((~(self.weight.sum(1) > 0)).sum())
        cure = "lower a_plus or a_minus of the rule" if self.weight.any() else "call init_(rng) first"
        require(silent == 0, f"CompetitiveUnits learn from weights above 0, and {silent} units have none; {cure}.")
        return self._present(x, epoch, learns=True)

    def _present(self, x: Tensor, epoch: int, *, learns: bool) -> Tensor:
        fits = x[:1].numel() == self.inputs if len(x) else True
        require(fits, f"CompetitiveUnits need {self.inputs} inputs in each example, got {tuple(x.shape)}.")
        images = x.detach().to("cpu", self.weight.dtype).flatten(1).contiguous()
        keys = sample_keys(content_index(images), self.seed + epoch).numpy().astype(np.uint32)
        weight, theta = self.weight.detach().cpu().T.contiguous(), self.theta.cpu().clone()
        kind = weight.numpy().dtype
        counts = torch.zeros(len(images), self.units)
        given = (images.numpy(), keys, weight.numpy(), theta.numpy(), *self._table(kind), self._constants(kind))
        if learns:
            present(0, 0, len(images), *given, True, counts.numpy())
            self.weight.data.copy_(weight.T)
            self.theta.copy_(theta)
        else:
            share_out(present, len(images), *given, False, counts.numpy())
        return counts.to(x.device, self.weight.dtype)

    def _table(self, kind: Any) -> tuple[Any, Any, Any]:
        """Constants of the quadrature of a step, a row for each node; those of a steep step, and its nodes."""
        n, table = self.neuron, np.array(self.neuron.table())
        table[4], table[5] = table[4] * n.e_rev, table[5] * n.i_rev
        law = (n.tau, n.tau_e, n.tau_i, n.dt, n.rest, n.e_rev, n.i_rev, REACH)
        return np.ascontiguousarray(table.T, kind), tuple(map(kind.type, law)), np.array(unit_nodes(), kind)

    def _constants(self, kind: Any) -> Constants:
        n, rule, number = self.neuron, self.rule, kind.type

        def left(tau: float) -> Any:
            return number(math.exp(-n.dt / tau))

        return Constants(
            probability=self.encoding.rate * n.dt, boost=0.5, steps=self.encoding.steps, min_spikes=self.min_spikes,
            attempts=self.attempts, keep_e=left(n.tau_e), keep_i=left(n.tau_i), keep_x=left(rule.tau_plus),
            keep_y=left(rule.tau_minus), keep_theta=left(n.tau_theta), rest=number(n.rest),
            threshold=number(n.threshold), reset=number(n.reset), resting=steps_of(n.refractory, n.dt),
            theta_plus=number(n.theta_plus), excitation=number(self.excitation), inhibition=number(self.inhibition),
            a_plus=number(rule.a_plus), a_minus=number(rule.a_minus), total=number(self.total),
        )  # fmt: skip


def content_index(images: Tensor) -> Tensor:
    """A number of 32 bits for each image (n, inputs) that only its pixels decide, (n,) int64."""
    level = (images * 255).round().long()
    line = (torch.arange(images.shape[1]) * GOLDEN) & M32
    return torch.where(level > 0, mix((line + level) & M32), 0).sum(1) & M32


@dataclass(frozen=True)
class CompetitiveLearning:
    """Lets the layer ``hidden`` of a body, `CompetitiveUnits`, learn from images alone, one after the other.

    Attributes:
        epochs: passes over the images, each in a new order.
    """

    epochs: int = 1

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.epochs >= 1, f"CompetitiveLearning needs epochs >= 1, got {self.epochs}.")

    def fit_(self, body: nn.Sequential, train: Split, *, rng: Generator, tracker: Tracker) -> None:
        """Let `body` learn in place."""
        hidden = body.get_submodule("hidden")
        assert isinstance(hidden, CompetitiveUnits)
        orders = [torch.randperm(len(train), generator=rng) for _ in range(self.epochs)]
        parts = [(epoch, part) for epoch, order in enumerate(orders) for part in order.split(PART)]
        for number in tracker.loop("competition", len(parts), body=body):
            epoch, part = parts[number]
            before = hidden.weight.detach().clone()
            spikes = hidden.learn_(train[part.to(train.y.device)].pixels().flatten(1), epoch)
            moved = float((hidden.weight - before).norm() / before.norm())
            metrics = {"relative_change": moved, "spikes": float(spikes.sum(1).mean())}
            metrics["threshold_mv"] = 1000 * float(hidden.theta.mean())
            tracker.log(EpochRow(stage="competition", epoch=number, metrics=metrics))


class Winner(nn.Module):
    """1 for the unit with the largest drive, the first of equals, and 0 for the others: (n, units).

    >>> Winner()(torch.tensor([[0.1, 0.9, 0.9]]))
    tensor([[0., 1., 0.]])
    """

    def forward(self, drive: Tensor) -> Tensor:
        """(n, units) to (n, units): steps, whose gradient is 0 almost everywhere."""
        return torch.zeros_like(drive).scatter_(1, drive.argmax(1, keepdim=True), 1) + 0 * drive


class VotingClassifier(Classifier):
    """Units that learn from images alone, or are frozen; then each is assigned to a class, and they vote.

    After learning every unit is assigned to the class of images that it answers most. The score of a class is the mean
    answer of its units. No label reaches a synapse, and nothing else is trained.

    Args:
        body: maps (batch, *shape) in [0, 1] to answers of units, 0 or more. It is copied.
        learning: how the body learns, for example `CompetitiveLearning`; None for a frozen body.
        max_labelled: labelled images whose answers assign the units, the first ones.

    After `fit`: ``network_``, the learned body and the votes.

    Diehl & Cook 2015, https://doi.org/10.3389/fncom.2015.00099
    """

    shown = ("body", "learning")

    def __init__(self, body: nn.Sequential, *, learning: Learning | None = None, max_labelled: int = 10_000):
        needs_numbers(self, max_labelled=max_labelled)
        require(max_labelled >= 1, f"VotingClassifier needs max_labelled >= 1, got {max_labelled}.")
        self.body, self.learning, self.max_labelled = body, learning, max_labelled

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn from the images of `train`; then assign the units by its labels."""
        begin_fit(self, train, rng)
        body = copied(self, self.body, train.x.device).requires_grad_(False).eval()
        if self.learning is not None:
            self.learning.fit_(body, train, rng=rng, tracker=tracker or NullTracker())
        return self._assign(body, train.labelled())

    def refit_readout(self, labelled: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Assign the units anew, by the labels of `labelled`; the units stay as `fit` left them."""
        return self._assign(self.network_[:-1], labelled)

    @torch.no_grad()
    def _assign(self, body: nn.Sequential, labelled: Split) -> Self:
        labelled.check_labelled("the assignment of units to classes")
        some = labelled[: self.max_labelled]
        answers = torch.cat([body(part.x).flatten(1) for part in some.batches(min(1000, len(some)))]).double()
        sizes = some.y.bincount(minlength=some.classes).clamp_min(1)
        mean = answers.new_zeros(some.classes, answers.shape[1]).index_add_(0, some.y, answers) / sizes[:, None]
        chosen = torch.where(mean.sum(0) > 0, mean.argmax(0), -1)  # a silent unit has no vote
        votes = nn.functional.one_hot(chosen + 1, some.classes + 1)[:, 1:].T.float()
        vote = nn.Linear(votes.shape[1], some.classes, bias=False).requires_grad_(False).to(votes.device)
        vote.weight.copy_(votes / votes.sum(1, keepdim=True).clamp_min(1))
        self.network_ = nn.Sequential(OrderedDict([*body.named_children(), ("vote", vote)]))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to scores (n, classes); where units spike or one wins, their gradient by `x` is 0."""
        scores: Tensor = self.network_(as_examples(self, x))
        return scores

    def feature_layers(self) -> list[FeatureLayer]:
        """The layers of units below the votes."""
        return feature_layers_of(self.network_[:-1], self.network_[-1].in_features)


savable(ConductanceLIF, PairSTDP, PoissonEncoding, CompetitiveUnits, CompetitiveLearning)
savable(Winner, settings=())
savable(VotingClassifier, learned=("network_",), for_learning=("body", "learning"))
