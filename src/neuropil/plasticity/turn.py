"""How attached layers move: rows turn towards inputs, keep their norms, and start anew where nothing is won."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.plasticity.chosen import full_factor
from neuropil.plasticity.engine import Rule
from neuropil.plasticity.geometry import Conv, bias_of, from_rows, rows, weight_of, write_
from neuropil.plasticity.job import Job
from neuropil.plasticity.law import Dense
from neuropil.plasticity.plan import PLAN
from neuropil.plasticity.precision import full_precision
from neuropil.plasticity.processes import Processes
from neuropil.plasticity.seen import LayerState, prepared

LEAK = 0.03  # rate of a unit that answers nothing in a batch
IDLE = 10.0  # a unit that wins none of so many samples for each unit of its layer starts anew


def settle_layer_(layer: nn.Module, state: LayerState, threshold: float | None) -> None:
    """Rows without their mean and of their norm; the bias below the drive by `threshold`, see `attach`."""
    write_(layer, directions_of(rows(layer, weight_of(layer))) * state.norms[:, None])
    if (bias := bias_of(layer)) is not None:
        threshold = (0.0 if isinstance(layer, Conv) else 0.5) if threshold is None else threshold
        bias.copy_(-(state.drive_mean + threshold * state.drive_sd))


def turn(
    rule: Rule, layer: nn.Module, samples: Tensor, state: LayerState, processes: Processes | None = None
) -> tuple[Tensor, Tensor]:
    """The change of the weight by the samples of all processes, see `attach`; how often a gain is above 1 / units."""
    weight, changes, won = rows(layer, weight_of(layer)), [], []
    directions = F.normalize(weight, dim=1).chunk(samples.shape[1])
    for x, v in zip(prepared(samples, state).unbind(1), directions):
        sums = list(summed_answer(rule, layer, x, v))
        if processes is not None:
            sums = [one.to(x) for one in processes.sum(*sums)]
        change, size, heard, wins = sums
        change = change / size.clamp_min(torch.finfo(x.dtype).eps)[:, None]
        if processes is None or not heard.all():
            change = torch.where((heard > 0)[:, None], change, LEAK * nearest(x, v, processes))
        changes.append(change - (change * v).sum(1, keepdim=True) * v)
        won.append(wins)
    return from_rows(layer, weight.norm(dim=1, keepdim=True) * torch.cat(changes)), torch.cat(won)


def summed_answer(rule: Rule, layer: nn.Module, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums over the samples x (n, fan-in) of one group: the change, |g|, whether and how often g counts."""
    if not len(x):  # another process has samples
        none = v.new_zeros(len(v))
        return torch.zeros_like(v), none, none, none
    gain, mixing = answer(rule, layer, x, v)
    change = gain.T @ x if mixing is None else gain.T @ x - mixing @ v
    return change, gain.abs().sum(0), (gain > 0).any(0), (gain > 1 / len(v)).sum(0)


def nearest(x: Tensor, v: Tensor, processes: Processes | None) -> Tensor:
    """For every unit the sample of all processes that is nearest to its direction, (units, fan-in)."""
    if processes is None:
        return x[(x @ v.T).argmax(0)]
    if not len(x):
        return processes.best(v.new_full((len(v),), -torch.inf), v)
    near, which = (x @ v.T).max(0)
    return processes.best(near, x[which])


def restart_(
    layer: nn.Module, samples: Tensor, state: LayerState, rng: Generator, where: tuple[int, int],
    processes: Processes | None,
) -> tuple[LayerState, Tensor]:  # fmt: skip
    """Let units that have not won for long start anew at samples; the state after that, and which they are.

    `where` says how many samples stand before these and how many there are in all processes.
    """
    weight, units = rows(layer, weight_of(layer)), len(state.idle) // samples.shape[1]
    index = torch.randint(where[1], (units,), generator=rng).to(samples.device) - where[0]
    late = state.idle > IDLE * units
    if processes is None:
        some = samples[index]
    elif not late.any():  # which all processes see alike
        return state, late
    else:
        own = ((index >= 0) & (index < len(samples))).view(-1, 1, 1)
        padded = torch.cat([samples, samples.new_zeros(1, *samples.shape[1:])])
        some = processes.sum(torch.where(own, padded[index.clamp(0, len(samples))], 0))[0].to(samples)
    x = prepared(some, state)
    x = x.transpose(0, 1).flatten(0, 1)  # (units of all groups, fan-in)
    fresh = late & (x.norm(dim=1) > 0.5)
    write_(layer, torch.where(fresh[:, None], directions_of(x) * state.norms[:, None], weight))
    return state._replace(idle=torch.where(fresh, 0, state.idle)), fresh


@full_precision
def answer(rule: Rule, layer: nn.Module, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
    """The gains (n, units) and the mixing that the law of `rule` states for one group."""
    job = Job(rule, layer, PLAN, v, rule.weights(v), None, False)
    u = x @ job.drive_weight.T
    sample = job.ask(x, u, u.shape, {}, own=False)
    said = sample.said
    return (said.gain, said.mixing) if isinstance(said, Dense) else (full_factor(sample, said), None)


def directions_of(weight: Tensor) -> Tensor:
    """Rows without their mean, of length 1."""
    x = weight / weight.abs().amax(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)  # no square overflows
    return F.normalize(x - x.mean(1, keepdim=True), dim=1)
