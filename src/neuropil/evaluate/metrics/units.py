"""What the units of a layer do: who wins, who is dead, whether norms converged, how many directions they span."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neuropil.data import Split
from neuropil.runs.rows import UnitsRow, WarningRow
from neuropil.runs.tracker import Tracker


class UnitStatistics(NamedTuple):
    """The state of a layer of competing units on a data set, of `unit_statistics`.

    Attributes:
        wins: how many examples (or positions) each unit has the largest activity for, (units,).
        norms: sum |w|^p of each row, (units,); 1 is the fixed point of a rule with a norm.
        dead: fraction of units that never win.
        converged: fraction of rows with ``|norm - 1| < 0.1``.
        effective_rank: participation ratio of the singular values s of the weight, (sum s^2)^2 / sum s^4; 0 for a
            weight that is not finite.
        win_entropy: entropy of the wins over log(units); 1 when all units win equally often.
    """

    wins: Tensor
    norms: Tensor
    dead: float
    converged: float
    effective_rank: float
    win_entropy: float


def unit_statistics(weight: Tensor, wins: Tensor, *, p: float = 2.0) -> UnitStatistics:
    """The statistics of rows `weight` (units, fan-in) that won `wins` (units,) times."""
    norms = weight.abs().pow(p).sum(1)
    sound = bool(torch.isfinite(weight).all())
    return UnitStatistics(
        wins=wins,
        norms=norms,
        dead=(wins == 0).float().mean().item(),
        converged=((norms - 1).abs() < 0.1).float().mean().item(),
        effective_rank=participation_ratio(torch.linalg.svdvals(weight.double())) if sound else 0.0,
        win_entropy=entropy(wins.float()).item() / torch.tensor(float(len(wins))).log().item(),
    )


def participation_ratio(singular_values: Tensor) -> float:
    """(sum s^2)^2 / sum s^4: how many of the singular values s take part; 0 if all are 0, NaN if one is.

    >>> participation_ratio(torch.tensor([2.0, 2.0, 2.0, 0.0]))
    3.0
    >>> participation_ratio(torch.zeros(3)), participation_ratio(torch.tensor([1.0, torch.nan]))
    (0.0, nan)
    """
    energy = singular_values.square()
    fourth = energy.square().sum()
    return 0.0 if fourth == 0 else (energy.sum() ** 2 / fourth).item()


def entropy(amounts: Tensor) -> Tensor:
    """Entropy in nats of non-negative `amounts` divided by their sum; all zero gives 0."""
    fractions = amounts / amounts.sum() if amounts.sum() > 0 else amounts
    return torch.special.entr(fractions).sum()


@torch.no_grad()
def count_wins(activity: Callable[[Tensor], Tensor], split: Split, *, batch: int = 1000) -> Tensor:
    """(units,) how often each unit is the most active; `activity` maps a batch to (batch, units, *positions).

    Where all units are equally active, as on an empty patch, no unit wins.
    """
    total = torch.zeros(0, dtype=torch.int64)
    for chunk in split.batches(min(batch, len(split))):
        active = activity(chunk.x)
        contested = active.amax(1) > active.amin(1)
        won = active.argmax(1)[contested].bincount(minlength=active.shape[1]).cpu()
        total = won if len(total) == 0 else total + won
    return total


@torch.no_grad()
def log_units(
    activity: Callable[[Tensor], Tensor],
    weight: Tensor,
    split: Split,
    *,
    competes: bool = True,
    norm: float | None,
    layer: str = "hidden",
    batch: int = 1000,
    tracker: Tracker,
) -> None:
    """Log the statistics of a layer on `split`, and a warning for every number that should worry.

    Args:
        activity: maps a batch to the activity of the units, (batch, units, *positions).
        weight: (units, fan-in).
        split: the examples that the units compete for.
        competes: whether the rule makes units compete, so that a unit that never wins is a waste.
        norm: the p of the fixed point sum |w|^p = 1 that the rule has; None for none.
        layer: its name in the row.
        batch: examples at a time.
        tracker: takes the rows.
    """
    found = unit_statistics(weight, count_wins(activity, split, batch=batch), p=2.0 if norm is None else norm)
    numbers: dict[str, Any] = found._asdict() | {"wins": found.wins.tolist(), "norms": found.norms.tolist()}
    tracker.log(UnitsRow(layer=layer, **numbers))
    for sentence in unit_warnings(found, competes=competes, normed=norm is not None):
        tracker.log(WarningRow(message=sentence))


def unit_warnings(found: UnitStatistics, *, competes: bool = True, normed: bool = True) -> list[str]:
    """Sentences about numbers that should worry the reader; none if all is well.

    Args:
        found: the statistics of a layer.
        competes: whether a unit that never wins is a waste.
        normed: whether the rule has rows of norm 1 as its fixed point.
    """
    sentences = []
    if competes and found.dead > 0.25:
        sentences.append(f"{found.dead:.0%} of the units never win: their capacity is wasted.")
    if normed and found.converged < 0.75:
        sentences.append(f"only {found.converged:.0%} of the rows are within 0.1 of norm 1: they have not converged.")
    if not bool(torch.isfinite(found.norms).all()):
        sentences.append("some weights are not finite: the rule diverged.")
    if found.effective_rank < 0.1 * min(len(found.wins), 100):
        sentences.append(
            f"the weight spans about {found.effective_rank:.0f} directions only: the units are near-copies."
        )
    return sentences
