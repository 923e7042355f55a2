"""What W processes learn from a W-th of a batch each, against one with all of it; `test_distributed.py` runs it.

`python shared_cases.py RANK FOLDER` is one of four processes, the last of which is only there for stages in several
processes each. The first writes what it found: by case the largest difference, relative to the largest entry. Only the
first learns alone as well.
"""

import json
import os
import sys
from copy import deepcopy
from datetime import timedelta
from itertools import cycle
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import neuropil as npl
import pipeline_cases as pipelines
import together_cases
from neuropil.distributed import part, share, stop
from neuropil.errors import Gone, Refusal
from neuropil.plasticity import PairSTDP, Plan, SignedWTA, gains
from oracles import FEW, GEOMETRIES, make

LARGEST, PATIENCE = 3, timedelta(seconds=200)
RULES = [
    npl.Hebb(),
    npl.Oja(),
    npl.Sanger(),
    npl.BCM(),
    npl.HardWTA(average=True),
    SignedWTA(average=True),
    npl.SoftHebb(tau=0.43, anti=True, normalise=True),
    npl.ExplainAway(k=2),
    npl.KrotovHopfield(p=2.3, k=2, delta=0.37),
    npl.KrotovHopfield(p=3, k=3, delta=0.41, average=True),
    npl.KrotovHopfield(p=2, k=2, delta=0.39, average=True, normalise=True),
]
SPARSE = [npl.HardWTA(sparse=True), npl.KrotovHopfield(k=2, p=2.2, average=True, sparse=True),
          npl.KrotovHopfield(k=3, p=3, delta=0.7, normalise=True, sparse=True)]  # fmt: skip
OPTIMIZERS = {
    "SGD": lambda weights: torch.optim.SGD(weights, lr=0.13, momentum=0.71),
    "Adam": lambda weights: torch.optim.Adam(weights, lr=0.017),
    "plain": lambda weights: torch.optim.SGD(weights, lr=0.11),
}
found = {}


def differ(a, b):
    """The largest difference, relative to the largest entry."""
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-3))


def alike(x, group):
    """Whether all processes have the same bits."""
    every = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, x.contiguous(), group=group)
    return all(torch.equal(one, x) for one in every)


def check(name, group, layer, rule, pre, optimizer, *, third=None, **named):
    """Three steps of both ways."""
    alone, shared = deepcopy(layer), share(deepcopy(layer), group)
    steps = [OPTIMIZERS[optimizer]([one.weight]) for one in (shared, alone)]
    worst = 0.0
    for turn in range(3):
        x = pre * (1 + 0.29 * turn) + 0.07 * turn
        parts = third(x) if third else {}
        other = rule(shared, part(x, group), **{key: part(value, group) for key, value in parts.items()}, **named)
        ways = [(shared, other, steps[0])]
        if dist.get_rank() == 0:
            one = rule(alone, x, **parts, **named)
            assert (other.is_sparse, other.dtype) == (one.is_sparse, one.dtype)
            worst = max(worst, differ(other.to_dense(), one.to_dense()))
            ways.append((alone, one, steps[1]))
        for layer, change, step in ways:
            npl.propose_(layer, change)
            step.step()
            step.zero_grad()
        worst = max(worst, differ(shared.weight.detach(), alone.weight.detach()) if len(ways) > 1 else 0.0)
    assert alike(shared.weight.detach(), group), name
    found[name] = worst


def check_rules(group, size):
    for geometry, optimizer in zip(GEOMETRIES if size == LARGEST else FEW, cycle(("SGD", "Adam"))):
        layer, pre = make(geometry)
        for rule in RULES:
            check(f"{size}, {geometry}, {rule}, {optimizer}", group, layer, rule, pre, optimizer)
        label = lambda x: {"label": torch.arange(len(x)) % 2}
        check(f"{size}, {geometry}, Association", group, layer, npl.Association(2), pre, optimizer, third=label)
        after = lambda x, layer=layer: {"post_after": layer(x).detach().sin()}
        check(f"{size}, {geometry}, Differential", group, layer, npl.DifferentialHebb(), pre, optimizer, third=after)
    wide, some = nn.Linear(300, 300).double(), torch.rand(23, 300, dtype=torch.float64)  # has a message of its own
    for rule in RULES[6], RULES[9]:
        check(f"{size}, wide, {rule}", group, wide, rule, some, "SGD")
    layer, pre = make("dense with bias")
    for rule in SPARSE:
        check(f"{size}, {rule}", group, layer, rule, pre, "plain")
    for reduction, plan in ("sum", Plan()), ("mean", Plan(compiled=False, patch_entries=40)):
        for geometry in "dense", "conv2d":
            layer, pre = make(geometry)
            for rule in RULES[4:]:
                name = f"{size}, {geometry}, {rule}, {reduction}"
                check(name, group, layer, rule, pre, "SGD", reduction=reduction, plan=plan)
    old = [npl.BCM(momentum=0.73).init(layer, pre[:1])] * 2
    shared = share(deepcopy(layer), group)
    for x in pre, pre[:1] * 1.3:  # of the second batch some processes have nothing
        one, old[0] = npl.BCM(momentum=0.73).step(layer, x, None, old[0])
        other, old[1] = npl.BCM(momentum=0.73).step(shared, part(x, group), None, old[1])
        found[f"{size}, BCM.step, {len(x)}"] = max(differ(other, one), differ(old[1].theta, old[0].theta))


def check_spikes(group, size):
    """Pairs of spikes in parts of uneven size."""
    rule, layer = PairSTDP(), nn.Linear(5, 4, bias=False).double()
    spikes = [(torch.rand(9, 7, n, generator=torch.Generator().manual_seed(n)) < 0.4).double() for n in (5, 4)]
    shared, worst = share(deepcopy(layer), group), 0.0
    mine = [part(one.movedim(1, 0), group).movedim(0, 1) for one in spikes]
    memory = [rule.init(one, x[0], y[0]) for one, (x, y) in ((layer, spikes), (shared, mine))]
    for step in range(9):
        one, memory[0] = rule.step(layer, *(activity[step] for activity in spikes), memory[0])
        other, memory[1] = rule.step(shared, *(activity[step] for activity in mine), memory[1])
        assert alike(other, group)
        worst = max(worst, differ(other, one))
    found[f"{size}, PairSTDP"] = worst


def check_attach(group, size):
    rng = torch.Generator().manual_seed(5)
    networks = {
        "dense": (lambda: nn.Sequential(nn.Linear(7, 20), nn.ReLU(), nn.Linear(20, 6)), ("0", "2"), (23, 7)),
        "convolution": (lambda: nn.Sequential(nn.Conv2d(2, 9, 3), nn.ReLU(), nn.Conv2d(9, 6, 2, groups=3)),
                        ("0", "2"), (5, 2, 6, 6)),
    }  # fmt: skip
    rules = npl.ExplainAway(), npl.HardWTA(), npl.SoftHebb(tau=0.03), npl.KrotovHopfield(p=2, k=2)
    for kind, (build, names, shape) in networks.items():
        for rule, most in *((rule, 2048) for rule in rules), (npl.ExplainAway(), 9):
            torch.manual_seed(2)
            images = torch.randn(shape, generator=rng, dtype=torch.float64)
            first, each = build().double(), dict.fromkeys(names, rule)
            alone = npl.attach(deepcopy(first), each, images, most=most)
            shared = npl.attach(share(first, group), each, part(images, group), most=most)
            name = f"{size}, attach, {kind}, {rule}, {most}"
            assert all(alike(weight.detach(), group) for weight in shared.model.parameters()), name
            shared.model.load_state_dict(alone.model.state_dict())
            shared.load_state_dict(alone.state_dict())
            steps = [torch.optim.SGD(one.model.parameters(), lr=0.23) for one in (alone, shared)]
            worst = 0.0
            for turn in range(4):
                x = images[: (len(images), 1, 2, len(images))[turn]] * (1.1 + turn) + 0.3
                if turn == 3 and most > 9:  # some units start anew
                    for one in alone, shared:
                        idle = one.states["0"].idle.clone()
                        idle[::4] = 1e9
                        one.states["0"] = one.states["0"]._replace(idle=idle)
                for learner, images_of_it, step in (alone, x, steps[0]), (shared, part(x, group), steps[1]):
                    learner.propose_(images_of_it)
                    step.step()
                    learner.settle_()
                for one, other in zip(alone.model.parameters(), shared.model.parameters()):
                    worst = max(worst, differ(other.detach(), one.detach()))
                for layer in names:
                    for one, other in zip(alone.states[layer], shared.states[layer]):
                        worst = max(worst, differ(other.double(), one.double()))
            both = alone.wins(images), shared.wins(part(images, group))
            worst = max([worst, *(differ(both[1][layer].double(), both[0][layer].double()) for layer in names)])
            found[name] = worst


def said(work):
    try:
        work()
    except (Gone, Refusal) as refusal:
        return str(refusal)
    return ""


def check_refusals(rank):
    drifts = {"scaled": lambda x: x * 1.07, "negated": torch.neg, "permuted": lambda x: x.flip(0)}
    for name, drift in drifts.items():
        layer = share(nn.Linear(5, 4, bias=False))
        if rank == 1:
            layer.weight.data = drift(layer.weight.data)
        found[name] = said(lambda layer=layer: npl.Hebb()(layer, torch.ones(2, 5)))
    layer, x = share(nn.Linear(5, 4)), part(torch.randn(30, 5, generator=torch.Generator().manual_seed(1)))
    layer.bias.data += gains(npl.Oja(), layer, x).mean(0)
    found["bias by gains"] = said(lambda: npl.Oja()(layer, x))
    model, rules = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), {"0": npl.HardWTA()}
    late = npl.attach(model, rules, x)
    share(model[0])
    found["part"] = said(lambda: npl.attach(model, rules, x))
    share(model)
    found["late"] = said(lambda: late.propose_(x))
    each = npl.attach(model, rules, x, rng=torch.Generator().manual_seed(rank))
    found["attach, rng"] = said(lambda: each.propose_(x))
    found["unlike"] = said(lambda: share(nn.Linear(5, 4 + (rank == 2))))


def check_gradients(group):
    """DistributedDataParallel averages the changes of a surrogate loss as it averages gradients."""
    x = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    alone = nn.Linear(5, 4).double()
    model = nn.parallel.DistributedDataParallel(deepcopy(alone), process_group=group)
    mine = part(x, group)
    out = model(mine).detach()
    npl.surrogate_loss(model.module, npl.Oja()(model.module, mine), out.mean(0)).backward()
    changes = [npl.Oja()(alone, x), alone(x).mean(0)]
    found["gradients"] = max(differ(-p.grad, want) for p, want in zip(model.module.parameters(), changes))


def check_half(rank):
    """Sums of 900 samples are beyond what float16 holds, their means are not."""
    x = 40 + torch.randn(900, 5, generator=torch.Generator().manual_seed(1)).half()
    layer = share(nn.Linear(5, 4).half())
    alone = deepcopy(layer)
    found["float16"] = [differ(rule(layer, part(x)), rule(alone, x)) for rule in (npl.Oja(), npl.HardWTA())]
    found["float16"].append(differ(*(npl.BCM().init(one, y).theta for one, y in ((layer, part(x)), (alone, x)))))
    learner = npl.attach(share(nn.Sequential(layer)), {"0": npl.HardWTA()}, part(x))
    found["float16"].append(0.0 if learner.states["0"].size.isfinite() else 1.0)
    found["float16"] = [0.0 if value < 2e-3 else value for value in found["float16"]]


def check_stages(group, size):
    """A few random networks; `pipeline_cases.py` has more."""
    for seed in range(3):
        found[f"stages, {size}, network {seed}"] = pipelines.same(seed, group)
    found[f"stages, {size}, channels last"] = pipelines.same(10, group, starts=["2", "4"][: size - 1])


def join(name, rank, size, folder):
    store = dist.FileStore(str(folder / name), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)


def main(rank, folder):
    join("four", rank, LARGEST + 1, folder)
    found["grid"] = pipelines.differs_on_a_grid()
    stop()
    if rank == LARGEST:
        return
    join("three", rank, LARGEST, folder)
    groups = {size: dist.new_group(range(size), timeout=PATIENCE) for size in range(1, LARGEST + 1)}
    for size, group in groups.items():
        if rank < size:
            check_rules(group, size)
            check_spikes(group, size)
            check_attach(group, size)
            check_stages(group, size)
            if size > 1:
                found[f"learners, {size}"] = together_cases.differ(group, rank == 0)
                found[f"exact learners, {size}"] = together_cases.differ_exactly(group, rank == 0)
                found[f"unlike, {size}"] = together_cases.unlike(group, rank)
                found[f"norms, {size}"] = together_cases.normalised(group)
                found[f"norms of one value each, {size}"] = together_cases.normalised(group, (size, 3))
                found[f"too few, {size}"] = together_cases.too_few(group)
    check_refusals(rank)
    check_half(rank)
    if rank < 2:
        check_gradients(groups[2])
    if rank < 2:
        found["stages"] = {name: said(work) for name, work in pipelines.refusals(rank, groups[2]).items()}
    if rank == 2:
        for work in lambda: share(nn.Linear(5, 4), groups[1]), lambda: part(torch.ones(3), groups[1]):
            print(said(work), file=sys.stderr)
    layer = share(nn.Linear(5, 4))
    if rank == 0:
        found["ended"] = said(lambda: npl.Hebb()(layer, torch.ones(2, 5)))
        (folder / "found.json").write_text(json.dumps(found))
    os._exit(0)  # in the middle of a run


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), Path(sys.argv[2]))
