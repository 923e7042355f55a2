"""The gradient of an associative network's class scores, through its settling: for attacks and saliency only."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil.associative.connectivity import LABEL, Connectivity, State


def unrolled_settling(
    net: Connectivity, state: State, moving: list[str], *, step_size: float, iterations: int
) -> Tensor:
    r"""The drive of the label after more sweeps from a settled `state`, (batch, classes), differentiable.

    Where activity rests, s = f(s, x), every sweep adds a term to the Neumann series of
    :math:`ds/dx = (1 - \partial f/\partial s)^{-1} \partial f/\partial x`. The path of the settling
    does not matter. The activation has slope 1 within [0, 1] and 0 outside.

    Args:
        net: the weights.
        state: settled activity, (batch, units) of each population; the clamped ones may ask for a gradient.
        moving: the populations that are free, in sweep order.
        step_size: as in `Settling`.
        iterations: number of sweeps, hence of terms.
    """
    state = dict(state)
    for _ in range(iterations):
        for post in moving:
            goal = _drive(net, state, post).clamp(0, 1)
            state[post] = torch.lerp(state[post], goal, step_size)
    return _drive(net, state, LABEL)


def _drive(net: Connectivity, state: State, post: str) -> Tensor:
    senders = [pre for pre, to in net.projections if to == post and pre in state]
    sent = [F.linear(state[pre], net.between(pre, post).weight) for pre in senders]
    bias: Tensor = net.bias[post]
    return bias + torch.stack(sent).sum(0)
