"""Signs that an attack failed, although its victim is not robust: a curve that shows one is invalid.

Athalye, Carlini & Wagner 2018 (ICML); Carlini et al. 2019 (arXiv:1902.06705).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from neuropil.evaluate.robustness.harness import WHITE, Curve

RARE = 1e-3  # a difference counts if its probability by luck alone is below this


class Check(NamedTuple):
    """One check of one curve, of `check_curves`.

    Attributes:
        check: what is asked.
        passed: whether all is well.
        finding: in words, with its numbers.
    """

    check: str
    passed: bool
    finding: str


def check_curves(
    curves: Sequence[Curve], *, grey: Mapping[str, Tensor], majority_rate: float
) -> dict[str, list[Check]]:
    """The checks of every curve of one learner in one norm, by attack; a curve that fails one is invalid.

    Args:
        curves: white-box curves first the weak, then the strong; all on the same examples and sizes.
        grey: by attack, which examples are robust (n,) at a budget at which every image can be made the same grey one.
            There no model can reach more than the majority rate.
        majority_rate: fraction of the examples in the most common class.
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
    for one in curves:
        if one.no_start_fraction:
            found[one.attack].append(starts(one))
    for name, robust in grey.items():
        found[name].append(at_most_majority_rate(robust, majority_rate))
    return found


def is_invalid(found: Sequence[Check]) -> bool:
    """Whether any check failed."""
    return not all(check.passed for check in found)


def within_budget(one: Curve) -> Check:
    """Does the attack keep to its budget? What went beyond was clipped."""
    return Check("keeps to its budget", one.overstepped == 0, f"{one.overstepped:.1%} of the examples were clipped")


def gradients(one: Curve) -> Check:
    """At no more than one image in a hundred may the gradient be zero."""
    fraction = one.zero_gradient_fraction
    return Check("gradients", fraction <= 0.01, f"{fraction:.1%} of the gradients are zero")


def starts(one: Curve) -> Check:
    """At no more than one image in a hundred may an attack by labels lack a start."""
    fraction = one.no_start_fraction
    return Check("starts", fraction <= 0.01, f"{fraction:.1%} of the images have no start")


def larger_hurts(one: Curve) -> Check:
    """Does a larger budget always hurt at least as much?"""
    worse = [
        f"{percent(before)} right at {small:g}, {percent(after)} at {large:g}"
        for small, large, before, after in zip(one.sizes, one.sizes[1:], one.robust, one.robust[1:])
        if more_often(after, before)
    ]
    return Check("a larger budget hurts", not worse, worse[0] if worse else "at every size")


def beats(strong: Curve, weak: Curve, name: str) -> Check:
    """Does `strong` leave no more right than `weak`, at every size?"""
    worse = [
        f"{weak.attack} leaves {percent(other)} right at {size:g}, this one {percent(left)}"
        for size, left, other in zip(strong.sizes, strong.robust, weak.robust)
        if more_often(left, other)
    ]
    return Check(name, not worse, worse[0] if worse else "at every size")


def at_most_majority_rate(robust: Tensor, majority_rate: float) -> Check:
    """Is no more than the majority rate left where every image can be made the same?"""
    right, n = int(robust.sum()), len(robust)
    lucky = at_least_by_luck(right, n, majority_rate)
    return Check("falls to the majority rate", lucky > RARE, f"{percent(robust)} right where all images can be grey")


def more_often(a: Tensor, b: Tensor) -> bool:
    """Whether `a` (n,) is right where `b` is not more often than the other way round, beyond luck.

    One-sided sign test on the examples on which they differ.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return only_a > only_b and at_least_by_luck(only_a, only_a + only_b, 0.5) < RARE


def at_least_by_luck(k: int, n: int, p: float) -> float:
    """The probability that k or more of n independent events of probability p happen."""
    from scipy.special import bdtrc  # here, since few commands need it, and all would wait for it

    return float(bdtrc(k - 1, n, p)) if k else 1.0


def percent(robust: Tensor) -> str:
    """In percent."""
    return f"{robust.double().mean().item():.1%}"
