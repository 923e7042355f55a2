"""One network in several processes: what rules sum over samples is summed over those of all processes."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from neuropil.errors import Refusal, require

Sliced = TypeVar("Sliced", bound=Any)
DRIFT = 1e-4  # by how much the weights of two processes may differ, as a fraction of their sum


@contextmanager
def _together() -> Iterator[None]:
    """Say in one line that the other processes do not answer."""
    try:
        yield
    except RuntimeError as error:
        what = "a process that shares the network has ended, or took other steps than this one"
        cure = "see what it said; all need the same number of steps, on the same layers in the same order"
        raise Refusal(f"{what}; {cure}.") from error


class Processes(NamedTuple):
    """The processes that share a network.

    Attributes:
        group: of ``torch.distributed``; None for all processes.
    """

    group: Any = None

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        """How many they are."""
        return dist.get_world_size(self.group)

    @_together()
    def sum(self, *parts: Tensor) -> list[Tensor]:
        """Each tensor summed over all processes, by one message, in the dtype of the first but at least float32."""
        dtype = torch.promote_types(parts[0].dtype, torch.float32)
        flat = torch.cat([part.reshape(-1).to(dtype) for part in parts])
        dist.all_reduce(flat, group=self.group)
        sizes = [part.numel() for part in parts]
        return [one.view(part.shape) for one, part in zip(flat.split(sizes), parts)]

    @_together()
    def counts(self, x: Tensor) -> list[int]:
        """How many rows `x` has in every process, by rank."""
        found = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(self.size)]
        dist.all_gather(found, torch.full_like(found[0], len(x)), group=self.group)
        return [int(one) for one in found]

    @_together()
    def gather(self, x: Tensor) -> Tensor:
        """The rows (n, ...) of all processes, in order of rank; n may differ."""
        counts = self.counts(x)
        padded = x.new_zeros(max(counts), *x.shape[1:])
        padded[: len(x)] = x
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded, group=self.group)
        return torch.cat([one[:count] for one, count in zip(found, counts)])

    @_together()
    def best(self, value: Tensor, x: Tensor) -> Tensor:
        """Row by row that `x` (units, ...) whose `value` (units,) is the largest of all processes."""
        found = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(found, value.contiguous(), group=self.group)
        own = torch.stack(found).argmax(0) == self.rank
        return self.sum(torch.where(own[:, None], x, 0))[0]


def place(x: Tensor, processes: Processes | None) -> tuple[int, int]:
    """How many rows the processes before this one have, and how many all have; `x` are those of this one."""
    if processes is None:
        return 0, len(x)
    counts = processes.counts(x)
    return sum(counts[: processes.rank]), sum(counts)


def chosen(index: Tensor, before: int, count: int) -> Tensor:
    """Those of `index`, into the rows of all processes, that are among this one's `count`: as an index into these."""
    return index[(index >= before) & (index < before + count)] - before


_shared: Any = WeakTensorKeyDictionary()  # parameter -> Processes


def start(backend: str | None = None) -> None:
    """Join the processes that ``torchrun`` started; a script that was started without it is alone, and runs as well.

    Args:
        backend: of ``torch.distributed``; None for nccl where there is a GPU, which becomes the current one of this
            process, and gloo elsewhere.

    Examples:
        >>> import neuropil as npl
        >>> npl.distributed.start("gloo")
        >>> torch.distributed.get_world_size()
        1
        >>> npl.distributed.stop()
    """
    if dist.is_initialized():
        return
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    if "RANK" not in os.environ:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        return
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group(backend)


def stop() -> None:
    """Wait for the other processes, then leave them: the end of a script."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        gc.collect()  # what still holds threads of the group would end the process by a signal


def share(model: nn.Module, group: Any = None) -> nn.Module:
    """Let rules on the layers of `model` learn from the samples of all processes, each of which has a part of them.

    Co-activity, how often a unit won, thresholds and running means are sums over samples. They are added up over the
    processes before anything that is not linear in them. So W processes with a W-th of a batch each do what one does
    with all of it. This holds for rules that are called, under every `reduction`, and for `attach`. Parts may differ in
    size, and be empty; all processes need the same number of steps.

    What is not shared: gradients of a backward pass, statistics of batch normalisation, and `diagnose`.

    Args:
        model: on one device in each process. Weights and buffers become those of the first process.
        group: of ``torch.distributed``; None for all processes.

    Returns:
        `model`.

    Raises:
        Refusal: no process group; models that differ in names, shapes or dtypes. A rule refuses weights that have
            drifted apart since.

    Examples:
        Each process of ``torchrun --nproc-per-node 2 train.py`` runs

        >>> import neuropil as npl
        >>> npl.distributed.start("gloo")
        >>> model = npl.distributed.share(torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU()))
        >>> part = npl.distributed.part
        >>> learner = npl.attach(model, {"0": npl.ExplainAway()}, part(torch.rand(100, 20)))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        >>> for images in torch.rand(3, 100, 20):
        ...     learner.propose_(part(images))
        ...     optimizer.step()
        ...     learner.settle_()
        >>> npl.distributed.stop()
    """
    require(isinstance(model, nn.Module), f"share needs a model, got {type(model).__name__}.")
    cure = "call neuropil.distributed.start() first, and run the script by torchrun --nproc-per-node 2 SCRIPT"
    require(dist.is_initialized(), f"share needs processes that know each other; {cure}.")
    member = dist.get_rank(group) >= 0
    require(member, "share needs a process of the group, got one outside of it; call it in those of the group only.")
    processes, state = Processes(group), {**dict(model.named_parameters()), **dict(model.named_buffers())}
    forms: list[Any] = [None] * processes.size
    dist.all_gather_object(forms, {name: f"{tuple(one.shape)} in {one.dtype}" for name, one in state.items()}, group)
    for rank, form in enumerate(forms):
        for name in [*forms[0], *form]:
            first, other = forms[0].get(name, "missing"), form.get(name, "missing")
            got = f"{name!r} is {first} in process 0, {other} in process {rank}"
            require(first == other, f"share needs the same model everywhere, but {got}.")
    with torch.no_grad():
        for one in state.values():
            dist.broadcast(one, group_src=0, group=group)
    for parameter in model.parameters():
        _shared[parameter] = processes
    return model


def part(x: Sliced, group: Any = None) -> Sliced:
    """This process's part of a batch or of a data set: consecutive examples, as many as the others have or one more.

    Args:
        x: anything that has a length and can be sliced, such as a tensor or a `Split`.
        group: as given to `share`. Without processes it is `x` as it is.
    """
    if not dist.is_initialized():
        return x
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    require(rank >= 0, "part needs a process of the group, got one outside of it; call it in those of the group only.")
    return x[len(x) * rank // size : len(x) * (rank + 1) // size]  # type: ignore[no-any-return]


def sharing(weight: Tensor) -> Processes | None:
    """Who shares this weight; None if none do. Where there are other processes, that is said once."""
    found: Processes | None = _shared.get(weight) if len(_shared) else None
    if found is None and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        _say_once()
    return found


class Total(NamedTuple):
    """A change by the samples of all processes.

    Attributes:
        rows: which rows of the weight change, ascending; None for all.
        values: of these rows, (rows, fan-in), in float32 or float64.
        samples: how many there were, ().
        tally: how often each unit was chosen, (units,).
    """

    rows: Tensor | None
    values: Tensor
    samples: Tensor
    tally: Tensor


def sharing_all(model: nn.Module) -> Processes | None:
    """Who shares all parameters of this model; None if none do.

    Raises:
        Refusal: some parameters are shared, others are not.
    """
    found = {sharing(one) for one in model.parameters()}
    cure = "call neuropil.distributed.share on all of it"
    require(len(found) < 2, f"attach needs a network that is shared, got one of which a part is; {cure}.")
    return found.pop() if found else None


def summed(
    processes: Processes, layer: nn.Module, weight: Tensor, change: Tensor, samples: int, tally: Tensor
) -> Total:
    """`change`, dense or sparse, and all else over all processes; of sparse changes only rows travel that some have.

    Raises:
        Refusal: the weights have drifted apart.
    """
    mine = _fingerprint(layer)
    scalars = torch.cat([mine.new_full((1,), samples), mine])
    if not change.is_sparse:
        values, scalars, tally = processes.sum(change, scalars, tally)
        rows = None
    else:
        own = change.coalesce()
        mask = torch.zeros_like(weight[:, 0]).index_fill_(0, own.indices()[0], 1)
        mask, scalars, tally = processes.sum(mask, scalars, tally)
        rows, place = mask.nonzero().flatten(), (mask > 0).cumsum(0) - 1
        values = own.values().new_zeros(len(rows), weight.shape[1])
        values = processes.sum(values.index_copy_(0, place[own.indices()[0]], own.values()))[0]
    _agree(processes, mine, scalars[1:])
    return Total(rows, values, scalars[0], tally)


def check_alike(processes: Processes, layer: nn.Module) -> None:
    """Refuse a layer whose weight or bias is not that of the other processes."""
    mine = _fingerprint(layer)
    _agree(processes, mine, processes.sum(mine)[0])


def _agree(processes: Processes, mine: Tensor, total: Tensor) -> None:
    """Refuse a fingerprint that is not that of the other processes; `total` is the sum of all."""
    differ = (total / processes.size - mine).view(-1, 2).abs()
    apart = bool((differ > DRIFT * mine.view(-1, 2)[:, :1]).any())
    cure = "start from share(model), and let the same optimiser take the same steps everywhere"
    what = "the weights or biases of {} processes have drifted apart; {}."
    require(not apart, what.format(processes.size, cure) if apart else "")


def _fingerprint(layer: nn.Module) -> Tensor:
    """Two numbers for weight and bias each, which layers that differ hardly share, in float64."""
    found = []
    for one in layer.parameters(recurse=False):
        x = one.detach().reshape(-1).to(torch.promote_types(one.dtype, torch.float32))
        found += [x.abs().sum(), x @ torch.linspace(1, 2, len(x), dtype=x.dtype, device=x.device)]
    return torch.stack(found).double()


@cache
def _say_once() -> None:
    cure = "call neuropil.distributed.share(model) first, or the processes drift apart"
    print(f"neuropil: rules learn from the samples of their own process only; {cure}.", file=sys.stderr, flush=True)
