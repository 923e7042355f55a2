"""The robustness suite in recipes: its settings, and learners that come back from what a run kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from neuropil.checks import at_least
from neuropil.data import Split, subset
from neuropil.evaluate import Suite, robustness
from neuropil.recipes._twins import Comparison, Entrant
from neuropil.runs import Replay, Run, Tagged, kept_path


@dataclass(frozen=True)
class Attacks:
    """How hard learners are attacked."""

    n_test: int = 1000
    """attack only that many test examples, a stratified draw of each seed; 0 for all"""
    linf: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    """budgets: largest change of any pixel, of values in [0, 1]"""
    l2: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    """budgets: Euclidean length of the change of an image"""
    steps: int = 20
    """gradients in an ascent of PGD"""
    restarts: int = 2
    """ascents of PGD"""
    queries: int = 200
    """questions that an attack without gradients asks about an image"""

    def __post_init__(self) -> None:
        at_least(0, self, "n_test")
        suite_of(self)


def suite_of(attacks: Attacks) -> Suite:
    """The suite of these settings."""
    return Suite(attacks.linf, attacks.l2, attacks.steps, attacks.restarts, attacks.queries)


def revived(plan: Comparison, train: Split, folder: Path, seed: int) -> list[Entrant]:
    """The learners of one seed as they were when the run in `folder` kept them."""
    entrants = []
    for build in plan.builds:
        rng = torch.Generator().manual_seed(seed)
        entrant = build(train, rng)
        entrant.learner.fit(train, rng=rng, watch=Replay(kept_path(folder, entrant.name, seed, plan.task)))
        entrants.append(entrant)
    return entrants


def attack_all(entrants: Sequence[Entrant], test: Split, attacks: Attacks, *, data: str, seed: int, run: Run) -> None:
    """The whole suite on every entrant, on the same test examples; transfer attacks come from the twins."""
    twins = sorted((one.name for one in entrants if one.family == "twin"), key=lambda name: name != "backprop")
    robustness(
        {one.name: one.learner for one in entrants},
        subset(test, attacks.n_test, seed) if 0 < attacks.n_test < len(test) else test,
        watches={one.name: Tagged(run, learner=one.name, family=one.family, data=data, seed=seed) for one in entrants},
        twins=twins,
        suite=suite_of(attacks),
        seed=seed,
    )
