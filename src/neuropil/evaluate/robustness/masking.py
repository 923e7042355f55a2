"""Signs that an attack failed and not the attack's victim held: a curve that shows one is void.

Athalye, Carlini & Wagner 2018 (ICML); Carlini et al. 2019 (arXiv:1902.06705).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from scipy.special import bdtrc
from torch import Tensor

from neuropil.evaluate.robustness.harness import WHITE, Curve

RARE = 1e-3  # a difference counts if chance alone makes it less often than this


class Check(NamedTuple):
    """One check of one curve.

    Attributes:
        check: what is asked.
        passed: whether all is well.
        finding: in words, with its numbers.
    """

    check: str
    passed: bool
    finding: str


def check_curves(curves: Sequence[Curve], *, grey: Mapping[str, Tensor], chance: float) -> dict[str, list[Check]]:
    """The checks of every curve of one learner in one norm, by attack; a curve that fails one is void.

    Args:
        curves: white-box curves first the weak, then the strong; all on the same examples and sizes.
        grey: by attack, who is right (n,) at a budget at which every image can be made the same grey one, where nothing
            can be right more often than the commonest class.
        chance: the share of the commonest class.
    """
    white = [one for one in curves if one.access == WHITE]
    found: dict[str, list[Check]] = {one.attack: [within_budget(one), larger_hurts(one)] for one in curves}
    for one in white:
        found[one.attack].append(gradients(one))
    for weak, strong in pairwise(white):
        found[strong.attack].append(beats(strong, weak, f"beats {weak.attack}"))
    if white:
        verdicts = [beats(white[-1], other, "black box does not beat it") for other in curves if other.access != WHITE]
        worst = [verdict for verdict in verdicts if not verdict.passed] or verdicts
        for one in white if worst else []:
            found[one.attack].append(worst[0])
    for name, held in grey.items():
        found[name].append(to_chance(held, chance))
    return found


def void(found: Sequence[Check]) -> bool:
    """Whether any check failed."""
    return not all(check.passed for check in found)


def within_budget(one: Curve) -> Check:
    """Does the attack keep to its budget? What it did beyond was clipped, so it is not the attack that it says."""
    return Check("keeps to its budget", one.overstepped == 0, f"{one.overstepped:.1%} of the examples were clipped")


def gradients(one: Curve) -> Check:
    """At no more than one image in a hundred may the gradient be zero."""
    return Check("gradients", one.flat <= 0.01, f"{one.flat:.1%} of the gradients are zero")


def larger_hurts(one: Curve) -> Check:
    """Does a larger budget always hurt at least as much?"""
    gains = [
        (more_often(after, before), f"{share(before)} right at {small:g}, {share(after)} at {large:g}")
        for small, large, before, after in zip(one.sizes, one.sizes[1:], one.held, one.held[1:])
    ]
    worse = [finding for gained, finding in gains if gained]
    return Check("a larger budget hurts", not worse, worse[0] if worse else "at every size")


def beats(strong: Curve, weak: Curve, name: str) -> Check:
    """Does `strong` leave no more right than `weak`, at every size?"""
    for size, left, other in zip(strong.sizes, strong.held, weak.held):
        if more_often(left, other):
            return Check(name, False, f"{weak.attack} leaves {share(other)} right at {size:g}, this one {share(left)}")
    return Check(name, True, "at every size")


def to_chance(held: Tensor, chance: float) -> Check:
    """Is nothing but chance left where every image can be made the same?"""
    right, n = int(held.sum()), len(held)
    lucky = bdtrc(right - 1, n, chance) if right else 1.0  # of so many or more by guessing the commonest class
    return Check("falls to chance", lucky > RARE, f"{share(held)} right where all images can be grey")


def more_often(a: Tensor, b: Tensor) -> bool:
    """Whether `a` (n,) is right where `b` is not more often than the other way round, beyond what chance makes of it.

    One-sided sign test on the examples on which they differ.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return only_a > only_b and bdtrc(only_a - 1, only_a + only_b, 0.5) < RARE


def share(held: Tensor) -> str:
    """In percent."""
    return f"{held.double().mean().item():.1%}"
