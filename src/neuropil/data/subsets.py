"""Parts of a data set: held out, fewer examples, other labels; stratified, so that the frequencies of classes stay."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Generator, Tensor

from neuropil.data.spikes import SpikeSplit
from neuropil.data.split import Split
from neuropil.errors import Refusal, require

Some = TypeVar("Some", Split, SpikeSplit)


def hold_out(split: Some, fraction: float, seed: int) -> tuple[Some, Some]:
    """(rest, held): two disjoint splits in random order, `fraction` of the examples in `held`.

    Stratified: the number held of each class is within one example of its exact fraction. Examples without a label
    count as one more class. The same seed gives the same splits.

    Raises:
        Refusal: a fraction outside (0, 1), or a class too small to be on both sides.

    Examples:
        >>> rest, held = hold_out(Split(torch.rand(10, 2), torch.arange(10) % 2, 2), 0.2, seed=0)
        >>> len(rest), len(held)
        (8, 2)
    """
    require(0 < fraction < 1, f"hold_out needs 0 < fraction < 1, got fraction={fraction}.")
    counts = _counts(split)
    held = _apportion(counts.double() * fraction, round(fraction * len(split)))
    for label in ((counts > 0) & ((held == 0) | (held == counts))).nonzero().flatten().tolist()[:1]:
        needed = f"hold_out(fraction={fraction}) needs examples of every class on both sides"
        got = f"{_stratum(label, split)} has {counts[label]} and would have {held[label]} held out"
        raise Refusal(f"{needed}, but {got}; take another fraction or more data.")
    first, others = _choose(split, held, seed)
    return split.rows(others), split.rows(first)


def relabel(split: Split, labels: Sequence[int]) -> Split:
    """The examples with the label ``labels[c]`` in place of the class c; those of a class that becomes -1 are left out.

    >>> digits = Split(torch.rand(3, 4), torch.tensor([4, 7, 9]), 10)
    >>> relabel(digits, [-1, -1, -1, -1, 0, -1, -1, -1, -1, 1]).y
    tensor([0, 1])
    """
    require(len(labels) == split.classes, f"relabel needs {split.classes} labels, got {len(labels)}.")
    split.check_labelled("relabel")
    y = torch.tensor(labels, device=split.y.device)[split.y]
    return Split(split.x[y >= 0], y[y >= 0], max(labels) + 1, (), split.channels_first, split.columns)


def subset(split: Some, n: int, seed: int) -> Some:
    """`n` examples in random order, the number of each class within one of its exact fraction; fixed by `seed`.

    Examples without a label count as one more class.

    Raises:
        Refusal: more examples than there are, or so few that a class would have none.

    Examples:
        >>> subset(Split(torch.rand(10, 2), torch.arange(10) % 2, 2), 4, seed=0).y.sort().values
        tensor([0, 0, 1, 1])
    """
    require(1 <= n <= len(split), f"subset needs 1 <= n <= {len(split)} (the data), got n={n}.")
    counts = _counts(split)
    taken = _apportion(counts.double() * n / len(split), n)
    for label in ((counts > 0) & (taken == 0)).nonzero().flatten().tolist()[:1]:
        lost = f"{_stratum(label, split)}, which has {counts[label]} of {len(split)}"
        fewest = -(-len(split) // int(counts[label]))
        raise Refusal(f"subset(n={n}) leaves no example of {lost}; take n >= {fewest}.")
    return split.rows(_choose(split, taken, seed)[0])


def _strata(split: Split | SpikeSplit) -> Tensor:
    """(n,) the class of each example, and `classes` where it has no label."""
    y = split.y.cpu()
    return torch.where(y < 0, split.classes, y)


def _stratum(label: int, split: Split | SpikeSplit) -> str:
    if label == split.classes:
        return "the group without a label"
    return f"class {split.names[label]!r}" if split.names else f"class {label}"


def _counts(split: Split | SpikeSplit) -> Tensor:
    return torch.bincount(_strata(split), minlength=split.classes)


def _apportion(exact: Tensor, total: int) -> Tensor:
    """Whole numbers that sum to `total`, each within one of `exact`, by largest remainder."""
    shares = exact.floor().long()
    order = (exact - shares).sort(descending=True, stable=True).indices
    shares[order[: total - int(shares.sum())]] += 1
    return shares


def _choose(split: Split | SpikeSplit, wanted: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of `wanted[c]` examples of each class c, and of all others, both in random order."""
    rng = Generator().manual_seed(seed)
    order = torch.randperm(len(split), generator=rng)
    labels = _strata(split)[order]
    taken = torch.zeros(len(split), dtype=torch.bool)
    for label, count in enumerate(wanted.tolist()):
        taken[(labels == label).nonzero().flatten()[:count]] = True
    parts = order[taken], order[~taken]  # the first ends with classes that had not enough, the others begin with those
    first, others = (part[torch.randperm(len(part), generator=rng)] for part in parts)  # that had
    return first.to(split.y.device), others.to(split.y.device)
