"""What a layer that learns on a plain network sees: samples of its input, centred and of length 1."""

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from neuropil.plasticity.geometry import check_finite, rows, weight_of
from neuropil.plasticity.patches import patches, sample_count, some_patches
from neuropil.plasticity.processes import Processes, chosen, place

MOMENTUM = 0.05  # weight of the latest batch in every running mean
FLAT = 0.1  # a sample shorter than this fraction of the mean length fades out


class LayerState(NamedTuple):
    """What a layer remembers between steps: running means, and the norms of its rows."""

    norms: Tensor  # of the rows, as they were before, (units,)
    idle: Tensor  # samples since a unit last won one, (units,)
    mean: Tensor  # of what units see, (groups, fan-in)
    size: Tensor  # length of a centred sample, ()
    drive_mean: Tensor  # what the synapses alone make of the input, (units,)
    drive_sd: Tensor  # its standard deviation, (units,)
    steps: Tensor  # batches seen, ()


def entry(layer: nn.Module, pre: Tensor) -> Tensor:
    """An input of `layer` with a row for each input of a unit, of a convolution for each example."""
    return pre.flatten(0, -2) if isinstance(layer, nn.Linear) else pre


def take(
    layer: nn.Module, x: Tensor, most: int, rng: Generator, processes: Processes | None, where: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    """What units see of an input, at most `most` inputs or patches of it in all processes: (n, groups, fan-in).

    Args:
        layer: a dense layer or a convolution.
        x: its input, see `entry`.
        most: how many to take, at random if there are more.
        rng: of these.
        processes: those that share the layer.
        where: how many rows of `x` others have before this one, and how many all have.

    Returns:
        these samples, and how many others have before this one, and how many all have.
    """
    before, total = where
    if isinstance(layer, nn.Linear):
        if total > most:
            index = torch.randint(total, (most,), generator=rng)
            x = x[chosen(index, before, len(x)).to(x.device)]
            where = int((index < before).sum()), most
        return x[:, None], where
    groups, fan_in = getattr(layer, "groups", 1), weight_of(layer)[0].numel()
    each = sample_count(layer, x.new_empty(1, *x.shape[1:]))
    if total * each > most:
        x, before = some_patches(layer, x, most, rng, where)
        where = before, most
    else:
        x = torch.cat([x.new_zeros(0, groups * fan_in), *patches(layer, x)])
        where = before * each, total * each
    if hasattr(layer, "preprocess_patches"):  # which may drop some
        where = place(x, processes)
    return x.view(len(x), groups, fan_in), where


def taken(layer: nn.Module, pre: Tensor, most: int, rng: Generator, processes: Processes | None = None) -> Tensor:
    """The samples that `take` gives of the input `pre` as a pass gives it."""
    x = entry(layer, pre)
    return take(layer, x, most, rng, processes, place(x, processes))[0]


def observe(
    layer: nn.Module, samples: Tensor, state: LayerState, fresh: Tensor | None = None,
    processes: Processes | None = None,
) -> LayerState:  # fmt: skip
    """The state after `samples` (n, groups, fan-in) of all processes: means over the first batches, later running ones.

    Of units that are `fresh` all earlier drives are forgotten.
    """
    part = max(MOMENTUM, 1 / (1 + int(state.steps)))
    weight = rows(layer, weight_of(layer)).unflatten(0, (samples.shape[1], -1))
    drive = torch.einsum("ngf,guf->ngu", samples, weight).flatten(1)
    drive_part: Any = part if fresh is None else torch.where(fresh, 1.0, part).to(drive)
    check_finite(layer, drive, weight.norm(dim=2).reciprocal())  # a row of zeros has no direction
    seen, middle = _means(processes, samples, drive)
    middle = middle.to(drive)
    mean = state.mean.lerp(seen.to(samples), part)
    lengths = _centred(samples, mean).norm(dim=2)
    if processes is None:
        size, sd = lengths.mean(), drive.std(0, correction=0)
    else:
        lengths, squares = _means(processes, lengths, (drive - middle).to(_wide(drive)).square())
        size, sd = lengths.mean().to(samples), squares.sqrt().to(samples)
    return state._replace(
        mean=mean,
        size=state.size.lerp(size, part),
        drive_mean=state.drive_mean.lerp(middle, drive_part),
        drive_sd=state.drive_sd.lerp(sd, drive_part),
        steps=state.steps + 1,
    )


def _means(processes: Processes | None, *samples: Tensor) -> list[Tensor]:
    """The mean of each (n, ...) over the samples of all processes, in float32 at least if there are others."""
    if processes is None:
        return [one.mean(0) for one in samples]
    count = torch.tensor(float(len(samples[0])), dtype=_wide(samples[0]), device=samples[0].device)
    *sums, n = processes.sum(*[one.sum(0, dtype=_wide(one)) for one in samples], count)
    return [one / n.clamp_min(1) for one in sums]


def _wide(x: Tensor) -> torch.dtype:
    """The dtype of sums over samples, which overflow in float16."""
    return torch.promote_types(x.dtype, torch.float32)


def prepared(samples: Tensor, state: LayerState) -> Tensor:
    """Samples without the mean of each input and without their own, of length 1; flat ones are shorter."""
    x = _centred(samples, state.mean)
    length: Tensor = x.norm(dim=2, keepdim=True)
    return x / length.clamp_min(FLAT * state.size).clamp_min(torch.finfo(x.dtype).tiny)


def _centred(samples: Tensor, mean: Tensor) -> Tensor:
    x: Tensor = samples - mean
    return x - x.mean(2, keepdim=True)
