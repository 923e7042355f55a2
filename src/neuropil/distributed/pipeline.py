"""Layers that learn in processes of their own: batches go up from stage to stage, and nothing comes down."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from itertools import chain, pairwise
from time import perf_counter
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from neuropil.distributed.balance import balanced, costs
from neuropil.distributed.link import END, Batch, Link
from neuropil.errors import Refusal, require, unknown
from neuropil.plasticity.joint import shared_norms
from neuropil.plasticity.law import Law
from neuropil.plasticity.learner import Learner
from neuropil.plasticity.processes import Processes, answers
from neuropil.plasticity.propose import propose_
from neuropil.plasticity.sharing import become_alike_, learn_alone, members, part, share
from neuropil.plasticity.tap import Activity, named_layers, tap

LocalRule = Callable[..., Any]  # (layer, pre, post), or with label=, to a change of the weight, or to it and a bias's
Pair = tuple[Tensor, Tensor | None]  # inputs and labels
Dropout = nn.modules.dropout._DropoutNd


class Pass(NamedTuple):
    """What a stage of a `pipeline` did in a pass over the batches.

    Attributes:
        batches: how many.
        seconds: how long it took, s.
        waited: how much of that went by in waiting for other stages, s.
        sent: bytes of activity and labels that went up.
    """

    batches: int
    seconds: float
    waited: float
    sent: int


class Stage:
    """The layers of a network that learn in this process, as `pipeline` makes it.

    Attributes:
        model: the network; whenever `learn_` returns, every process has all that was learned.
        own: the children of the network that are in this stage.
        rules: what each layer of this stage learns by, by its name in the network.
        starts: the children with which the stages after the first begin.
        processes: of all stages; those of one chain of stages, from below, then those of the next chain.
        workers: those that share this stage, as a group of ``torch.distributed``; None if it is in one process.
    """

    def __init__(
        self, model: nn.Sequential, rules: Mapping[str, LocalRule], starts: Sequence[str], processes: Processes,
        workers: int,
    ):  # fmt: skip
        self.model, self.starts, self.processes = model, tuple(starts), processes
        names, stages = list(model._modules), 1 + len(starts)
        self._edges = list(pairwise([0, *(names.index(start) for start in starts), len(names)]))
        self._place = processes.rank % stages
        first, last = self._edges[self._place]
        self.own = cast(nn.Sequential, model[first:last])
        self.rules = {name: rule for name, rule in rules.items() if _child(name) in names[first:last]}
        self.workers = _groups(processes, stages)[self._place] if workers > 1 else None
        if self.workers is not None:
            share(self.own, self.workers)

    def __repr__(self) -> str:
        layers = ", ".join(f"{name}: {rule}" for name, rule in self.rules.items())
        return f"Stage({layers}; stages after the first start at {', '.join(self.starts) or 'none'})"

    @torch.no_grad()
    def learn_(self, batches: Iterable[Any], optimizer: torch.optim.Optimizer) -> Pass:
        """One pass: every batch goes up through all stages, and every layer learns from it at once.

        A stage hands a batch up before it learns from it, so the next stage learns at the same time. The weights are
        those of one process that learns with all layers at once, bit for bit.

        Args:
            batches: of inputs, or of pairs of inputs and labels, or with ``x`` and ``y`` as of `Split.batches`. Only
                the first stage goes through them.
            optimizer: of ``model.parameters()``. It takes a step for every batch; let hooks of it do what else is due.

        Returns:
            What this stage did.

        Raises:
            Refusal: no batches, or batches of other examples than the first; labels that a rule lacks. Weights that
                the optimiser does not have; a process that is gone.
        """
        self._check(optimizer)
        start, count = perf_counter(), 0
        link = partial(Link, group=self.processes.group)
        below = link(self.processes.rank - 1) if self._place else None
        above = link(self.processes.rank + 1) if self._place + 1 < len(self._edges) else None
        for batch in below.arriving() if below else self._read(batches):
            with self._normalised(), tap(self.own, self.rules) as seen:
                out = self.own(batch.x)
            if above:
                require(len(out) == len(batch.x), "a stage of a pipeline needs to give one row for each example.")
                above.send(batch._replace(x=out))
            for name, rule in self.rules.items():
                layer = self.own.get_submodule(name)
                propose_(layer, *changes(name, rule, layer, seen[name], batch.label))
            optimizer.step()
            count += 1
        if above:
            above.close()
        require(count > 0, "learn_ needs batches, got none; an iterator serves for one pass only.")
        self._gather_()
        waited = sum(one.waited for one in (below, above) if one)
        return Pass(count, perf_counter() - start, waited, above.sent if above else 0)

    def _read(self, batches: Iterable[Any]) -> Iterator[Batch]:
        """The batches of the first stage; its part of them where others share it."""
        form = None
        for one, later in pairwise(chain(map(pair, batches), [None])):
            assert one is not None
            first, form = form, [None if x is None else (x.shape[1:], x.dtype) for x in one]
            same = first is None or first == form
            require(same, "a pipeline needs batches that differ in length only; start another pass for other examples.")
            yield Batch(*self._part(one), END if later is None else len(self._part(later)[0]))

    def _normalised(self) -> AbstractContextManager[None]:
        """For a pass: batch normalisation by the samples of all processes of this stage."""
        return nullcontext() if self.workers is None else shared_norms(self.own, Processes(self.workers))

    def _part(self, batch: Pair) -> Pair:
        """This process's part of a batch where others share the stage."""
        if self.workers is None:
            return batch
        x, label = batch
        return part(x, self.workers), None if label is None else part(label, self.workers)

    def _check(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimiser that would not write what is learned."""
        known = {id(one) for group in optimizer.param_groups for one in group["params"]}
        for name in self.rules:
            has = id(self.own.get_submodule(name).weight) in known
            require(has, f"the optimiser does not have the weight of layer {name!r}; make it of model.parameters().")

    @answers()
    def _gather_(self) -> None:
        """Bring what every stage has learned to all processes."""
        for rank, (first, last) in enumerate(self._edges):
            block = self.model[first:last]
            for one in chain(block.parameters(), block.buffers()):
                dist.broadcast(one, group_src=rank, group=self.processes.group)


def pipeline(
    model: nn.Sequential, rules: Mapping[str, LocalRule], batch: Any, *,
    starts: Sequence[str] | None = None, workers: int = 1, group: Any = None,
) -> Stage:  # fmt: skip
    """Let layers of `model` learn in processes of their own; every process calls it with the same arguments.

    No gradient returns, so no stage waits for those above it. The stages are cut so that they take equally long, as
    measured on `batch`, unless `starts` says where.

    Args:
        model: its children are cut into stages, one for each process; weights become those of the first process.
        rules: for each layer that learns, by name, a rule, or a function that is called like one:
            ``rule(layer, pre, post)``, with ``label=`` if it takes labels. It returns a change of the weight, or a
            pair of changes, of weight and bias.
        batch: as `Stage.learn_` takes them.
        starts: the children with which the stages after the first begin, by name.
        workers: processes for each stage. They share its layers, see `share`, and each takes a part of the batches.
        group: of ``torch.distributed``; None for all processes.

    Raises:
        Refusal: more stages than children with a layer that learns; a weight in two stages; a shared network. Dropout
            that is switched on, which does not repeat.

    Examples:
        Each process of ``torchrun --nproc-per-node 2 train.py`` runs

        >>> import neuropil as npl
        >>> npl.distributed.start("gloo")
        >>> model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 10))
        >>> rules, batches = {"0": npl.SoftHebb(), "2": npl.KrotovHopfield(k=2)}, torch.rand(8, 100, 20)
        >>> stage = npl.distributed.pipeline(model, rules, batches[0])
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> for epoch in range(2):
        ...     done = stage.learn_(batches, optimizer)
        >>> done.batches
        8
        >>> npl.distributed.stop()
    """
    attached = isinstance(model, Learner) or isinstance(rules, Learner)
    cure = "share(model) before attach lets processes learn it, each from a part of the data"
    require(not attached, f"pipeline takes a network and rules, not what attach has made; {cure}.")
    require(isinstance(model, nn.Sequential), f"pipeline needs an nn.Sequential of blocks, got {type(model).__name__}.")
    _check_row(model, batch)
    processes = members("pipeline", group)
    require(bool(rules) and isinstance(rules, Mapping), f"pipeline needs {{name of a layer: rule}}, got {rules!r}.")
    named_layers(model, rules)  # refuses unknown names and rules that were not made
    active = [repr(name) for name, one in model.named_modules() if isinstance(one, Dropout) and one.training and one.p]
    what = "does in one process; take it out, or call eval() on it"
    require(not active, f"pipeline cannot repeat what dropout {', '.join(active)} {what}.")
    whole = workers >= 1 and processes.size % workers == 0
    require(whole, f"pipeline needs a number of workers that divides {processes.size} processes, got {workers}.")
    said = {name: repr(rule) if isinstance(rule, Law) else type(rule).__name__ for name, rule in rules.items()}
    facts = {"the mapping of rules": repr(said), "starts": repr(starts), "workers": repr(workers)}
    become_alike_("pipeline", model, processes, facts)
    learn_alone(model)
    starts = _starts(model, rules, batch, processes.size // workers, processes) if starts is None else starts
    _check_stages(model, rules, starts, processes.size // workers)
    return Stage(model, rules, starts, processes, workers)


@torch.no_grad()
def _check_row(model: nn.Sequential, batch: Any) -> None:
    """Refuse a class of one's own whose pass is not that of its blocks, one after the other."""
    if type(model).forward is nn.Sequential.forward:
        return
    what = f"pipeline needs blocks that pass on what the one below made, but a {type(model).__name__} does not"
    network, x = deepcopy(model).eval(), pair(batch)[0]
    try:
        alike = torch.allclose(nn.Sequential(*network)(x), network(x), rtol=1e-4, atol=1e-5)
    except RuntimeError as error:  # shapes do not even fit
        raise Refusal(f"{what}; put it into an nn.Sequential as a block.") from error
    require(alike, f"{what}; put it into an nn.Sequential as a block.")


def _starts(
    model: nn.Sequential, rules: Mapping[str, LocalRule], batch: Any, stages: int, processes: Processes
) -> list[str]:
    """Where stages start that take equally long, as the first process measures it."""
    names, (x, label) = list(model._modules), pair(batch)
    inside = {child: [name for name in rules if _child(name) == child] for child in map(_child, rules)}
    got = f"got {len(inside)} for {stages}; start fewer processes, or cut the blocks of the model"
    require(stages <= len(inside), f"pipeline needs a child of the model that learns for every stage, {got}.")
    found = torch.zeros(stages - 1, dtype=torch.int64, device=x.device)
    if stages > 1 and processes.rank == 0:
        change = lambda name, layer, seen: changes(name, rules[name], layer, seen, label)
        found = found.copy_(torch.tensor(balanced(costs(model, inside, change, x), stages)))
    return [names[child] for child in (processes.from_first(found) if stages > 1 else found).tolist()]


def _check_stages(model: nn.Sequential, rules: Mapping[str, LocalRule], starts: Sequence[str], stages: int) -> None:
    """Refuse starts that make other stages than there are processes, and a weight that is in two stages."""
    names = list(model._modules)
    for start in starts:
        if start not in names:
            raise unknown("start of a stage", start, names)
    edges = [0, *map(names.index, starts), len(names)]
    rising = all(a < b for a, b in pairwise(edges)) and len(starts) == stages - 1
    require(rising, f"{stages} stages need {stages - 1} starts after the first child, from below, got {starts}.")
    owner: dict[int, int] = {}
    for place, (first, last) in enumerate(pairwise(edges)):
        idle = not {_child(name) for name in rules} & set(names[first:last])
        require(not idle, f"a stage of {', '.join(names[first:last])} has no layer that learns; use other starts.")
        for name, one in model[first:last].state_dict(keep_vars=True).items():
            lone = owner.setdefault(id(one), place) == place
            require(lone, f"{name!r} would be in two stages, which learn by themselves; give each a weight of its own.")


def changes(name: str, rule: LocalRule, layer: nn.Module, seen: Activity, label: Tensor | None) -> tuple[Tensor, ...]:
    """What the layer `name` learns: the change of its weight, and that of its bias if the rule has one."""
    takes = "label" in inspect.signature(rule.post if isinstance(rule, Law) else rule).parameters
    cure = "give batches of inputs and labels, such as (x, y)."
    require(not takes or label is not None, f"the rule of layer {name!r} takes labels; {cure}")
    change = rule(layer, *seen, label=label) if takes else rule(layer, *seen)
    return change if isinstance(change, tuple) else (change,)


def pair(batch: Any) -> Pair:
    """Inputs and labels of a batch: a tensor, a pair, or something with ``x`` and ``y``."""
    x, label = batch if isinstance(batch, tuple | list) and len(batch) == 2 else (
        getattr(batch, "x", batch), getattr(batch, "y", None))  # fmt: skip
    tensors = isinstance(x, Tensor) and (label is None or isinstance(label, Tensor))
    require(tensors, f"a batch is a tensor of inputs, or a pair of inputs and labels, got {type(batch).__name__}.")
    return x, label


def _child(name: str) -> str:
    """The child of the network that has the layer `name`."""
    return name.split(".")[0]


def _groups(processes: Processes, stages: int) -> list[Any]:
    """For each stage the processes that share it; each process has to make all groups."""
    ranks = dist.get_process_group_ranks(processes.group or dist.group.WORLD)
    return [dist.new_group(ranks[place::stages]) for place in range(stages)]
