"""The whole suite on all learners of a comparison: attacks with their checks, corruptions, damage.

It logs `AttackRow`, `CheckRow`, `MatchedRow`, `CorruptionRow` and `DamageRow`; see `neuropil.runs.rows`.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.errors import Refusal, needs_numbers, require
from neuropil.evaluate.metrics.accuracy import majority_rate
from neuropil.evaluate.robustness.attacks.blackbox import Noise, Square
from neuropil.evaluate.robustness.attacks.gradient import FGSM, PGD, with_gradient, zero_gradient_fraction
from neuropil.evaluate.robustness.attacks.labels import BISECTIONS, Boundary, no_start_fraction
from neuropil.evaluate.robustness.corruptions import accuracy_under_corruption
from neuropil.evaluate.robustness.damage import accuracy_under_damage
from neuropil.evaluate.robustness.harness import BLACK, FLOOR, WHITE, Attack, Curve, craft, verify
from neuropil.evaluate.robustness.masking import check_curves, is_invalid
from neuropil.evaluate.robustness.norms import L2, Linf, Norm, check_budget
from neuropil.evaluate.robustness.victim import Victim, check_repeats, ensemble, victim_of
from neuropil.runs.rows import AttackRow, CheckRow, CorruptionRow, DamageRow, MatchedRow, WarningRow
from neuropil.runs.tracker import Tracker

Norms = Sequence[tuple[Norm, tuple[float, ...]]]  # with the budgets in each
Crafted = Callable[[tuple[str, ...], Norm, float], Tensor]  # names of surrogates, norm, budget -> adversarial images
LINEAR = ("plain linear", "linear")
WORST = "all attacks"  # the name of the curve of what no attack of the suite could change


@dataclass(frozen=True)
class Suite:
    """What is done to every learner; without budgets a norm is left out."""

    linf: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)  # budgets: largest change of any pixel, of values in [0, 1]
    l2: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)  # budgets: Euclidean length of the change of an image
    attack_steps: int = 20  # gradient steps of PGD from each starting point
    attack_restarts: int = 2  # starting points of PGD
    attack_queries: int = 200  # predictions that an attack without gradients may ask for, per image

    def __post_init__(self) -> None:
        needs_numbers(self)
        sizes = (*self.linf, *self.l2)
        require(min(sizes, default=1) > 0, f"budgets of an attack need to be above 0, got {sizes}.")
        steps, restarts = self.attack_steps, self.attack_restarts
        require(min(steps, restarts) >= 1, f"PGD needs attack_steps and attack_restarts >= 1, got {steps}, {restarts}.")
        queries = self.attack_queries
        require(queries > BISECTIONS, f"black-box attacks need over {BISECTIONS} attack_queries, got {queries}.")

    def norms(self, images: bool) -> list[tuple[Norm, tuple[float, ...]]]:
        """The norms and their budgets, growing; vectors have no range."""
        ends = () if images else (-math.inf, math.inf)
        wanted = ((Linf(*ends), self.linf), (L2(*ends), self.l2))
        return [(norm, tuple(sorted(set(sizes)))) for norm, sizes in wanted if sizes]

    def check(self, test: Split) -> None:
        """Refuse budgets that are larger than any change within the range of the examples."""
        for norm, sizes in self.norms(test.x.ndim == 4):
            check_budget(norm, sizes[-1], test.x)


class PlannedAttack(NamedTuple):
    """One attack on one learner in one norm.

    Attributes:
        attack, access: its name, and what it knows.
        norm: of its budgets.
        craft: maps a budget and a generator to what it makes of all test images.
        zero_gradient_fraction: fraction of images without a useful gradient.
        no_start_fraction: fraction of images without an image to start from.
        worst_case: whether it searches for the worst case; then it has to reach the majority rate where all images
            can be grey.
    """

    attack: str
    access: str
    norm: Norm
    craft: Callable[[float, Generator], Tensor]
    zero_gradient_fraction: Callable[[], float] = lambda: 0.0
    no_start_fraction: Callable[[], float] = lambda: 0.0
    worst_case: bool = False


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

    Every learner sees the same images, the same corruptions and the same transfer attacks. These are crafted on
    `baselines`; a baseline is spared what was crafted on itself.

    Args:
        learners: fitted, by name.
        test: what they are attacked on.
        trackers: where the rows of each learner go.
        baselines: names of learners to craft transfer attacks on; the first alone, and all together.
        suite: how hard.
        seed: of everything random.
        linear: names of the linear classifier to which all are compared; the first that takes part.

    Raises:
        Refusal: a budget beyond the range, or a learner that answers otherwise when it is asked again.
    """
    suite.check(test)
    victims = {name: with_gradient(victim_of(learner, test.classes), test) for name, learner in learners.items()}
    for victim in victims.values():
        check_repeats(victim, test)
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
    others = [baseline for baseline in baselines if baseline != name and baseline in victims]
    able = tuple(baseline for baseline in others if victims[baseline].forward is not None)
    first = {baseline: (baseline,) for baseline in able if baseline == baselines[0]}
    return first | ({"baselines": able} if len(able) > len(first) else {})


def _jobs(
    victim: Victim, norm: Norm, test: Split, suite: Suite, sources: Mapping[str, tuple[str, ...]], crafted: Crafted
) -> Iterator[PlannedAttack]:
    """Every attack that the victim allows; the white-box ones from the weak to the strong."""
    forward, scores = victim.forward, victim.decision_function

    def crafted_by(make: Callable[[Generator], Attack]) -> Callable[[float, Generator], Tensor]:
        def crafted_quietly(size: float, rng: Generator) -> Tensor:
            with warnings.catch_warnings():  # images without a start are counted, and a check tells of them
                warnings.filterwarnings("ignore", "Boundary found no start")
                return craft(make(rng), test, norm=norm, size=size)

        return crafted_quietly

    carry = lambda names: lambda size, rng: crafted(names, norm, size)
    if forward is not None:
        fgsm, pgd = FGSM(forward, norm), lambda rng: PGD(forward, norm, rng, suite.attack_steps, suite.attack_restarts)
        useless = lambda attack: lambda: zero_gradient_fraction(attack, test)
        yield PlannedAttack("FGSM", WHITE, norm, crafted_by(lambda rng: fgsm), useless(fgsm))
        yield PlannedAttack("PGD", WHITE, norm, crafted_by(pgd), useless(pgd(Generator())), worst_case=True)
    for title, names in sources.items():
        yield PlannedAttack(f"transfer from {title}", BLACK, norm, carry(names))
    if scores is not None:
        square = lambda rng: Square(scores, norm, rng, suite.attack_queries)
        yield PlannedAttack("square", BLACK, norm, crafted_by(square), worst_case=True)
    boundary = lambda rng: Boundary(victim.predict, norm, rng, suite.attack_queries)
    lacking = lambda: no_start_fraction(boundary(Generator()), test)
    yield PlannedAttack("boundary", BLACK, norm, crafted_by(boundary), no_start_fraction=lacking, worst_case=True)
    yield PlannedAttack("noise", FLOOR, norm, crafted_by(lambda rng: Noise(norm, rng)))


def _transfer(victims: Sequence[Victim], test: Split, norm: Norm, size: float) -> Tensor:
    """What PGD makes of `test` when it climbs the mean loss of `victims` to the end."""
    return craft(PGD(ensemble(victims), norm, restarts=1, steps=10, stop_when_fooled=False), test, norm=norm, size=size)


def _attack(
    victim: Victim, jobs: Sequence[PlannedAttack], norms: Norms, test: Split, tracker: Tracker, seed: int
) -> dict[str, Tensor]:
    """Do all jobs, log what was left and the checks; (sizes + 1, n) by norm: which examples no attack changed."""
    budgets = {norm.name: [0.0, *sizes, *grey_size(norm, test)] for norm, sizes in norms}
    most = max(map(len, budgets.values()), default=0)
    robust = torch.zeros(len(jobs), most, len(test), dtype=torch.bool)
    facts = torch.zeros(len(jobs), 3, dtype=torch.float64)  # overstepped, no gradient, no start
    for k in tracker.loop("attacks", len(jobs), robust=robust, facts=facts):
        rng, norm = torch.Generator().manual_seed(1000 * seed + k), jobs[k].norm
        budget = budgets[norm.name]
        for at, size in enumerate(budget if jobs[k].worst_case else budget[: -len(grey_size(norm, test)) or None]):
            adversarial = jobs[k].craft(size, rng) if size else test.pixels()
            left = verify(victim, test, adversarial, norm=norm, size=size)
            robust[k, at], facts[k, 0] = left.robust, max(float(facts[k, 0]), left.overstepped)
        facts[k, 1], facts[k, 2] = jobs[k].zero_gradient_fraction(), jobs[k].no_start_fraction()
    worst = {}
    for norm, sizes in norms:
        mine = [k for k, job in enumerate(jobs) if job.norm == norm]
        asked, end = (0.0, *sizes), len(sizes) + 1
        curves = [Curve(jobs[k].attack, jobs[k].access, asked, robust[k, :end], *facts[k].tolist()) for k in mine]
        able = [k for k in mine if jobs[k].worst_case and grey_size(norm, test)]
        grey = {jobs[k].attack: robust[k, end] for k in able}
        worst[norm.name] = _log(curves, grey, norm.name, test, tracker)
    return worst


def grey_size(norm: Norm, test: Split) -> list[float]:
    """The budget at which every image can become the same grey one; vectors have none."""
    return [{"Linf": 0.5, "L2": 0.5 * math.sqrt(test.x[0].numel())}[norm.name]] if test.x.ndim == 4 else []


def _log(curves: Sequence[Curve], grey: Mapping[str, Tensor], norm: str, test: Split, tracker: Tracker) -> Tensor:
    """Rows of all curves of one norm, of their checks, and of the worst case: (sizes + 1, n) bool, unchanged by all."""
    found = check_curves(curves, grey=grey, majority_rate=majority_rate(test))
    for one in curves:
        for check in found[one.attack]:
            tracker.log(CheckRow(norm=norm, attack=one.attack, **check._asdict()))
    worst = torch.stack([one.robust for one in curves]).all(0).cummin(0).values
    strongest = [one.attack for one in curves if one.access == WHITE][-1:]
    upper_bound = not strongest or is_invalid(found[strongest[0]])
    for one in [*curves, Curve(WORST, "", curves[0].sizes, worst)]:
        name, n, bad = one.attack, len(test), upper_bound if one.attack == WORST else is_invalid(found[one.attack])
        for size, right in zip(one.sizes, one.accuracy):
            row = AttackRow(norm=norm, attack=name, access=one.access, size=size, accuracy=right, invalid=bad, n_test=n)
            tracker.log(row)
    return worst


def _compare(
    mine: Mapping[str, Tensor], linear: Mapping[str, Tensor], name: str, norms: Norms, tracker: Tracker
) -> None:
    """Rows about the images that this learner and the linear classifier both classify correctly, see `MatchedRow`."""
    for norm, sizes in norms:
        both = mine[norm.name][0] & linear[norm.name][0]
        n = int(both.sum())
        for at, size in enumerate(sizes if n else (), start=1):
            own, other = (robust[norm.name][at, both].double().mean().item() for robust in (mine, linear))
            row = MatchedRow(norm=norm.name, size=size, accuracy=own, linear=name, linear_accuracy=other, n_both=n)
            tracker.log(row)


def _corrupt_and_damage(learner: Any, test: Split, tracker: Tracker, seed: int) -> None:
    """Rows of corruptions, on images, and of damage, to learners with weights."""
    if test.x.ndim == 4:
        for kind, severity, right in accuracy_under_corruption(learner, test, seed=seed):
            tracker.log(CorruptionRow(corruption=kind, severity=severity, accuracy=right))
    try:
        for kind, severity, amount, right in accuracy_under_damage(learner, test, seed=seed):
            tracker.log(DamageRow(damage=kind, severity=severity, amount=amount, accuracy=right))
    except Refusal as refusal:
        tracker.log(WarningRow(message=f"it is not damaged: {refusal}"))
