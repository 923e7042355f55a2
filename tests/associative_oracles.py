"""A small associative network, and its settling by hand, unit by unit."""

import torch

from common import rng
from neuropil.associative import Connectivity


def small_net():
    """Three populations in a ring with feedback, in float64, with weights so large that some units reach 0 or 1."""
    net = Connectivity({"a": 3, "b": 4, "c": 2}, [("a", "b"), ("b", "c"), ("c", "b"), ("b", "a")]).double()
    net.init_(rng(), gains=dict.fromkeys("abc", 1.5))
    for bias in net.bias.values():
        bias.copy_(torch.linspace(0.2, 0.5, len(bias)))
    return net


def small_state(batch=5):
    r = torch.rand(batch, 9, generator=rng(1), dtype=torch.float64)
    return {"a": r[:, :3].clone(), "b": r[:, 3:7].clone(), "c": r[:, 7:].clone()}


def drive_of(net, state, post, unit, row, free=None, free_unit_gain=1.0):
    """u of one unit in one sample, synapse by synapse."""
    u = net.bias[post][unit].item()
    for pre, target in net.projections:
        if target == post:
            weight, mask = net.between(pre, post).weight, (free or {}).get(pre)
            for j in range(net.sizes[pre]):
                share = free_unit_gain if mask is not None and mask[row, j] == 1 else 1.0
                u += weight[unit, j].item() * share * state[pre][row, j].item()
    return u


def by_hand(net, state, free, steps, eps, mu, truth, beta, free_unit_gain=0.1):
    """The sweeps of `Settling` and `Nudge`, unit by unit; within a population all units see the same moment."""
    state = {name: s.clone() for name, s in state.items()}
    speed = {name: torch.zeros_like(s) for name, s in state.items()}
    for _ in range(steps):
        for post, mask in free.items():
            old = {name: s.clone() for name, s in state.items()}
            for row in range(len(state[post])):
                for unit in range(net.sizes[post]):
                    s = old[post][row, unit].item()
                    u = drive_of(net, old, post, unit, row, free, free_unit_gain)
                    force = min(max(u, 0.0), 1.0) - s
                    if post in truth:
                        force += beta * (truth[post][row, unit].item() - s)
                    if mask is not None and mask[row, unit] == 0:
                        continue
                    speed[post][row, unit] = mu * speed[post][row, unit] + eps * force
                    state[post][row, unit] = min(max(s + speed[post][row, unit].item(), 0.0), 1.0)
    return state
