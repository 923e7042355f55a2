"""How often a learner is right, and what it takes for what."""

from typing import Any, Protocol

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.errors import Refusal, require


class Predicts(Protocol):
    """All that a score such as `accuracy` asks of a learner."""

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) float32 in [0, 1] to (n,) labels."""


def named_labels(answer: Any, n: int, classes: int, who: str) -> Tensor:
    """`answer` of `who` as (n,) int64: one of `classes` for each of n examples, or -1 for "none".

    Args:
        answer: a tensor, an array or a list.

    Raises:
        Refusal: scores, fractions, too few labels, or labels of classes that there are not.
    """
    try:
        labels = torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Refusal(f"{who} needs whole numbers as labels, got {type(answer).__name__} ({error}).") from error
    if labels.shape != (n,):
        raise Refusal(f"{who} needs to name {n} examples, got labels {tuple(labels.shape)}; if scores, take argmax(1).")
    if labels.is_floating_point() or labels.is_complex():
        raise Refusal(f"{who} needs whole numbers as labels, got {labels.dtype}.")
    low, high = (int(end) for end in labels.aminmax()) if n else (0, 0)
    if low < -1 or high >= classes:
        raise Refusal(f"{who} needs labels from 0 to {classes - 1}, got {low} to {high}; wrong number of classes?")
    return labels.long()


def confusion(learner: Predicts, split: Split, *, batch: int = 1000) -> Tensor:
    """(classes, classes) counts of true label (rows) against predicted label (columns).

    Where the learner named no class for some example (-1), one more column counts these. So each row sums to the number
    of examples of its class.

    Args:
        learner: anything with `predict`.
        split: the examples to name.
        batch: how many are named at once.

    Raises:
        Refusal: an example has no label, or the learner does not give one whole number for each.
    """
    split.check_labelled("a confusion matrix")
    columns, who = split.classes + 1, type(learner).__name__
    require(hasattr(learner, "predict"), f"a score needs a model with predict(x), (n,) labels, got {who}.")
    counts = torch.zeros(split.classes * columns, dtype=torch.int64)
    for chunk in split.batches(min(batch, len(split))):
        named = named_labels(learner.predict(chunk.x), len(chunk), split.classes, who).to(chunk.y.device)
        pairs = chunk.y * columns + named.where(named >= 0, split.classes)
        counts += pairs.bincount(minlength=len(counts)).cpu()
    counts = counts.view(split.classes, columns)
    return counts if bool(counts[:, -1].any()) else counts[:, :-1]


def accuracy(learner: Predicts, split: Split, *, batch: int = 1000) -> float:
    """Fraction of `split` that `learner` classifies correctly, in [0, 1]."""
    return fraction_correct(confusion(learner, split, batch=batch))


def majority_rate(split: Split) -> float:
    """Fraction of `split` in its most common class: what a constant answer would reach.

    >>> import torch
    >>> majority_rate(Split(torch.zeros(4, 1), torch.tensor([0, 1, 1, 1]), 2))
    0.75
    """
    split.check_labelled("a majority rate")
    return split.y.bincount().max().item() / len(split)


def fraction_correct(counts: Tensor) -> float:
    """The accuracy that a confusion matrix (classes, classes), or one with a column for "none", holds.

    >>> fraction_correct(torch.tensor([[9, 1], [4, 6]]))
    0.75
    """
    return counts.diagonal().sum().item() / counts.sum().item()
