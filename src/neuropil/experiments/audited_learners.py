"""Rules that see spikes, and heads that learn batch by batch, as the audit asks for them: steps of the layer "3"."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.models.heads import DeltaReadout, Head, Prototypes
from neuropil.models.least_squares import CoActivity, LateralReadout, LeastSquares
from neuropil.plasticity import (
    InhibitorySTDP,
    PairSTDP,
    PostSTDP,
    RewardModulated,
    SynapticScaling,
    TripletSTDP,
    VoltageSTDP,
    propose_,
    tap,
)

STEPS = 12  # of a spike train
Step = Callable[[nn.Module, Tensor, Tensor], None]
SPIKING: dict[str, Any] = {
    "pair_stdp": PairSTDP(),
    "triplet_stdp": TripletSTDP(),
    "post_stdp": PostSTDP(),
    "inhibitory_stdp": InhibitorySTDP(),
    "voltage_stdp": VoltageSTDP(),
    "reward_stdp": RewardModulated(PairSTDP()),
    "synaptic_scaling": SynapticScaling(),
}
HEADS: dict[str, Callable[[int, int], Head]] = {
    "delta_readout": DeltaReadout,
    "prototypes": Prototypes,
    "lateral_readout": LateralReadout,
    "least_squares": LeastSquares,
}


def spiking_step(rule: Any) -> Step:
    """The sum of what a rule changes while spikes go by; activity of 0.3 spikes in 0.3 of the steps."""

    @torch.no_grad()
    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        layer = model.get_submodule("3")
        with tap(model, ["3"]) as seen:
            model(x)
        pre, post = seen["3"]
        assert post is not None
        before, after = _trains(pre.clamp(0, 1)), _trains(post.sigmoid())
        if isinstance(rule, VoltageSTDP):
            after = rule.rest + 0.05 * after
        third = {"reward": 2.0 * (y % 2) - 1} if isinstance(rule, RewardModulated) else {}
        memory, total = rule.init(layer, before[0], after[0]), torch.zeros_like(layer.get_parameter("weight"))
        for some, others in zip(before, after):
            change, memory = rule.step(layer, some, others, memory, **third)
            total += change
        propose_(layer, total)

    return step


def _trains(rates: Tensor) -> Tensor:
    """(steps, *shape) spikes, 0 or 1, as many in all as steps times the rates, in [0, 1], evenly apart."""
    steps = torch.arange(STEPS + 1).to(rates).view(-1, *[1] * rates.dim())
    return (steps * rates).floor().diff(dim=0)


def head_step(make: Callable[[int, int], Head]) -> Step:
    """What a head learns from the features below layer "3", whose weights are its own before it learns."""

    @torch.no_grad()
    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        layer = model.get_submodule("3")
        assert isinstance(layer, nn.Linear)
        with tap(model, ["3"], pre_only=True) as seen:
            model(x)
        head = make(layer.in_features, layer.out_features).to(x)
        before = _start_(head, layer.weight)
        head.learn_(seen["3"].pre, y)
        propose_(layer, _learned(head) - before)

    return step


def _synapses(head: Head) -> Tensor | None:
    """The synapses that a head changes step by step, (classes, features); None if it keeps sums."""
    return head.get_buffer("weight").view(head.classes, -1) if isinstance(head, (DeltaReadout, Prototypes)) else None


def _start_(head: Head, weight: Tensor) -> Tensor:
    """Let the synapses be `weight`, as if each unit had won once; sums begin at 0. Returns where they start."""
    synapses = _synapses(head)
    if synapses is None:
        return torch.zeros_like(weight)
    synapses.copy_(weight)
    if isinstance(head, Prototypes):
        head.wins.fill_(1)
        head.bias.copy_(-weight.square().sum(1, keepdim=True) / 2)
    return weight.clone()


def _learned(head: Head) -> Tensor:
    """(classes, features): the synapses, the Hebbian sums that label units keep, or the weights of the inverse."""
    synapses = _synapses(head)
    if synapses is not None:
        return synapses
    assert isinstance(head, CoActivity)
    sums: Tensor = head.state_dict()["cross"]
    head(head.total[None])  # computes the readout
    return sums if isinstance(head, LateralReadout) else head.readout[:, :-1]
