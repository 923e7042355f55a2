"""Outcomes of rules: third factors, uneven pieces and batches, options, attached learners, STDP on odd spikes."""

from dataclasses import replace
from itertools import product

import torch
from torch import nn

import neuropil as npl
from common import rng
from neuropil.plasticity import Plan, SynapticScaling, constrain_, gains
from neuropil.plasticity.stdp.triplet import PUBLISHED
from oracles import GEOMETRIES, make
from test_attach import LAYERS, start
from test_rules import RULES
from test_stdp import RULES as STDP
from test_stdp import run

PIECES = Plan(outputs=17), Plan(outputs=17, compiled=False, patch_entries=60), Plan(compiled=False)
KH = npl.KrotovHopfield(p=2.7, k=3, delta=0.37)
MORE = {
    "KH averaged": replace(KH, average=True),
    "KH normalised": replace(KH, normalise=True),
    "SoftHebb normalised": npl.SoftHebb(tau=0.37, anti=True, normalise=True),
    "winner averaged": npl.HardWTA(average=True),
    "explain": npl.ExplainAway(k=3),
}


def uneven(name):
    """A layer and a batch of a prime number of samples, so that pieces are uneven."""
    layer, pre = make(name)
    samples = 1 + 6 // len(pre)
    return layer, torch.cat([pre * (1 + 0.13 * k) - 0.11 * k for k in range(samples)])[: max(3, 2 * len(pre) - 1)]


def in_pieces(rule, layer, *activity, **third):
    """The change by each of the plans, one with the sum and not the mean."""
    how = zip(PIECES, ("mean", "sum", "mean"))
    found = [rule(layer, *activity, plan=plan, reduction=reduction, **third) for plan, reduction in how]
    return torch.stack([one.to_dense() for one in found])


def changes():
    for name in GEOMETRIES:
        layer, pre = uneven(name)
        for title, rule in {**RULES, **MORE}.items():
            yield f"{title}, {name}", in_pieces(rule, layer, pre)


def third_factors():
    for name in GEOMETRIES:
        layer, pre = uneven(name)
        post = layer(pre).detach()
        yield f"differential, {name}", in_pieces(npl.DifferentialHebb(), layer, pre, post, post_after=post.tanh())
        yield f"gains, {name}", gains(KH, layer, pre)
    torch.manual_seed(4)
    for layer, shape in (nn.Linear(4, 6), (7, 4)), (nn.Linear(4, 6), (5, 3, 4)), (nn.Conv2d(2, 6, 2), (5, 2, 4, 3)):
        layer, pre = layer.double(), torch.rand(shape, dtype=torch.float64)
        for few in None, 1, 2:
            rule, post, label = npl.Association(classes=3, k=few), layer(pre).detach(), torch.arange(len(pre)) % 3
            name = f"association {few}, {type(layer).__name__}, {shape}"
            yield name, in_pieces(rule, layer, pre, post, label=label)


def attached():
    for name in LAYERS:
        for title, rule in {"SoftHebb": npl.SoftHebb(tau=0.1), "KH": KH, "explain": npl.ExplainAway(k=2)}.items():
            for threshold in None, 0.0, 1.3:
                learner, batch = start(name, rule, threshold=threshold)
                optimizer = torch.optim.Adam(learner.model.parameters(), lr=0.013)
                for size in (len(batch), max(2, len(batch) // 3), len(batch) - 1):
                    learner.propose_(batch[:size])
                    optimizer.step()
                    learner.settle_()
                shown = {**learner.state_dict(), "rng": 0, "rules": 0}, dict(learner.model.state_dict())
                yield f"{title}, {name}, {threshold}", shown


def spikes():
    drawn = lambda *shape: (torch.rand(9, *shape, generator=rng(7), dtype=torch.float64) < 0.37).double()
    layer = nn.Linear(7, 5, bias=False, dtype=torch.float64)
    nn.init.uniform_(layer.weight, 0.1, 0.9, generator=rng(1))
    for title, rule in {**STDP, "scaling, slow": SynapticScaling(rate=3.1, beta=0.7, tau=0.011, dt=2.3e-3)}.items():
        for how in "mean", "sum":
            yield f"{title}, {how}", run(rule, layer, drawn(3, 7), drawn(3, 5), reduction=how)
    kernels = nn.Conv1d(2, 4, 3, stride=2, padding=1, bias=False, dtype=torch.float64)
    nn.init.uniform_(kernels.weight, 0.1, 0.9, generator=rng(2))
    for title, rule in STDP.items():
        yield f"{title}, kernels", run(rule, kernels, drawn(3, 2, 9), drawn(3, 4, 5))
    for part, dt in product(PUBLISHED, (1e-3, 2.3e-3)):
        rule = npl.plasticity.TripletSTDP.published(part, dt=dt)
        yield f"{part}, {dt}", run(rule, layer, drawn(3, 7), drawn(3, 5))


def bounds():
    for total in None, 2.3:
        for low, high in (None, None), (0.1, None), (None, 0.6), (0.1, 0.6):
            if (total, low, high) != (None, None, None):
                layer = nn.Conv2d(2, 3, 3, dtype=torch.float64)
                nn.init.uniform_(layer.weight, -1, 1, generator=rng(3))
                constrain_(layer, total=total, low=low, high=high)
                yield f"{total}, {low}, {high}", layer.weight


CASES = {"rules": changes, "third factors": third_factors, "attach": attached, "STDP": spikes, "bounds": bounds}
