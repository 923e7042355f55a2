"""The study in words and tables: terminal, Markdown, results.json, and the sentences of the page."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neuropil.report.results import Line, Study, gather, name_of, plain
from neuropil.report.robustness_tables import MARK, Grid, grids_of
from neuropil.report.stats import ALONE, DASH, percent, points, quantity, spans

Alarms = dict[str, list[tuple[str, list[str], list[int]]]]
HEADS = ("learner", "n", "accuracy, %", "seconds", "peak MB", "minus backprop baseline, points")
NOTE = "Accuracy: mean over n seeds ± half width of its 95 % interval (Student t). Differences are paired by seed."


def table(folders: Sequence[Path]) -> RenderableType:
    """The results for the terminal: a line per learner and data set, what is unfinished, how many alarms rang; and,
    after attacks, what withstood all of them, and the linear model.
    """
    study = gather(folders)
    robust = [part for data, grids, said in grids_of(study) for part in (*map(grid_table, grids), *map(Text, said))]
    return Group(result_table(study), *(part for part in robust if part), *([Text(MARK)] if robust else []))


def grid_table(grid: Grid) -> Table | None:
    """A table of robustness; the folded ones stay for the page, but for the lines that tell of failure."""
    failed = [row for row in grid.rows if any(cell.startswith("failed") for cell in row)]
    rows = failed if grid.folded else grid.rows
    if not rows:
        return None
    shown = Table(title=Text(grid.caption), title_justify="left", box=None)
    for index, head in enumerate(grid.heads):
        shown.add_column(Text(head), justify="right" if index else "left")
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def result_table(study: Study) -> Table:
    """Accuracy and cost, a line per learner and data set."""
    many = len(study.data) > 1
    shown = Table(caption="\n".join([NOTE, *warnings_of(study)]), caption_justify="left", title_justify="left")
    for head in ("data", *HEADS) if many else HEADS:
        shown.add_column(Text(head), justify="left" if head in ("data", "learner") else "right")
    for line in study.lines:
        cells = ([line.data] if many else []) + cells_of(line)
        shown.add_row(*map(Text, cells), style="dim" if line.family == "baseline" else "")
    return shown


def markdown(folders: Sequence[Path]) -> str:
    """The same table in Markdown, for a page of results."""
    study = gather(folders)
    parts = []
    for data in study.data:
        rows = [cells_of(line) for line in study.lines if line.data == data]
        text = [f"**{escape(data)}**", ""] if len(study.data) > 1 else []
        text += [bar(HEADS), bar(["---"] + ["---:"] * (len(HEADS) - 1))]
        parts.append("\n".join(text + [bar(map(escape, row)) for row in rows]))
    parts.append("\n".join([NOTE, *(f"\n{escape(text)}" for text in warnings_of(study))]))
    for data, grids, said in grids_of(study):
        parts += [grid_markdown(grid, data if len(study.data) > 1 else "") for grid in grids]
        parts += [MARK, *map(escape, said)]
    return "\n\n".join(parts) + "\n"


def grid_markdown(grid: Grid, data: str) -> str:
    """A table of robustness in Markdown, under its caption."""
    heads, rows = map(escape, grid.heads), [bar(map(escape, row)) for row in grid.rows]
    caption = f"**{escape(f'{data}, {grid.caption}' if data else grid.caption)}**"
    return "\n".join([caption, "", bar(heads), bar(["---"] + ["---:"] * (len(grid.heads) - 1)), *rows])


def bar(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#$~])", r"\\\1", text)


def cells_of(line: Line) -> list[str]:
    """The cells of one line, in the order of HEADS."""
    count = f"{len(line.accuracy)}"
    if line.pending:
        count = (f"{count} + " if line.accuracy else "") + f"{len(line.pending)} unfinished"
    accuracy = percent(line.mean, line.half) if line.accuracy else DASH
    return [line.learner, count, accuracy, quantity(line.seconds), quantity(line.peak_mb), gap_of(line)]


def gap_of(line: Line) -> str:
    """The difference to the baseline, or why there is none."""
    if line.learner == line.baseline:
        return "the baseline"
    if line.gap is None:
        return DASH
    few = f" ({line.pairs} pairs)" if 1 < line.pairs < len(line.accuracy) else ""
    return points(line.gap, line.gap_half) + few


def warnings_of(study: Study) -> list[str]:
    """What a reader of the bare table has to know: unfinished runs, uneven comparisons, alarms."""
    alarms = alarms_of(study)
    rang = [f"{name} ({count})" for name, count in counts_of(alarms).items()]
    return [*unfinished_of(study), *uneven_of(study), *([f"Alarms: {', '.join(rang)}."] if rang else [])]


def counts_of(alarms: Alarms) -> dict[str, int]:
    """Learner -> how many alarms rang."""
    return {name: sum(len(seeds) for _, _, seeds in found) for name, found in alarms.items()}


def unfinished_of(study: Study) -> list[str]:
    """One sentence about unfinished runs, if there are any."""
    names = ", ".join(name_of(record) for record in study.unfinished)
    return [f"Unfinished: {names}. What an unfinished run has logged is shown, but enters no mean."] if names else []


def uneven_of(study: Study) -> list[str]:
    """Where learners on one data set had different seeds or different numbers of training examples."""
    said = []
    for data in study.data:
        lines = [line for line in study.lines if line.data == data and line.accuracy]
        if len({frozenset(line.accuracy) for line in lines}) > 1:
            each = "; ".join(f"{line.learner}: {spans(line.accuracy)}" for line in lines)
            said.append(f"Uneven on {data}: the learners did not all run the same seeds ({each}).")
        if len({line.n_train for line in lines}) > 1:
            each = "; ".join(f"{line.learner}: {sizes(line.n_train)}" for line in lines)
            said.append(f"Uneven on {data}: the learners saw different numbers of training examples ({each}).")
    return said


def sizes(counts: Sequence[int]) -> str:
    return " or ".join(f"{count:,}" for count in counts) or "unknown"


def alarms_of(study: Study) -> Alarms:
    """Learner -> its alarms as (first message, all messages, seeds); messages that differ in numbers only are one."""
    found: dict[str, dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in study.rows("warning", everything=True):
        message = plain(row.get("message", ""))
        found[row.get("learner") or "the run"][re.sub(r"\d+(\.\d+)?", "0", message)].append(
            (row.get("seed", 0), message)
        )
    return {name: [one_alarm(rows) for rows in kinds.values()] for name, kinds in found.items()}


def one_alarm(rows: list[tuple[int, str]]) -> tuple[str, list[str], list[int]]:
    rows = sorted(rows)
    different = len({message for _, message in rows}) > 1
    return rows[0][1], [f"seed {seed}: {message}" for seed, message in rows] if different else [], [s for s, _ in rows]


def lede_of(study: Study, data: str) -> str:
    """One sentence: who was compared on what, and who came first."""
    lines = [line for line in study.lines if line.data == data]
    seeds = {seed for line in lines for seed in (*line.accuracy, *line.pending)}
    counts = sorted({count for line in lines for count in line.n_train})
    who = f"{len(lines)} learner{'s' * (len(lines) > 1)} on {data}, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    who += f", {sizes(counts)} training examples" if counts else ""
    best = {line.family: line for line in reversed(lines) if line.accuracy}
    said = [f"{label} {best[family].learner}, {score_of(best[family])}" for family, label in BEST if family in best]
    return who + (": " + "; ".join(said) if said else ": no run has finished yet") + "."


BEST = (
    ("local", "the best local learner is"),
    ("spiking", "the best spiking network is"),
    ("baseline", "the best baseline is"),
)


def score_of(line: Line) -> str:
    """The accuracy with its sign, for running text: 97.53 ± 0.21 %."""
    text = f"{percent(line.mean, line.half)} %" if line.half == line.half else f"{100 * line.mean:.2f} % ({ALONE})"
    return text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}").replace(" %", "\N{NO-BREAK SPACE}%")


def summary_of(study: Study) -> list[dict[str, Any]]:
    """The lines as plain numbers for results.json; null where there is no number."""
    return [
        {
            "learner": line.learner,
            "data": line.data,
            "family": line.family,
            "n": len(line.accuracy),
            "seeds": sorted(line.accuracy),
            "unfinished_seeds": sorted(line.pending),
            "accuracy_mean": strict(line.mean),
            "accuracy_interval": strict(line.half),
            "seconds_mean": strict(line.seconds),
            "peak_mb_mean": strict(line.peak_mb),
            "baseline": line.baseline,
            "difference_mean": line.gap,
            "difference_interval": strict(line.gap_half),
            "difference_pairs": line.pairs,
        }
        for line in study.lines
    ]


def strict(value: Any) -> Any:
    """The value as strict JSON has it: null for what is not finite."""
    if isinstance(value, dict):
        return {key: strict(part) for key, part in value.items()}
    if isinstance(value, list):
        return [strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
