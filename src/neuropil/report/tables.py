"""The results in words and tables: terminal, Markdown, results.json, and the sentences of the page."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neuropil.report.results import Results, Summary, damage_of, gather, plain
from neuropil.report.robustness_tables import MARK, RobustnessTable, robustness_of
from neuropil.report.stats import ALONE, DASH, percent, points, quantity, spans

__all__ = ["HEADS", "NOTE", "markdown", "table"]

CELL = 60  # letters of a reason that stands in its row


@dataclass(frozen=True)
class Warned:
    """One warning about a learner.

    Attributes:
        first: its sentence in the first seed.
        sentences: seed by seed, if they differ; in numbers only.
        seeds: the seeds that have it.
    """

    first: str
    sentences: list[str]
    seeds: list[int]


HEADS = ("learner", "n", "accuracy, %", "seconds", "peak MiB", "minus backprop baseline, points")
NOTE = "Accuracy: mean over n seeds ± half width of its 95 % interval (Student t). Differences are paired by seed."


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
    many = len(results.data) > 1
    shown = Table(caption="\n".join([NOTE, *remarks_on(results)]), caption_justify="left", title_justify="left")
    for head in ("data", *HEADS) if many else HEADS:
        shown.add_column(Text(head), justify="left" if head in ("data", "learner") else "right")
    for summary in results.summaries:
        cells = ([summary.data] if many else []) + cells_of(summary)
        shown.add_row(*map(Text, cells), style="dim" if summary.family == "baseline" else "")
    return shown


def markdown(runs: Sequence[Path] | Results) -> str:
    """The same tables in Markdown, for a page of results."""
    results = gather(runs)
    many, parts = len(results.data) > 1, []
    for data in results.data:
        text = [f"**{escape(data)}**", ""] if many else []
        parts.append("\n".join([*text, *markdown_table(HEADS, map(cells_of, results.on(data)))]))
    parts.append("\n".join([NOTE, *(f"\n{escape(text)}" for text in remarks_on(results))]))
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


def remarks_on(results: Results) -> list[str]:
    """What a reader of the bare table has to know: unfinished runs, uneven comparisons, warnings."""
    counts = [f"{name} ({count})" for name, count in counts_of(warnings_of(results)).items()]
    counted = [f"Warnings: {', '.join(counts)}."] if counts else []
    return [
        *held_out_of(results),
        *altered_of(results),
        *unfinished_of(results),
        *failed_of(results),
        *uneven_of(results),
        *counted,
    ]


def counts_of(warnings: Mapping[str, Sequence[Warned]]) -> dict[str, int]:
    """Learner -> how many warnings it has."""
    return {name: sum(len(one.seeds) for one in found) for name, found in warnings.items()}


def unfinished_of(results: Results) -> list[str]:
    """One sentence about unfinished runs, if there are any."""
    names = ", ".join(results.unfinished)
    return [f"Unfinished: {names}. What an unfinished run has logged is shown, but enters no mean."] if names else []


def held_out_of(results: Results) -> list[str]:
    """One sentence on the runs that scored held-out training examples, if there are any."""
    names = [run.name for run in results.runs if "hold_out" in run.record.facts]
    who = "Accuracies are" if len(names) == len(results.runs) else f"Accuracies of {', '.join(names)} are"
    return [f"{who} of held-out training examples, not of the test set."] if names else []


def altered_of(results: Results) -> list[str]:
    """One sentence for each run with damaged lines, and for each that went on though something had changed."""
    said = [text for run in results.runs for text in damage_of(run)]
    for run in results.runs:
        again = [one for one in run.record.facts.get("resumed", []) if isinstance(one, dict)]
        what = [plain(change) for one in again for change in one.get("changed", [])]
        if what:
            said.append(f"Changed: {run.name} was resumed after a change ({'; '.join(dict.fromkeys(what))}).")
    return said


def failed_of(results: Results) -> list[str]:
    """One sentence for each learner that failed or was left out, and each reason; those of a kind once."""
    said = []
    for one in results.summaries:
        reasons: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for seed, words in one.failed.items():
            reasons[without_numbers(words)].append((seed, words))
        where = f" on {one.data}" * (len(results.data) > 1)
        for found in reasons.values():
            seeds = f"seed{'s' * (len(found) > 1)} {spans(seed for seed, _ in found)}"
            said.append(f"{one.learner}{where}, {found[0][1].rstrip('.')} ({seeds}).")
    return said


def few_seeds_of(results: Results) -> list[str]:
    """What one or two seeds can tell, if there are no more."""
    most = max((len(one.accuracy) for one in results.summaries), default=0)
    return [FEW[most]] if most in FEW else []


FEW = {
    1: "One seed: there is no interval, and another seed may order the methods differently. Take more with --seeds 5.",
    2: "Two seeds: their interval reaches six times their distance to either side, and is 0 where they are equal. "
    "Read the two themselves, or take more with --seeds 5.",
}


def uneven_of(results: Results) -> list[str]:
    """Where learners on one data set had different seeds or different numbers of training examples."""
    said = []
    for data in results.data:
        done = [summary for summary in results.on(data) if summary.accuracy]
        if len({frozenset(summary.accuracy) for summary in done}) > 1:
            each = "; ".join(f"{summary.learner}: {spans(summary.accuracy)}" for summary in done)
            said.append(f"Uneven on {data}: the learners did not all run the same seeds ({each}).")
        if len({summary.n_train for summary in done}) > 1:
            each = "; ".join(f"{summary.learner}: {sizes(summary.n_train)}" for summary in done)
            said.append(f"Uneven on {data}: the learners saw different numbers of training examples ({each}).")
    return said


def sizes(counts: Sequence[int]) -> str:
    """'1,437 or 2,000'."""
    return " or ".join(f"{count:,}" for count in counts) or "unknown"


def warnings_of(results: Results, *, baselines: bool = False) -> dict[str, list[Warned]]:
    """Learner -> its warnings, of methods or of baselines; sentences that differ in numbers only are one."""
    found: dict[str, dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
    family = {one.learner: one.family for one in results.summaries}
    for row in results.warnings:
        if (family.get(row.learner or "", row.family) == "baseline") != baselines:
            continue
        message = plain(row.message)
        found[row.learner or "the run"][without_numbers(message)].append((row.seed or 0, message))
    return {name: [warned(sorted(rows)) for rows in kinds.values()] for name, kinds in found.items()}


def without_numbers(text: str) -> str:
    """`text` with every number as 0, so that sentences of a kind are equal."""
    return re.sub(r"\d+(\.\d+)?", "0", text)


def warned(rows: Sequence[tuple[int, str]]) -> Warned:
    """One warning from its (seed, sentence), in the order of seeds."""
    different = len({message for _, message in rows}) > 1
    sentences = [f"seed {seed}: {message}" for seed, message in rows] if different else []
    return Warned(rows[0][1], sentences, [seed for seed, _ in rows])


def summary_sentence(results: Results, data: str) -> str:
    """One sentence: who was compared on what, and who came first."""
    summaries = results.on(data)
    seeds = {seed for one in summaries for seed in (*one.accuracy, *one.unfinished)}
    counts = sorted({count for one in summaries for count in one.n_train})
    who = f"{len(summaries)} learner{'s' * (len(summaries) > 1)} on {data}, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    who += f", {sizes(counts)} training examples" if counts else ""
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
