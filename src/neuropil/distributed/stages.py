"""Learners whose layers learn in processes of their own: inside `in_stages` each process has some of the layers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any

import torch
from torch import nn

from neuropil.distributed.pipeline import LocalRule, Stage, pipeline
from neuropil.plasticity.processes import Processes
from neuropil.plasticity.sharing import members

_STAGES: ContextVar[tuple[Processes, int] | None] = ContextVar("stages", default=None)


@contextmanager
def in_stages(group: Any = None, *, workers: int = 1) -> Iterator[None]:
    """Inside, layers that learn at once learn in processes of their own, see `pipeline`.

    Every process does the same on the same data with a generator of the same seed. What is not cut into stages, every
    process does for itself. All end with the same model, that of one process bit for bit; up to rounding if several
    `workers` share each stage.

    Args:
        group: of ``torch.distributed``; None for all processes.
        workers: processes for each stage, which take a part of every batch each.

    Raises:
        Refusal: no processes that know each other, see `start`.

    Examples:
        Each process of ``torchrun --nproc-per-node 2 train.py`` runs

        >>> import neuropil as npl
        >>> from neuropil.recipes.cifar_softhebb import Config, soft_hebb
        >>> npl.distributed.start("gloo")
        >>> train, rng = npl.load_data("digits")[0][:100], torch.Generator().manual_seed(0)
        >>> with npl.distributed.in_stages():
        ...     model = soft_hebb(Config(channels=(3, 4, 5)), train, rng).learner.fit(train, rng=rng)
        >>> npl.distributed.stop()
    """
    before = _STAGES.set((members("in_stages", group), workers))
    try:
        yield
    finally:
        _STAGES.reset(before)


def stage_of(model: nn.Sequential, rules: Mapping[str, LocalRule], batch: Any) -> Stage | None:
    """The layers of `model` that learn in this process; None outside `in_stages`, where one process has them all.

    Args:
        model, rules, batch: as of `pipeline`.
    """
    processes, workers = _STAGES.get() or (None, 1)
    if processes is None or processes.size == 1:
        return None
    return pipeline(model, rules, batch, workers=workers, group=processes.group)


def learn_pass_(stage: Stage, batches: Iterator[Any], optimizer: torch.optim.Optimizer) -> None:
    """One pass of a `stage`. Every process takes the first batch, and with it the random order of all of them."""
    first = next(batches)
    stage.learn_(chain([first], batches), optimizer)
