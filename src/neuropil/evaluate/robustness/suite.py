"""The whole suite on all learners of a comparison: attacks with their checks, corruptions, damage, the linear model.

It logs `AttackRow`, `CheckRow`, `MatchedRow`, `CorruptionRow` and `DamageRow`; see `neuropil.runs.rows`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.errors import require
from neuropil.evaluate.robustness.attacks.blackbox import BISECTIONS, Boundary, Noise, Square
from neuropil.evaluate.robustness.attacks.gradient import FGSM, PGD, zero_gradient_fraction
from neuropil.evaluate.robustness.corruptions import under_corruption
from neuropil.evaluate.robustness.damage import under_damage
from neuropil.evaluate.robustness.harness import BLACK, FLOOR, WHITE, Curve, craft, judge
from neuropil.evaluate.robustness.masking import check_curves, void
from neuropil.evaluate.robustness.norms import L2, Linf, Norm
from neuropil.evaluate.robustness.victim import Victim, ensemble, victim_of
from neuropil.runs.rows import AttackRow, CheckRow, CorruptionRow, DamageRow, MatchedRow
from neuropil.runs.tracker import Tracker

Norms = Sequence[tuple[Norm, tuple[float, ...]]]  # with the budgets in each
Crafted = Callable[[tuple[str, ...], Norm, float], Tensor]  # names of surrogates, norm, budget -> moved images
LINEAR = ("plain linear", "linear")
WORST = "all attacks"  # the name of the curve of what no attack of the suite could change


@dataclass(frozen=True)
class Suite:
    """What is done to every learner.

    Attributes:
        linf, l2: budgets in the two norms, of pixels in [0, 1]; none leaves a norm out.
        steps, restarts: of PGD.
        queries: of the score-based and of the decision-based attack, about one image.
    """

    linf: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    l2: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    steps: int = 20
    restarts: int = 2
    queries: int = 200

    def __post_init__(self) -> None:
        sizes = (*self.linf, *self.l2)
        require(min(sizes, default=1) > 0, f"budgets of an attack need to be above 0, got {sizes}.")
        least = min(self.steps, self.restarts)
        require(least >= 1, f"PGD needs steps and restarts >= 1, got {self.steps} and {self.restarts}.")
        require(self.queries > BISECTIONS, f"black-box attacks need over {BISECTIONS} queries, got {self.queries}.")

    def norms(self, images: bool) -> list[tuple[Norm, tuple[float, ...]]]:
        """The norms and their budgets, growing; vectors have no range."""
        ends = () if images else (-math.inf, math.inf)
        wanted = ((Linf(*ends), self.linf), (L2(*ends), self.l2))
        return [(norm, tuple(sorted(set(sizes)))) for norm, sizes in wanted if sizes]


class Job(NamedTuple):
    """One attack on one learner in one norm.

    Attributes:
        attack, access: its name, and what it knows.
        norm: of its budgets.
        offer: maps a budget and a generator to what it makes of all test images.
        flat: the share of images without a useful gradient.
        decides: whether it is out to find the worst, so that it has to reach chance where all images can be grey.
    """

    attack: str
    access: str
    norm: Norm
    offer: Callable[[float, Generator], Tensor]
    flat: Callable[[], float] = lambda: 0.0
    decides: bool = False


def robustness(
    learners: Mapping[str, Any],
    test: Split,
    *,
    trackers: Mapping[str, Tracker],
    baselines: Sequence[str],
    suite: Suite,
    seed: int,
    linear: Sequence[str] = LINEAR,
) -> None:
    """Attack, corrupt and damage every learner, and log what is left.

    Every learner sees the same images, the same corruptions and the same transfer attacks, which are crafted on
    `baselines` (a baseline is spared what was crafted on itself).

    Args:
        learners: fitted, by name.
        test: what they are attacked on.
        trackers: where the rows of each learner go.
        baselines: names of learners to craft transfer attacks on; the first alone, and all together.
        suite: how hard.
        seed: of everything random.
        linear: names of the linear model to which all are compared; the first that takes part.
    """
    victims = {name: victim_of(learner, test.classes) for name, learner in learners.items()}
    done: dict[tuple[tuple[str, ...], str, float], Tensor] = {}

    def crafted(names: tuple[str, ...], norm: Norm, size: float) -> Tensor:
        key = (names, norm.name, size)
        if key not in done:
            done[key] = _transfer([victims[name] for name in names], test, norm, size)
        return done[key]

    known: dict[str, dict[str, Tensor]] = {}
    reference = next((name for name in linear if name in learners), "")
    for name in sorted(learners, key=lambda name: name != reference):
        sources = _sources(name, baselines, victims)
        norms = suite.norms(test.x.ndim == 4)
        jobs = [job for norm, _ in norms for job in _jobs(victims[name], norm, test, suite, sources, crafted)]
        known[name] = _attack(victims[name], jobs, norms, test, trackers[name], seed)
        if reference:
            _compare(known[name], known[reference], reference, norms, trackers[name])
        _corrupt_and_damage(learners[name], test, trackers[name], seed)


def _sources(name: str, baselines: Sequence[str], victims: Mapping[str, Victim]) -> dict[str, tuple[str, ...]]:
    """On whom transfer attacks on `name` are crafted: the first baseline, and all baselines; never on itself."""
    able = tuple(
        baseline
        for baseline in baselines
        if baseline != name and baseline in victims and victims[baseline].forward is not None
    )
    first = {baseline: (baseline,) for baseline in able if baseline == baselines[0]}
    return first | ({"baselines": able} if len(able) > len(first) else {})


def _jobs(
    victim: Victim, norm: Norm, test: Split, suite: Suite, sources: Mapping[str, tuple[str, ...]], crafted: Crafted
) -> Iterator[Job]:
    """Every attack that the victim allows; the white-box ones from the weak to the strong."""
    logits, scores = victim.forward, victim.decision_function
    offer = lambda make: lambda size, rng: craft(make(rng), test, norm=norm, size=size)
    carry = lambda names: lambda size, rng: crafted(names, norm, size)
    if logits is not None:
        fgsm, pgd = FGSM(logits, norm), lambda rng: PGD(logits, norm, rng, suite.steps, suite.restarts)
        yield Job("FGSM", WHITE, norm, offer(lambda rng: fgsm), lambda: zero_gradient_fraction(fgsm, test))
        yield Job("PGD", WHITE, norm, offer(pgd), lambda: zero_gradient_fraction(pgd(Generator()), test), True)
    for title, names in sources.items():
        yield Job(f"transfer from {title}", BLACK, norm, carry(names))
    if scores is not None:
        square = lambda rng: Square(scores, norm, rng, suite.queries)
        yield Job("square", BLACK, norm, offer(square), decides=True)
    boundary = lambda rng: Boundary(victim.predict, norm, rng, suite.queries)
    yield Job("boundary", BLACK, norm, offer(boundary), decides=True)
    yield Job("noise", FLOOR, norm, offer(lambda rng: Noise(norm, rng)))


def _transfer(victims: Sequence[Victim], test: Split, norm: Norm, size: float) -> Tensor:
    """What PGD makes of `test` when it climbs the mean loss of `victims` to the end."""
    return craft(PGD(ensemble(victims), norm, restarts=1, steps=10, stop=False), test, norm=norm, size=size)


def _attack(
    victim: Victim, jobs: Sequence[Job], norms: Norms, test: Split, tracker: Tracker, seed: int
) -> dict[str, Tensor]:
    """Do all jobs, log what was left and the checks; (sizes + 1, n) by norm: who withstood everything, 0 first."""
    budgets = {norm.name: [0.0, *sizes, *grey_size(norm, test)] for norm, sizes in norms}
    most = max(map(len, budgets.values()), default=0)
    held = torch.zeros(len(jobs), most, len(test), dtype=torch.bool)
    facts = torch.zeros(len(jobs), 2, dtype=torch.float64)  # overstepped, flat
    for k in tracker.loop("attacks", len(jobs), held=held, facts=facts):
        rng, norm = torch.Generator().manual_seed(1000 * seed + k), jobs[k].norm
        asked = budgets[norm.name] if jobs[k].decides else budgets[norm.name][: -len(grey_size(norm, test)) or None]
        for at, size in enumerate(asked):
            offered = jobs[k].offer(size, rng) if size else test.pixels()
            left = judge(victim, test, offered, norm=norm, size=size)
            held[k, at], facts[k, 0] = left.held, max(float(facts[k, 0]), left.overstepped)
        facts[k, 1] = jobs[k].flat()
    worst = {}
    for norm, sizes in norms:
        mine = [k for k, job in enumerate(jobs) if job.norm == norm]
        curves = [_curve(jobs[k], sizes, held[k], facts[k]) for k in mine]
        grey = {jobs[k].attack: held[k, len(sizes) + 1] for k in mine if jobs[k].decides and grey_size(norm, test)}
        worst[norm.name] = _log(curves, grey, norm.name, test, tracker)
    return worst


def grey_size(norm: Norm, test: Split) -> list[float]:
    """The budget at which every image can become the same grey one; vectors have none."""
    return [{"Linf": 0.5, "L2": 0.5 * math.sqrt(test.x[0].numel())}[norm.name]] if test.x.ndim == 4 else []


def _curve(job: Job, sizes: tuple[float, ...], held: Tensor, facts: Tensor) -> Curve:
    """Size 0 first."""
    overstepped, flat = facts.tolist()
    return Curve(job.attack, job.access, (0.0, *sizes), held[: len(sizes) + 1], overstepped, flat)


def _log(curves: Sequence[Curve], grey: Mapping[str, Tensor], norm: str, test: Split, tracker: Tracker) -> Tensor:
    """Rows of all curves of one norm, of their checks, and of the worst case: (sizes + 1, n) who withstood all."""
    chance = test.y.bincount().max().item() / len(test)
    found = check_curves(curves, grey=grey, chance=chance)
    for one in curves:
        for check in found[one.attack]:
            tracker.log(CheckRow(norm=norm, attack=one.attack, **check._asdict()))
    worst = torch.stack([one.held for one in curves]).all(0).cummin(0).values
    strongest = [one.attack for one in curves if one.access == WHITE][-1:]
    bound = not strongest or void(found[strongest[0]])
    shown = [*curves, Curve(WORST, "", curves[0].sizes, worst)]
    for one in shown:
        failed = bound if one.attack == WORST else void(found[one.attack])
        for size, right in zip(one.sizes, one.accuracy):
            row = AttackRow(
                norm=norm,
                attack=one.attack,
                access=one.access,
                size=size,
                accuracy=right,
                invalid=failed,
                n_test=len(test),
            )
            tracker.log(row)
    return worst


def _compare(
    mine: Mapping[str, Tensor], linear: Mapping[str, Tensor], name: str, norms: Norms, tracker: Tracker
) -> None:
    """Of the images that this learner and the linear model both name right: how many withstand all attacks on each."""
    for norm, sizes in norms:
        both = mine[norm.name][0] & linear[norm.name][0]
        if not bool(both.any()):
            continue
        for at, size in enumerate(sizes, start=1):
            left = [kept[norm.name][at, both].double().mean().item() for kept in (mine, linear)]
            row = MatchedRow(
                norm=norm.name,
                size=size,
                accuracy=left[0],
                linear=name,
                linear_accuracy=left[1],
                n_both=int(both.sum()),
            )
            tracker.log(row)


def _corrupt_and_damage(learner: Any, test: Split, tracker: Tracker, seed: int) -> None:
    """Rows of corruptions, on images, and of damage, to learners with weights."""
    if test.x.ndim == 4:
        for kind, severity, right in under_corruption(learner, test, seed=seed):
            tracker.log(CorruptionRow(corruption=kind, severity=severity, accuracy=right))
    for kind, severity, amount, right in under_damage(learner, test, seed=seed):
        tracker.log(DamageRow(damage=kind, severity=severity, amount=amount, accuracy=right))
