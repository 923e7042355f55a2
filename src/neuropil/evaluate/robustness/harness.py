"""The harness: it clips every adversarial example to its budget and classifies it again."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.errors import require
from neuropil.evaluate.robustness.attacks.labels import LabelAttack
from neuropil.evaluate.robustness.norms import Norm, check_budget
from neuropil.evaluate.robustness.victim import Victim, victim_of

Attack = Callable[[Split, float], Tensor]
WHITE, BLACK, FLOOR = "white box", "black box", "floor"  # what an attack knows


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
        zero_gradient_fraction: fraction of images without a useful gradient, for attacks that need one.
        no_start_fraction: fraction of images for which an attack by labels found no image to start from.
    """

    attack: str
    access: str
    sizes: tuple[float, ...]
    robust: Tensor
    overstepped: float = 0.0
    zero_gradient_fraction: float = 0.0
    no_start_fraction: float = 0.0

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
    """
    victim = victim_of(learner, test.classes)
    return attack_and_verify(attack, victim, test, norm=norm, size=size, batch=batch).robust.double().mean().item()


def curve(
    attack: Attack, learner: Any, test: Split, *, norm: Norm, sizes: Sequence[float], name: str, access: str
) -> Curve:
    """`accuracy_under` at each of `sizes`, example by example."""
    victim, ordered = victim_of(learner, test.classes), tuple(sorted(sizes))
    found = [attack_and_verify(attack, victim, test, norm=norm, size=size) for size in ordered]
    robust, over = torch.stack([one.robust for one in found]), max(one.overstepped for one in found)
    return Curve(name, access, ordered, robust, over)


def _check_range(x: Tensor, norm: Norm) -> None:
    low, high = (float(end) for end in x.aminmax())
    cure = f"divide by their range, or name it: {type(norm).__name__}(low=..., high=...)"
    found = f"an attack needs examples in [{norm.low:g}, {norm.high:g}], got {low:.4g} to {high:.4g}; {cure}."
    require(norm.low <= low and high <= norm.high, found)
