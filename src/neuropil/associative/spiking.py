"""An associative network of spiking units: the wiring of `AssociativeNetwork`, and pairs of spikes alone change it."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil._threads import share_out
from neuropil.associative.checks import check_examples, check_pixels
from neuropil.associative.connectivity import LABEL, PIXELS, bidirectional
from neuropil.associative.tasks import CLASSIFY
from neuropil.associative.training import GAINS, AssociativeTraining
from neuropil.data import Split
from neuropil.errors import check_seconds, needs, needs_numbers, require
from neuropil.models.competition import content_index
from neuropil.models.contract import Classifier, FeatureLayer, as_examples, begin_fit
from neuropil.models.description import savable
from neuropil.plasticity import PairSTDP, propose_
from neuropil.runs import EpochRow
from neuropil.runs.tracker import NullTracker, Tracker
from neuropil.spiking.clock.encodings import sample_keys
from neuropil.spiking.kernels.cpu.association import Constants, present

HIDDEN = "classification1"


def balanced(tau_plus: float, tau_minus: float, dt: float) -> PairSTDP:
    r"""Pair STDP whose two windows have the same area in steps of `dt`, with a_minus = 1.

    >>> balanced(20e-3, 20e-3, 1e-3).a_plus
    1.0
    """
    check_seconds(PairSTDP(), dt, tau_plus=tau_plus, tau_minus=tau_minus)
    return PairSTDP(tau_plus, tau_minus, a_plus=math.expm1(dt / tau_plus) / math.expm1(dt / tau_minus), dt=dt)


@dataclass(frozen=True)
class SpikingPhases:
    """How spiking units see an image: first freely, then while label units are nudged.

    Attributes:
        rate: of a unit whose activity is 1, Hz.
        tau: time constant with which spikes fade from a drive, s.
        free: time before the nudge in which traces fill and activity settles, s.
        nudged: time with the nudge, in which synapses learn, s.
        control: time before the nudge in which they learn with the opposite sign, s; 0 for none.
        in_use: time for which an image is seen when it is classified; the label is read after the first quarter, s.
        beta: strength of the nudge.
        dt: length of a step, s.

    Raises:
        Refusal: times that are not positive or below dt; more than one spike in a step; a control before the start.

    Examples:
        >>> SpikingPhases(rate=50.0).control
        0.75
    """

    rate: float = 100.0
    tau: float = 0.1
    free: float = 2.25
    nudged: float = 0.75
    control: float = 0.75
    in_use: float = 8.0
    beta: float = 0.5
    dt: float = 5e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, slow=("free", "nudged", "in_use"), tau=self.tau, free=self.free,
                      nudged=self.nudged, in_use=self.in_use)  # fmt: skip
        needs(self, 0 < self.rate * self.dt <= 1, "0 < rate dt <= 1: at most one spike in a step")
        needs(self, 0 <= self.control <= self.free and self.beta > 0, "0 <= control <= free and beta > 0")


class SpikingAssociation(nn.Module):
    r"""Pixels, hidden units and label connected both ways, all of them spiking: images in, drives of the label out.

    A unit spikes in a step with the probability rate dt s, where s is its activity. That of a pixel is given, that of
    other units is their drive u, clipped to [0, 1]. A spike adds (1 - exp(-dt / tau)) w / (rate dt) to the drives that
    it reaches, which decay with tau. So the mean of a drive is the weighted sum of the activities that reach it, as in
    the rate network. A nudge makes the activity of label units (s + beta d) / (1 + beta), with the data d. A bias is a
    synapse from a unit whose activity is always 1.

    Pairs of spikes of the nudged phase change synapses by `rule`; pairs of the control before it change them with the
    opposite sign. The control takes away what the rule does without any nudge. A unit's spikes cause spikes of its
    targets, so that even balanced windows strengthen positive weights.

    Args:
        pixels, hidden, classes: units.
        phases: how images are seen.
        rule: of synapses, all pairs, without a weight dependence.
        seed: of spikes in use, which the pixels of an image and `seed` alone decide.

    Raises:
        Refusal: another pairing, a weight dependence, or another dt than that of the phases.

    Examples:
        >>> SpikingAssociation(4, 3, 2)(torch.ones(5, 4)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self, pixels: int, hidden: int, classes: int, phases: SpikingPhases | None = None,
        rule: PairSTDP | None = None, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        needs_numbers(self, pixels=pixels, hidden=hidden, classes=classes, seed=seed)
        phases = phases or SpikingPhases()
        rule = rule or balanced(0.1, 0.3, phases.dt)
        fits = rule.pairing == "all" and rule.dependence is None
        require(fits, "SpikingAssociation learns by PairSTDP of all pairs without a weight dependence.")
        require(rule.dt == phases.dt, f"rule and phases need the same dt, got {rule.dt} and {phases.dt}.")
        self.pixels, self.hidden, self.classes, self.phases, self.rule = pixels, hidden, classes, phases, rule
        self.seed, self.net = seed, bidirectional(pixels, classes, (hidden,), 0, 0, generates=False, skip=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, pixels) in [0, 1] to (n, classes): the mean drive, in steps whose gradient is 0 almost everywhere."""
        images = x.detach().to("cpu", self.net.bias[LABEL].dtype).contiguous()
        keys, steps = sample_keys(content_index(images), self.seed), round(self.phases.in_use / self.phases.dt)
        drive = self._present(images, images.new_zeros(len(x), self.classes), keys, steps, steps - steps // 4)
        return drive.to(x) + 0 * x.sum(1, keepdim=True)

    @torch.no_grad()
    def learn_(self, x: Tensor, label: Tensor, rng: Generator) -> Tensor:
        """Propose the mean change of every synapse by a batch; returns drives of the label before the nudge.

        Args:
            x: (batch, pixels) in [0, 1].
            label: (batch, classes), the activity that a nudge pulls towards.
            rng: of spikes.
        """
        keys, phases = torch.randint(2**32, (len(x),), generator=rng, device=rng.device).cpu(), self.phases
        free, control = round(phases.free / phases.dt), round(phases.control / phases.dt)
        later = torch.zeros_like(self._weight())
        earlier, (pixels, pulls) = later.T.contiguous(), (one.cpu().to(later.dtype).contiguous() for one in (x, label))
        drive = self._present(pixels, pulls, keys, free, control or free, (earlier.numpy(), later.numpy()))
        change = (self.rule.a_plus * earlier.T - self.rule.a_minus * later) / (phases.beta * max(len(x), 1))
        self._propose(change.to(x.device))
        return drive.to(x)

    def _present(
        self, x: Tensor, label: Tensor, keys: Tensor, free: int, read: int, changes: tuple[Any, Any] | None = None
    ) -> Tensor:
        """Mean drives of the label; with the places that take up `changes`, there is a nudge."""
        fits = x.shape[1:] == (self.pixels,) and label.shape == (len(x), self.classes)
        need, got = f"{self.pixels} pixels and {self.classes} classes", f"{tuple(x.shape)} and {tuple(label.shape)}"
        require(fits, f"SpikingAssociation needs {need} in each example, got {got}.")
        phases, rule, weight = self.phases, self.rule, self._weight().numpy()
        number, dt, likely = weight.dtype.type, phases.dt, phases.rate * phases.dt
        keep, keep_x, keep_y = (math.exp(-dt / tau) for tau in (phases.tau, rule.tau_plus, rule.tau_minus))
        steps = (free, round(phases.nudged / dt), round(phases.control / dt), read)
        other = (phases.beta, keep, (1 - keep) / likely, keep_x, keep_y)
        c = Constants(number(likely), *steps, *(number(value) for value in other))
        given = (x.numpy(), label.numpy(), changes is not None)
        drive = torch.zeros_like(label)
        nothing = (np.zeros((1, 1), weight.dtype),) * 2
        rest = (keys.numpy().astype(np.uint32), weight, c, *(changes or nothing), drive.numpy())
        if changes:  # one after the other, so that sums do not depend on the number of threads
            present(0, 0, len(x), *given, *rest)
        else:
            share_out(present, len(x), *given, *rest)
        return drive

    def _weight(self) -> Tensor:
        """All synapses, (senders, receivers)."""
        net, bias = self.net, self.net.bias
        weight = bias[LABEL].new_zeros(self.pixels + self.classes + 1 + self.hidden, self.hidden + self.classes)
        for block, part in self._blocks(weight):
            block.copy_((bias[part] if isinstance(part, str) else net.between(*part).weight.T).detach())
        found: Tensor = weight.cpu()
        return found

    def _propose(self, change: Tensor) -> None:
        for block, part in self._blocks(change):
            if isinstance(part, str):
                propose_(self.net.bias[part], block.contiguous())
            else:
                propose_(self.net.between(*part), block.T.contiguous())

    def _blocks(self, matrix: Tensor) -> list[tuple[Tensor, Any]]:
        """The part of each projection, and of each bias by its population."""
        always, n = self.pixels + self.classes, self.hidden
        return [
            (matrix[: self.pixels, :n], (PIXELS, HIDDEN)),
            (matrix[self.pixels : always, :n], (LABEL, HIDDEN)),
            (matrix[always + 1 :, n:], (HIDDEN, LABEL)),
            (matrix[always, :n], HIDDEN),
            (matrix[always, n:], LABEL),
        ]


class SpikingAssociativeNetwork(Classifier):
    """The associative network of spiking units that classifies: `SpikingAssociation`, and how it learns.

    Nothing but pairs of spikes changes a weight; Adam scales a change by the synapse's own past changes, as in
    `AssociativeNetwork`. The label reaches the network as a nudge of the label units.

    Args:
        hidden: units between pixels and label.
        phases, rule: see `SpikingAssociation`.
        training: epochs, batch and learning rates; its one task is to classify.
        init_gain: spread of the first weights onto hidden units, relative to Glorot's initialisation.
        seed: of spikes in use.

    After `fit`: ``network_``.

    Raises:
        Refusal: no hidden unit, other tasks.

    Examples:
        >>> SpikingAssociativeNetwork(64)
        SpikingAssociativeNetwork(hidden=64)
    """

    shown = ("hidden",)

    def __init__(
        self, hidden: int = 256, *, phases: SpikingPhases | None = None, rule: PairSTDP | None = None,
        training: AssociativeTraining | None = None, init_gain: float = 1.0, seed: int = 0,
    ):  # fmt: skip
        needs_numbers(self, hidden=hidden, init_gain=init_gain, seed=seed)
        require(hidden >= 1, f"SpikingAssociativeNetwork needs hidden >= 1, got {hidden}.")
        self.hidden, self.phases, self.rule, self.init_gain, self.seed = hidden, phases, rule, init_gain, seed
        self.training = training or AssociativeTraining(tasks=(CLASSIFY,))
        require(self.training.tasks == (CLASSIFY,), "SpikingAssociativeNetwork learns the task CLASSIFY alone.")

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn from `train`, all of it labelled."""
        begin_fit(self, train, rng)
        train.check_labelled("SpikingAssociativeNetwork")
        tracker, training = tracker or NullTracker(), self.training
        check_examples(train)
        body = SpikingAssociation(
            train.x[0].numel(), self.hidden, train.classes, self.phases, self.rule, self.seed
        ).requires_grad_(False)
        body.net.init_(rng, {**GAINS, "classification": self.init_gain})
        self.network_ = nn.Sequential(nn.Flatten(), body.to(train.x.device))
        batch, epochs, optimizer, schedule = training.steps(body.net, train)
        for epoch in tracker.loop("STDP", epochs, net=body, optimizer=optimizer, schedule=schedule, rng=rng):
            right = [self._step(body, part, optimizer, rng) for part in train.batches(batch, shuffle=rng)]
            schedule.step()
            metrics = {"train_accuracy": torch.cat(right).double().mean().item()}
            tracker.log(EpochRow(stage="STDP", epoch=epoch, metrics=metrics))
        return self

    def _step(self, body: SpikingAssociation, part: Split, optimizer: Any, rng: Generator) -> Tensor:
        """Learn from a batch; which of its images were classified rightly before the nudge."""
        x, augment = part.x, self.training.augment
        x = (augment(x, rng) if augment else part.pixels()).flatten(1)
        drive = body.learn_(x, F.one_hot(part.y, body.classes).to(x), rng)
        optimizer.step()
        optimizer.zero_grad()
        return drive.argmax(1) == part.y

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) in [0, 1] to (n, classes): mean drives of the label units, in steps without a gradient."""
        scores: Tensor = self.network_(check_pixels(as_examples(self, x)))
        return scores

    def feature_layers(self) -> list[FeatureLayer]:
        """What pixels evoke in the hidden units on average, before anything is sent back."""
        net = self.network_[1].net
        first = net.between(PIXELS, HIDDEN)
        hidden = nn.Linear(first.in_features, first.out_features).requires_grad_(False).to(first.weight)
        hidden.weight.copy_(first.weight)
        hidden.bias.copy_(net.bias[HIDDEN])
        layers = nn.Sequential(nn.Flatten(), hidden, nn.Hardtanh(0, 1)).eval()
        return [FeatureLayer("hidden", layers, first.weight)]


savable(SpikingPhases, PairSTDP, SpikingAssociation)
savable(SpikingAssociativeNetwork, learned=("network_",), for_learning=("training",))
