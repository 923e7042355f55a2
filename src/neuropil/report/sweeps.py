"""A sweep as a table and a page: settings against accuracy on held-out examples, paired by seed with the chosen one."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neuropil.report.figures.sweep_figures import OF, head_of, panels_of
from neuropil.report.layout import Files, Section, with_panels
from neuropil.report.layout import Group as Part
from neuropil.report.page import look, whole_page, write_whole
from neuropil.report.remarks import FEW, without_numbers
from neuropil.report.robustness_tables import RobustnessTable
from neuropil.report.stats import DASH, paired, percent, points, quantity, spans
from neuropil.report.sweep_results import SweepResults, Tried, gather
from neuropil.report.tables import short_reason
from neuropil.runs.files import json_bytes
from neuropil.sweeps.axes import title_of

__all__ = ["SweepResults", "gather", "table", "write"]

NOTE = (
    "Accuracy: mean over n seeds ± half width of its 95 % interval (Student t), on held-out training examples. "
    "Differences to the chosen setting are paired by seed."
)


def heads_of(results: SweepResults) -> list[str]:
    """The heads of a table: settings, then what they reached."""
    names = list(results.sweep.settings[0]) if results.sweep.settings else []
    return ["setting", *names, "n", f"{OF}, %", "minus chosen, points", *["seconds"] * results.timed]


def rows_of(results: SweepResults, learner: str) -> list[list[str]]:
    """The rows of the table of one learner."""
    tried = results.tried[learner]
    best = next((one for one in tried if one.whole), None)
    rows = []
    for one in tried:
        reached = percent(*one.interval) if one.accuracy else DASH
        cells = [str(one.number), *one.setting.values(), one.count, reached, _beside(one, best)]
        rows.append([*cells, *[quantity(one.seconds)] * results.timed])
    return rows


def _beside(one: Tried, best: Tried | None) -> str:
    """The difference to the chosen setting, or why there is no accuracy."""
    if one.failed:
        return short_reason(next(iter(one.failed.values())))
    if best is None or not one.accuracy:
        return DASH
    return "chosen" if one is best else points(*paired(one.accuracy, best.accuracy))


def sentences(results: SweepResults) -> list[str]:
    """What was tried and chosen, in words."""
    sweep, best = results.sweep, results.chosen
    count, seeds = len(sweep.settings), spans(sweep.seeds)
    what = f"{count} setting{'s' * (count > 1)} of {results.learner or 'the recipe'}"
    said = [f"{what} on {results.data or 'no data yet'}, seed{'s' * (len(sweep.seeds) > 1)} {seeds}."]
    if best is None:
        return [*said, "No setting has an accuracy for every seed yet, so none is chosen."]
    reached = percent(*best.interval)
    reached = f"{reached} %" if "±" in reached else reached.replace(" ", " % ", 1)
    said.append(f"Chosen: setting {best.number}, {title_of(best.setting)}, with {reached} of held-out examples.")
    level = [
        one.number for one in results.tried[results.learner] if one is not best and one.whole and _level(one, best)
    ]
    if level:
        said.append(f"Not told apart from it by these seeds: setting{'s' * (len(level) > 1)} {spans(level)}.")
    if count > 1:
        unseen = "no run has read the test examples of its seed"
        said.append(f"The best of several means is too high by the choice itself; {unseen}.")
    return said


def _level(one: Tried, best: Tried) -> bool:
    """Whether the interval of the paired difference has zero in it; one seed has no interval."""
    middle, half = paired(one.accuracy, best.accuracy)
    return not abs(middle) > half


def reasons(results: SweepResults) -> list[str]:
    """One sentence for each setting and reason without an accuracy, and one on what is unfinished."""
    said = []
    for one in results.tried.get(results.learner, []):
        by_reason: dict[str, list[int]] = defaultdict(list)
        for seed, reason in one.failed.items():
            by_reason[without_numbers(reason)].append(seed)
        for seeds in by_reason.values():
            who = f"Setting {one.number} ({title_of(one.setting)}), seed{'s' * (len(seeds) > 1)} {spans(seeds)}"
            said.append(f"{who}: {one.failed[seeds[0]]}")
    left = len(results.sweep.open())
    return [*said, *([f"Unfinished runs: {left}; go on with neuropil sweep --resume."] if left else [])]


def measure(results: SweepResults) -> list[str]:
    """The command that measures the chosen setting on the test set."""
    return [results.sweep.command(results.chosen.setting)] if results.chosen else []


def table(results: SweepResults) -> RenderableType:
    """The sweep for the terminal."""
    shown = Table(caption=NOTE, caption_justify="left", title=results.learner, title_justify="left")
    for head in heads_of(results):
        shown.add_column(Text(head), justify="right")
    for row in rows_of(results, results.learner) if results.learner in results.tried else []:
        shown.add_row(*map(Text, row))
    said = [*sentences(results), *reasons(results)]
    test = [Text(f"measure it on the test set: {command}") for command in measure(results)]
    return Group(shown, *map(Text, said), *test)


def write(results: SweepResults, out: Path) -> Path:
    """The page at `out`, with results.json and figures beside it."""
    files, sweep = Files(), results.sweep
    head = head_of(results, files)
    commands = [sweep.facts["sweep"], *measure(results)]
    said, few = sentences(results), [FEW[n] for n in [len(sweep.seeds)] if n in FEW]
    html = whole_page(
        title=f"Sweep: {', '.join(sweep.settings[0] if sweep.settings else [])} of {results.learner}, {results.data}",
        purposes={}, unfinished=[], uneven=[*reasons(results)], methods=[], warnings={}, baseline_warnings={},
        sections=list(_sections(results, files)), pictures=[], every=_every(results), commands=commands,
        facts=[("Settings of all runs", [(key, str(sweep.facts[key])) for key in SHARED if sweep.facts.get(key)])],
        heads=[head | {"sentence": " ".join(said)}], tables=[], few=few, note=NOTE, **look(),
    )  # fmt: skip
    numbers = {"rows": _rows(results), "summary": _summaries(results), "commands": commands}
    chosen = results.chosen and {"setting": results.chosen.number, **results.chosen.setting}
    content = json_bytes(numbers | {"learner": results.learner, "chosen": chosen}, indent=1) + b"\n"
    return write_whole(out, html, content, files)


SHARED = ("command", "axes", "seeds", "search", "hold_out", "threads", "at_once")


def _sections(results: SweepResults, files: Files) -> Iterator[Section]:
    """The table, accuracy against each setting, and the tables of the other learners."""
    heads = heads_of(results)
    if results.learner in results.tried:
        rows = RobustnessTable(results.learner, heads, rows_of(results, results.learner))
        yield Section("results", "Results", NOTE, [Part("", [], tables=[rows])])
        text = "Each point is a setting; the line joins the best mean at each value."
        yield with_panels(Section("settings", "Setting by setting", text), panels_of(results), "by-setting", files)
    others = [name for name in results.tried if name != results.learner]
    tables = [RobustnessTable(name, heads, rows_of(results, name), folded=True) for name in others]
    if tables:
        text = "The same runs, with the setting that is best for each of these learners."
        yield Section("others", "Other learners", text, [Part("", [], tables=tables)])


def _rows(results: SweepResults) -> list[dict[str, Any]]:
    """What every run reached, by setting and seed."""
    settings, rows = results.sweep.settings, []
    for one in sorted(results.scores, key=lambda one: one.place):
        run = results.sweep.at(one.place).relative_to(results.sweep.folder).as_posix()
        where = {"setting": one.place.setting + 1, **settings[one.place.setting], "seed": one.place.seed}
        what = {"learner": one.learner, "data": one.data, "accuracy": one.accuracy, "seconds": one.seconds}
        rows.append(where | what | {"reason": one.reason, "run": run})
    return rows


def _summaries(results: SweepResults) -> list[dict[str, Any]]:
    """Every setting of every learner as plain numbers."""
    rows = []
    for learner, tried in results.tried.items():
        best = next((one for one in tried if one.whole), None)
        for one in tried:
            middle, half = one.interval
            near = paired(one.accuracy, best.accuracy) if best and one.accuracy else (None, None)
            row = {
                "learner": learner,
                "setting": one.number,
                **one.setting,
                "n": len(one.accuracy),
                "chosen": one is best,
            }
            row |= {"accuracy_mean": middle, "accuracy_interval": half, "difference_mean": near[0]}
            rows.append(
                row | {"difference_interval": near[1], "failed": dict(one.failed), "unfinished": list(one.open)}
            )
    return rows


def _every(results: SweepResults) -> dict[str, Any]:
    """Every run, for the folded table."""
    rows = _rows(results)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cell = lambda value: "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
    return {"keys": keys, "rows": [[cell(row.get(key)) for key in keys] for row in rows]}
