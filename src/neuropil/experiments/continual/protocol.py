"""The protocol: one pass over the tasks, in order; after each the test examples of all tasks so far."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator

from neuropil.data import Split
from neuropil.evaluate import confusion
from neuropil.experiments.continual.tasks import Task, forgetting, together
from neuropil.runs import ConfusionRow, EpochRow, ResultRow, Row, TaggedTracker


class Outcome(NamedTuple):
    """What a learner reached.

    Attributes:
        accuracy: on all test examples after the last task.
        forgetting: average forgetting of the tasks before it.
    """

    accuracy: float
    forgetting: float


def stream(
    learner: Any, tasks: Sequence[Task], *, batch: int, rng: Generator, tracker: TaggedTracker
) -> Outcome:  # fmt: skip
    """Let `learner` learn the tasks one after the other; log its accuracy after each of them.

    Args:
        learner: has begun: its state can be captured.
        tasks: in order.
        batch: examples in a step.
        rng: of the order of examples within a task.
        tracker: takes the rows, and lets the stream be resumed after any task.
    """
    start = tracker.seconds
    right = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
    n_classes = tasks[0].test.classes
    counts = torch.zeros(n_classes, n_classes, dtype=torch.int64)
    sizes = torch.tensor([len(task.test) for task in tasks], dtype=torch.float64)
    state = state_of(learner)
    for now in tracker.loop("tasks in order", len(tasks), right=right, counts=counts, rng=rng, **state):
        one_pass(learner, tasks[now].train, batch=batch, rng=rng)
        getattr(learner, "end_task_", lambda: None)()
        found = [confusion(learner, task.test) for task in tasks[: now + 1]]
        right[now, : now + 1] = torch.tensor([(one.diagonal().sum() / one.sum()).item() for one in found])
        counts.copy_(torch.stack(found).sum(0))
        metrics = {
            "accuracy": (right[now] @ sizes / sizes[: now + 1].sum()).item(),
            "first_task_accuracy": right[now, 0].item(),
            "new_task_accuracy": right[now, now].item(),
        }
        tracker.log(EpochRow(stage="after each task", epoch=now, metrics=metrics))
    outcome = Outcome((right[-1] @ sizes / sizes.sum()).item(), forgetting(right))
    n_train = sum(len(task.train) for task in tasks)
    tracker.log(ResultRow(accuracy=outcome.accuracy, n_train=n_train, seconds=tracker.seconds - start))
    tracker.log(ConfusionRow(matrix=counts.tolist(), classes=tasks[0].test.names or None))
    return outcome


def in_random_order(
    learner: Any, tasks: Sequence[Task], *, batch: int, rng: Generator, tracker: TaggedTracker
) -> float:
    """Accuracy after one pass over the examples of all tasks in random order: joint training of the same learner."""
    reached = torch.zeros(1, dtype=torch.float64)
    for _ in tracker.loop("random order", 1, reached=reached, rng=rng, **state_of(learner)):
        one_pass(learner, together(tasks), batch=batch, rng=rng)
        found = torch.stack([confusion(learner, task.test) for task in tasks]).sum(0)
        reached[0] = found.diagonal().sum() / found.sum()
    return reached.item()


def one_pass(learner: Any, train: Split, *, batch: int, rng: Generator) -> None:
    """Every example once, in random order."""
    if hasattr(learner, "learn_"):
        learner.learn_(train, batch=batch, rng=rng)
        return
    for part in train.batches(min(batch, len(train)), shuffle=rng):
        learner.partial_fit(part.x, part.y)


def state_of(learner: Any) -> dict[str, Any]:
    """What changes in a learner while it learns."""
    parts = {name: vars(learner).get(name) for name in ("network_", "optimizer_", "consolidation_")}
    return {name: part for name, part in parts.items() if part is not None}


def log_order(tracker: TaggedTracker, outcome: Outcome, joint: float | None) -> None:
    """Log forgetting, and what the same learner reaches in random order, if that is known."""
    metrics = {"accuracy": outcome.accuracy, "forgetting": outcome.forgetting}
    if joint is not None:
        metrics |= {"in_random_order": joint, "lost_by_order": joint - outcome.accuracy}
    tracker.log(Row(kind="continual", metrics=metrics))
