"""A law on a layer: what is checked before anything is computed, the drive, and what the law says of it."""

import inspect
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, require
from neuropil.plasticity import geometry
from neuropil.plasticity.geometry import unit_axis
from neuropil.plasticity.law import Chosen, Dense, Law, along_units
from neuropil.plasticity.plan import IN_USE, Plan

Third = dict[str, Tensor]


class Job(NamedTuple):
    """A law on a layer.

    Attributes:
        law, layer, plan: as given.
        weight: (units, fan-in).
        drive_weight: (units, fan-in), the very same tensor if the law takes the drive with the weight itself.
        bias: what the drive has besides, (units,); None for nothing.
        by_output: whether the drive is the output of the layer.
        divisor: of the change: the number of samples for their mean, 1 for their sum.
        tally: to which is added how often each unit was chosen, (units,); None where it is not needed.
    """

    law: Law
    layer: nn.Module
    plan: Plan
    weight: Tensor
    drive_weight: Tensor
    bias: Tensor | None
    by_output: bool
    divisor: int = 1
    tally: Tensor | None = None

    def drive(self, pre: Tensor) -> Tensor:
        """(batch, *out) drives for `pre`, in the dtype of the ranking."""
        layer, bias, dtype = self.layer, self.bias, self.law.ranking_dtype or pre.dtype
        if self.by_output and dtype == pre.dtype and not (type(layer) is nn.Linear and bias is None):
            with torch.no_grad():
                out: Tensor = layer(pre)
            return out.detach()
        u = geometry.respond(layer, pre.to(dtype), geometry.from_rows(layer, self.drive_weight).to(dtype), self.plan)
        return u if bias is None else u + (bias if unit_axis(layer) == -1 else along_units(bias, u)).to(dtype)

    def sample(self, pre: Tensor, post: Tensor | None, third: Third) -> "Sample":
        """Samples with the drive `post`, or with the layer's own if it is None."""
        dtype = self.law.ranking_dtype
        drive = self.drive(pre) if post is None else post if dtype is None else post.to(dtype)
        aligned = {name: self._aligned(value, drive) for name, value in third.items()}
        return self.ask(pre, _by_units(self.layer, drive), drive.shape, aligned, post is None)

    def ask(self, pre: Tensor, u: Tensor, shape: torch.Size, third: Third, own: bool) -> "Sample":
        """What the law says of samples with the drives `u` (samples, units, *positions).

        Raises:
            Refusal: the law says something that does not fit the drives.
        """
        before = IN_USE.set(self.plan)
        try:
            said = self.law.post(u, **third)
        finally:
            IN_USE.reset(before)
        problem = self._misfit(said, u)
        if problem:
            raise Refusal(f"{type(self.law).__name__} {problem}")
        by_drive = said.decay is u
        if isinstance(said, Chosen):  # without the drives, whose memory is needed again
            left = said.decay if not by_drive else 0.0 if self.bias is None else self.bias
            said = said._replace(decay=left, finite=geometry.total(u if said.finite is None else said.finite))
        return Sample(self, pre, said, by_drive, shape, own)

    def _misfit(self, said: object, u: Tensor) -> str:
        """What is wrong with what the law says; empty if nothing is."""
        if isinstance(said, Dense):
            if self.law.sparse:
                return "chooses no units, so its change cannot be sparse; use sparse=False."
            return _dense_misfit(said, u)
        if not isinstance(said, Chosen):
            return f"returned {type(said).__name__} from post(); return Dense(...) or Chosen(...)."
        if not isinstance(said.units, Tensor):
            return f"chose units by a {type(said.units).__name__}; give their indices, as of u.topk(2, dim=1).indices."
        if not isinstance(said.gains, Sequence):
            return f"gave gains by a {type(said.gains).__name__}; give a number for each rank, as (1.0, -0.4)."
        if said.units.dtype != torch.int64:
            return f"chose units in {said.units.dtype}; their indices need torch.int64."
        wanted = (u.shape[0], len(said.gains), *u.shape[2:])
        if said.units.shape != wanted:
            got, drives = tuple(said.units.shape), tuple(u.shape)
            return f"chose units of shape {got}; {len(said.gains)} gains for drives of shape {drives} need {wanted}."
        if said.decay is not u and not isinstance(said.decay, int | float):
            return "chose units with a decay that is neither the drive nor a number; use Dense(...) for others."
        return ""

    def _aligned(self, value: Tensor, drive: Tensor) -> Tensor:
        """A third factor so that it broadcasts along the units of the samples that a law sees."""
        if value.shape == drive.shape:
            return _by_units(self.layer, value)
        if value.dim() != 1:
            return value
        value = value.view(-1, *[1] * (drive.dim() - 1))
        return value if unit_axis(self.layer) == 1 else value.expand(*drive.shape[:-1], 1).flatten(0, -2)


class Sample(NamedTuple):
    """Samples, and what a law says of them.

    Attributes:
        job: the law on the layer that they go through.
        pre: its input, (batch, *in).
        said: the post factor. Units that were chosen come with one number that is finite if all drives are. Their
            decay has the bias (or 0) in place of the drives; the weights give the rest of it.
        by_drive: whether the decay is by the drive.
        shape: of the output of the layer, (batch, *out).
        own: whether the drives are what the drive weights make of `pre`.
    """

    job: Job
    pre: Tensor
    said: Dense | Chosen
    by_drive: bool
    shape: torch.Size
    own: bool


def start(
    law: Law, layer: nn.Module, pre: Tensor, post: Tensor | None, plan: Plan, third: Third
) -> tuple[Job, Tensor, Tensor | None]:
    """The job and its activity, all checked and cut from the autograd graph; no output if it is not the drive."""
    geometry.check_plain(pre, post)
    count = geometry.units(layer)
    law.check_units(count)
    parameter = geometry.weight_of(layer)
    geometry.check_input(layer, pre)
    geometry.check_alike(layer, parameter, pre, post)
    if law.sparse and type(layer) is not nn.Linear:
        raise Refusal(f"a sparse change needs a Linear layer, got {type(layer).__name__}; use sparse=False.")
    for name, value in third.items():
        if not isinstance(value, Tensor):
            raise Refusal(f"{type(law).__name__} needs {name} as a tensor, got {type(value).__name__}.")
        geometry.check_plain(value)
        geometry.check_alike(layer, parameter, value if value.is_floating_point() else None)
        _check_third(law, layer, pre, name, value)
    weight, bias = geometry.rows(layer, parameter), geometry.bias_of(layer)
    version = None if parameter.is_inference() else parameter._version
    drive_weight = law.weights(weight)
    if not isinstance(drive_weight, Tensor) or (drive_weight.shape, drive_weight.dtype) != (weight.shape, weight.dtype):
        what = f"(units, fan-in), here {_form(weight)}, got {_form(drive_weight)}"
        raise Refusal(f"{type(law).__name__}.weights() needs to return {what}.")
    if version is not None and version != parameter._version:
        raise Refusal(f"{type(law).__name__}.weights() changed the weight of the layer in place; return a new tensor.")
    by_output = drive_weight is weight and (law.with_bias or bias is None)
    job = Job(law, layer, plan, weight, drive_weight, bias if law.with_bias else None, by_output)
    if post is None or not by_output:
        return job, pre.detach(), None
    geometry.check_output(layer, pre, post)
    return job, pre.detach(), post.detach()


def _form(value: object) -> str:
    """The shape and dtype of a tensor, or what else it is."""
    return f"{tuple(value.shape)} in {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _dense_misfit(said: Dense, u: Tensor) -> str:
    """What is wrong with the gains, the decay and the mixing of a law; empty if nothing is."""
    if not isinstance(said.gain, Tensor) or said.gain.shape != u.shape:
        return f"gave gains of shape {_form(said.gain)} for drives of shape {_form(u)}."
    if isinstance(said.decay, Tensor):
        sides = zip(reversed(said.decay.shape), reversed(u.shape))
        if said.decay.dim() > u.dim() or any(mine not in (1, other) for mine, other in sides):
            return f"gave a decay of shape {_form(said.decay)} for drives of shape {_form(u)}."
    elif not isinstance(said.decay, int | float):
        return f"gave a decay by a {type(said.decay).__name__}; give a number, or a tensor shaped like the drive."
    if said.mixing is not None and (not isinstance(said.mixing, Tensor) or said.mixing.shape != (u.shape[1],) * 2):
        return f"gave a mixing of shape {_form(said.mixing)} for {u.shape[1]} units."
    return ""


def check_names(law: Law, third: Third) -> None:
    """Refuse third factors that a law does not have, and the lack of one that it needs."""
    known, needed = _third_factors(type(law))
    if not (needed <= third.keys() <= known):
        takes = ", ".join(f"{name}=..." for name in sorted(known)) or "no third factor"
        got = ", ".join(third) or "none"
        raise Refusal(f"{type(law).__name__} takes {takes} beside layer, pre and post, got {got}.")


@cache
def _third_factors(law: type[Law]) -> tuple[set[str], set[str]]:
    """The names of the third factors of a law: all, and those without a default."""
    found = list(inspect.signature(law.post).parameters.values())[2:]
    require(
        all(one.kind is not one.VAR_KEYWORD and one.kind is not one.VAR_POSITIONAL for one in found),
        f"{law.__name__}.post() needs its third factors by name, not as *args or **kwargs.",
    )
    return {one.name for one in found}, {one.name for one in found if one.default is one.empty}


def _check_third(law: Law, layer: nn.Module, pre: Tensor, name: str, value: Tensor) -> None:
    """Refuse a third factor that has neither one entry per sample, nor one per unit, nor the shape of the output."""
    if (value.dim() == 1 and len(value) == len(pre)) or value.shape == (1, geometry.units(layer)):
        return
    try:
        geometry.check_output(layer, pre, value)
    except Refusal:
        other = "" if value.dim() == 1 else " or an activity shaped like the output,"
        what = f"one {name} per sample, ({len(pre)},),{other} got {tuple(value.shape)}"
        raise Refusal(f"{type(law).__name__} needs {what}.") from None


def _by_units(layer: nn.Module, activity: Tensor) -> Tensor:
    """Activity on the output side with units on axis 1: (samples, units, *positions)."""
    return activity.flatten(0, -2) if activity.dim() > 2 and unit_axis(layer) == -1 else activity
