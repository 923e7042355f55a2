"""One step of learning: clamp, settle, nudge, and change every synapse by what its two neurons did."""

from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from neuropil.associative.connectivity import LABEL, PIXELS, Connectivity, State
from neuropil.associative.inference import initial_state, state_to_classify
from neuropil.associative.sampling import margin
from neuropil.associative.settling import Masks, Nudge, Settled, Settling
from neuropil.associative.tasks import Task, spikes
from neuropil.data.masks import random_masks
from neuropil.plasticity import DifferentialHebb, propose_
from neuropil.plasticity.joint import WHOLE, Portion


class Traces(NamedTuple):
    """What the neurons did in one step: all that a synapse may learn from.

    Attributes:
        sent: what each population sent before the nudge, (batch, units).
        settled: the free phase; its ``state`` is the activity before the nudge.
        after: activity after the nudge, (batch, units).
        before: activity that it is compared with: before the nudge, or after its control.
        samples: how many the batch has; these are fewer where several processes learn together.
        labels: (batch,) that the data have, -1 where one is missing, though the network may have named the image.
    """

    sent: State
    settled: Settled
    after: State
    before: State
    samples: int
    labels: Tensor


def clamp_task(
    net: Connectivity, task: Task, x: Tensor, label: Tensor, y: Tensor, shape: torch.Size, rng: Generator,
    part: Portion = WHOLE,
) -> tuple[State, Masks, State]:  # fmt: skip
    """First activity, and which units are free, in a task, of a `part` of the samples; see `initial_state`.

    Partially known pixels are clamped to spikes. Missing pixels are free if they are the target, and silent if the
    label is.

    Args:
        net: the weights.
        task: what is clamped.
        x, label: the data, (batch, units) of activity.
        y: (batch,) labels, -1 where one is unknown.
        shape: of an image.
        rng: of masks and spikes.
        part: what this process takes of the samples. Masks and spikes are those of all samples in every process.
    """
    masks: Masks = {}
    if task.clamped == "partial":
        mask = random_masks(len(x), shape, rng, occlusion_probability=task.occlusion_probability).to(x)
        x = spikes(x, rng).mul_(mask)
        if task.target == PIXELS:
            masks[PIXELS] = 1 - mask
    if task.target == LABEL:
        masks[LABEL], label = None, torch.zeros_like(label)
    elif task.label_fraction < 1 or bool((y < 0).any()):
        known = (torch.rand(len(y), 1, generator=rng, device=rng.device) < task.label_fraction).to(x)
        known = known * (y >= 0).to(x)[:, None]
        masks[LABEL], label = (1 - known).expand_as(label), label * known
    masks = {name: None if mask is None else part(mask) for name, mask in masks.items()}
    return initial_state(net, part(x), part(label), masks, task.target, partial=task.clamped == "partial")


def pseudo_labels(
    net: Connectivity, settling: Settling, x: Tensor, y: Tensor, least: float, part: Portion = WHOLE
) -> Tensor:
    """`y`, and where it is -1 the network's own answer, if its activity exceeds all others by `least` or more."""
    rows = (y < 0).nonzero()[:, 0]
    if len(rows) == 0:
        return y
    given = state_to_classify(net, part(x[rows]).flatten(1))
    label = part.gather(settling(net, *given, all_have=part.all).state[LABEL])
    answer = label.argmax(1)
    return y.index_put((rows,), torch.where(margin(label, answer) >= least, answer, -1))


def apply_rule_(net: Connectivity, task: Task, nudge: Nudge, traces: Traces, part: Portion = WHOLE) -> None:
    """Propose the change of every plastic synapse to the optimiser.

    The change is what the presynaptic unit sent before the nudge, times how far the nudge moved the postsynaptic unit.
    A bias is a synapse from a unit that always sends 1. What all processes have seen is added up by one message.
    """
    sent, before, after = traces.sent, traces.before, traces.after
    rule, changes = DifferentialHebb(1 / (nudge.beta * traces.samples)), list[tuple[Any, Tensor]]()
    for post in filter(before.__contains__, net.plastic(task.target)):
        for pre, target in net.projections:
            if target == post and pre in before:
                layer = net.between(pre, post)
                change = rule(layer, sent[pre], before[post], post_after=after[post], reduction="sum")
                changes.append((layer.weight, change))
        changes.append((net.bias[post], (after[post] - before[post]).sum(0).mul_(rule.scale)))
    sums = part.sum(*(change for _, change in changes))
    for (parameter, _), change in zip(changes, sums):
        propose_(parameter, change)


def step_(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """A step of `optimizer` with `factor` times its learning rates, then without gradients.

    Adam divides a gradient by the size of such gradients. So a factor of the gradient would be none of the step.
    """
    groups = optimizer.param_groups
    rates = [group["lr"] for group in groups]
    try:
        for group, rate in zip(groups, rates):
            group["lr"] = factor * rate
        optimizer.step()
    finally:
        for group, rate in zip(groups, rates):
            group["lr"] = rate
    optimizer.zero_grad()
