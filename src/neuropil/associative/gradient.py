"""The slope of what an associative network answers, through its settling: for attacks and saliency only."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil.associative.connectivity import State, Wiring


def sweep_on(net: Wiring, state: State, moving: list[str], *, step: float, sweeps: int) -> Tensor:
    r"""What drives the label after `sweeps` more sweeps from a settled `state`, with its gradient by the given groups.

    Where activity rests, s = f(s, x), every sweep adds a term to the Neumann series of
    :math:`ds/dx = (1 - \partial f/\partial s)^{-1} \partial f/\partial x`; what the settling itself passed through does
    not matter. Activation has slope 1 within [0, 1] and 0 outside.

    Args:
        net: the weights.
        state: settled activity, (batch, units) of each group; the given groups may ask for a gradient.
        moving: the groups that are free, in the order of a sweep.
        step: share of the way to its drive that a unit goes in a sweep.
        sweeps: how many.
    """
    state = dict(state)
    for _ in range(sweeps):
        for post in moving:
            goal = drive(net, state, post).clamp(0, 1)
            state[post] = torch.lerp(state[post], goal, step)
    return drive(net, state, "label")


def drive(net: Wiring, state: State, post: str) -> Tensor:
    """All that reaches a group."""
    sent = [
        F.linear(state[pre], net.between(pre, post).weight) for pre, to in net.routes if to == post and pre in state
    ]
    return net.rest[post] + torch.stack(sent).sum(0)
