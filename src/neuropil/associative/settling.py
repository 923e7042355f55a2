"""How activity settles, and how a nudge moves it; no energy is computed, every unit sees only its own drive."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropil.associative.connectivity import LABEL, PIXELS, Connectivity, State
from neuropil.associative.targets import DerivativeTargets, Past
from neuropil.errors import needs, needs_numbers

Masks = dict[str, Tensor | None]  # for each population that moves: 1 for free and 0 for clamped units, None if all move


class Settled(NamedTuple):
    """Where the settling of an `AssociativeNetwork` ended.

    Attributes:
        state: activity of every population, (batch, units) each.
        iterations: sweeps that were made.
        residual: largest |f(u) - s| of each sample's free units at the last check, (batch,); NaN without a check.
        converged: whether every residual is below the tolerance.
        sweeps: how many of them each sample took part in, (batch,) int64; their sum is the work.
    """

    state: State
    iterations: int
    residual: Tensor
    converged: bool
    sweeps: Tensor


@dataclass(frozen=True)
class Settling:
    r"""Leaky units with momentum: :math:`m \leftarrow \mu m + \epsilon (f(u) - s)`, :math:`s \leftarrow s + m`.

    :math:`f(u) = \min(\max(u, 0), 1)`; u, the drive of a unit, is its bias plus the weighted sum of its input. One
    iteration is one sweep over the populations; each sees the present activity of the others. Where part of a
    population is clamped, its free units send only a fraction of their activity. What is known then outweighs what is
    guessed, and guesses do not confirm each other.

    Attributes:
        max_iterations: most sweeps.
        step_size: epsilon, in (0, 1].
        momentum: mu, in [0, 1).
        tolerance: activity has settled when no free unit is further than this from f(u).
        check_every: sweeps between two checks of that distance.
        free_unit_gain: fraction of its activity that a free unit among clamped ones sends, in [0, 1].
        targets: how far the free label units aim in the free phase, from their own derivative. None: at f(u).

    Raises:
        Refusal: a setting outside these ranges, or targets with momentum.
    """

    max_iterations: int = 20
    step_size: float = 0.5
    momentum: float = 0.0
    tolerance: float = 1e-2
    check_every: int = 5
    free_unit_gain: float = 0.1
    targets: DerivativeTargets | None = None

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, self.max_iterations >= 1 and self.check_every >= 1, "max_iterations and check_every >= 1")
        needs(self, 0 < self.step_size <= 1, "0 < step_size <= 1")
        needs(self, 0 <= self.momentum < 1, "0 <= momentum < 1")
        needs(self, self.tolerance >= 0, "tolerance >= 0")
        needs(self, 0 <= self.free_unit_gain <= 1, "0 <= free_unit_gain <= 1")
        needs(self, self.targets is None or self.momentum == 0, "momentum=0 where targets are set")

    def __call__(
        self, net: Connectivity, state: State, free: Masks, fixed: State | None = None,
        all_have: Callable[[Tensor], bool] = bool,
    ) -> Settled:  # fmt: skip
        """Settle `state` in place: the free phase.

        Args:
            net: the weights.
            state: activity of every population; those outside `free` keep theirs.
            free: which units move, see `Masks`.
            fixed: what each population receives from its bias and from populations that do not move, if known already.
            all_have: whether the whole batch has settled, from whether these samples have, (); see `Portion.all`.
        """
        return _settle_(_Sweep(net, state, free, self, fixed), all_have)

    @torch.no_grad()
    def each(self, net: Connectivity, state: State, free: Masks) -> Settled:
        """The same in use: every sample stops once it has settled, so that none depends on the batch that it is in."""
        own = _copy(state, free)
        sweep, left = _Sweep(net, own, free, self, None), torch.arange(len(own[PIXELS]), device=own[PIXELS].device)
        residual, made, sweeps = own[PIXELS].new_full((len(left),), torch.nan), 0, torch.zeros_like(left)
        while len(left) and made < self.max_iterations:
            made += 1
            check = made % self.check_every == 0 or made == self.max_iterations
            distances = sweep(check)
            if check:
                sweeps[left] = made
                residual[left] = torch.stack(distances).amax(0)
                moving = ~(residual[left] < self.tolerance)
                if made == self.max_iterations or not bool(moving.all()):
                    for name in free:
                        state[name][left] = sweep.state[name]
                    sweep, left = sweep.some(moving), left[moving]
        return Settled(state, made, residual, not len(left), sweeps)


@dataclass(frozen=True)
class Nudge:
    r"""Pulls target units towards their data for a few steps: :math:`\epsilon (f(u) - s + \beta (d - s))`.

    This is the nudged phase, as in equilibrium propagation (Scellier & Bengio 2017). What it moves, in target and
    hidden units alike, is the change from which synapses learn. With an `extrapolation` factor kappa (aSTDP) few steps
    are enough: the numerical derivative :math:`s(t + k) - s(t)` sets each unit's target
    :math:`s(t) + \kappa\,(s(t + k) - s(t))`, clipped to [0, 1].

    A network that has not settled drifts during the nudge, and synapses would learn from the drift. A `control` takes
    it away: the same steps from the same activity, without any pull. Synapses then learn from how far the nudge took
    their unit beyond the control. So a short free phase is enough, and each unit has to return to where that ended.

    Attributes:
        steps: sweeps of the nudged phase, and of its control.
        beta: strength of the pull.
        extrapolation: kappa; None takes the activity at the end of the nudged phase (mSTDP).
        control: whether there is one; without, synapses learn from how far units went since the free phase.

    Raises:
        Refusal: a setting that is not above 0.
    """

    steps: int = 6
    beta: float = 0.5
    extrapolation: float | None = None
    control: bool = False

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, self.steps >= 1 and self.beta > 0, "steps >= 1 and beta > 0")
        needs(self, self.extrapolation is None or self.extrapolation > 0, "extrapolation > 0 or None")

    def __call__(
        self, net: Connectivity, before: State, free: Masks, targets: Mapping[str, Tensor], settling: Settling,
        fixed: State | None = None,
    ) -> State:  # fmt: skip
        """The activity after the nudged phase; `before` stays as it is.

        Args:
            net, free, fixed: as in `Settling`.
            before: settled activity.
            targets: the data of each target population, (batch, units).
            settling: its step size and momentum are used here too.
        """
        return self._moved(_Sweep(net, _copy(before, free), free, settling, fixed, targets, self.beta), before)

    def without(
        self, net: Connectivity, before: State, free: Masks, settling: Settling, fixed: State | None = None
    ) -> State:
        """With which activity that after the nudged phase is compared: after the control, or else `before`."""
        if not self.control:
            return before
        return self._moved(_Sweep(net, _copy(before, free), free, replace(settling, targets=None), fixed), before)

    @torch.no_grad()
    def _moved(self, sweep: "_Sweep", before: State) -> State:
        for _ in range(self.steps):
            sweep(check=False)
        if self.extrapolation is not None:
            for name in sweep.free:
                after = sweep.state[name]
                torch.lerp(before[name], after, self.extrapolation, out=after).clamp_(0, 1)
        return sweep.state


def _copy(state: State, free: Masks) -> State:
    return {name: activity.clone() if name in free else activity for name, activity in state.items()}


@torch.no_grad()
def _settle_(sweep: "_Sweep", all_have: Callable[[Tensor], bool]) -> Settled:
    """Up to `max_iterations` sweeps in place; it stops once settled."""
    settling, residual = sweep.settling, torch.full((), torch.nan)
    converged, made = False, 0
    for made in range(1, settling.max_iterations + 1):
        check = made % settling.check_every == 0 or made == settling.max_iterations
        distances = sweep(check)
        if check:
            residual = torch.stack(distances).amax(0)
            converged = all_have((residual < settling.tolerance).all())
            if converged:
                break
    rows = next(iter(sweep.state.values()))
    return Settled(sweep.state, made, residual, converged, torch.full((len(rows),), made, device=rows.device))


@dataclass(eq=False)
class _Sweep:
    """One step of all populations that move, in place, one after the other, with the buffers that it needs."""

    net: Connectivity
    state: State
    free: Masks
    settling: Settling
    given: State | None  # what `fixed_drive` gives, if known already
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    beta: float = 0.0

    @torch.no_grad()
    def __post_init__(self) -> None:
        needs_numbers(self)
        net, state, free, settling = self.net, self.state, self.free, self.settling
        self.fixed = self.given or {post: fixed_drive(net, state, post, free, state[post]) for post in free}
        self.sent = {name: send(s, free.get(name), settling.free_unit_gain) for name, s in state.items()}
        self.drives = {post: torch.empty_like(drive) for post, drive in self.fixed.items()}
        self.velocity = {post: torch.zeros_like(state[post]) for post in free} if settling.momentum else {}
        self.aims = settling.targets if LABEL in free and not self.targets else None
        self.past: Past | None = None
        most = self.aims.most if self.aims else 1 + self.beta
        self.may_leave = settling.momentum > 0 or settling.step_size * most > 1  # a step may leave [0, 1]

    def some(self, rows: Tensor) -> "_Sweep":
        """The sweep of the samples where `rows` (batch,) is True, with their velocities."""
        part: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda of: {
            name: tensor if tensor is None else tensor[rows] for name, tensor in of.items()
        }
        other = _Sweep(self.net, part(self.state), part(self.free), self.settling, part(self.fixed))
        other.velocity = part(self.velocity)
        if self.past:
            activity, pull, reach, moves = self.past
            other.past = Past(activity[rows], pull[rows], reach[rows], moves)
        return other

    def __call__(self, check: bool) -> list[Tensor]:
        """Make the step; with `check`, how far each sample's free units were from f(u), (batch,) a population."""
        settling, distances = self.settling, list[Tensor]()
        for post, mask in self.free.items():
            s = self.state[post]
            pull = drive_(self.net, self.sent, post, self.free, self.fixed[post], self.drives[post])
            pull.clamp_(0, 1).sub_(s)
            if post in self.targets:
                pull.add_(self.targets[post], alpha=self.beta).sub_(s, alpha=self.beta)
            if mask is not None:
                pull.mul_(mask)
            if check:
                distances.append(pull.abs().amax(1))
            if self.aims and post == LABEL:
                self.past = self.aims(s, pull, self.past)
                pull.mul_(self.past.reach)
            if settling.momentum:
                s.add_(self.velocity[post].mul_(settling.momentum).add_(pull, alpha=settling.step_size))
            else:
                s.add_(pull, alpha=settling.step_size)
            if self.may_leave:
                s.clamp_(0, 1)
            if mask is not None:
                send(s, mask, settling.free_unit_gain, out=self.sent[post])
        return distances


def send(activity: Tensor, mask: Tensor | None, free_unit_gain: float, out: Tensor | None = None) -> Tensor:
    """What units send, (batch, units): free ones (`mask` 1) a fraction of their activity, clamped ones all of it."""
    if mask is None:
        return activity
    sent: Tensor = torch.addcmul(activity, mask, activity, value=free_unit_gain - 1, out=out)
    return sent


def drive_of(net: Connectivity, state: State, post: str, free: Masks, free_unit_gain: float) -> Tensor:
    """The drive of a population at present, (batch, units)."""
    sent = {name: send(s, free.get(name), free_unit_gain) for name, s in state.items()}
    fixed = fixed_drive(net, state, post, free, state[PIXELS])
    return drive_(net, sent, post, free, fixed, torch.empty_like(fixed))


def fixed_drive(net: Connectivity, state: State, post: str, free: Masks, like: Tensor) -> Tensor:
    """Bias plus input from populations that do not move, (batch, units); batch and device are those of `like`."""
    drive: Tensor = net.bias[post].expand(len(like), -1)
    for pre, target in net.projections:
        if target == post and pre not in free and pre in state:
            drive = torch.addmm(drive, state[pre], net.between(pre, post).weight.T)
    return drive


def drive_(net: Connectivity, sent: State, post: str, free: Masks, fixed: Tensor, out: Tensor) -> Tensor:
    """The whole drive: `fixed` plus what the moving populations have `sent`, written into `out`."""
    for pre, target in net.projections:
        if target == post and pre in free:
            fixed = torch.addmm(fixed, sent[pre], net.between(pre, post).weight.T, out=out)
    return fixed if fixed is out else out.copy_(fixed)
