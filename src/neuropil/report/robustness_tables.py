"""Robustness in tables and words: what every attack left, which curves are invalid and why, the linear classifier."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from neuropil.report.results import Results
from neuropil.report.stats import interval, points
from neuropil.runs import AttackRow, CheckRow, CorruptionRow, DamageRow, MatchedRow

WORST = "all attacks"
INVALID = "†"
MARK = f"{INVALID} invalid: a check for gradient masking failed, or no gradient attack applies; at best an upper bound."
Severity = CorruptionRow | DamageRow


@dataclass(frozen=True)
class RobustnessTable:
    """A table: the first cell of a row names it. The folded ones hold the details."""

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
class AttackCurve:
    """What one attack left of one learner: budget -> seed -> accuracy, and the seeds in which it is invalid."""

    by_size: dict[float, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    invalid: set[int] = field(default_factory=set)

    def cell(self, size: float) -> str:
        """Mean and interval in percent, marked where invalid."""
        found = self.by_size.get(size)
        return format_fractions(found.values()) + (f" {INVALID}" if self.invalid and size else "") if found else "–"


Curves = Mapping[Key, AttackCurve]


class DataRobustness(NamedTuple):
    """The tables of one data set, and the sentences of the comparison with the linear classifier."""

    data: str
    tables: list[RobustnessTable]
    comparison: list[str]


def format_fractions(values: Iterable[float]) -> str:
    """Fractions as '83.1 ± 2.0', in percent; one alone as '83.1'."""
    middle, half_width = interval(values)
    return f"{100 * middle:.1f}" + ("" if math.isnan(half_width) else f" ± {100 * half_width:.1f}")


def curves_of(results: Results) -> dict[Key, AttackCurve]:
    """Every curve, best learner first."""
    found: dict[Key, AttackCurve] = defaultdict(AttackCurve)
    for row in results.of(AttackRow):
        curve = found[Key(row.data or "", row.norm, row.attack, row.learner or "")]
        curve.by_size[row.size][row.seed or 0] = row.accuracy
        if row.invalid:
            curve.invalid.add(row.seed or 0)
    return found


def norms_of(curves: Iterable[Key]) -> list[tuple[str, str]]:
    """(data set, norm), in order."""
    return list(dict.fromkeys((key.data, key.norm) for key in curves))


def attack_tables(curves: Curves, data: str, norm: str) -> list[RobustnessTable]:
    """What all attacks together left at every budget; and, folded, what each of them left."""
    mine = {key: curve for key, curve in curves.items() if (key.data, key.norm) == (data, norm)}
    sizes = sorted({size for curve in mine.values() for size in curve.by_size})
    heads = [f"{size:g}" if size else "clean" for size in sizes]
    rows = lambda attack: [[key.learner, *map(one.cell, sizes)] for key, one in mine.items() if key.attack == attack]
    caption = f"accuracy, %, that withstands every attack; {norm} budget"
    worst = RobustnessTable(caption, ["learner", *heads], rows(WORST))
    attacks = [name for name in dict.fromkeys(key.attack for key in mine) if name != WORST]
    each = [[f"{name}: {row[0]}", *row[1:]] for name in attacks for row in rows(name)]
    caption = f"the same, attack by attack; {norm} budget"
    return [worst, RobustnessTable(caption, ["attack: learner", *heads], each, folded=True)]


def check_table(results: Results, data: str, norm: str) -> RobustnessTable:
    """Every check of every curve: passed in all seeds, or what failed."""
    found: dict[tuple[str, str], dict[str, list[CheckRow]]] = defaultdict(lambda: defaultdict(list))
    for row in results.of(CheckRow):
        if (row.data or "", row.norm) == (data, norm):
            found[row.learner or "", row.attack][row.check].append(row)
    names = list(dict.fromkeys(name for checks in found.values() for name in checks))
    names.sort(key=lambda name: name.startswith("beats"))
    cells = lambda checks: [outcome(checks.get(name, [])) for name in names]
    rows = [[f"{learner}: {attack}", *cells(checks)] for (learner, attack), checks in found.items()]
    return RobustnessTable(f"checks for gradient masking; {norm}", ["learner: attack", *names], rows, folded=True)


def invalid_sentences(table: RobustnessTable) -> list[str]:
    """A sentence for every curve that failed a check."""
    said = []
    for name, *cells in table.rows:
        reasons = [f"{head} {cell}" for head, cell in zip(table.heads[1:], cells) if cell.startswith("failed")]
        said += [f"Invalid: {name}. {'; '.join(reasons)}."] if reasons else []
    return said


def outcome(rows: Sequence[CheckRow]) -> str:
    """'ok', with the percentage that was found in the worst seed, or the smallest gap that would have been seen there.

    Or the first failure, and in how many seeds.
    """
    failed = [row for row in rows if not row.passed]
    if failed:
        return f"failed in {len(failed)} of {len(rows)}: {failed[0].finding}"
    found = [float(start[1]) for row in rows if (start := re.match(r"(\d+(?:\.\d+)?)%", row.finding))]
    unseen = [float(gap[1]) for row in rows if (gap := re.search(r"below (\d+(?:\.\d+)?)% is not seen", row.finding))]
    said = f" ({max(found):.1f} %)" if found else f" (gaps from {max(unseen):.1f} %)" if unseen else ""
    return f"ok{said}" if rows else ""


def severity_rows(results: Results, kind: str) -> list[tuple[str, Severity]]:
    """The rows of "corruption" or "damage", each with the name of what was done."""
    if kind == "corruption":
        return [(row.corruption, row) for row in results.of(CorruptionRow)]
    return [(row.damage, row) for row in results.of(DamageRow)]


def severity_table(results: Results, data: str, kind: str) -> RobustnessTable | None:
    """Corruptions or damage: for every learner and kind the mean over the five severities."""
    found: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for name, row in severity_rows(results, kind):
        if (row.data or "") == data:
            found[row.learner or ""][name][row.seed or 0].append(row.accuracy)
    names = list(dict.fromkeys(name for kinds in found.values() for name in kinds))
    cell = lambda seeds: format_fractions(sum(v) / len(v) for v in seeds.values()) if seeds else "–"
    rows = [[learner, *(cell(kinds.get(name)) for name in names)] for learner, kinds in found.items()]
    caption = f"accuracy, %, mean over five severities of {kind}"
    return RobustnessTable(caption, ["learner", *names], rows) if rows else None


def linear_comparison(results: Results, curves: Curves, data: str) -> list[str]:
    """Is it more robust than a linear classifier of the same clean accuracy? One sentence per learner."""
    found: dict[str, dict[str, list[MatchedRow]]] = defaultdict(lambda: defaultdict(list))
    for row in results.of(MatchedRow):
        if (row.data or "") == data and row.learner != row.linear:
            found[row.learner or ""][row.norm].append(row)
    by_norm = lambda norms: "; ".join(verdict(rows, curves, data) for rows in norms.values())
    said = [f"{name}: {by_norm(norms)}" for name, norms in found.items()]
    if said:
        linear = next(row.linear for norms in found.values() for rows in norms.values() for row in rows)
        said.insert(0, question(linear))
    return said


def question(linear: str) -> str:
    """The question, and how it is answered."""
    return (
        f"Is it more robust than a linear classifier of the same clean accuracy? Only test images count that the "
        f"learner and {linear!r} both classify correctly, so that both start at 100 %. The number is the percentage "
        f"that withstands every attack on the learner minus the percentage that withstands every attack on the linear "
        f"classifier. It is the mean over the budgets, paired by seed."
    )


def verdict(rows: Sequence[MatchedRow], curves: Curves, data: str) -> str:
    """'in Linf yes, by 12.3 ± 2.1 points (55.0 against 42.7 %)', or no, or that it cannot be said."""
    name, norm, linear = rows[0].learner or "", rows[0].norm, rows[0].linear
    mine = mean_by_seed((row.seed, row.accuracy) for row in rows)
    other = mean_by_seed((row.seed, row.linear_accuracy) for row in rows)
    middle, half_width = interval(mine[seed] - other[seed] for seed in mine)
    numbers = f"{points(middle, half_width)} points ({mean_percent(mine)} against {mean_percent(other)} %)"
    open_ended = [who for who in (name, linear) if curves[Key(data, norm, WORST, who)].invalid]
    if math.isnan(half_width):
        return f"in {norm} one seed tells {numbers}"
    if middle - half_width > 0:  # what a better attack would take from the linear classifier could only add to this
        said = f"not shown, {numbers} is an upper bound" if name in open_ended else f"yes, by {numbers}"
    elif middle + half_width < 0:
        said = f"not decided, {numbers} is a lower bound" if linear in open_ended else f"no, {numbers}"
    else:
        said = f"no difference is seen, {numbers}"
    return f"in {norm} {said}"


def mean_by_seed(values: Iterable[tuple[int | None, float]]) -> dict[int, float]:
    """Seed -> mean over the budgets."""
    found: dict[int, list[float]] = defaultdict(list)
    for seed, value in values:
        found[seed or 0].append(value)
    return {seed: sum(own) / len(own) for seed, own in found.items()}


def mean_percent(values: Mapping[int, float]) -> str:
    """In percent, without its interval."""
    return f"{100 * sum(values.values()) / len(values):.1f}"


def data_of(results: Results) -> list[str]:
    """Data sets with any row about robustness."""
    rows = [*results.of(AttackRow), *results.of(CorruptionRow), *results.of(DamageRow)]
    return list(dict.fromkeys(row.data or "" for row in rows))


def robustness_of(results: Results) -> list[DataRobustness]:
    """For every data set its tables and its sentences."""
    curves, made = curves_of(results), []
    for data in data_of(results):
        tables: list[RobustnessTable] = []
        for norm in (norm for own, norm in norms_of(curves) if own == data):
            tables += [*attack_tables(curves, data, norm), check_table(results, data, norm)]
        tables += [table for kind in ("corruption", "damage") if (table := severity_table(results, data, kind))]
        made.append(DataRobustness(data, tables, linear_comparison(results, curves, data)))
    return made
