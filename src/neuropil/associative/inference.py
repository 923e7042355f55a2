"""What an associative network answers once it has its weights: it classifies, completes and generates."""

import warnings
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from neuropil.associative.connectivity import CLASSIFICATION, COMPLETION, LABEL, PIXELS, Connectivity, State
from neuropil.associative.gradient import unrolled_settling
from neuropil.associative.sampling import Samples, Sampling, margin, sample_missing_
from neuropil.associative.settling import Masks, Settling, drive_, drive_of, fixed_drive

PATIENCE = 10  # iterations of settling in use, for each one in training
CLOSER = 0.1  # tolerance in use, over that of training
UNROLLED = 20  # terms of the series for a gradient
COMPLETED_WEIGHT = 0.5  # of the scores of the completed image beside those of the known part; chosen on held-out MNIST
BATCH = 1000  # images at a time, so that memory stays bounded


def class_scores(net: Connectivity, settling: Settling, x: Tensor, *, partial: bool = False) -> Tensor:
    """The settled drive of each label unit, (n, classes), from images (n, *shape); `partial` if pixels are missing."""
    found = []
    for batch in torch.split(x, BATCH):
        state, free = _classified(net, settling, batch.flatten(1), partial=partial)
        found.append(drive_of(net, state, LABEL, free, settling.free_unit_gain))
    return torch.cat(found)


@torch.no_grad()
def _classified(net: Connectivity, settling: Settling, x: Tensor, *, partial: bool = False) -> tuple[State, Masks]:
    """The settled activity from images (n, pixels), and which units were free."""
    state, free, _ = state_to_classify(net, x, partial=partial)
    settle_fully(net, settling, state, free)
    return state, free


def differentiable_scores(net: Connectivity, settling: Settling, x: Tensor) -> Tensor:
    """`class_scores` with their gradient by `x`, all at once; exact but for `UNROLLED` where all has settled."""
    x = x.flatten(1)
    state, free = _classified(net, settling, x)
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
        completed = Filling(net, settling)(x[~whole], mask[~whole], unknown[~whole]).images
        completed_scores = class_scores(net, settling, completed).clamp(0, 1)
        scores[~whole] = scores[~whole].clamp(0, 1) + COMPLETED_WEIGHT * completed_scores
    return scores


@dataclass(frozen=True)
class Filling:
    """Fills in the missing pixels of images: with what the network expects or, given `rng` and `sampling`, by samples.

    Attributes:
        net, settling: weights, and how activity settles.
        rng, sampling: for samples.
    """

    net: Connectivity
    settling: Settling
    rng: Generator | None = None
    sampling: Sampling | None = None

    def __call__(self, x: Tensor, mask: Tensor, labels: Tensor) -> Samples:
        """The whole images.

        Args:
            x: (n, *shape) in [0, 1]; values of missing pixels do not matter.
            mask: 1 where a pixel is known, shaped like `x`.
            labels: (n,) int64, -1 where the network settles on a label by itself.
        """
        batches = zip(*(torch.split(part, BATCH) for part in (x.flatten(1), mask.flatten(1), labels)))
        images, attempts = (torch.cat(parts) for parts in zip(*(self._accepted(*batch) for batch in batches)))
        return Samples(images.view(x.shape), attempts)

    def _accepted(self, x: Tensor, mask: Tensor, labels: Tensor) -> Samples:
        """Images (n, pixels); samples are made again where the network does not classify them as `labels` say."""
        best, attempts, sampling = self._once(x, mask, labels), torch.ones_like(labels), self.sampling
        if self.rng is None or sampling is None or sampling.accept_margin is None:
            return Samples(best, attempts)
        reached = self._label_margin(best, labels)
        for _ in range(1, sampling.max_attempts):
            rows = (reached < sampling.accept_margin).nonzero()[:, 0]
            if len(rows) == 0:
                break
            again = self._once(x[rows], mask[rows], labels[rows])
            margins = self._label_margin(again, labels[rows])
            better = margins > reached[rows]
            best[rows[better]], reached[rows[better]] = again[better], margins[better]
            attempts[rows] += 1
        return Samples(best, attempts)

    def _label_margin(self, x: Tensor, labels: Tensor) -> Tensor:
        """By how much the score of each label exceeds all others; infinity where no label was given."""
        margins = margin(class_scores(self.net, self.settling, x), labels.clamp(min=0))
        return torch.where(labels >= 0, margins, torch.inf)

    def _once(self, x: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """Images (n, pixels), without a look at what they became."""
        label, known = F.one_hot(labels.clamp(min=0), self.net.sizes[LABEL]).to(x), (labels >= 0).to(x)[:, None]
        masks: Masks = {PIXELS: 1 - mask}
        if not bool(known.all()):
            masks[LABEL], label = (1 - known).expand_as(label), label * known
        state, free, _ = initial_state(self.net, x * mask, label, masks, PIXELS, partial=True)
        if self.rng is None or self.sampling is None:
            settle_fully(self.net, self.settling, state, free)
        else:
            sample_missing_(self.net, self.settling, state, free, sampling=self.sampling, rng=self.rng)
        return state[PIXELS]


def state_to_classify(net: Connectivity, x: Tensor, *, partial: bool = False) -> tuple[State, Masks, State]:
    """`initial_state` where all pixels `x` (n, pixels) are clamped and the label is wanted."""
    return initial_state(net, x, x.new_zeros(len(x), net.sizes[LABEL]), {LABEL: None}, LABEL, partial=partial)


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
    """Settle in use, each sample by itself, closer and with more iterations than in training: no nudge comes after it.

    Warn if activity is still further than the tolerance from where it should be.
    """
    iterations, close = PATIENCE * settling.max_iterations, CLOSER * settling.tolerance
    settled = replace(settling, max_iterations=iterations, tolerance=close).each(net, state, free)
    moving = int((~(settled.residual < settling.tolerance)).sum()) if not settled.converged else 0
    if moving:
        warnings.warn(
            f"{moving} of {len(settled.residual)} samples had not settled after {settled.iterations} iterations: some "
            f"unit is {settled.residual.max():.2g} from where its drive sends it (tolerance {settling.tolerance:.2g}); "
            "give Settling more iterations or less momentum.",
            stacklevel=2,
        )
