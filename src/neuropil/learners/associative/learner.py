"""One network of visible and hidden units that names, draws and completes, and learns from teacher events by STDP."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Self

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.checks import require
from neuropil.data import Split
from neuropil.learners.associative.completing import fire_missing_
from neuropil.learners.associative.practice import GAINS, Practice, Tally, by_kind
from neuropil.learners.associative.refusals import check_labels, check_mask, check_names, check_pixels, warn_unless
from neuropil.learners.associative.settling import (
    Masks,
    Settled,
    Settling,
    Teacher,
    drive_,
    drive_of,
    fixed_drive,
    send,
)
from neuropil.learners.associative.trials import DRAW, NAME, Trial, random_part, shifted, spikes
from neuropil.learners.associative.wiring import State, Wiring, both_ways, kind
from neuropil.learners.descent import passes
from neuropil.learners.watch import Unwatched, Watch
from neuropil.plasticity import ChangeSTDP, propose_

PATIENCE = 10  # steps of settling in use, for each one in practice


class Associative:
    """Pixels, label and hidden units wired both ways; each visible group is input and output.

    Naming: pixels are given, the network settles, the label is read. Drawing: the label is given, pixels are read.
    Completing: any pixels are given. The hidden units come in two populations. Both belong to every settling, but a
    teacher event changes the synapses onto the taught units and onto one population only: `naming` when the label is
    taught, `drawing` when pixels are. With ``drawing=0`` one population serves both, and the two directions compete
    for its synapses.

    No loss and no energy is computed. Every change that a synapse proposes is a `ChangeSTDP` between the settled
    activity before a teacher event and the activity after it; Adam scales it by the size of the synapse's own past
    changes. Our reconstruction from the abstracts of Li 2019 (arXiv 1912.00009, mSTDP)
    and Li 2022 (arXiv 2206.14137, aSTDP); `Teacher` has the difference between the two.

    Args:
        naming: units of each hidden layer between pixels and label.
        drawing: units of the hidden population that draws.
        settling: how activity settles.
        teacher: how teacher events go.
        practice: how it learns.
        gains: spread of the first weights, by the kind of group they end on, in units of Glorot's; as in `GAINS`.

    After `fit`: ``net_`` (the weights), ``shape_`` (of an image), ``classes_``, ``body_`` and ``network_`` (what pixels
    evoke in the hidden units and in the label before anything is sent back).
    """

    def __init__(
        self,
        naming: tuple[int, ...] = (500,),
        drawing: int = 0,
        *,
        settling: Settling | None = None,
        teacher: Teacher | None = None,
        practice: Practice | None = None,
        gains: Mapping[str, float] | None = None,
    ):
        require(len(naming) > 0 and min(naming) > 0, f"Associative needs layers of 1 unit or more, got {naming}.")
        require(drawing >= 0, f"Associative needs drawing >= 0 units, got {drawing}.")
        self.gains = by_kind("gain", GAINS if gains is None else gains)
        self.naming, self.drawing = naming, drawing
        self.settling, self.teacher = settling or Settling(), teacher or Teacher()
        self.practice = practice or Practice(trials=(NAME, DRAW) if drawing else (NAME,))

    # Learning

    def fit(self, train: Split, *, rng: Generator, watch: Watch | None = None, labels: Tensor | None = None) -> Self:
        """Learn from `train`; `labels` (n,) int64, if given, are used instead of its own, -1 where one is missing."""
        watch, practice = watch or Unwatched(), self.practice
        known = train.y if labels is None else check_labels(labels, train)
        self.net_, self.shape_, self.classes_ = self.fresh(train, rng), train.x.shape[1:], train.classes
        check_pixels(train.pixels() if train.x.ndim == 2 else torch.zeros(1))
        shown = Split(train.x, known + 1, train.classes + 1)  # a Split has no place for -1
        batch = min(practice.batch, len(train))
        epochs = passes(len(train), epochs=practice.epochs, batch=batch, steps=practice.steps)
        optimizer = torch.optim.Adam(self.groups_(), betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, practice.decay ** (practice.epochs / epochs))
        parts = {"net": self.net_, "optimizer": optimizer, "schedule": schedule, "rng": rng}
        for epoch in watch.loop("STDP", epochs, **parts):
            tally = Tally()
            for part in shown.batches(batch, shuffle=rng):
                for trial in practice.trials:
                    tally.count(trial, self.practise_(trial, part.x, part.y - 1, optimizer, rng))
            schedule.step()
            self._refuse_if_diverged(tally, epoch)
            watch.log("epoch", stage="STDP", epoch=epoch, **tally.numbers())
        self._settle_down(train)
        return self

    def fit_labels(self, labelled: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Learn everything afresh from `labelled` alone."""
        return self.fit(labelled, rng=rng, watch=watch)

    def fresh(self, train: Split, rng: Generator) -> Wiring:
        """An untrained network for such data."""
        net = self.wiring(train.x[0].numel(), train.classes)
        net.draw_(rng, self.gains)
        return net.to(train.x.device)

    def wiring(self, pixels: int, classes: int) -> Wiring:
        """The groups and the routes between them."""
        return both_ways(pixels, classes, self.naming, self.drawing, draws=self.draws)

    @property
    def draws(self) -> bool:
        """Whether any of its trials teaches pixels."""
        return any(trial.taught == "pixels" for trial in self.practice.trials)

    def plastic(self, taught: str) -> list[str]:
        """The groups onto which an event that teaches `taught` changes synapses."""
        kind = "drawing" if taught == "pixels" and self.drawing else "naming"
        return [taught, *(name for name in self.net_.sizes if name.startswith(kind))]

    def groups_(self) -> list[dict[str, object]]:
        """Parameters and rates for the optimiser: a group for each route, and one for each threshold."""
        rates, net = self.practice.rates, self.net_
        found = [{"params": [rest], "lr": rates[kind(name)]} for name, rest in net.rest.items()]
        for pre, post in net.routes:
            back = (
                kind(post) == "naming" and pre != "pixels" and list(net.sizes).index(pre) < list(net.sizes).index(post)
            )
            rate = rates[kind(post)] * (self.practice.feedback if back else 1)
            found.append({"params": [net.between(pre, post).weight], "lr": rate})
        return found

    def practise_(
        self, trial: Trial, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, rng: Generator
    ) -> tuple[Settled, State] | None:
        """One trial with one batch: settle, teach, change. Activity before and after; None if no image has a label."""
        if trial.taught == "label":
            x, y = x[y >= 0], y[y >= 0]
            if len(y) == 0:
                return None
            x = shifted(x, self.practice.jitter if x.ndim == 4 else 0, rng)
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

    def given(self, trial: Trial, x: Tensor, names: Tensor, y: Tensor, rng: Generator) -> tuple[State, Masks, State]:
        """First activity, and who is free, in a trial; pixels given in part are given as spikes."""
        masks: Masks = {}
        if trial.given == "part":
            part = random_part(len(x), self.shape_, rng).to(x)
            masks["pixels"], x = 1 - part, spikes(x, rng).mul_(part)
        if trial.taught == "label":
            masks["label"], names = None, torch.zeros_like(names)
        elif trial.labels < 1 or bool((y < 0).any()):
            told = (torch.rand(len(y), 1, generator=rng, device=rng.device) < trial.labels).to(x)
            told = told * (y >= 0).to(x)[:, None]
            masks["label"], names = (1 - told).expand_as(names), names * told
        return self.first_state(x, names, masks, trial.taught)

    def first_state(self, x: Tensor, names: Tensor, masks: Masks, wanted: str) -> tuple[State, Masks, State]:
        """Activity to start from, who moves, and what reaches those from groups that do not move.

        Args:
            x, names: activity of pixels and label, (batch, units).
            masks: of the visible groups that are not all given: 1 where a unit is free, or None if all of it is.
            wanted: only groups that can influence this one take part.
        """
        moving = self.net_.around([wanted], [name for name in ("pixels", "label") if name not in masks])
        free: Masks = {name: masks.get(name) for name in moving}
        state = {"pixels": x, "label": names}
        fixed = {name: fixed_drive(self.net_, state, name, free, x) for name in moving}
        known: Masks = {name: None for name in free if name in state}
        for name in sorted(set(moving) - set(state)):  # as what is given evokes them
            drive = drive_(self.net_, state, name, known, fixed[name], torch.empty_like(fixed[name]))
            state[name], known[name] = drive.clamp_(0, 1), None
        return state, free, fixed

    def propose_(self, trial: Trial, sent: State, before: State, after: State) -> None:
        """Into every gradient: minus what the presynaptic unit sent before, times the postsynaptic change."""
        rule = ChangeSTDP(trial.rate / (self.teacher.strength * len(before["pixels"])))
        for post in self.plastic(trial.taught):
            for pre, target in self.net_.routes:
                if target == post:
                    layer = self.net_.between(pre, post)
                    propose_(layer, rule(layer, sent[pre], before[post], after[post]))
            self.net_.rest[post].grad = (before[post] - after[post]).sum(0).mul_(rule.scale)

    def _refuse_if_diverged(self, tally: Tally, epoch: int) -> None:
        finite = all(bool(part.isfinite().all()) for part in self.net_.parameters())
        require(
            finite and tally.stuck < 0.98,
            f"the associative network diverged in epoch {epoch}: {tally.stuck:.0%} of its hidden activity is stuck at "
            "0 or 1; lower the rates, or the gain of the first weights. What was logged until then is kept.",
        )

    def _settle_down(self, train: Split) -> None:
        """After learning: the parts that others look at."""
        first = self.net_.between("pixels", "naming1")
        hidden = nn.Linear(first.in_features, first.out_features).requires_grad_(False).to(first.weight)
        hidden.weight.copy_(first.weight)
        hidden.bias.copy_(self.net_.rest["naming1"])
        layers = OrderedDict(flat=nn.Flatten(), hidden=hidden, active=nn.Hardtanh(0, 1))
        self.body_ = nn.Sequential(layers).eval()
        self.network_ = self.body_

    # Use

    def scores(self, x: Tensor) -> Tensor:
        """(n, *shape) in [0, 1] to (n, classes): what drives each label unit once all has settled."""
        return torch.cat([self._scores(part) for part in check_pixels(x).split(1000)])

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return self.scores(x).argmax(1)

    def scores_from_part(self, x: Tensor, mask: Tensor) -> Tensor:
        """`scores` from the pixels where `mask` is 1 or True, shaped like `x` or like one image of it."""
        mask = check_mask(mask, x).to(x)
        pairs = zip(check_pixels(x).split(1000), mask.split(1000))
        return torch.cat([self._scores(part, given) for part, given in pairs])

    def _scores(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        masks: Masks = {"label": None}
        x = x.flatten(1)
        if given is not None:
            masks["pixels"] = 1 - given.flatten(1)
            x = x * given.flatten(1)
        state, free, _ = self.first_state(x, x.new_zeros(len(x), self.classes_), masks, "label")
        self._settle(state, free)
        return drive_of(self.net_, state, "label", free, self.settling.whisper)

    def complete(
        self,
        x: Tensor,
        mask: Tensor,
        *,
        labels: Tensor | None = None,
        rng: Generator | None = None,
        rounds: int = 40,
    ) -> Tensor:
        """Images with what is missing filled in, shaped like `x`.

        Args:
            x: (n, *shape) in [0, 1]; what stands where nothing is given does not matter.
            mask: 1 or True where a pixel is given, shaped like `x` or like one image of it.
            labels: (n,) labels, -1 where one is unknown; without, the network settles on one by itself.
            rng: draws a sample; without, the missing pixels are what the network expects, a mean.
            rounds: as in `fire_missing_`.
        """
        require(self.draws, "this associative network never learned to draw: add a trial that teaches pixels (DRAW).")
        mask = check_mask(mask, x).to(x).flatten(1)
        told = torch.full((len(x),), -1, device=x.device) if labels is None else labels
        told = check_names(told, self.classes_, len(x)).to(x.device)
        parts = zip(check_pixels(x).flatten(1).split(1000), mask.split(1000), told.split(1000))
        filled = [self._complete(*part, rng, rounds) for part in parts]
        return torch.cat(filled).view(x.shape)

    def generate(self, labels: Tensor, n: int, rng: Generator, *, rounds: int = 40) -> Tensor:
        """(len(labels) * n, *shape): `n` drawings of each of `labels` (k,), one after the other."""
        require(n >= 1, f"generate needs n >= 1 drawings, got {n}.")
        weight = self.net_.rest["pixels"]
        asked = check_names(labels, self.classes_, len(labels)).to(weight.device).repeat_interleave(n)
        nothing = weight.new_zeros(len(asked), *self.shape_)
        return self.complete(nothing, torch.zeros_like(nothing), labels=asked, rng=rng, rounds=rounds)

    def _settle(self, state: State, free: Masks) -> None:
        """Settle in use: with more patience than in practice, where teachers come as soon as most units are close."""
        patient = replace(self.settling, steps=PATIENCE * self.settling.steps)
        warn_unless(patient(self.net_, state, free), patient)

    def _complete(self, x: Tensor, given: Tensor, told: Tensor, rng: Generator | None, rounds: int) -> Tensor:
        names = F.one_hot(told.clamp(min=0), self.classes_).to(x)
        known = (told >= 0).to(x)[:, None]
        masks: Masks = {"pixels": 1 - given}
        if not bool(known.all()):
            masks["label"], names = (1 - known).expand_as(names), names * known
        state, free, _ = self.first_state(x * given, names, masks, "pixels")
        if rng is None:
            self._settle(state, free)
        else:
            fire_missing_(self.net_, self.settling, state, free, rounds=rounds, rng=rng)
        return state["pixels"]
