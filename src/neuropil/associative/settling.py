"""How activity settles, and what a teacher does to it; no energy is computed, every unit sees only its own drive."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.associative.connectivity import State, Wiring
from neuropil.errors import require

Masks = dict[str, Tensor | None]  # who is free, for each group that moves: 1 or 0 for each unit, None for all


class Settled(NamedTuple):
    """Where settling ended.

    Attributes:
        state: activity of every group.
        steps: how many were made.
        residual: largest |f(u) - s| of each sample's free units at the last look, (batch,); NaN if nobody looked.
        done: whether every residual is below the tolerance.
    """

    state: State
    steps: int
    residual: Tensor
    done: bool


@dataclass(frozen=True)
class Settling:
    r"""Leaky units with momentum: :math:`m \leftarrow \mu m + \epsilon (f(u) - s)`, :math:`s \leftarrow s + m`.

    :math:`f(u) = \min(\max(u, 0), 1)`, u is the weighted sum of what reaches a unit. A step is one sweep over the
    groups; each sees the present activity of the others. Units of a group of which a part is given and that are free
    themselves whisper: they send only a share of their activity, so that what is known outweighs what is guessed, and
    guesses do not confirm each other.

    Attributes:
        steps: most sweeps.
        step: epsilon, in (0, 1].
        momentum: mu, in [0, 1).
        tolerance: settled when no free unit is further than this from f(u).
        check: sweeps between two looks at that distance.
        whisper: share of its activity that a free unit among given ones sends, in [0, 1].
    """

    steps: int = 20
    step: float = 0.5
    momentum: float = 0.0
    tolerance: float = 1e-2
    check: int = 5
    whisper: float = 0.1

    def __post_init__(self) -> None:
        require(self.steps >= 1 and self.check >= 1, f"Settling needs steps and check >= 1, got {self}.")
        require(0 < self.step <= 1, f"Settling needs 0 < step <= 1, got {self}.")
        require(0 <= self.momentum < 1, f"Settling needs 0 <= momentum < 1, got {self}.")
        require(self.tolerance >= 0, f"Settling needs tolerance >= 0, got {self}.")
        require(0 <= self.whisper <= 1, f"Settling needs 0 <= whisper <= 1, got {self}.")

    def __call__(self, net: Wiring, state: State, free: Masks, fixed: State | None = None) -> Settled:
        """Settle `state` in place.

        Args:
            net: who sends to whom.
            state: activity of every group; the groups outside `free` keep theirs.
            free: groups that move, with a factor (batch, units) that is 1 for free units and 0 for given ones, or
                None if all of the group is free.
            fixed: what reaches each group at rest and from groups that do not move, if it is known already.
        """
        return _sweep_(net, state, free, self, self.steps, {}, 0.0, fixed)


@dataclass(frozen=True)
class Teacher:
    r"""Pulls taught units towards the truth for a few steps: :math:`\epsilon (f(u) - s + \beta (d - s))`.

    What the pull moves, in taught and hidden units alike, is the change that STDP learns from. With a `reach` (aSTDP)
    two steps are enough: the numerical derivative :math:`s(t + k) - s(t)` sets each unit's target
    :math:`s(t) + reach\,(s(t + k) - s(t))`, clipped to [0, 1].

    Attributes:
        steps: sweeps of the event.
        strength: beta.
        reach: factor of the numerical derivative; None takes the activity as it is after the event (mSTDP).
    """

    steps: int = 6
    strength: float = 0.5
    reach: float | None = None

    def __post_init__(self) -> None:
        require(self.steps >= 1 and self.strength > 0, f"Teacher needs steps >= 1 and strength > 0, got {self}.")
        require(self.reach is None or self.reach > 0, f"Teacher needs reach > 0 or None, got {self}.")

    def __call__(
        self,
        net: Wiring,
        before: State,
        free: Masks,
        truth: Mapping[str, Tensor],
        settling: Settling,
        fixed: State | None = None,
    ) -> State:
        """The activity after the event; `before` stays as it is.

        Args:
            net, free, fixed: as in `Settling`.
            before: settled activity.
            truth: what each taught group should be, (batch, units).
            settling: its step and momentum serve here too.
        """
        after = {name: activity.clone() if name in free else activity for name, activity in before.items()}
        _sweep_(net, after, free, settling, self.steps, truth, self.strength, fixed)
        if self.reach is not None:
            for name in free:
                torch.lerp(before[name], after[name], self.reach, out=after[name]).clamp_(0, 1)
        return after


@torch.no_grad()
def _sweep_(
    net: Wiring,
    state: State,
    free: Masks,
    settling: Settling,
    steps: int,
    truth: Mapping[str, Tensor],
    strength: float,
    known: State | None,
) -> Settled:
    """`steps` sweeps in place; without a teacher it stops once settled."""
    fixed = known or {post: fixed_drive(net, state, post, free, state[post]) for post in free}
    sent = {name: send(s, free.get(name), settling.whisper) for name, s in state.items()}
    drives = {post: torch.empty_like(drive) for post, drive in fixed.items()}
    speed = {post: torch.zeros_like(state[post]) for post in free} if settling.momentum else {}
    leaves = settling.momentum > 0 or settling.step * (1 + strength) > 1  # whether a step may leave [0, 1]
    residual = torch.full((), torch.nan)
    done, made = False, 0
    for made in range(1, steps + 1):
        look = not truth and (made % settling.check == 0 or made == steps)
        worst = []
        for post, mask in free.items():
            s = state[post]
            pull = drive_(net, sent, post, free, fixed[post], drives[post]).clamp_(0, 1).sub_(s)
            if post in truth:
                pull.add_(truth[post], alpha=strength).sub_(s, alpha=strength)
            if mask is not None:
                pull.mul_(mask)
            if look:
                worst.append(pull.abs().amax(1))
            if settling.momentum:
                pull = speed[post].mul_(settling.momentum).add_(pull, alpha=settling.step)
            s.add_(pull, alpha=1 if settling.momentum else settling.step)
            if leaves:
                s.clamp_(0, 1)
            if mask is not None:
                send(s, mask, settling.whisper, out=sent[post])
        if look:
            residual = torch.stack(worst).amax(0)
            done = bool(residual.max() < settling.tolerance)
            if done:
                break
    return Settled(state, made, residual, done)


def send(activity: Tensor, mask: Tensor | None, whisper: float, out: Tensor | None = None) -> Tensor:
    """What units send, (batch, units): free ones (`mask` 1) among given ones (0) a share, all others their activity."""
    return activity if mask is None else torch.addcmul(activity, mask, activity, value=whisper - 1, out=out)


def drive_of(net: Wiring, state: State, post: str, free: Masks, whisper: float) -> Tensor:
    """All that reaches a group now."""
    sent = {name: send(s, free.get(name), whisper) for name, s in state.items()}
    fixed = fixed_drive(net, state, post, free, state["pixels"])
    return drive_(net, sent, post, free, fixed, torch.empty_like(fixed))


def fixed_drive(net: Wiring, state: State, post: str, free: Masks, like: Tensor) -> Tensor:
    """What reaches a group at rest and from groups that do not move, (batch, units); batch and device are of `like`."""
    drive = net.rest[post].expand(len(like), -1)
    for pre, target in net.routes:
        if target == post and pre not in free and pre in state:
            drive = torch.addmm(drive, state[pre], net.between(pre, post).weight.T)
    return drive


def drive_(net: Wiring, sent: State, post: str, free: Masks, fixed: Tensor, out: Tensor) -> Tensor:
    """All that reaches a group: `fixed` plus what the moving groups have `sent`, written into `out`."""
    for pre, target in net.routes:
        if target == post and pre in free:
            fixed = torch.addmm(fixed, sent[pre], net.between(pre, post).weight.T, out=out)
    return fixed if fixed is out else out.copy_(fixed)
