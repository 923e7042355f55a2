"""What other packages take for a step of STDP, where they are installed."""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from neuropil.plasticity import PairSTDP

Trains = list[tuple[Tensor, Tensor]]


def bindsnet(weight: Tensor, rule: PairSTDP, trains: Trains, rate: float) -> tuple[str, Callable[[], object]] | None:
    """Name with version, and a step of BindsNET's `PostPre` with these spikes; None where it is not installed.

    Its sum over samples is scaled to their mean. Spikes of the same step count there; otherwise the law is that of
    `rule` with one time constant for each side.

    Args:
        weight: (units, inputs), which is copied.
        rule: for its constants.
        trains: spikes of both sides for some steps, over and over.
        rate: of learning.
    """
    try:
        nodes, topology, learning = map(import_module, (f"bindsnet.{room}" for room in ROOMS))
        name = f"BindsNET {version('bindsnet')}"
    except (ImportError, PackageNotFoundError):
        return None
    batch, source, target = len(trains[0][0]), *sides(nodes, rule, trains)
    gains = (rate * rule.a_minus / batch, rate * rule.a_plus / batch)  # of pre- and of postsynaptic spikes
    kept = weight.detach().T.contiguous()
    joined = topology.Connection(source, target, update_rule=learning.PostPre, nu=gains, reduction=torch.sum, w=kept)
    spikes = cycle(trains)

    def step() -> None:
        pre, post = next(spikes)
        source.forward(pre)
        target.forward(post)
        joined.update(learning=True)

    step.weight = joined.w  # type: ignore[attr-defined]
    return name, step


ROOMS = ("network.nodes", "network.topology", "learning.learning")


def sides(nodes: Any, rule: PairSTDP, trains: Trains) -> Iterable[Any]:
    """Both populations of BindsNET, with traces that add up; times there are in ms."""
    for like, tau in zip(trains[0], (rule.tau_plus, rule.tau_minus)):
        one = nodes.Input(n=like.shape[1], traces=True, traces_additive=True, tc_trace=1000 * tau)
        one.set_batch_size(len(like))
        one.compute_decays(1000 * rule.dt)
        yield one
