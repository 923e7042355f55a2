"""What an associative network answers once it has its weights: it classifies, completes and generates."""

from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from neuropil.associative.checks import warn_unless_settled
from neuropil.associative.connectivity import CLASSIFICATION, COMPLETION, LABEL, PIXELS, Connectivity, State
from neuropil.associative.gradient import unrolled_settling
from neuropil.associative.sampling import Samples, Sampling, margin, sample_missing_
from neuropil.associative.settling import Masks, Settling, drive_, drive_of, fixed_drive

PATIENCE = 10  # iterations of settling in use, for each one in training
UNROLLED = 20  # terms of the series for a gradient
COMPLETED_WEIGHT = 0.5  # of the scores of the completed image beside those of the known part; chosen on held-out MNIST
BATCH = 1000  # images at a time, so that memory stays bounded


def class_scores(net: Connectivity, settling: Settling, x: Tensor, *, partial: bool = False) -> Tensor:
    """The settled drive of each label unit, (n, classes), from images (n, *shape); `partial` if pixels are missing."""
    return torch.cat([_class_scores(net, settling, batch.flatten(1), partial) for batch in torch.split(x, BATCH)])


def _class_scores(net: Connectivity, settling: Settling, x: Tensor, partial: bool) -> Tensor:
    nothing = x.new_zeros(len(x), net.sizes[LABEL])
    state, free, _ = initial_state(net, x, nothing, {LABEL: None}, LABEL, partial=partial)
    settle_fully(net, settling, state, free)
    return drive_of(net, state, LABEL, free, settling.free_unit_gain)


def differentiable_scores(net: Connectivity, settling: Settling, x: Tensor) -> Tensor:
    """`class_scores` with their gradient by `x`, all at once; exact but for `UNROLLED` where all has settled."""
    x = x.flatten(1)
    with torch.no_grad():
        nothing = x.new_zeros(len(x), net.sizes[LABEL])
        state, free, _ = initial_state(net, x, nothing, {LABEL: None}, LABEL)
        settle_fully(net, settling, state, free)
    return unrolled_settling(net, state | {PIXELS: x}, [*free], step_size=settling.step_size, iterations=UNROLLED)


def masked_scores(net: Connectivity, settling: Settling, x: Tensor, mask: Tensor) -> Tensor:
    """`class_scores` from the pixels where `mask` is 1; both are (n, *shape). Missing pixels are silent at first.

    A network with completion units that generates looks twice. It completes the image and classifies the whole with its
    classification units. Their drive of the label, clipped to [0, 1], is added with the weight `COMPLETED_WEIGHT`.
    """
    known, whole = x * mask, mask.flatten(1).all(1)
    scores = x.new_zeros(len(x), net.sizes[LABEL])
    for rows, partial in ((whole, False), (~whole, True)):
        if rows.any():
            scores[rows] = class_scores(net, settling, known[rows], partial=partial)
    if net.generates and COMPLETION in net.sizes and not whole.all():
        unknown = torch.full((len(x),), -1, device=x.device)
        completed = fill(net, settling, x[~whole], mask[~whole], unknown[~whole]).images
        completed_scores = class_scores(net, settling, completed).clamp(0, 1)
        scores[~whole] = scores[~whole].clamp(0, 1) + COMPLETED_WEIGHT * completed_scores
    return scores


def fill(
    net: Connectivity,
    settling: Settling,
    x: Tensor,
    mask: Tensor,
    labels: Tensor,
    rng: Generator | None = None,
    sampling: Sampling | None = None,
) -> Samples:
    """Images whose missing pixels are filled in: the expected ones, or, with `rng` and `sampling`, samples.

    Args:
        net, settling: weights, and how activity settles.
        x: (n, *shape) in [0, 1]; values of missing pixels do not matter.
        mask: 1 where a pixel is known, shaped like `x`.
        labels: (n,) int64, -1 where the network settles on a label by itself.
        rng, sampling: for samples.
    """
    pixels, masks = torch.split(x.flatten(1), BATCH), torch.split(mask.flatten(1), BATCH)
    batches = zip(pixels, masks, torch.split(labels, BATCH))
    if rng is None or sampling is None:
        images = torch.cat([_fill(net, settling, *batch) for batch in batches])
        return Samples(images.view(x.shape), torch.ones_like(labels))
    found = [_accepted(net, settling, *batch, rng, sampling) for batch in batches]
    images = torch.cat([samples.images for samples in found])
    return Samples(images.view(x.shape), torch.cat([samples.attempts for samples in found]))


def _accepted(
    net: Connectivity, settling: Settling, x: Tensor, mask: Tensor, labels: Tensor, rng: Generator, sampling: Sampling
) -> Samples:
    """Samples (n, pixels), sampled again where the network does not classify them as `labels` say."""
    best, attempts = _fill(net, settling, x, mask, labels, rng, sampling), torch.ones_like(labels)
    if sampling.accept_margin is None:
        return Samples(best, attempts)
    reached = _label_margin(net, settling, best, labels)
    for _ in range(1, sampling.max_attempts):
        rows = (reached < sampling.accept_margin).nonzero()[:, 0]
        if len(rows) == 0:
            break
        again = _fill(net, settling, x[rows], mask[rows], labels[rows], rng, sampling)
        margins = _label_margin(net, settling, again, labels[rows])
        better = margins > reached[rows]
        best[rows[better]], reached[rows[better]] = again[better], margins[better]
        attempts[rows] += 1
    return Samples(best, attempts)


def _label_margin(net: Connectivity, settling: Settling, x: Tensor, labels: Tensor) -> Tensor:
    """By how much the score of each label exceeds all others; infinity where no label was given."""
    margins = margin(_class_scores(net, settling, x, partial=False), labels.clamp(min=0))
    return torch.where(labels >= 0, margins, torch.inf)


def _fill(
    net: Connectivity,
    settling: Settling,
    x: Tensor,
    mask: Tensor,
    labels: Tensor,
    rng: Generator | None = None,
    sampling: Sampling | None = None,
) -> Tensor:
    label = F.one_hot(labels.clamp(min=0), net.sizes[LABEL]).to(x)
    known = (labels >= 0).to(x)[:, None]
    masks: Masks = {PIXELS: 1 - mask}
    if not bool(known.all()):
        masks[LABEL], label = (1 - known).expand_as(label), label * known
    state, free, _ = initial_state(net, x * mask, label, masks, PIXELS, partial=True)
    if rng is None or sampling is None:
        settle_fully(net, settling, state, free)
    else:
        sample_missing_(net, settling, state, free, sampling=sampling, rng=rng)
    return state[PIXELS]


def initial_state(
    net: Connectivity, x: Tensor, label: Tensor, masks: Masks, target: str, *, partial: bool = False
) -> tuple[State, Masks, State]:
    """Activity to start from, which units are free, and the drive from populations that do not move.

    Args:
        net: the weights.
        x, label: activity of pixels and label, (batch, units).
        masks: of the visible populations that are not all clamped: 1 where a unit is free, or None if all of it is.
        target: only populations that can influence this one take part.
        partial: whether pixels are missing; then the completion units, if any, classify, not the classification units.
    """
    clamped = [name for name in (PIXELS, LABEL) if name not in masks]
    moving = net.ancestors([target], [*clamped, *silenced(net, partial=partial)])
    free: Masks = {name: masks.get(name) for name in moving}
    state = {PIXELS: x, LABEL: label}
    fixed = {name: fixed_drive(net, state, name, free, x) for name in moving}
    known: Masks = {name: None for name in free if name in state}
    for name in sorted(set(moving) - set(state)):  # hidden units start where the clamped ones drive them
        drive = drive_(net, state, name, known, fixed[name], torch.empty_like(fixed[name]))
        state[name], known[name] = drive.clamp_(0, 1), None
    return state, free, fixed


def silenced(net: Connectivity, *, partial: bool) -> list[str]:
    """The populations that take no part while pixels are missing (`partial`), or while none is."""
    if COMPLETION not in net.sizes:
        return []
    return net.with_role(CLASSIFICATION) if partial else net.with_role(COMPLETION)


def settle_fully(net: Connectivity, settling: Settling, state: State, free: Masks) -> None:
    """Settle in use: with more iterations than in training, where a nudge comes as soon as most units are close."""
    patient = replace(settling, max_iterations=PATIENCE * settling.max_iterations)
    warn_unless_settled(patient(net, state, free), patient)
