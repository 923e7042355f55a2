"""Oracles of STDP that know no traces: sums over pairs of times of spikes, synapse by synapse."""

import math
from functools import cache

import numpy as np
import torch

from neuropil.plasticity import (
    InhibitorySTDP,
    PairSTDP,
    PostSTDP,
    RewardModulated,
    SynapticScaling,
    TripletSTDP,
    VoltageSTDP,
)
from neuropil.plasticity.geometry import per_sample
from oracles import Unfolded, make

STEPS = 6


@cache
def presented(name):
    """A layer, spikes on both sides for some steps, and what every weight of every unit sees of them.

    The last two are, for each unit, (steps, samples, fan-in) and (steps, samples, 1); each position is a sample.
    """
    layer, like = make(name)
    rng = torch.Generator().manual_seed(len(name))
    shape = layer(like).shape
    pre, post = ((torch.rand(STEPS, *one, generator=rng) < 0.4).double() for one in (like.shape, shape))
    with torch.no_grad():
        whole = Unfolded(layer, like)  # tells whose each weight is, which spikes that are 0 would not show
        seen = [Unfolded(layer, one, whole.owner) for one in pre]
    sent = torch.stack([per_sample(layer, one) for one in post])
    before = [np.stack([one.patch[unit].numpy() for one in seen]) for unit in range(seen[0].units)]
    after = [sent[:, :, unit, None].numpy() for unit in range(seen[0].units)]
    return layer, pre, post, seen[0], before, after


def trace(x, t, dt, tau, nearest=False):
    """The sum over the spikes before step t, or the latest of them, of exp(-s / tau)."""
    total = np.zeros_like(x[0])
    for back in range(1, t + 1):
        term = x[t - back] * math.exp(-back * dt / tau)
        total = np.where(total == 0, term, total) if nearest else total + term
    return total


def per_step(rule, a, b, w):
    """What `rule` changes in each step, (steps, samples, fan-in): weights w see spikes a, and their unit sends b."""
    return np.stack([np.broadcast_to(_at(rule, a, b, w, t), a[0].shape) for t in range(len(a))])


def _at(rule, a, b, w, t):
    dt, nearest = rule.dt, getattr(rule, "pairing", "all") == "nearest"
    up = down = 1.0
    if getattr(rule, "dependence", None) is not None:
        up, down = (f(torch.from_numpy(w)).numpy() for f in (rule.dependence.up, rule.dependence.down))
    see = lambda x, tau: trace(x, t, dt, tau, nearest)
    match rule:
        case PairSTDP():
            grown = up * rule.a_plus * see(a, rule.tau_plus) * b[t]
            return grown - down * rule.a_minus * a[t] * see(b, rule.tau_minus)
        case TripletSTDP():
            grown = up * see(a, rule.tau_plus) * b[t] * (rule.a2_plus + rule.a3_plus * see(b, rule.tau_y))
            slow = rule.a2_minus + rule.a3_minus * see(np.sign(a), rule.tau_x)  # spikes, however strong they arrive
            return grown - down * a[t] * slow * see(b, rule.tau_minus)
        case PostSTDP():
            return up * b[t] * (see(a, rule.tau) - rule.offset)
        case InhibitorySTDP():
            return see(a, rule.tau) * b[t] + a[t] * (see(b, rule.tau) - 2 * rule.rate * rule.tau)
        case SynapticScaling():
            return rule.beta * dt * w * (rule.rate - see(b, rule.tau) / rule.tau)
        case RewardModulated():
            waiting = [_at(rule.rule, a, b, w, s) * math.exp(-(t - s) * dt / rule.tau) for s in range(t + 1)]
            return reward(t, a.shape[1])[:, None] * sum(waiting)
        case VoltageSTDP():
            low, high = (_filtered(rule, b, t, tau) for tau in (rule.tau_minus, rule.tau_plus))
            pull = np.maximum(b[t] - rule.theta_plus, 0) * np.maximum(high - rule.theta_minus, 0)
            grown = rule.a_plus * dt * see(a, rule.tau_x) / rule.tau_x * pull
            return grown - rule.a_minus * a[t] * np.maximum(low - rule.theta_minus, 0)


def reward(t, samples):
    """Rewards of step t, the same for all samples."""
    return np.full(samples, 0.3 * t - 0.7)


def _filtered(rule, u, t, tau):
    """A potential filtered over all steps before t."""
    q = math.exp(-rule.dt / tau)
    return rule.rest * q**t + sum(u[k] * (1 - q) * q ** (t - 1 - k) for k in range(t))


def change_by_sums(rule, name):
    """The sum over steps, samples and positions of what `rule` changes, shaped like the weight."""
    layer, _, _, unfolded, before, after = presented(name)
    total = torch.zeros(layer.weight.numel(), dtype=torch.float64)
    flat = layer.weight.detach().flatten()
    for index, a, b in zip(unfolded.index, before, after):
        w = flat[index].numpy()
        total[index] = torch.from_numpy(per_step(rule, a, b, w).sum((0, 1)))
    return total.view(layer.weight.shape)


def closed_form(rule, pre, post):
    """The change by spikes at these steps, from their times alone."""
    lag = lambda s, tau: math.exp(-s * rule.dt / tau)
    earlier = lambda times, t: [t - s for s in times if s < t]
    total = 0.0
    for t in post:
        for s in earlier(pre, t):
            if isinstance(rule, PairSTDP):
                total += rule.a_plus * lag(s, rule.tau_plus)
            else:
                slow = sum(lag(r, rule.tau_y) for r in earlier(post, t))
                total += lag(s, rule.tau_plus) * (rule.a2_plus + rule.a3_plus * slow)
    for t in pre:
        for s in earlier(post, t):
            if isinstance(rule, PairSTDP):
                total -= rule.a_minus * lag(s, rule.tau_minus)
            else:
                slow = sum(lag(r, rule.tau_x) for r in earlier(pre, t))
                total -= lag(s, rule.tau_minus) * (rule.a2_minus + rule.a3_minus * slow)
    return total
