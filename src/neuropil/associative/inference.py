"""What an associative network can be asked once it has its weights: to name, to complete and to draw."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from neuropil.associative.checks import check_mask, check_names, check_pixels, warn_unless
from neuropil.associative.connectivity import State, Wiring, kind
from neuropil.associative.gradient import sweep_on
from neuropil.associative.sampling import Sampling, fire_missing_, lead
from neuropil.associative.settling import Masks, Settling, drive_, drive_of, fixed_drive
from neuropil.errors import require

PATIENCE = 10  # steps of settling in use, for each one in practice
SWEEPS = 20  # terms of the series for a gradient
SECOND_LOOK = 0.5  # weight of naming what was imagined beside naming what was given; chosen on held-out MNIST


class Drawn(NamedTuple):
    """Samples, and what they took.

    Attributes:
        images: (n, *shape).
        tries: (n,) how many were drawn for each.
    """

    images: Tensor
    tries: Tensor


class Asked:
    """Settles and answers.

    Attributes:
        net_: the weights.
        shape_: of an image.
        classes_: how many.
        settling: how activity settles.
        sampling: how samples are drawn, where nothing else is said.
    """

    net_: Wiring
    shape_: torch.Size
    classes_: int
    settling: Settling
    sampling: Sampling

    def decision_function(self, x: Tensor) -> Tensor:
        """(n, *shape) in [0, 1] to (n, classes): what drives each label unit once all has settled."""
        return torch.cat([self._scores(part) for part in check_pixels(x).split(1000)])

    def forward(self, x: Tensor) -> Tensor:
        """The same with its gradient by `x`, all at once; where all has settled it is exact but for `SWEEPS`."""
        with torch.no_grad():
            flat = x.flatten(1)
            state, free, _ = self.first_state(flat, flat.new_zeros(len(x), self.classes_), {"label": None}, "label")
            self._settle(state, free)
        return sweep_on(self.net_, state | {"pixels": x.flatten(1)}, [*free], step=self.settling.step, sweeps=SWEEPS)

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return self.decision_function(x).argmax(1)

    def scores_from_part(self, x: Tensor, mask: Tensor) -> Tensor:
        """`scores` from the pixels where `mask` is 1 or True, shaped like `x` or like one image of it.

        Missing pixels are silent at first. If `parts` units have named what is given, and the network draws, it looks
        a second time: the missing pixels become what it expects, the naming units name that whole, and their drive of
        the label, cut off at 0 and 1, is added with the weight `SECOND_LOOK`.
        """
        mask = check_mask(mask, x).to(x)
        given, whole = check_pixels(x) * mask, mask.flatten(1).all(1)
        found = x.new_zeros(len(x), self.classes_)
        for rows, part in ((whole, False), (~whole, True)):
            if rows.any():
                found[rows] = torch.cat([self._scores(some, part) for some in given[rows].split(1000)])
        if self._can_draw and "parts" in self.net_.sizes and not whole.all():
            imagined = self.decision_function(self.complete(x[~whole], mask[~whole])).clamp(0, 1)
            found[~whole] = found[~whole].clamp(0, 1) + SECOND_LOOK * imagined
        return found

    def complete(
        self,
        x: Tensor,
        mask: Tensor,
        *,
        labels: Tensor | None = None,
        rng: Generator | None = None,
        sampling: Sampling | None = None,
    ) -> Tensor:
        """Images with what is missing filled in, shaped like `x`.

        Args:
            x: (n, *shape) in [0, 1]; what stands where nothing is given does not matter.
            mask: 1 or True where a pixel is given, shaped like `x` or like one image of it.
            labels: (n,) labels, -1 where one is unknown; without, the network settles on one by itself.
            rng: draws a sample; without, the missing pixels are what the network expects, a mean.
            sampling: how a sample is drawn, if not as usual.
        """
        return self._filled(x, mask, labels, rng, sampling).images

    def generate(self, labels: Tensor, n: int, rng: Generator, *, sampling: Sampling | None = None) -> Tensor:
        """(len(labels) * n, *shape): `n` drawings of each of `labels` (k,), one after the other."""
        return self.draw(labels, n, rng, sampling=sampling).images

    def draw(self, labels: Tensor, n: int, rng: Generator, *, sampling: Sampling | None = None) -> Drawn:
        """The same, and how many drawings each took."""
        require(n >= 1, f"generate needs n >= 1 drawings, got {n}.")
        weight = self.net_.rest["pixels"]
        asked = check_names(labels, self.classes_, len(labels)).to(weight.device).repeat_interleave(n)
        nothing = weight.new_zeros(len(asked), *self.shape_)
        return self._filled(nothing, torch.zeros_like(nothing), asked, rng, sampling)

    def first_state(
        self, x: Tensor, names: Tensor, masks: Masks, wanted: str, *, part: bool = False
    ) -> tuple[State, Masks, State]:
        """Activity to start from, who moves, and what reaches those from groups that do not move.

        Args:
            x, names: activity of pixels and label, (batch, units).
            masks: of the visible groups that are not all given: 1 where a unit is free, or None if all of it is.
            wanted: only groups that can influence this one take part.
            part: whether pixels are missing; then the `parts` units, if there are any, name, and not the naming ones.
        """
        given = [name for name in ("pixels", "label") if name not in masks]
        moving = self.net_.around([wanted], [*given, *self.silent(part=part)])
        free: Masks = {name: masks.get(name) for name in moving}
        state = {"pixels": x, "label": names}
        fixed = {name: fixed_drive(self.net_, state, name, free, x) for name in moving}
        known: Masks = {name: None for name in free if name in state}
        for name in sorted(set(moving) - set(state)):  # as what is given evokes them
            drive = drive_(self.net_, state, name, known, fixed[name], torch.empty_like(fixed[name]))
            state[name], known[name] = drive.clamp_(0, 1), None
        return state, free, fixed

    def silent(self, *, part: bool) -> list[str]:
        """The groups that take no part while pixels are missing (`part`), or while none is."""
        if "parts" not in self.net_.sizes:
            return []
        return [name for name in self.net_.sizes if kind(name) == "naming"] if part else ["parts"]

    @property
    def _can_draw(self) -> bool:
        return ("label", "pixels") in self.net_.routes

    def _settle(self, state: State, free: Masks) -> None:
        """Settle in use: with more patience than in practice, where teachers come as soon as most units are close."""
        patient = replace(self.settling, steps=PATIENCE * self.settling.steps)
        warn_unless(patient(self.net_, state, free), patient)

    def _scores(self, x: Tensor, part: bool = False) -> Tensor:
        x = x.flatten(1)
        state, free, _ = self.first_state(x, x.new_zeros(len(x), self.classes_), {"label": None}, "label", part=part)
        self._settle(state, free)
        return drive_of(self.net_, state, "label", free, self.settling.whisper)

    def _filled(
        self, x: Tensor, mask: Tensor, labels: Tensor | None, rng: Generator | None, sampling: Sampling | None
    ) -> Drawn:
        require(
            self._can_draw, "this associative network never learned to draw: add a trial that teaches pixels (DRAW)."
        )
        mask = check_mask(mask, x).to(x).flatten(1)
        told = torch.full((len(x),), -1, device=x.device) if labels is None else labels
        told = check_names(told, self.classes_, len(x)).to(x.device)
        parts = zip(check_pixels(x).flatten(1).split(1000), mask.split(1000), told.split(1000))
        if rng is None:
            images = torch.cat([self._complete(*part) for part in parts])
            return Drawn(images.view(x.shape), torch.ones_like(told))
        drawn = [self._sample(*part, rng, sampling or self.sampling) for part in parts]
        return Drawn(torch.cat([one.images for one in drawn]).view(x.shape), torch.cat([one.tries for one in drawn]))

    def _sample(self, x: Tensor, given: Tensor, told: Tensor, rng: Generator, sampling: Sampling) -> Drawn:
        """Samples (n, pixels), drawn again where the network does not name them as it was told."""
        best, tries = self._complete(x, given, told, rng, sampling), torch.ones_like(told)
        if sampling.sure is None:
            return Drawn(best, tries)
        reached = self._lead(best, told)
        for _ in range(1, sampling.tries):
            rows = (reached < sampling.sure).nonzero()[:, 0]
            if len(rows) == 0:
                break
            again = self._complete(x[rows], given[rows], told[rows], rng, sampling)
            ahead = self._lead(again, told[rows])
            better = ahead > reached[rows]
            best[rows[better]], reached[rows[better]] = again[better], ahead[better]
            tries[rows] += 1
        return Drawn(best, tries)

    def _lead(self, x: Tensor, told: Tensor) -> Tensor:
        """By how much what was told leads when the network names `x`; infinity where nothing was told."""
        ahead = lead(self._scores(x), told.clamp(min=0))
        return torch.where(told >= 0, ahead, torch.inf)

    def _complete(
        self,
        x: Tensor,
        given: Tensor,
        told: Tensor,
        rng: Generator | None = None,
        sampling: Sampling | None = None,
    ) -> Tensor:
        names = F.one_hot(told.clamp(min=0), self.classes_).to(x)
        known = (told >= 0).to(x)[:, None]
        masks: Masks = {"pixels": 1 - given}
        if not bool(known.all()):
            masks["label"], names = (1 - known).expand_as(names), names * known
        state, free, _ = self.first_state(x * given, names, masks, "pixels", part=True)
        if rng is None or sampling is None:
            self._settle(state, free)
        else:
            fire_missing_(self.net_, self.settling, state, free, sampling=sampling, rng=rng)
        return state["pixels"]
