"""Streams of tasks: the classes of a data set a few at a time, or one data set with its pixels permuted anew."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.errors import require


class Task(NamedTuple):
    """What comes for a while.

    Attributes:
        train: examples that come once, in random order.
        test: examples of the same kind.
    """

    train: Split
    test: Split


def class_tasks(train: Split, test: Split, per_task: int) -> list[Task]:
    """The classes in the order of their labels, `per_task` at a time; labels stay as they are.

    >>> split = Split(torch.zeros(5, 1), torch.tensor([0, 1, 2, 3, 3]), 4)
    >>> [task.train.y.tolist() for task in class_tasks(split, split, 2)]
    [[0, 1], [2, 3, 3]]
    """
    few = f"a stream of classes needs more than {per_task} classes, got {train.classes}; take fewer for a task."
    require(1 <= per_task < train.classes, few)
    groups = torch.arange(train.classes).split(per_task)
    return [Task(*(_of(split, group.to(split.y.device)) for split in (train, test))) for group in groups]


def _of(split: Split, labels: Tensor) -> Split:
    found = torch.isin(split.y, labels)
    require(bool(found.any()), f"a task needs examples, and there are none of the classes {labels.tolist()}.")
    return split[found]


def permuted_tasks(train: Split, test: Split, count: int, seed: int) -> list[Task]:
    """`count` tasks with all classes: the first as it is, each other with one random order of the pixels of its own.

    Goodfellow et al. 2013, arXiv 1312.6211.
    """
    rng = torch.Generator().manual_seed(seed)
    pixels = train.x[0].numel()
    orders = [torch.arange(pixels), *(torch.randperm(pixels, generator=rng) for _ in range(count - 1))]
    return [Task(*(_permuted(split, order.to(split.x.device)) for split in (train, test))) for order in orders]


def _permuted(split: Split, order: Tensor) -> Split:
    x = split.x.flatten(1)[:, order].view_as(split.x)
    return Split(x, split.y, split.classes, split.names, channels_first=True)


def together(tasks: Sequence[Task]) -> Split:
    """The training examples of all tasks as one split."""
    first = tasks[0].train
    x, y = (torch.cat(parts) for parts in zip(*((task.train.x, task.train.y) for task in tasks)))
    return Split(x, y, first.classes, first.names, channels_first=True)


def forgetting(right: Tensor) -> float:
    r"""Average forgetting: how far each task fell below its best, but for the last; Chaudhry et al. 2018, ECCV.

    :math:`\frac{1}{T-1} \sum_{k<T} (\max_{t<T} a_{tk} - a_{Tk})`

    Args:
        right: (tasks, tasks) accuracy on task k (columns) after task t (rows); before task k it is not looked at.

    >>> forgetting(torch.tensor([[0.9, 0.0], [0.4, 0.8]]))
    0.5
    """
    if len(right) == 1:
        return 0.0
    best = right[:-1].tril().amax(0)[:-1]
    return (best - right[-1, :-1]).mean().item()
