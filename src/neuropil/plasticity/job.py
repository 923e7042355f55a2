"""A law on a layer: what is checked before anything is computed, the drive, and what the law says of it."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, require
from neuropil.plasticity.geometry import (
    bias_of,
    check_alike,
    check_input,
    check_output,
    from_rows,
    respond,
    rows,
    unit_axis,
    units,
    weight_of,
)
from neuropil.plasticity.law import Chosen, Dense, Law, along_units
from neuropil.plasticity.plan import Plan

Third = dict[str, Tensor]


@dataclass(frozen=True)
class Job:
    """A law on a layer.

    Attributes:
        law, layer, plan: as given.
        weight: (units, fan-in).
        drive_weight: (units, fan-in), the very same tensor if the law takes the drive with the weight itself.
        bias: what the drive has besides, (units,); None for nothing.
    """

    law: Law
    layer: nn.Module
    plan: Plan
    weight: Tensor
    drive_weight: Tensor
    bias: Tensor | None

    def drives_by_output(self) -> bool:
        """Whether the drive is the output of the layer."""
        return self.drive_weight is self.weight and (self.law.with_bias or bias_of(self.layer) is None)

    def drive(self, pre: Tensor) -> Tensor:
        """(batch, *out) drives for `pre`, in the dtype of the ranking."""
        layer, dtype = self.layer, self.law.ranking_dtype or pre.dtype
        bare = type(layer) is nn.Linear and self.bias is None
        if self.drives_by_output() and dtype == pre.dtype and not bare:
            with torch.no_grad():
                out: Tensor = layer(pre)
            return out.detach()
        u = respond(layer, pre.to(dtype), from_rows(layer, self.drive_weight).to(dtype), self.plan)
        if self.bias is None:
            return u
        return u + (self.bias if unit_axis(layer) == -1 else along_units(self.bias, u)).to(dtype)

    def drives(self, pre: Tensor, post: Tensor | None) -> Tensor:
        """(samples, units, *positions) drives: `post`, or the layer's own if it is None."""
        return _by_units(self.layer, self.drive(pre) if post is None else post)

    def sample(self, pre: Tensor, post: Tensor | None, third: Third) -> "Sample":
        """Samples with the drive `post`, or with the layer's own if it is None."""
        drive = self.drive(pre) if post is None else post.to(self.law.ranking_dtype or post.dtype)
        aligned = {name: self._aligned(value, drive) for name, value in third.items()}
        return self.ask(pre, _by_units(self.layer, drive), drive.shape, aligned, post is None)

    def ask(self, pre: Tensor, u: Tensor, shape: torch.Size, third: Third, own: bool) -> "Sample":
        """What the law says of samples with the drives `u` (samples, units, *positions).

        Raises:
            Refusal: the law says something that does not fit the drives.
        """
        said = self.law.post(u, **third)
        problem = self._misfit(said, u)
        if problem:
            raise Refusal(f"{type(self.law).__name__} {problem}")
        by_drive = said.decay is u
        if isinstance(said, Chosen):  # without the drives, whose memory is needed again
            finite = total(u if said.finite is None else said.finite)
            said = said._replace(decay=0.0 if by_drive else said.decay, finite=finite)
        return Sample(self, pre, said, by_drive, u.shape, shape, own)

    def _misfit(self, said: object, u: Tensor) -> str:
        """What is wrong with what the law says; empty if nothing is."""
        if isinstance(said, Dense):
            if self.law.sparse:
                return "chooses no units, so its change cannot be sparse; use sparse=False."
            if said.gain.shape != u.shape:
                return f"gave gains of shape {tuple(said.gain.shape)} for drives of shape {tuple(u.shape)}."
            return ""
        if not isinstance(said, Chosen):
            return f"returned {type(said).__name__} from post(); return Dense(...) or Chosen(...)."
        wanted = (u.shape[0], len(said.gains), *u.shape[2:])
        if said.units.shape != wanted:
            got, drives = tuple(said.units.shape), tuple(u.shape)
            return f"chose units of shape {got}; {len(said.gains)} gains for drives of shape {drives} need {wanted}."
        if isinstance(said.decay, Tensor) and said.decay is not u:
            return "chose units with a decay that is neither the drive nor a number; use Dense(...) for others."
        return ""

    def _aligned(self, value: Tensor, drive: Tensor) -> Tensor:
        """A third factor so that it broadcasts along the units of the samples that a law sees."""
        if value.shape == drive.shape:
            return _by_units(self.layer, value)
        if value.dim() != 1:
            return value
        if unit_axis(self.layer) == 1:
            return value.view(-1, *[1] * (drive.dim() - 1))
        return value.view(-1, *[1] * (drive.dim() - 1)).expand(*drive.shape[:-1], 1).flatten(0, -2)

    def chooses(self, pre: Tensor) -> bool:
        """Whether the law chooses units: what it says of a silent sample."""
        return isinstance(self.law.post(pre.new_zeros(1, len(self.weight))), Chosen)


class Sample(NamedTuple):
    """Samples, and what a law says of them.

    Attributes:
        job: the law on the layer that they go through.
        pre: its input, (batch, *in).
        said: the post factor. Units that were chosen come without drives and with one number that is finite if all
            drives are.
        by_drive: whether the decay is by the drive.
        drives: shape of the drives, (samples, units, *positions).
        shape: the same on the output side of the layer, (batch, *out).
        own: whether the drives are what the drive weights make of `pre`.
    """

    job: Job
    pre: Tensor
    said: Dense | Chosen
    by_drive: bool
    drives: torch.Size
    shape: torch.Size
    own: bool

    def on_output(self, factor: Tensor) -> Tensor:
        """A post factor shaped like the drives, shaped like the output of the layer."""
        return factor if self.drives == self.shape else factor.view(self.shape)


def total(activity: Tensor) -> Tensor:
    """The sum of all entries, which is finite if they are."""
    return activity.sum(dtype=torch.promote_types(activity.dtype, torch.float32))


def start(
    law: Law, layer: nn.Module, pre: Tensor, post: Tensor | None, plan: Plan, third: Third
) -> tuple[Job, Tensor, Tensor | None]:
    """The job and its activity, all checked and cut from the autograd graph; no output if it is not the drive."""
    law.check_units(units(layer))
    check_input(layer, pre)
    check_alike(layer, pre, post, *(value for value in third.values() if value.is_floating_point()))
    if law.sparse and type(layer) is not nn.Linear:
        raise Refusal(f"a sparse change needs a Linear layer, got {type(layer).__name__}; use sparse=False.")
    for name, value in third.items():
        _check_third(law, layer, pre, name, value)
    weight = rows(layer, weight_of(layer))
    job = Job(law, layer, plan, weight, law.weights(weight), bias_of(layer) if law.with_bias else None)
    if post is None or not job.drives_by_output():
        return job, pre.detach(), None
    check_output(layer, pre, post)
    return job, pre.detach(), post.detach()


def _check_third(law: Law, layer: nn.Module, pre: Tensor, name: str, value: Tensor) -> None:
    """Refuse a third factor that has neither one entry per sample nor the shape of the output, nor one per unit."""
    if value.dim() == 1:
        require(
            len(value) == len(pre),
            f"{type(law).__name__} needs one {name} per sample, ({len(pre)},), got {tuple(value.shape)}.",
        )
    elif value.shape != (1, units(layer)):
        check_output(layer, pre, value)


def _by_units(layer: nn.Module, activity: Tensor) -> Tensor:
    """Activity on the output side with units on axis 1: (samples, units, *positions)."""
    return activity.flatten(0, -2) if activity.dim() > 2 and unit_axis(layer) == -1 else activity
