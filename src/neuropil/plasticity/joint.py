"""Learners in several processes: inside `together` each takes a part of every batch, and all learn the same."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from neuropil.errors import require
from neuropil.plasticity.processes import Processes, answers
from neuropil.plasticity.sharing import become_alike_, learn_alone, members, part, share, stop_sharing

_TOGETHER: ContextVar[Processes | None] = ContextVar("together", default=None)
Norm = nn.modules.batchnorm._BatchNorm


@contextmanager
def together(group: Any = None) -> Iterator[None]:
    """Inside, the learners of `neuropil.models` and `AssociativeNetwork` learn in all processes.

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


class Portion(NamedTuple):
    """What this process takes of a batch, and what all of them do with theirs.

    Attributes:
        processes: those that learn `together`; None where one learns alone, and takes all.
    """

    processes: Processes | None = None

    def __call__(self, x: Any) -> Any:
        """Its part of `x`, a tensor or a `Split`."""
        return x if self.processes is None else part(x, self.processes.group)

    def sum(self, *parts: Tensor) -> list[Tensor]:
        """Each tensor summed over all processes, by one message."""
        if self.processes is None:
            return list(parts)
        return [total.to(one) for total, one in zip(self.processes.sum(*parts), parts)]

    def gather(self, x: Tensor) -> Tensor:
        """The rows (n, ...) of all processes."""
        return x if self.processes is None else self.processes.gather(x)

    def all(self, mine: Tensor) -> bool:
        """Whether it is so, ``mine`` (), in every process."""
        return bool(mine) if self.processes is None else not self.processes.sum((~mine).float())[0]

    def add_gradients_(self, parameters: Iterable[Tensor]) -> None:
        """Add up the gradients of all processes, by one message."""
        grads = [one.grad for one in parameters if one.grad is not None]
        if self.processes is not None and grads:
            for grad, total in zip(grads, self.sum(*grads)):
                grad.copy_(total)


WHOLE = Portion()


def is_together() -> bool:
    """Whether learners learn `together` in several processes."""
    processes = _TOGETHER.get()
    return processes is not None and processes.size > 1


@contextmanager
def joined(model: nn.Module, *, rules: bool = True) -> Iterator[Portion]:
    """Share `model` for the block if learners learn `together`; gives what takes this process's part of a batch.

    Rules on its layers then learn from all processes. Without `rules` the learner adds up what they say by itself.
    """
    processes = _TOGETHER.get()
    if processes is None or processes.size == 1:
        yield WHOLE
        return
    if rules:
        share(model, processes.group)
    else:
        become_alike_("together", model, processes, {})
        learn_alone(model)
    try:
        with shared_norms(model, processes):
            yield Portion(processes)
    finally:
        stop_sharing(model)


@contextmanager
def shared_norms(model: nn.Module, processes: Processes) -> Iterator[None]:
    """For the block, let batch normalisation in `model` use the statistics of the samples of all processes."""
    norms = [module for module in model.modules() if isinstance(module, Norm)]
    for norm in norms:
        norm.forward = partial(_normalised, norm, processes)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def check_alike(who: str, x: Tensor, y: Tensor, rng: Generator) -> None:
    """Refuse examples or a generator that other processes do not have, if learners learn `together`."""
    processes = _TOGETHER.get()
    if processes is None or processes.size == 1:
        return
    total: Callable[[Tensor], Tensor] = lambda one: (
        one.to(x.device, torch.float64) @ torch.arange(1.0, 1 + len(one), device=x.device).double()
    )
    facts = torch.stack([x.sum(dtype=torch.float64), total(y), total(rng.get_state()), total(torch.tensor(x.shape))])
    table = processes.table(facts)
    what = "needs the same examples and a generator of the same seed in every process, got others in some"
    require(torch.allclose(table, table[0], rtol=1e-12, atol=0), f"{who} {what}; see which data each of them finds.")


def in_parts(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``work(x)``, a row for each of `x`; of which each process does a part, if learners learn `together`."""
    processes = _TOGETHER.get()
    if processes is None or processes.size == 1:
        return work(x)
    return processes.gather(work(part(x, processes.group)))


@answers()
def _normalised(norm: Norm, processes: Processes, x: Tensor) -> Tensor:
    """What batch normalisation makes of `x` by the statistics of the samples of all processes; gradients go through.

    Raises:
        Refusal: in all processes, one value of each channel or none, as from torch in one process.
    """
    if not norm.training:
        return Norm.forward(norm, x)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    count = processes.sum(x.new_tensor(float(x.numel() // x.shape[1])))[0]
    what = f"needs more than one value of a channel to learn from, got {int(count)} in all processes"
    require(bool(count > 1), f"batch normalisation {what}; take larger batches.")
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
