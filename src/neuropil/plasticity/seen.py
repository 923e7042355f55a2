"""What a layer that learns on a plain network sees: samples of its input, centred and of length 1."""

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from neuropil.plasticity.geometry import check_finite, rows, weight_of
from neuropil.plasticity.patches import patches, sample_count, sample_patches
from neuropil.plasticity.sharing import Processes, chosen, place

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


def take(layer: nn.Module, pre: Tensor, most: int, rng: Generator, processes: Processes | None = None) -> Tensor:
    """What units see of an input, at most `most` inputs or patches of it in all processes: (n, groups, fan-in)."""
    if isinstance(layer, nn.Linear):
        x = pre.flatten(0, -2)
        before, total = place(x, processes)
        if total > most:
            x = x[chosen(torch.randint(total, (most,), generator=rng), before, len(x)).to(x.device)]
        return x[:, None]
    groups, fan_in = getattr(layer, "groups", 1), weight_of(layer)[0].numel()
    where = place(pre, processes)
    if where[1] * sample_count(layer, pre.new_empty(1, *pre.shape[1:])) > most:
        x = sample_patches(layer, pre, most, rng, where)
    else:
        x = torch.cat([pre.new_zeros(0, groups * fan_in), *patches(layer, pre)])
    return x.view(len(x), groups, fan_in)


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
