"""Targets that a unit sets itself while activity settles, from the numerical derivative of its own pull."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.errors import needs, needs_numbers


class Past(NamedTuple):
    """What each unit remembers of its last move, (batch, units) each.

    Attributes:
        activity, pull: s and r before that move.
        reach: how many times its pull it went.
        moves: how many it has made.
    """

    activity: Tensor
    pull: Tensor
    reach: Tensor
    moves: int


@dataclass(frozen=True)
class DerivativeTargets:
    r"""A unit aims at :math:`s + k r`: where its pull r = f(u) - s will be 0, if r goes on as in its last move.

    The reach is the secant :math:`k = -\Delta s / \Delta r` of the unit's own last move, kept within [`least`,
    `most`]. A pull that grew reaches furthest. A unit that did not move keeps its reach. The first two moves reach
    `first` times their pull or more: their derivative is missing, or that of a network far from rest.

    A unit needs its own activity, its own pull and what it remembers of both, and nothing of any other unit. Where
    there is no pull there is no move, so the fixed points are those without targets.

    Li 2022 (arXiv 2206.14137) sets numerical derivatives as targets; this is our reconstruction from its abstract.

    Attributes:
        first: reach of the first move, and least reach of the second, from `least` to `most`.
        least, most: bounds of the reach. If both are equal the reach is a constant, and the derivative has no say.

    Raises:
        Refusal: a setting outside these ranges.

    Examples:
        >>> halves = DerivativeTargets(first=1.0, most=4.0)
        >>> s, r = torch.zeros(1, 1), torch.ones(1, 1)
        >>> move = halves(s, r, None)
        >>> halves(s + move.reach * r, r / 2, move).reach  # the pull halves in a move: it ends at twice the way
        tensor([[2.]])
    """

    first: float = 1.5
    least: float = 1.0
    most: float = 2.5

    def __post_init__(self) -> None:
        needs_numbers(self)
        needs(self, 0 < self.least <= self.first <= self.most, "0 < least <= first <= most")

    def __call__(self, activity: Tensor, pull: Tensor, past: Past | None) -> Past:
        """The reach of the next move, with what it is computed from."""
        if past is None:
            reach = torch.full_like(pull, self.first)
        else:
            stays = activity == past.activity
            fall = torch.where(stays, 1, past.pull - pull)
            secant = (activity - past.activity) / fall
            reach = torch.where(secant < 0, self.most, torch.where(stays, past.reach, secant))
            reach.clamp_(self.first if past.moves == 1 else self.least, self.most)
        return Past(activity.clone(), pull.clone(), reach, 1 if past is None else past.moves + 1)
