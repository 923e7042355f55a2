"""Outcomes of attacks, corruptions, damage and metrics: colours, oblong images, missing answers, unequal classes."""

from dataclasses import asdict, is_dataclass

import torch
from torch import nn

from common import rng
from neuropil.data import Split, hold_out, relabel, subset
from neuropil.data.masks import image_mask
from neuropil.evaluate import (
    accuracy,
    assign_units,
    confusion,
    count_wins,
    fraction_correct,
    linear_probe,
    majority_rate,
    participation_ratio,
    unit_statistics,
    unit_warnings,
)
from neuropil.evaluate.robustness.attacks.blackbox import Noise, Square
from neuropil.evaluate.robustness.attacks.gradient import FGSM, PGD, cross_entropy, margin
from neuropil.evaluate.robustness.attacks.labels import Boundary, HopSkipJump
from neuropil.evaluate.robustness.corruptions import CORRUPTIONS, corrupted
from neuropil.evaluate.robustness.damage import DAMAGES, damaged
from neuropil.evaluate.robustness.harness import attack_and_verify
from neuropil.evaluate.robustness.norms import L2, Linf
from neuropil.evaluate.robustness.precision import rounded
from neuropil.evaluate.robustness.suite import Suite, robustness
from neuropil.evaluate.robustness.victim import ensemble, victim_of
from neuropil.experiments.diagnose import diagnose
from neuropil.plasticity import KrotovHopfield, SoftHebb
from neuropil.runs import NullTracker


def coloured(n, seed=0):
    """Images of three colours, 6 high and 5 wide, whose class 0 to 2 shows in a corner; few of class 2."""
    y = (torch.arange(n) % 7) // 3
    x = 0.3 + 0.4 * torch.rand(n, 3, 6, 5, generator=rng(seed))
    x[range(n), y, :3, :2] += 0.3
    return Split(x, y, 3)


TRAIN, TEST = coloured(71), coloured(17, seed=1)


def network(seed=0, kernels=True):
    torch.manual_seed(seed)
    below = [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten()] if kernels else [nn.Flatten(), nn.Linear(90, 60), nn.Tanh()]
    net = nn.Sequential(*below, nn.Linear(60, 3)).double()
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(TRAIN.x.double()), TRAIN.y).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


class Rows(NullTracker):
    """Keeps what is logged."""

    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(told(row))


def told(row):
    """The fields of a row, or of whatever has some."""
    return asdict(row) if is_dataclass(row) else row._asdict() if hasattr(row, "_asdict") else vars(row)


def attacks():
    net, other = network(), network(1, kernels=False)
    victim, both = victim_of(net, 3), ensemble([victim_of(net, 3), victim_of(other, 3)])
    yield "ensemble", both(TEST.x)
    for norm in Linf(), L2(), Linf(low=0.1, high=0.9):
        name, size = f"{norm.name} {norm.low}", {"Linf": 0.13, "L2": 0.9}[norm.name]
        test = Split(TEST.x.clamp(norm.low, norm.high), TEST.y, 3)
        yield f"{name}, random", norm.random(test.x, size, rng(3))
        made = {
            "FGSM": FGSM(victim.forward, norm),
            "PGD": PGD(victim.forward, norm, rng(4), steps=3, restarts=3),
            "PGD, to the end": PGD(both, norm, rng(4), 3, 1, stop_when_fooled=False, losses=(margin, cross_entropy)),
            "noise": Noise(norm, rng(4)),
            "square": Square(victim.decision_function, norm, rng(4), queries=60),
            "boundary": Boundary(victim.predict, norm, rng(4), queries=60, starts=TEST.x),
            "hop": HopSkipJump(victim.predict, norm, rng(4), queries=60, starts=TEST.x),
        }
        for kind, attack in made.items():
            yield f"{name}, {kind}", [*attack_and_verify(attack, victim, test, norm=norm, size=size, batch=7)]


def suite():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(90, 3)).eval()
    nn.init.normal_(linear[1].weight, std=0.3, generator=rng(5))
    nn.init.zeros_(linear[1].bias)
    learners = {"linear": linear, "mine": network(), "other": network(1, kernels=False)}
    trackers = {name: Rows() for name in learners}
    small = Suite((0.5, 0.1), (0.5, 1.1), attack_steps=3, attack_restarts=2, attack_queries=31)
    robustness(learners, TEST, trackers=trackers, baselines=["other"], suite=small, seed=7)
    for name, tracker in trackers.items():
        for k, row in enumerate(tracker.rows):
            told = {key: value for key, value in row.items() if key != "seconds"}
            numbers = [value for value in told.values() if isinstance(value, float)]
            words = [value for value in told.values() if not isinstance(value, float)]
            yield f"{name}, {k}, {words}", torch.tensor(numbers, dtype=torch.float64)


def damages():
    for kind in CORRUPTIONS:
        for severity in 1, 4:
            yield f"{kind}, {severity}", corrupted(TEST, kind, severity, rng(2)).x
    for kind in DAMAGES:
        for seed in 0, 1:
            yield f"{kind}, {seed}", list(damaged(network(seed, kernels=not seed), kind, 3, rng(2)).parameters())
    for bits in 8, 4, 2, 1:
        for scale in "layer", "unit":
            yield (
                f"{bits} bits, {scale}",
                rounded(network()[0].weight * torch.tensor([1, 2, 3, 4, 5])[:, None, None, None], bits, scale),
            )


def metrics():
    class Says:
        """Names no class for some."""

        def predict(self, x):
            return torch.where(torch.arange(len(x)) % 5 == 4, -1, TEST.y[: len(x)].roll(1))

    counts = confusion(Says(), TEST, batch=7)
    net = network()
    yield "accuracy", (counts, fraction_correct(counts), accuracy(Says(), TEST), majority_rate(TEST))
    net = net.float()
    wins = count_wins(net[:2], TRAIN)
    yield "wins", (wins, [*unit_statistics(net[0].weight, wins)])
    yield "warnings", unit_warnings(unit_statistics(net[0].weight, wins))
    yield "ratio", participation_ratio(torch.rand(9, 4, generator=rng(1), dtype=torch.float64))
    yield "assigned", assign_units(net[:3], TRAIN).predict(TEST.x)
    flat = Split(TRAIN.x.flatten(1), TRAIN.y, 3)
    yield "probe", linear_probe(flat[:40], flat[40:])
    for name, rule in {"soft": SoftHebb(tau=0.3), "bent": KrotovHopfield(p=3.0, k=2)}.items():
        model = network(3, kernels=False).requires_grad_(True).float()
        found = diagnose(model.train(), {"1": rule}, TRAIN.x, TRAIN.y, epochs=2)["1"]
        yield f"diagnosed, {name}", (found.untrained, found.control)


def parts():
    for k, (a, b) in enumerate([hold_out(TRAIN, 0.3, 5), hold_out(TRAIN, 0.3, 6)]):
        yield f"held, {k}", (a.x, a.y, b.x, b.y)
    yield "subset", (subset(TRAIN, 20, 3).x, subset(TRAIN, 20, 3).y, subset(TRAIN, 20, 4).y)
    yield "relabelled", relabel(TRAIN, [2, 0, 0]).y
    yield "batches", [batch.x.sum() for batch in TRAIN.batches(13, shuffle=rng(2))]
    for part in "top", "bottom", "left", "right", "centre", "frame", "random":
        yield part, image_mask(part, (1, 6, 5), rng(1))


CASES = {"attacks": attacks, "suite": suite, "damages": damages, "metrics": metrics, "parts": parts}
