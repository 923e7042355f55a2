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

    def sample(self, pre: Tensor, post: Tensor | None, third: Third) -> "Sample":
        """Samples with the drive `post`, or with the layer's own if it is None."""
        drive = self.drive(pre) if post is None else post.to(self.law.ranking_dtype or post.dtype)
        u = _by_units(self.layer, drive)
        aligned = {name: self._aligned(value, drive) for name, value in third.items()}
        return Sample(self, pre, u, drive.shape, aligned, post is None)

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
    """Samples on their way to a change.

    Attributes:
        job: the law on the layer that they go through.
        pre: its input, (batch, *in).
        u: drives, (samples, units, *positions).
        shape: of the drives on the output side of the layer.
        third: third factors, aligned with `u`.
        own: whether `u` is what the drive weights make of `pre`.
    """

    job: Job
    pre: Tensor
    u: Tensor
    shape: torch.Size
    third: Third
    own: bool

    def post(self) -> Dense | Chosen:
        """What the law says of these samples.

        Raises:
            Refusal: the law says something that does not fit the drives.
        """
        law, u = self.job.law, self.u
        name, said = type(law).__name__, law.post(u, **self.third)
        if isinstance(said, Dense):
            require(not law.sparse, f"a sparse change needs a rule that chooses units, not {name}; use sparse=False.")
            require(
                said.gain.shape == u.shape,
                f"{name} gave gains of shape {tuple(said.gain.shape)} for drives of shape {tuple(u.shape)}.",
            )
            return said
        if not isinstance(said, Chosen):
            raise Refusal(f"{name}.post returned {type(said).__name__}; return Dense(...) or Chosen(...).")
        wanted = (u.shape[0], len(said.gains), *u.shape[2:])
        require(
            said.units.shape == wanted,
            f"{name} chose units of shape {tuple(said.units.shape)}; {len(said.gains)} gains for drives of shape "
            f"{tuple(u.shape)} need {wanted}.",
        )
        require(
            said.decay is u or not isinstance(said.decay, Tensor),
            f"{name} chose units with a decay that is neither its drive nor a number; use Dense(...) for others.",
        )
        return said

    def on_output(self, factor: Tensor) -> Tensor:
        """A post factor shaped like `u`, shaped like the output of the layer."""
        return factor.view(self.shape) if factor.shape != self.shape else factor


def start(
    law: Law, layer: nn.Module, pre: Tensor, post: Tensor | None, plan: Plan, third: Third
) -> tuple[Job, Tensor, Tensor | None]:
    """The job and its activity, all checked and cut from the autograd graph; no output if it is not the drive."""
    law.check_units(units(layer))
    check_input(layer, pre)
    check_alike(layer, pre, post, *(value for value in third.values() if value.is_floating_point()))
    name, dense = type(layer).__name__, type(layer) is nn.Linear
    require(dense or not law.sparse, f"a sparse change needs a Linear layer, got {name}; use sparse=False.")
    for key, value in third.items():
        if value.dim() == 1:
            wanted = f"{type(law).__name__} needs one {key} per sample, ({len(pre)},)"
            require(len(value) == len(pre), f"{wanted}, got {tuple(value.shape)}.")
        elif value.shape != (1, units(layer)):
            check_output(layer, pre, value)
    weight = rows(layer, weight_of(layer))
    job = Job(law, layer, plan, weight, law.weights(weight), bias_of(layer) if law.with_bias else None)
    if post is None or not job.drives_by_output():
        return job, pre.detach(), None
    check_output(layer, pre, post)
    return job, pre.detach(), post.detach()


def _by_units(layer: nn.Module, activity: Tensor) -> Tensor:
    """Activity on the output side with units on axis 1: (samples, units, *positions)."""
    return activity.flatten(0, -2) if unit_axis(layer) == -1 else activity
