"""Robustness in tables and words: what every attack left, which curves are void and why, and the linear model."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from neuropil.report.results import Row, Study, number
from neuropil.report.stats import interval, points

WORST = "all attacks"
VOID = "†"
MARK = f"{VOID} void: a check for masking failed, or no attack with gradients applies; an upper bound at best."


@dataclass(frozen=True)
class Grid:
    """A table: the first cell of a row names it."""

    caption: str
    heads: list[str]
    rows: list[list[str]]
    folded: bool = False


class Key(NamedTuple):
    """Whose curve, under what."""

    data: str
    norm: str
    attack: str
    learner: str


@dataclass
class Left:
    """What one attack left of one learner: budget -> seed -> accuracy, and the seeds in which it is void."""

    by_size: dict[float, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    void: set[int] = field(default_factory=set)

    def cell(self, size: float) -> str:
        """Mean and interval in percent, marked where void."""
        found = self.by_size.get(size)
        return brief(found.values()) + (f" {VOID}" if self.void and size else "") if found else "–"


def brief(values: Iterable[float]) -> str:
    """Shares as '83.1 ± 2.0', in percent; one alone as '83.1'."""
    middle, half = interval(values)
    return f"{100 * middle:.1f}" + ("" if math.isnan(half) else f" ± {100 * half:.1f}")


def curves_of(study: Study) -> dict[Key, Left]:
    """Every curve, best learner first."""
    found: dict[Key, Left] = defaultdict(Left)
    for row in study.rows("attack"):
        left = found[Key(row.get("data", ""), row["norm"], row["attack"], row["learner"])]
        left.by_size[number(row, "size")][row.get("seed", 0)] = number(row, "accuracy")
        if row.get("invalid"):
            left.void.add(row.get("seed", 0))
    return found


def pairs_of(curves: Iterable[Key]) -> list[tuple[str, str]]:
    """The data sets and norms, in order."""
    return list(dict.fromkeys((key.data, key.norm) for key in curves))


def attack_grids(curves: Mapping[Key, Left], data: str, norm: str) -> list[Grid]:
    """What all attacks together left at every budget; and, folded, what each of them left."""
    mine = {key: left for key, left in curves.items() if (key.data, key.norm) == (data, norm)}
    sizes = sorted({size for left in mine.values() for size in left.by_size})
    heads = [f"{size:g}" if size else "clean" for size in sizes]
    rows = lambda attack: [[key.learner, *map(left.cell, sizes)] for key, left in mine.items() if key.attack == attack]
    said = f"accuracy, %, that withstands every attack; {norm} budget"
    worst = Grid(said, ["learner", *heads], rows(WORST))
    attacks = [name for name in dict.fromkeys(key.attack for key in mine) if name != WORST]
    each = [[f"{name}: {row[0]}", *row[1:]] for name in attacks for row in rows(name)]
    return [worst, Grid(f"the same, attack by attack; {norm} budget", ["attack: learner", *heads], each, folded=True)]


def check_grid(study: Study, data: str, norm: str) -> Grid:
    """Every check of every curve: passed in all seeds, or what failed."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in study.rows("check"):
        if (row.get("data", ""), row["norm"]) == (data, norm):
            found[row["learner"], row["attack"]][row["check"]].append(row)
    names = list(dict.fromkeys(name for checks in found.values() for name in checks))
    names.sort(key=lambda name: name.startswith("beats"))
    rows = [
        [f"{learner}: {attack}", *(outcome(checks.get(name, [])) for name in names)]
        for (learner, attack), checks in found.items()
    ]
    return Grid(f"checks for masking; {norm}", ["learner: attack", *names], rows, folded=True)


def void_words(grid: Grid) -> list[str]:
    """A sentence for every curve that failed a check."""
    failed = [
        (row[0], [f"{h} {c}" for h, c in zip(grid.heads[1:], row[1:]) if c.startswith("failed")]) for row in grid.rows
    ]
    return [f"Void: {name}. {'; '.join(reasons)}." for name, reasons in failed if reasons]


def outcome(rows: Sequence[Row]) -> str:
    """'ok', with the share that was looked at in the worst seed; or the first failure and in how many seeds."""
    failed = [row for row in rows if not row["passed"]]
    if failed:
        return f"failed in {len(failed)} of {len(rows)}: {failed[0]['finding']}"
    shares = [float(found[1]) for row in rows if (found := re.match(r"([\d.]+)%", row["finding"]))]
    return (f"ok ({max(shares):.1f} %)" if shares else "ok") if rows else ""


def hurt_grid(study: Study, data: str, kind: str) -> Grid | None:
    """Corruptions or damage: for every learner and kind the mean over the five severities."""
    found: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in study.rows(kind):
        if row.get("data", "") == data:
            found[row["learner"]][row[kind]][row.get("seed", 0)].append(number(row, "accuracy"))
    names = list(dict.fromkeys(name for kinds in found.values() for name in kinds))
    cell = lambda seeds: brief(sum(v) / len(v) for v in seeds.values()) if seeds else "–"
    rows = [[learner, *(cell(kinds.get(name)) for name in names)] for learner, kinds in found.items()]
    said = f"accuracy, %, mean over five severities of {kind}"
    return Grid(said, ["learner", *names], rows) if rows else None


def linear_words(study: Study, curves: Mapping[Key, Left], data: str) -> list[str]:
    """Is it more robust than a linear model of the same clean accuracy? One sentence per learner, from the numbers."""
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in study.rows("matched"):
        if row.get("data", "") == data and row["learner"] != row["linear"]:
            found[row["learner"]][row["norm"]].append(row)
    said = [
        f"{name}: " + "; ".join(answer(rows, curves, data) for rows in norms.values()) for name, norms in found.items()
    ]
    if said:
        linear = next(row["linear"] for norms in found.values() for rows in norms.values() for row in rows)
        said.insert(0, asked(linear))
    return said


def asked(linear: str) -> str:
    """The question, and how it is answered."""
    return (
        f"Is it more robust than a linear model of the same clean accuracy? Counted on the test images that both the "
        f"learner and {linear!r} name right, where both have 100 %: the share that withstands every attack on the one "
        f"minus the share that withstands every attack on the other, mean over the budgets, paired by seed."
    )


def answer(rows: Sequence[Row], curves: Mapping[Key, Left], data: str) -> str:
    """'in Linf yes, by 12.3 ± 2.1 points (55.0 against 42.7 %)', or no, or that it cannot be said."""
    name, norm, linear = rows[0]["learner"], rows[0]["norm"], rows[0]["linear"]
    mine, other = (by_seed(rows, key) for key in ("accuracy", "linear_accuracy"))
    middle, half = interval(mine[seed] - other[seed] for seed in mine)
    numbers = f"{points(middle, half)} points ({mean_of(mine)} against {mean_of(other)} %)"
    open_ended = [who for who in (name, linear) if curves[Key(data, norm, WORST, who)].void]
    if math.isnan(half):
        return f"in {norm} one seed tells {numbers}"
    if middle - half > 0:  # what a better attack would take from the linear model could only add to this
        verdict = f"not shown, {numbers} is an upper bound" if name in open_ended else f"yes, by {numbers}"
    elif middle + half < 0:
        verdict = f"not decided, {numbers} is a lower bound" if linear in open_ended else f"no, {numbers}"
    else:
        verdict = f"no difference is seen, {numbers}"
    return f"in {norm} {verdict}"


def by_seed(rows: Sequence[Row], key: str) -> dict[int, float]:
    """Seed -> mean over the budgets."""
    found: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        found[row.get("seed", 0)].append(number(row, key))
    return {seed: sum(values) / len(values) for seed, values in found.items()}


def mean_of(values: Mapping[int, float]) -> str:
    """In percent, without its interval."""
    return f"{100 * sum(values.values()) / len(values):.1f}"


def data_of(study: Study) -> list[str]:
    """Data sets with any row of this kind."""
    kinds = ("attack", "corruption", "damage")
    return list(dict.fromkeys(row.get("data", "") for kind in kinds for row in study.rows(kind)))


def grids_of(study: Study) -> list[tuple[str, list[Grid], list[str]]]:
    """For every data set its tables and its sentences."""
    curves = curves_of(study)
    made = []
    for data in data_of(study):
        norms = [norm for own, norm in pairs_of(curves) if own == data]
        grids = [grid for norm in norms for grid in (*attack_grids(curves, data, norm), check_grid(study, data, norm))]
        hurts = [grid for kind in ("corruption", "damage") if (grid := hurt_grid(study, data, kind))]
        made.append((data, [*grids, *hurts], linear_words(study, curves, data)))
    return made
