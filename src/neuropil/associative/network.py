"""One network of visible and hidden units that names, draws and completes, and learns from teacher events by STDP."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Self

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.associative.checks import check_labels, check_pixels
from neuropil.associative.connectivity import State, Wiring, both_ways, kind
from neuropil.associative.inference import Asked
from neuropil.associative.sampling import Sampling, lead
from neuropil.associative.settling import Masks, Settled, Settling, Teacher, send
from neuropil.associative.tasks import DRAW, NAME, Trial, random_part, spikes
from neuropil.associative.training import GAINS, RATES, AssociativeTraining, Tally, by_kind
from neuropil.data import Split
from neuropil.errors import require
from neuropil.models.contract import FeatureLayer
from neuropil.models.training.supervised import passes
from neuropil.plasticity import DifferentialHebb, propose_
from neuropil.runs.checkpoint import Stateful
from neuropil.runs.rows import EpochRow
from neuropil.runs.tracker import NullTracker, Tracker

NAMERS = ("naming", "parts")


class AssociativeNetwork(Asked):
    """Pixels, label and hidden units wired both ways; each visible group is input and output.

    Naming: pixels are given, the network settles, the label is read. Drawing: the label is given, pixels are read.
    Completing: any pixels are given. The hidden units come in populations. A teacher event changes the synapses onto
    the taught units and onto one population only: `naming` when the label is taught, `drawing` when pixels are. With
    ``drawing=0`` one population serves both, and the two directions compete for its synapses. To name a whole image
    and to name a part of one compete, too; with `parts` units the missing of any pixel silences the naming ones, and
    the label is named by the `parts` units, which are silent otherwise.

    No loss and no energy is computed. Every change that a synapse proposes is a `DifferentialHebb` between the settled
    activity before a teacher event and the activity after it; Adam scales it by the size of the synapse's own past
    changes. Our reconstruction from the abstracts of Li 2019 (arXiv 1912.00009, mSTDP)
    and Li 2022 (arXiv 2206.14137, aSTDP); `Teacher` has the difference between the two.

    Args:
        naming: units of each hidden layer between pixels and label.
        drawing: units of the hidden population that draws.
        parts: units of the hidden population that names parts of images; 0 leaves that to the naming ones.
        settling: how activity settles.
        teacher: how teacher events go.
        practice: how it learns.
        sampling: how it draws.
        direct: whether pixels reach every naming layer, and each of them the label, without the layers between.
        gains: spread of the first weights, by the kind of group they end on, in units of Glorot's, where they differ
            from `GAINS`.

    After `fit`: ``net_`` (the weights), ``shape_`` (of an image), ``classes_``, and ``network_`` (what pixels evoke in
    the first hidden units before anything is sent back).
    """

    def __init__(
        self,
        naming: tuple[int, ...] = (500,),
        drawing: int = 0,
        parts: int = 0,
        *,
        settling: Settling | None = None,
        teacher: Teacher | None = None,
        practice: AssociativeTraining | None = None,
        sampling: Sampling | None = None,
        direct: bool = False,
        gains: Mapping[str, float] | None = None,
    ):
        require(len(naming) > 0 and min(naming) > 0, f"Associative needs layers of 1 unit or more, got {naming}.")
        require(min(drawing, parts) >= 0, f"Associative needs drawing and parts >= 0 units, got {drawing}, {parts}.")
        self.gains = by_kind("gain", gains or {}, GAINS)
        self.naming, self.drawing, self.parts, self.direct = naming, drawing, parts, direct
        self.settling, self.teacher = settling or Settling(), teacher or Teacher()
        self.sampling = sampling or Sampling()
        self.practice = practice or AssociativeTraining(trials=(NAME, DRAW) if drawing else (NAME,))
        apart = not parts or drawing > 0 or not self.draws
        require(apart, "parts units silence the naming ones, which draw if drawing=0: give drawing units of their own.")

    # Learning

    def fit(
        self, train: Split, *, rng: Generator, tracker: Tracker | None = None, labels: Tensor | None = None
    ) -> Self:
        """Learn from `train`; `labels` (n,) int64, if given, are used instead of its own, -1 where one is missing."""
        tracker, practice = tracker or NullTracker(), self.practice
        known = train.y if labels is None else check_labels(labels, train)
        self.net_, self.shape_, self.classes_ = self.fresh(train, rng), train.x.shape[1:], train.classes
        check_pixels(train.pixels() if train.x.ndim == 2 else torch.zeros(1))
        shown = Split(train.x, known + 1, train.classes + 1)  # a Split has no place for -1
        batch = min(practice.batch, len(train))
        epochs = passes(len(train), epochs=practice.epochs, batch=batch, min_steps=practice.min_steps)
        optimizer = torch.optim.Adam(self.groups_(), betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, practice.lr_decay ** (practice.epochs / epochs))
        parts: dict[str, Stateful] = {"net": self.net_, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in tracker.loop("STDP", epochs, **parts):
            tally = Tally()
            for part in shown.batches(batch, shuffle=rng):
                for trial in practice.trials:
                    tally.count(trial, self.practise_(trial, part.x, part.y - 1, optimizer, rng))
            schedule.step()
            self._refuse_if_diverged(tally, epoch)
            tracker.log(EpochRow(stage="STDP", epoch=epoch, metrics=tally.numbers()))
        self._settle_down()
        return self

    def refit_readout(self, labelled: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn everything afresh from `labelled` alone."""
        return self.fit(labelled, rng=rng, tracker=tracker)

    def fresh(self, train: Split, rng: Generator) -> Wiring:
        """An untrained network for such data."""
        net = self.wiring(train.x[0].numel(), train.classes)
        net.draw_(rng, self.gains)
        return net.to(train.x.device)

    def wiring(self, pixels: int, classes: int) -> Wiring:
        """The groups and the routes between them."""
        return both_ways(pixels, classes, self.naming, self.parts, self.drawing, draws=self.draws, direct=self.direct)

    @property
    def draws(self) -> bool:
        """Whether any of its trials teaches pixels."""
        return any(trial.taught == "pixels" for trial in self.practice.trials)

    def plastic(self, taught: str) -> list[str]:
        """The groups onto which an event that teaches `taught` changes synapses."""
        kinds = NAMERS if taught == "label" else ("drawing",) if self.drawing else ("naming",)
        return [taught, *(name for name in self.net_.sizes if kind(name) in kinds)]

    def groups_(self) -> list[dict[str, object]]:
        """Parameters and rates for the optimiser: a group for each route, and one for each threshold."""
        rates, net = by_kind("rate", self.practice.rates, RATES), self.net_
        found = [{"params": [rest], "lr": rates[kind(name)]} for name, rest in net.rest.items()]
        for pre, post in net.routes:
            above = list(net.sizes).index(pre) < list(net.sizes).index(post)
            back = kind(post) in NAMERS and pre != "pixels" and above
            rate = rates[kind(post)] * (self.practice.feedback if back else 1)
            found.append({"params": [net.between(pre, post).weight], "lr": rate})
        return found

    def practise_(
        self, trial: Trial, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, rng: Generator
    ) -> tuple[Settled, State] | None:
        """One trial with one batch: settle, teach, change. Activity before and after; None if no image has a label."""
        if trial.taught == "label":
            y = y if trial.own is None else self.own_names(x, y, trial.own)
            x, y = x[y >= 0], y[y >= 0]
            if len(y) == 0:
                return None
            x = self.practice.augment(x, rng) if self.practice.augment else x
        x = x.flatten(1)
        names = F.one_hot(y.clamp(min=0), self.classes_).to(x)
        state, free, fixed = self.given(trial, x, names, y, rng)
        settled = self.settling(self.net_, state, free, fixed)
        truth = {"label": names} if trial.taught == "label" else {"pixels": x}
        after = self.teacher(self.net_, settled.state, free, truth, self.settling, fixed)
        sent = {name: send(s, free.get(name), self.settling.whisper) for name, s in settled.state.items()}
        self.propose_(trial, sent, settled.state, after)
        optimizer.step()
        optimizer.zero_grad()
        return settled, after

    def own_names(self, x: Tensor, y: Tensor, least: float) -> Tensor:
        """`y`, and where it is -1 the label on which the network settles, if it leads all others by `least` or more."""
        rows = (y < 0).nonzero()[:, 0]
        if len(rows) == 0:
            return y
        seen, nothing = x[rows].flatten(1), x.new_zeros(len(rows), self.classes_)
        state, free, fixed = self.first_state(seen, nothing, {"label": None}, "label")
        label = self.settling(self.net_, state, free, fixed).state["label"]
        named = label.argmax(1)
        return y.index_put((rows,), torch.where(lead(label, named) >= least, named, -1))

    def given(self, trial: Trial, x: Tensor, names: Tensor, y: Tensor, rng: Generator) -> tuple[State, Masks, State]:
        """First activity, and who is free, in a trial; pixels given in part are given as spikes.

        Missing pixels are free if they are what is taught, and silent if the label is.
        """
        masks: Masks = {}
        if trial.given == "part":
            part = random_part(len(x), self.shape_, rng, occluded=trial.occluded).to(x)
            x = spikes(x, rng).mul_(part)
            if trial.taught == "pixels":
                masks["pixels"] = 1 - part
        if trial.taught == "label":
            masks["label"], names = None, torch.zeros_like(names)
        elif trial.labels < 1 or bool((y < 0).any()):
            told = (torch.rand(len(y), 1, generator=rng, device=rng.device) < trial.labels).to(x)
            told = told * (y >= 0).to(x)[:, None]
            masks["label"], names = (1 - told).expand_as(names), names * told
        return self.first_state(x, names, masks, trial.taught, part=trial.given == "part")

    def propose_(self, trial: Trial, sent: State, before: State, after: State) -> None:
        """Into every gradient: minus what the presynaptic unit sent before, times the postsynaptic change."""
        rule = DifferentialHebb(trial.rate / (self.teacher.strength * len(before["pixels"])))
        for post in filter(before.__contains__, self.plastic(trial.taught)):
            for pre, target in self.net_.routes:
                if target == post and pre in before:
                    layer = self.net_.between(pre, post)
                    propose_(layer, rule(layer, sent[pre], before[post], after[post]))
            rest: nn.Parameter = self.net_.rest[post]  # a synapse from a unit that is always active
            propose_(rest, (after[post] - before[post]).sum(0).mul_(rule.scale))

    def _refuse_if_diverged(self, tally: Tally, epoch: int) -> None:
        finite = all(bool(part.isfinite().all()) for part in self.net_.parameters())
        require(
            finite and tally.stuck < 0.98,
            f"the associative network diverged in epoch {epoch}: {tally.stuck:.0%} of its hidden activity is stuck at "
            "0 or 1; lower the rates, or the gain of the first weights. What was logged until then is kept.",
        )

    def _settle_down(self) -> None:
        """After learning: the parts that others look at."""
        first = self.net_.between("pixels", "naming1")
        hidden = nn.Linear(first.in_features, first.out_features).requires_grad_(False).to(first.weight)
        hidden.weight.copy_(first.weight)
        hidden.bias.copy_(self.net_.rest["naming1"])
        layers = OrderedDict(flat=nn.Flatten(), hidden=hidden, active=nn.Hardtanh(0, 1))
        self.network_ = nn.Sequential(layers).eval()

    def feature_layers(self) -> list[FeatureLayer]:
        """The hidden units that pixels reach first, and what pixels evoke in them before anything is sent back."""
        return [FeatureLayer("hidden", self.network_, self.net_.between("pixels", "naming1").weight)]
