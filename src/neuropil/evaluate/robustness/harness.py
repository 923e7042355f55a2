"""The harness: it clips and re-scores every adversarial example itself, and believes no attack."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.errors import require
from neuropil.evaluate.robustness.norms import Norm, check_size
from neuropil.evaluate.robustness.victim import Victim, victim_of

Attack = Callable[[Split, float], Tensor]
WHITE, BLACK, FLOOR = "white box", "black box", "floor"  # what an attack knows


class Survivors(NamedTuple):
    """What was left after an attack of one size.

    Attributes:
        held: (n,) bool: named right before, and after the move as well.
        overstepped: share of examples that the attack moved out of its budget or out of the range, before we clipped.
    """

    held: Tensor
    overstepped: float


class Curve(NamedTuple):
    """What one attack left at growing budgets.

    Attributes:
        attack: its name.
        access: what it knows: WHITE, BLACK or FLOOR.
        sizes: the budgets, growing.
        held: (sizes, n) bool, as in `Survivors`.
        overstepped: the largest share of examples that were moved too far at any size.
        flat: share of images without a useful gradient, for attacks that need one.
    """

    attack: str
    access: str
    sizes: tuple[float, ...]
    held: Tensor
    overstepped: float = 0.0
    flat: float = 0.0

    @property
    def accuracy(self) -> list[float]:
        """Share right at every size."""
        return self.held.double().mean(1).tolist()


def survivors(attack: Attack, victim: Victim, test: Split, *, norm: Norm, size: float, batch: int = 1000) -> Survivors:
    """Who stays right under what `attack` makes of `test`; see `accuracy_under`."""
    return judge(victim, test, craft(attack, test, norm=norm, size=size, batch=batch), norm=norm, size=size)


def craft(attack: Attack, test: Split, *, norm: Norm, size: float, batch: int = 1000) -> Tensor:
    """What `attack` makes of `test`, (n, *shape), as it offers it: nothing is believed yet."""
    check_size(size)
    offers = []
    for part in test.batches(min(batch, len(test))):
        _check_range(part.x, norm)
        offered = attack(Split(part.x.clone(), part.y, test.classes), size)  # a copy: nobody moves the ball's centre
        sound = bool(offered.isfinite().all())
        require(
            offered.shape == part.x.shape and sound,
            f"an attack needs to give back finite examples {tuple(part.x.shape)}, got {tuple(offered.shape)}"
            f"{'' if sound else ' with NaN or infinity'}.",
        )
        offers.append(offered)
    return torch.cat(offers)


def judge(victim: Victim, test: Split, offered: Tensor, *, norm: Norm, size: float, batch: int = 1000) -> Survivors:
    """Who is right on `test` and on what was `offered` instead, after we have clipped that to the budget."""
    held, over, start = [], 0, 0
    for part in test.batches(min(batch, len(test))):
        offer = offered[start : start + len(part)].to(part.x)
        moved = norm.clip(part.x, offer, size)
        over += int((norm.length(moved - offer) > 1e-4 * (1 + size)).sum())
        held.append((victim.predict(moved) == part.y) & (victim.predict(part.x) == part.y))
        start += len(part)
    return Survivors(torch.cat(held), over / len(test))


def accuracy_under(attack: Attack, learner: Any, test: Split, *, norm: Norm, size: float, batch: int = 1000) -> float:
    """Accuracy on what `attack` makes of `test`, held to `size` and to the range by us, not by it.

    Args:
        attack: gets examples, their labels, and a budget; gives moved examples.
        learner: anything that `victim_of` understands.
        test: images in [0, 1], or vectors in the range of `norm`.
        norm, size: the budget.
        batch: examples at once.

    Raises:
        Refusal: a budget below 0, examples outside the range, NaN, wrong shapes.
    """
    victim = victim_of(learner, test.classes)
    return survivors(attack, victim, test, norm=norm, size=size, batch=batch).held.double().mean().item()


def curve(
    attack: Attack, learner: Any, test: Split, *, norm: Norm, sizes: Sequence[float], name: str, access: str
) -> Curve:
    """`accuracy_under` at each of `sizes`, example by example."""
    victim, ordered = victim_of(learner, test.classes), tuple(sorted(sizes))
    found = [survivors(attack, victim, test, norm=norm, size=size) for size in ordered]
    held, over = torch.stack([one.held for one in found]), max(one.overstepped for one in found)
    return Curve(name, access, ordered, held, over)


def _check_range(x: Tensor, norm: Norm) -> None:
    low, high = (float(end) for end in x.aminmax())
    if norm.low <= low and high <= norm.high:
        return
    cure = f"divide by their range, or name it: {type(norm).__name__}(low=..., high=...)"
    require(False, f"an attack needs examples in [{norm.low:g}, {norm.high:g}], got {low:.4g} to {high:.4g}; {cure}.")
