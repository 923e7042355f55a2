"""The results in words and tables: terminal, Markdown, results.json, and the sentences of the page."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neuropil.report.remarks import held_out, remarks_on, sizes
from neuropil.report.results import Results, Summary, gather
from neuropil.report.robustness_tables import MARK, RobustnessTable, robustness_of
from neuropil.report.stats import ALONE, DASH, percent, points, quantity
from neuropil.runs import ConfusionRow

__all__ = ["HEADS", "markdown", "note_of", "table"]

CELL = 60  # letters of a reason that stands in its row


HEADS = ("learner", "n", "accuracy, %", "seconds", "peak MiB", "minus backprop baseline, points")
NOTE = "Accuracy: mean over n seeds ± half width of its 95 % interval (Student t)."
PAIRED = "Differences are paired by seed."


def columns_of(summaries: Sequence[Summary]) -> list[int]:
    """The places in HEADS of columns with something in them, such as a difference where there is a baseline."""
    cells = [cells_of(one) for one in summaries]
    return [k for k in range(len(HEADS)) if k < 3 or any(row[k] != DASH for row in cells)]


def note_of(results: Results) -> str:
    """What the numbers of the tables are; of differences only where there are some."""
    return f"{NOTE} {PAIRED}" if len(HEADS) - 1 in columns_of(results.summaries) else NOTE


def table(runs: Sequence[Path] | Results) -> RenderableType:
    """The results for the terminal: a line per learner and data set, what is unfinished, and the warnings.

    After attacks also what withstood all of them, and the comparison with the linear classifier.
    """
    results = gather(runs)
    parts: list[RenderableType] = [result_table(results)] if results.summaries else []
    for one in robustness_of(results):
        parts += [shown for table in one.tables if (shown := terminal_table(table))]
        parts += map(Text, one.comparison)
    return Group(*parts, *([Text(MARK)] if len(parts) > 1 else []))


def terminal_table(table: RobustnessTable) -> Table | None:
    """A table of robustness; the folded ones stay for the page, but for the rows that tell of a failed check."""
    failed = [row for row in table.rows if any(cell.startswith("failed") for cell in row)]
    rows = failed if table.folded else table.rows
    if not rows:
        return None
    shown = Table(title=Text(table.caption), title_justify="left", box=None)
    for index, head in enumerate(table.heads):
        shown.add_column(Text(head), justify="right" if index else "left")
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def result_table(results: Results) -> Table:
    """Accuracy and cost, a line per learner and data set."""
    many, kept = len(results.data) > 1, columns_of(results.summaries)
    heads = [HEADS[k] for k in kept]
    shown = Table(
        caption="\n".join([note_of(results), *remarks_on(results)]), caption_justify="left", title_justify="left"
    )
    for head in ("data", *heads) if many else heads:
        names = head in ("data", "learner")
        shown.add_column(Text(head), justify="left" if names else "right", no_wrap=head == "learner" and not many)
    for summary in results.summaries:
        cells = ([summary.data] if many else []) + [narrow_cells_of(summary)[k] for k in kept]
        shown.add_row(*map(Text, cells), style="dim" if summary.family == "baseline" else "")
    return shown


def narrow_cells_of(summary: Summary) -> list[str]:
    """Cells for a terminal of 80 columns: n has a column, and below the table stands why a learner has no result."""
    learner, count, accuracy, *costs, difference = cells_of(summary)
    if summary.failed and not summary.accuracy:
        return [learner, DASH, count, *costs, DASH]
    alone = f" ({ALONE})" if len(summary.accuracy) == 1 else ""
    return [learner, count, accuracy.removesuffix(alone), *costs, difference.removesuffix(alone)]


def markdown(runs: Sequence[Path] | Results) -> str:
    """The same tables in Markdown, for a page of results."""
    results = gather(runs)
    many, parts = len(results.data) > 1, []
    for data in results.data:
        text, kept = [f"**{escape(data)}**", ""] if many else [], columns_of(results.on(data))
        rows = [[cells_of(one)[k] for k in kept] for one in results.on(data)]
        parts.append("\n".join([*text, *markdown_table([HEADS[k] for k in kept], rows)]))
    parts.append("\n".join([note_of(results), *(f"\n{escape(text)}" for text in remarks_on(results))]))
    for one in robustness_of(results):
        for table in one.tables:
            caption = escape(f"{one.data}, {table.caption}" if many else table.caption)
            parts.append("\n".join([f"**{caption}**", "", *markdown_table(table.heads, table.rows)]))
        parts += [MARK, *map(escape, one.comparison)]
    return "\n\n".join(parts) + "\n"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table: heads, a rule, rows."""
    rule = bar(["---"] + ["---:"] * (len(heads) - 1))
    return [bar(map(escape, heads)), rule, *(bar(map(escape, row)) for row in rows)]


def bar(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#$~])", r"\\\1", text)


def cells_of(summary: Summary) -> list[str]:
    """The cells of one summary, in the order of HEADS."""
    kinds = [words.partition(":")[0] for words in summary.failed.values()]
    others = {"unfinished": len(summary.unfinished)} | {kind: kinds.count(kind) for kind in ("failed", "left out")}
    done = [f"{len(summary.accuracy)}"] if summary.accuracy else []
    count = " + ".join([*done, *(f"{n} {kind}" for kind, n in others.items() if n)])
    accuracy = percent(summary.mean, summary.half_width) if summary.accuracy else DASH
    costs = quantity(summary.seconds), quantity(summary.peak_mb)
    return [summary.learner, count, accuracy, *costs, difference_of(summary)]


def difference_of(summary: Summary) -> str:
    """The difference to the baseline, or why there is none."""
    if summary.failed and not summary.accuracy:
        return why(summary)
    if summary.learner == summary.baseline:
        return "the baseline"
    if summary.difference is None:
        return DASH
    few = f" ({summary.pairs} pairs)" if 1 < summary.pairs < len(summary.accuracy) else ""
    return points(summary.difference, summary.difference_half_width) + few


def why(summary: Summary) -> str:
    """What a learner without a result needed, or what happened to it, if that fits into a cell: see `failed_of`."""
    return short_reason(next(iter(summary.failed.values())).partition(": ")[2])


def short_reason(reason: str) -> str:
    """The first part of a reason, if it fits into a cell."""
    first = re.split(r"; |, got |\.$", reason)[0]
    return first if len(first) <= CELL else DASH


def summary_sentence(results: Results, data: str) -> str:
    """One sentence: who was compared on what, and who came first."""
    summaries = results.on(data)
    seeds = {seed for one in summaries for seed in (*one.accuracy, *one.unfinished)}
    counts = sorted({count for one in summaries for count in one.n_train})
    who = f"{len(summaries)} learner{'s' * (len(summaries) > 1)} on {data}, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    who += f", {sizes(counts)} training examples" if counts else ""
    scored = sorted({sum(map(sum, row.matrix)) for row in results.of(ConfusionRow) if (row.data or "") == data})
    who += f", {sizes(scored)} {'held-out' if held_out(results) else 'test'} examples" if scored else ""
    best = {one.family: one for one in reversed(summaries) if one.accuracy}
    score = lambda family: f"{best[family].learner}, {score_of(best[family])}"
    said = [f"the best {label} is {score(family)}" for family, label in BEST if family in best]
    return who + (": " + "; ".join(said) if said else ": no run has finished yet") + "."


BEST = (("local", "local learner"), ("spiking", "spiking network"), ("baseline", "baseline"))


def score_of(summary: Summary) -> str:
    """The accuracy with its sign, for running text: 97.53 ± 0.21 %."""
    alone = math.isnan(summary.half_width)
    text = f"{100 * summary.mean:.2f} % ({ALONE})" if alone else f"{percent(summary.mean, summary.half_width)} %"
    return text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}").replace(" %", "\N{NO-BREAK SPACE}%")


def summary_rows(results: Results) -> list[dict[str, Any]]:
    """The summaries as plain numbers for results.json."""
    rows = []
    for one in results.summaries:
        whose = {"learner": one.learner, "data": one.data, "family": one.family, "n": len(one.accuracy)}
        seeds = {"seeds": sorted(one.accuracy), "unfinished_seeds": sorted(one.unfinished), "failed": one.failed}
        reached = {"accuracy_mean": one.mean, "accuracy_interval": one.half_width}
        costs = {"seconds_mean": one.seconds, "peak_mb_mean": one.peak_mb}
        beside = {"baseline": one.baseline, "difference_mean": one.difference}
        beside |= {"difference_interval": one.difference_half_width, "difference_pairs": one.pairs}
        rows.append({**whose, **seeds, **reached, **costs, **beside})
    return rows
