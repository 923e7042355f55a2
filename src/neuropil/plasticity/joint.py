"""Learners in several processes: inside `together` each takes a part of every batch, and all learn the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.plasticity.processes import Processes, answers
from neuropil.plasticity.sharing import members, part, share, stop_sharing

Portion = Callable[[Any], Any]  # of a batch, to what this process takes of it
_TOGETHER: ContextVar[Processes | None] = ContextVar("together", default=None)
Norm = nn.modules.batchnorm._BatchNorm


@contextmanager
def together(group: Any = None) -> Iterator[None]:
    """Inside, the feature learners, readouts, backprop and association of `neuropil.models` learn in all processes.

    Every process calls the same ``fit`` on the same data with a generator of the same seed. It takes a part of each
    batch, and what is summed over samples is added up: co-activity, gradients, statistics of batch normalisation. All
    end with the same model, which is that of one process up to rounding. What is not shared, every process does.

    Args:
        group: of ``torch.distributed``; None for all processes.

    Raises:
        Refusal: no processes that know each other, see `start`.

    Examples:
        Each process of ``torchrun --nproc-per-node 2 train.py`` runs

        >>> import neuropil as npl
        >>> npl.distributed.start("gloo")
        >>> train, test = npl.load_data("digits")
        >>> with npl.distributed.together():
        ...     model = npl.AssociationClassifier((30,)).fit(train[:200], rng=torch.Generator().manual_seed(0))
        >>> npl.distributed.stop()
    """
    before = _TOGETHER.set(members("together", group))
    try:
        yield
    finally:
        _TOGETHER.reset(before)


def is_together() -> bool:
    """Whether learners learn `together` in several processes."""
    processes = _TOGETHER.get()
    return processes is not None and processes.size > 1


@contextmanager
def joined(model: nn.Module) -> Iterator[Portion]:
    """Share `model` for the block if learners learn `together`; gives what takes this process's part of a batch."""
    processes = _TOGETHER.get()
    if processes is None or processes.size == 1:
        yield lambda x: x
        return
    share(model, processes.group)
    norms = [module for module in model.modules() if isinstance(module, Norm)]
    for norm in norms:
        norm.forward = partial(_normalised, norm, processes)  # type: ignore[method-assign]
    try:
        yield partial(part, group=processes.group)
    finally:
        stop_sharing(model)
        for norm in norms:
            del norm.forward


def add_gradients_(model: nn.Module) -> None:
    """Add up the gradients of all processes, by one message, if learners learn `together`."""
    processes, grads = _TOGETHER.get(), [one.grad for one in model.parameters() if one.grad is not None]
    if processes is not None and processes.size > 1 and grads:
        for grad, total in zip(grads, processes.sum(*grads)):
            grad.copy_(total)


def added(*parts: Tensor) -> list[Tensor]:
    """Each tensor summed over all processes, if learners learn `together`."""
    processes = _TOGETHER.get()
    alone = processes is None or processes.size == 1
    return list(parts) if alone or processes is None else [x.to(y) for x, y in zip(processes.sum(*parts), parts)]


def in_parts(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``work(x)``, a row for each of `x`; of which each process does a part, if learners learn `together`."""
    processes = _TOGETHER.get()
    if processes is None or processes.size == 1:
        return work(x)
    return processes.gather(work(part(x, processes.group)))


@answers()
def _normalised(norm: Norm, processes: Processes, x: Tensor) -> Tensor:
    """What batch normalisation makes of `x` by the statistics of the samples of all processes; gradients go through."""
    if not norm.training:
        return Norm.forward(norm, x)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    count = processes.sum(x.new_tensor(float(x.numel() // x.shape[1])))[0]
    mean = _Sum.apply(x.sum(axes), processes) / count  # type: ignore[no-untyped-call]
    shaped: Callable[[Tensor], Tensor] = lambda one: one.view(-1, *[1] * (x.dim() - 2))
    centred = x - shaped(mean)
    variance = _Sum.apply(centred.square().sum(axes), processes) / count  # type: ignore[no-untyped-call]
    batches, means, variances = norm.num_batches_tracked, norm.running_mean, norm.running_var
    if batches is not None and means is not None and variances is not None:
        batches.add_(1)
        rate = 1 / float(batches) if norm.momentum is None else norm.momentum
        means.lerp_(mean.detach(), rate)
        variances.lerp_(variance.detach() * count / (count - 1), rate)
    y = centred * shaped((variance + norm.eps).rsqrt())
    return y if norm.weight is None else y * shaped(norm.weight) + shaped(norm.bias)


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient of each part is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.sum(x)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.sum(grad)[0], None
