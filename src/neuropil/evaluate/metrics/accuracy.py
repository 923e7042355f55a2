"""How often a learner is right, and what it takes for what."""

from typing import Protocol

import torch
from torch import Tensor

from neuropil.data import Split


class Predicts(Protocol):
    """All that a score asks of a learner."""

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) float32 in [0, 1] to (n,) labels."""


def confusion(learner: Predicts, split: Split, *, batch: int = 1000) -> Tensor:
    """(classes, classes) counts of true label (rows) against predicted label (columns).

    Args:
        learner: anything with `predict`.
        split: the examples to name.
        batch: how many are named at once.
    """
    split.check_labelled("a confusion matrix")
    counts = torch.zeros(split.classes * split.classes, dtype=torch.int64)
    for chunk in split.batches(min(batch, len(split))):
        pairs = chunk.y * split.classes + learner.predict(chunk.x)
        counts += pairs.bincount(minlength=len(counts)).cpu()
    return counts.view(split.classes, split.classes)


def accuracy(learner: Predicts, split: Split, *, batch: int = 1000) -> float:
    """Fraction of `split` that `learner` classifies correctly, in [0, 1]."""
    return fraction_correct(confusion(learner, split, batch=batch))


def majority_rate(split: Split) -> float:
    """Fraction of `split` in its most common class: what a constant answer would reach.

    >>> import torch
    >>> majority_rate(Split(torch.zeros(4, 1), torch.tensor([0, 1, 1, 1]), 2))
    0.75
    """
    return split.y.bincount().max().item() / len(split)


def fraction_correct(counts: Tensor) -> float:
    """The accuracy that a confusion matrix (classes, classes) holds.

    >>> fraction_correct(torch.tensor([[9, 1], [4, 6]]))
    0.75
    """
    return counts.diagonal().sum().item() / counts.sum().item()
