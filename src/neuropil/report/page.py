"""One self-contained HTML page about a set of runs, with its figures as PNG and its numbers as JSON beside it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from neuropil.errors import require
from neuropil.report import tables
from neuropil.report.figures.summary_figure import summary_figure
from neuropil.report.results import Results, Summary, gather, plain
from neuropil.report.sections import Files, pictures, sections
from neuropil.report.theme import COLOURS, Style, styles_of
from neuropil.runs.files import to_json, write_atomically

__all__ = ["write"]

HERE = Path(__file__).parent


def write(runs: Sequence[Path] | Results, out: Path) -> Path:
    """The page at `out`, written whole or not at all, with `figures/*.png` and `results.json` beside it.

    Args:
        runs: run folders, or folders that hold run folders, or what `gather` made of them.
        out: the HTML file; an older report there is replaced.
    """
    out = Path(out)
    require(not out.is_dir(), f"a report needs a file to write, got the folder '{out}'; try '{out / 'report.html'}'.")
    results = gather(runs)
    html, files = render(results)
    for name, content in files.items():
        place(out.parent / "figures" / f"{name}.png", content)
    place(out.parent / "results.json", results_json(results).encode())
    place(out, html.encode())
    return out


def place(path: Path, content: bytes) -> None:
    """The file, whole or as it was before; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def results_json(results: Results) -> str:
    """The rows as logged, the summary, and the commands, as strict JSON."""
    rows, summary = [outcome.columns() for outcome in results.outcomes], tables.summary_rows(results)
    return to_json({"rows": rows, "summary": summary, "commands": commands_of(results)}, indent=1) + "\n"


def render(results: Results) -> tuple[str, Files]:
    """The HTML text and the PNG files that go beside it."""
    styles, files = styles_of(results), Files()
    warnings, heads = tables.warnings_of(results), heads_of(results, styles, files)
    settings = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    html = settings.get_template("page.html").render(
        title=title_of(results),
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        light={name: pair[0] for name, pair in COLOURS.items()},
        dark={name: pair[1] for name, pair in COLOURS.items()},
        unfinished=tables.unfinished_of(results),
        uneven=[*tables.failed_of(results), *tables.uneven_of(results)],
        heads=heads,
        columns=tables.HEADS,
        note=tables.NOTE,
        tables=[(data, [row_of(one, styles, warnings) for one in results.on(data)]) for data in results.data],
        warnings=warnings,
        counts=tables.counts_of(warnings),
        sections=sections(results, styles, files),
        pictures=pictures(results),
        every=every_run(results),
        commands=commands_of(results),
        facts=facts_of(results),
    )
    return html, files


def heads_of(results: Results, styles: dict[str, Style], files: Files) -> list[dict[str, Any]]:
    """The sentence and the figure at the top, for each data set."""
    heads = []
    for index, data in enumerate(results.data):
        shown = [one for one in results.on(data) if one.accuracy or one.unfinished]
        if not shown:
            continue
        wide, narrow, png = summary_figure(shown, styles, f"head{index}")
        files.add("accuracy" if len(results.data) == 1 else f"accuracy-{data}", png)
        sentence = tables.summary_sentence(results, data)
        heads.append({"data": data, "sentence": sentence, "wide": wide, "narrow": narrow})
    return heads


def title_of(results: Results) -> str:
    """What was compared, in a few words."""
    families = {summary.family for summary in results.summaries}
    what = "Local learners beside their baselines" if families >= {"local", "baseline"} else "Results"
    return f"{what}: {', '.join(results.data)}"


def row_of(summary: Summary, styles: dict[str, Style], warnings: dict[str, list[tables.Warned]]) -> dict[str, Any]:
    """One row of the table; `certain` where the interval of the difference leaves out zero."""
    difference = summary.difference
    certain = difference is not None and abs(difference) > summary.difference_half_width
    row = {"cells": tables.cells_of(summary), "family": summary.family, "key": styles[summary.learner].key}
    return {**row, "warned": summary.learner in warnings, "certain": certain}


def every_run(results: Results) -> dict[str, Any]:
    """Every result row as logged, for the folded table."""
    logged = [outcome.columns() for outcome in results.outcomes]
    first = ["data", "learner", "seed", "accuracy", "n_train", "seconds", "peak_mb"]
    rest = [key for row in logged for key in row]
    keys = [key for key in dict.fromkeys(first + rest) if any(key in row for row in logged)]
    rows = [[format_value(row.get(key, "")) for key in keys] for row in logged]
    return {"keys": [plain(key.replace("_", " ")) for key in keys], "rows": rows}


def format_value(value: object) -> str:
    """A value for a table: numbers with five figures, truth as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else plain(value)


def commands_of(results: Results) -> list[str]:
    """The commands that reproduce it, each once."""
    commands = (run.record.facts.get("command") for run in results.runs)
    return list(dict.fromkeys(plain(command) for command in commands if command))


def facts_of(results: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """Config, versions, machine and data checksums of all runs: equal values once, different ones side by side."""
    groups: dict[str, dict[str, list[str]]] = {}
    for record in (run.record for run in results.runs):
        add(groups.setdefault(f"Settings of {plain(record.recipe)}", {}), flat(record.config))
        for key, value in record.facts.items():
            if key not in ("command", "recipe", "config"):
                name = plain(key).capitalize() if isinstance(value, dict) else "Run"
                add(groups.setdefault(name, {}), flat(value, "" if isinstance(value, dict) else plain(key)))
    written = lambda pairs: [(key, ", ".join(values)) for key, values in pairs.items()]
    return [(name, written(pairs)) for name, pairs in groups.items() if pairs]


def add(group: dict[str, list[str]], pairs: Iterable[tuple[str, str]]) -> None:
    """Gather the different values of each key."""
    for key, value in pairs:
        if value not in group.setdefault(key, []):
            group[key].append(value)


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """A nested value as dotted names and texts."""
    if isinstance(value, dict):
        inner = [pair for key, part in value.items() for pair in flat(part, f"{name}.{key}" if name else str(key))]
        return [(plain(key), text) for key, text in inner]
    return [(name, plain(value))]
