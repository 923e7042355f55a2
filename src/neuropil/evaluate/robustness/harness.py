"""The harness: it clips every adversarial example to its budget and classifies it again."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.errors import require, unknown
from neuropil.evaluate.robustness.attacks.gradient import FGSM, PGD, with_gradient, zero_gradient_fraction
from neuropil.evaluate.robustness.attacks.labels import LabelAttack, no_start_fraction
from neuropil.evaluate.robustness.norms import Norm, check_budget
from neuropil.evaluate.robustness.victim import Victim, check_repeats, victim_of

Attack = Callable[[Split, float], Tensor]
WHITE, BLACK, FLOOR = "white box", "black box", "floor"  # what an attack knows
ACCESS = (WHITE, BLACK, FLOOR)


class Verified(NamedTuple):
    """What was left after an attack of one size.

    Attributes:
        robust: (n,) bool: classified correctly, before the attack and after it.
        overstepped: fraction of examples that the attack itself moved out of its budget or out of the range.
    """

    robust: Tensor
    overstepped: float


class Curve(NamedTuple):
    """What one attack left at growing budgets; `curve` makes it.

    Attributes:
        attack: its name.
        access: what it knows: WHITE, BLACK or FLOOR.
        sizes: the budgets, growing.
        robust: (sizes, n) bool, as in `Verified`.
        overstepped: the largest fraction of examples that were moved too far at any size.
        zero_gradient_fraction: fraction of images without a useful gradient; None if that was not measured.
        no_start_fraction: fraction of images for which an attack by labels found no image to start from; None likewise.
    """

    attack: str
    access: str
    sizes: tuple[float, ...]
    robust: Tensor
    overstepped: float = 0.0
    zero_gradient_fraction: float | None = None
    no_start_fraction: float | None = None

    @property
    def accuracy(self) -> list[float]:
        """Fraction classified correctly at every size."""
        return self.robust.double().mean(1).tolist()


def attack_and_verify(
    attack: Attack, victim: Victim, test: Split, *, norm: Norm, size: float, batch: int = 1000
) -> Verified:
    """Which examples `attack` cannot change; see `accuracy_under`."""
    return verify(victim, test, craft(attack, test, norm=norm, size=size, batch=batch), norm=norm, size=size)


def craft(attack: Attack, test: Split, *, norm: Norm, size: float, batch: int = 1000) -> Tensor:
    """What `attack` makes of `test`, (n, *shape), not clipped yet."""
    test.check_labelled("an attack")
    check_budget(norm, size, test.x)
    if isinstance(attack, LabelAttack):
        attack = attack.starting_from(test.pixels())
    crafted = []
    for chunk in test.batches(min(batch, len(test))):
        _check_range(chunk.x, norm)
        copy = Split(chunk.x.clone(), chunk.y, test.classes)  # so that no attack can move the centre of its ball
        adversarial = attack(copy, size)
        sound = bool(adversarial.isfinite().all())
        require(
            adversarial.shape == chunk.x.shape and sound,
            f"an attack needs to give back finite examples {tuple(chunk.x.shape)}, got {tuple(adversarial.shape)}"
            f"{'' if sound else ' with NaN or infinity'}.",
        )
        crafted.append(adversarial)
    return torch.cat(crafted)


def verify(victim: Victim, test: Split, adversarial: Tensor, *, norm: Norm, size: float, batch: int = 1000) -> Verified:
    """Which examples are classified correctly as they are and as `adversarial`, clipped to the budget."""
    robust, over, start = [], 0, 0
    for chunk in test.batches(min(batch, len(test))):
        candidate = adversarial[start : start + len(chunk)].to(chunk.x)
        clipped = norm.clip(chunk.x, candidate, size)
        over += int((norm.length(clipped - candidate) > 1e-4 * (1 + size)).sum())
        robust.append((victim.predict(clipped) == chunk.y) & (victim.predict(chunk.x) == chunk.y))
        start += len(chunk)
    return Verified(torch.cat(robust), over / len(test))


def accuracy_under(attack: Attack, learner: Any, test: Split, *, norm: Norm, size: float, batch: int = 1000) -> float:
    """Accuracy on what `attack` makes of `test`, clipped to `size` and to the range by the harness.

    Args:
        attack: gets examples, their labels, and a budget; gives adversarial examples.
        learner: anything that `victim_of` understands.
        test: images in [0, 1], or vectors in the range of `norm`.
        norm, size: the budget.
        batch: examples at once.

    Raises:
        Refusal: a budget below 0 or beyond the range, examples outside the range or without labels, NaN, wrong shapes.
            Also a learner that answers otherwise when it is asked again.
    """
    victim = _asked(learner, test)
    return attack_and_verify(attack, victim, test, norm=norm, size=size, batch=batch).robust.double().mean().item()


def curve(
    attack: Attack, learner: Any, test: Split, *, norm: Norm, sizes: Sequence[float], name: str, access: str
) -> Curve:
    """`accuracy_under` at each of `sizes`, example by example, with what the checks for gradient masking ask.

    Where the attack knows the gradient, the images without a useful one are counted. For `FGSM` and `PGD` it is that of
    their own function and losses, for other attacks that of the learner. Attacks by labels count those without a start.

    Args:
        attack, learner, test, norm: as in `accuracy_under`.
        sizes: the budgets.
        name: of the curve.
        access: "white box" if it knows the gradient of `learner`, "black box", or "floor" for noise; "" if no check of
            `check_curves` follows.

    Raises:
        Refusal: what `accuracy_under` refuses, no budgets, another access, or `FGSM` and `PGD` without a gradient.
    """
    require(len(sizes) > 0, f"a curve needs a budget or more in sizes, got {sizes!r}.")
    if access not in (*ACCESS, ""):
        raise unknown("access of an attack", access, ACCESS)
    victim, ordered = _asked(learner, test), tuple(sorted(sizes))
    found = [attack_and_verify(attack, victim, test, norm=norm, size=size) for size in ordered]
    robust, over = torch.stack([one.robust for one in found]), max(one.overstepped for one in found)
    flat = _flat(attack, victim, test, norm) if access == WHITE else None
    lacking = no_start_fraction(attack, test) if isinstance(attack, LabelAttack) else None
    return Curve(name, access, ordered, robust, over, flat, lacking)


def _asked(learner: Any, test: Split) -> Victim:
    """The view of `learner`, which gives one answer to one question."""
    victim = victim_of(learner, test.classes)
    check_repeats(victim, test)
    return victim


def _flat(attack: Attack, victim: Victim, test: Split, norm: Norm) -> float | None:
    """Fraction of `test` without a useful gradient; None for an attack unknown to us on a victim without any."""
    forward = with_gradient(victim, test).forward
    ours = attack if isinstance(attack, FGSM | PGD) else PGD(forward, norm) if forward else None
    return zero_gradient_fraction(ours, test) if ours else None


def _check_range(x: Tensor, norm: Norm) -> None:
    low, high = (float(end) for end in x.aminmax())
    cure = f"divide by their range, or name it: {type(norm).__name__}(low=..., high=...)"
    found = f"an attack needs examples in [{norm.low:g}, {norm.high:g}], got {low:.4g} to {high:.4g}; {cure}."
    require(norm.low <= low and high <= norm.high, found)
