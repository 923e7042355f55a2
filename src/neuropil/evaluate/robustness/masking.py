"""Signs that an attack failed, although its victim is not robust: a curve that shows one is invalid.

Athalye, Carlini & Wagner 2018 (ICML); Carlini et al. 2019 (arXiv:1902.06705).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from neuropil.errors import require, unknown
from neuropil.evaluate.robustness.harness import ACCESS, WHITE, Curve

RARE = 1e-3  # a difference counts if its probability by luck alone is below this
FEWEST = 10  # images that have to differ, all one way, for a sign test to see it: 2^-10 < RARE < 2^-9


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

    Raises:
        Refusal: curves of different sizes or examples, with one name or an unknown access; grey images of no curve.
    """
    _check_alike(curves, grey)
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
        if one.no_start_fraction:  # neither 0 nor None
            found[one.attack].append(starts(one))
    for name, robust in grey.items():
        found[name].append(at_most_majority_rate(robust, majority_rate))
    return found


def _check_alike(curves: Sequence[Curve], grey: Mapping[str, Tensor]) -> None:
    names = [one.attack for one in curves]
    require(len(set(names)) == len(names), f"every curve needs a name of its own, got {', '.join(names)}.")
    for one in curves:
        if one.access not in ACCESS:
            raise unknown("access of an attack", one.access, ACCESS)
        same = (one.sizes, one.robust.shape) == (curves[0].sizes, curves[0].robust.shape)
        got = f"{curves[0].sizes} and {one.sizes} on {curves[0].robust.shape[-1]} and {one.robust.shape[-1]} examples"
        require(same, f"curves need the same sizes and examples to be compared, got {got}.")
    for name in grey:
        if name not in names:
            raise unknown("curve", name, names)


def is_invalid(found: Sequence[Check]) -> bool:
    """Whether any check failed."""
    return not all(check.passed for check in found)


def within_budget(one: Curve) -> Check:
    """Does the attack keep to its budget? What went beyond was clipped."""
    return Check("keeps to its budget", one.overstepped == 0, f"{one.overstepped:.1%} of the examples were clipped")


def gradients(one: Curve) -> Check:
    """At no more than one image in a hundred may the gradient be zero; what was not measured does not pass."""
    fraction = one.zero_gradient_fraction
    if fraction is None:
        return Check("gradients", False, "not measured")
    return Check("gradients", fraction <= 0.01, f"{fraction:.1%} of the gradients are zero")


def starts(one: Curve) -> Check:
    """At no more than one image in a hundred may an attack by labels lack a start."""
    fraction = one.no_start_fraction or 0.0
    return Check("starts", fraction <= 0.01, f"{fraction:.1%} of the images have no start")


def larger_hurts(one: Curve) -> Check:
    """Does a larger budget always hurt at least as much?"""
    if len(one.sizes) == 1:
        return Check("a larger budget hurts", True, "one size alone")
    worse = [
        f"{percent(before)} right at {small:g}, {percent(after)} at {large:g}"
        for small, large, before, after in zip(one.sizes, one.sizes[1:], one.robust, one.robust[1:])
        if more_often(after, before)
    ]
    return _compared("a larger budget hurts", worse, one)


def beats(strong: Curve, weak: Curve, name: str) -> Check:
    """Does `strong` leave no more right than `weak`, at every size?"""
    worse = [
        f"{weak.attack} leaves {percent(other)} right at {size:g}, this one {percent(left)}"
        for size, left, other in zip(strong.sizes, strong.robust, weak.robust)
        if more_often(left, other)
    ]
    return _compared(name, worse, strong)


def _compared(name: str, worse: Sequence[str], one: Curve) -> Check:
    """A check by sign tests: what was found `worse`, or the smallest gap that would have been seen."""
    n = one.robust.shape[-1]
    if n < FEWEST:
        return Check(name, False, f"too few images to tell: {n}, {FEWEST} are needed")
    return Check(name, not worse, worse[0] if worse else f"at every size; a gap below {FEWEST / n:.1%} is not seen")


def at_most_majority_rate(robust: Tensor, majority_rate: float) -> Check:
    """Is no more than the majority rate left where every image can be made the same?"""
    right, n, check = int(robust.sum()), len(robust), "falls to the majority rate"
    if majority_rate < 1 and at_least_by_luck(n, n, majority_rate) >= RARE:
        return Check(check, False, f"too few images to tell: {n} of a majority rate of {majority_rate:.1%}")
    lucky = at_least_by_luck(right, n, majority_rate)
    return Check(check, lucky > RARE, f"{percent(robust)} right where all images can be grey")


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
