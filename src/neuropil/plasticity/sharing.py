"""One network in several processes: what rules sum over samples is summed over those of all processes."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from neuropil.errors import require
from neuropil.plasticity.meeting import meet_as_told
from neuropil.plasticity.processes import Processes, answers, leave

Sliced = TypeVar("Sliced", bound=Any)
DRIFT = 1e-4  # by how much the weights of two processes may differ, as a fraction of their sum
_shared: Any = WeakTensorKeyDictionary()  # parameter -> Processes; None where it learns in one of them


def start(backend: str | None = None) -> None:
    """Join the processes that ``torchrun`` started; a script that was started without it is alone, and runs as well.

    Args:
        backend: of ``torch.distributed``; None for nccl where there is a GPU, which becomes the current one of this
            process, and gloo elsewhere.

    Raises:
        Refusal: some have not come in ten minutes, five on one machine, or as many seconds as ``NEUROPIL_WAIT`` says.
            A port that is taken; processes that were told of different numbers.

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
    meet_as_told(backend)


def stop() -> None:
    """Wait for the other processes, then leave them: the end of a script.

    Raises:
        Gone: another one had more steps to do, or has ended.
    """
    if dist.is_initialized():
        try:
            leave()
            with answers():
                dist.barrier()
        finally:
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
    processes = members("share", group)
    become_alike_("share", model, processes, {})
    for parameter in model.parameters():
        _shared[parameter] = processes
    return model


def share_alike(parameter: nn.Parameter, processes: Processes) -> None:
    """Let a parameter that stands for one of a shared network be shared by the same processes."""
    _shared[parameter] = processes


def stop_sharing(model: nn.Module) -> None:
    """From here on layers of `model` learn by themselves."""
    for parameter in model.parameters():
        _shared.pop(parameter, None)


def members(who: str, group: Any) -> Processes:
    """The processes of `group`, of which this has to be one."""
    cure = "call neuropil.distributed.start() first, and run the script by torchrun --nproc-per-node 2 SCRIPT"
    require(dist.is_initialized(), f"{who} needs processes that know each other; {cure}.")
    cure = "call it in those of the group only"
    require(dist.get_rank(group) >= 0, f"{who} needs a process of the group, got one outside of it; {cure}.")
    return Processes(group)


@answers()
@torch.no_grad()
def become_alike_(who: str, model: nn.Module, processes: Processes, facts: Mapping[str, str]) -> None:
    """Give `model` the weights and buffers of the first process; other forms or `facts` in some process are refused."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    forms: list[Any] = [None] * processes.size
    own = {**facts, **{repr(name): f"{tuple(one.shape)} in {one.dtype}" for name, one in state.items()}}
    dist.all_gather_object(forms, own, processes.group)
    for rank, form in enumerate(forms):
        for name in [*forms[0], *form]:
            first, other = forms[0].get(name, "missing"), form.get(name, "missing")
            got = f"{name} is {first} in process 0, {other} in process {rank}"
            require(first == other, f"{who} needs the same model everywhere, but {got}.")
    for one in state.values():
        dist.broadcast(one, group_src=0, group=processes.group)


def learn_alone(model: nn.Module) -> None:
    """Let each layer of `model` learn from the samples of one process, and say nothing about it.

    Raises:
        Refusal: some are shared.
    """
    for parameter in model.parameters():
        require(_shared.get(parameter) is None, "a network that is shared cannot be cut into stages; make another.")
        _shared[parameter] = None


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
    if (
        found is None
        and weight not in _shared
        and dist.is_available()
        and dist.is_initialized()
        and dist.get_world_size() > 1
    ):
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

    A dense `change` is overwritten.

    Raises:
        Refusal: the weights have drifted apart.
    """
    mine = _fingerprint(layer)
    scalars = torch.cat([mine.new_full((1,), samples), mine])
    if not change.is_sparse:
        values, scalars, tally = processes.sum_(change, scalars, tally)
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


def places(processes: Processes | None, layers: Sequence[nn.Module], inputs: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Of each layer how many rows of its input other processes have before this one, and how many all have.

    One message serves all layers.

    Raises:
        Refusal: the weights or biases of a layer have drifted apart.
    """
    if processes is None:
        return [(0, len(x)) for x in inputs]
    marks = torch.cat([_fingerprint(layer) for layer in layers])
    table = processes.table(torch.cat([marks.new_tensor([len(x) for x in inputs]), marks]))
    counts, drift = table.split([len(inputs), len(marks)], 1)
    _agree(processes, marks, drift.sum(0))
    before, total = counts[: processes.rank].sum(0).tolist(), counts.sum(0).tolist()
    return [(int(some), int(every)) for some, every in zip(before, total)]


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
        x = torch.atleast_1d(one.detach()).to(torch.promote_types(one.dtype, torch.float32))
        x = x.flatten(1) if x.dim() > 1 else x[:, None]
        rows, columns = (torch.linspace(1, 2, size, dtype=x.dtype, device=x.device) for size in x.shape)
        found += [torch.linalg.vector_norm(x) * x.numel() ** 0.5, rows @ (x @ columns)]
    return torch.stack(found).double()


@cache
def _say_once() -> None:
    cure = "call neuropil.distributed.share(model) first, or the processes drift apart"
    print(f"neuropil: rules learn from the samples of their own process only; {cure}.", file=sys.stderr, flush=True)
