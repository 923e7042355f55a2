"""One self-contained HTML page about a set of runs, with its figures as PNG and its numbers as JSON beside it."""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from neuropil.errors import Refusal, require
from neuropil.report import remarks, tables
from neuropil.report.figures.summary_figure import caption_of, summary_figure
from neuropil.report.layout import Files
from neuropil.report.results import Results, Summary, gather, plain
from neuropil.report.sections import format_value, pictures, sections
from neuropil.report.theme import COLOURS, Style, styles_of
from neuropil.report.words import Explainer
from neuropil.runs import MethodRow
from neuropil.runs.files import is_plain, json_bytes, read_json, write_atomically

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
    return write_whole(out, html, results_json(results), files)


def write_whole(out: Path, html: str, content: bytes, files: Files) -> Path:
    """The page at `out`, `content` as results.json beside it and the figures, each file whole or not at all."""
    numbers, figures = out.with_name("results.json"), out.with_name("figures")
    made = {numbers: content, **{figures / f"{name}.png": picture for name, picture in files.items()}}
    made[out] = html.encode(errors="replace")
    refuse_to_replace(made, numbers)
    figures.mkdir(parents=True, exist_ok=True)
    for path, whole in made.items():
        write_atomically(path, whole)
    return out


def refuse_to_replace(made: Iterable[Path], numbers: Path) -> None:
    """Refuse to write over files that no report has left; `numbers`, which is written first, tells them apart."""
    figures = numbers.with_name("figures")
    if figures.is_symlink():
        raise Refusal(f"{figures} is a link; a report writes only beside itself. Remove it, or name another place.")
    there = [path for path in made if is_plain(path)]
    try:
        ours = is_plain(numbers) and set(read_json(numbers)) >= {"rows", "summary", "commands"}
    except Refusal:
        ours = False
    if there and not ours:
        raise Refusal(f"{there[0]} is there and is not of a report; name another place: --out FOLDER/report.html")


def results_json(results: Results) -> bytes:
    """The rows as logged, the summary, and the commands, as strict JSON."""
    rows, summary = [outcome.columns() for outcome in results.outcomes], tables.summary_rows(results)
    return json_bytes({"rows": rows, "summary": summary, "commands": commands_of(results)}, indent=1) + b"\n"


def environment() -> Environment:
    """Where the templates are, and how they treat text: as text."""
    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def render(results: Results) -> tuple[str, Files]:
    """The HTML text and the PNG files that go beside it."""
    files, styles = Files(), styles_of(results)
    shared = summary_parts(results, files)
    purposes = [run.record.facts.get("purpose") for run in results.runs]
    html = whole_page(
        title=title_of(results),
        purposes=dict.fromkeys(plain(text) for text in purposes if text),
        unfinished=remarks.unfinished_of(results),
        uneven=[
            *remarks.held_out_of(results),
            *remarks.altered_of(results),
            *remarks.failed_of(results),
            *remarks.uneven_of(results),
            *remarks.splits_of(results),
            *remarks.classes_of(results),
        ],
        methods=methods_of(results, styles),
        warnings=remarks.warnings_of(results),
        baseline_warnings=remarks.warnings_of(results, baselines=True),
        sections=sections(results, styles, files),
        pictures=pictures(results),
        every=every_run(results),
        commands=commands_of(results),
        facts=facts_of(results),
        **shared,
    )
    return html, files


def whole_page(**parts: Any) -> str:
    """The page with these parts, its script, and links to its sections."""
    script = (HERE / "report.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    html = environment().get_template("page.html").render(script=Markup(script), digest=digest, **parts)
    found = re.findall(r'<section id="([\w-]+)"[^>]*>\s*<h2>(.*?)</h2>', html)
    links = "".join(f'<li><a href="#{id}">{name}</a></li>\n' for id, name in found)
    return html.replace("<!-- contents -->", links)


def fragment(results: Results) -> str:
    """Figure and table alone, for a notebook."""
    return environment().get_template("fragment.html").render(**summary_parts(results, Files()))


def summary_parts(results: Results, files: Files) -> dict[str, Any]:
    """What the page and a notebook show alike: style, figure, table."""
    styles, warnings = styles_of(results), remarks.warnings_of(results)
    return look() | {
        "heads": heads_of(results, styles, files),
        "tables": [table_of(results, data, styles, warnings) for data in results.data],
        "few": remarks.few_seeds_of(results),
        "note": tables.note_of(results),
    }


def look() -> dict[str, Any]:
    """Style and colours, and what explains terms."""
    return {
        "style": Markup((HERE / "style.css").read_text(encoding="utf-8")),
        "light": {name: pair[0] for name, pair in COLOURS.items()},
        "dark": {name: pair[1] for name, pair in COLOURS.items()},
        "explain": Explainer(),
    }


def heads_of(results: Results, styles: dict[str, Style], files: Files) -> list[dict[str, Any]]:
    """The sentence and the figure at the top, for each data set."""
    heads = []
    for index, data in enumerate(results.data):
        shown = [one for one in results.on(data) if one.accuracy or one.unfinished]
        if not shown:
            continue
        of = "accuracy on held-out examples" if remarks.held_out(results) else "test accuracy"
        wide, narrow, png = summary_figure(shown, styles, f"head{index}", of)
        files.add("accuracy" if len(results.data) == 1 else f"accuracy-{data}", png)
        sentence, caption = tables.summary_sentence(results, data), caption_of(shown)
        heads.append({"data": data, "sentence": sentence, "wide": wide, "narrow": narrow, "caption": caption})
    return heads


def title_of(results: Results) -> str:
    """What was compared, in a few words."""
    recipes = list(dict.fromkeys(Path(run.record.recipe).stem for run in results.runs))
    if not results.summaries:
        return plain(", ".join(recipes).replace("_", " ").capitalize())
    families = {summary.family for summary in results.summaries}
    what = "Local learners beside their baselines" if families >= {"local", "baseline"} else "Results"
    if recipes == ["attack"]:
        what = "Robustness under attack"
    return f"{what}: {', '.join(results.data)}"


def methods_of(results: Results, styles: dict[str, Style]) -> list[dict[str, Any]]:
    """Every method in a sentence, with a link if it is one of the web, best first."""
    found = {row.learner or "": row for row in reversed(results.of(MethodRow))}
    link = lambda row: plain(row.link) if row.link.startswith("https://") else ""
    said = [(name, found[name]) for name in results.learners if name in found]
    about = lambda name, row: plain(row.about).removeprefix(f"{name}: ")
    sentence = lambda text: text[:1].upper() + text[1:]
    return [{"style": styles[name], "about": sentence(about(name, row)), "link": link(row)} for name, row in said]


COLUMNS = ("learner", "n", "accuracy", "seconds", "peak", "difference")


def table_of(
    results: Results, data: str, styles: dict[str, Style], warnings: dict[str, list[remarks.Warned]]
) -> tuple[str, list[tuple[str, str]], list[dict[str, Any]]]:
    """(data set, columns, rows) of the table; a column in which nothing was measured is left out."""
    cells = {one.learner: tables.cells_of(one) for one in results.on(data)}
    kept = tables.columns_of(results.on(data))
    rows = [
        row_of(one, cells[one.learner], kept, styles[one.learner], one.learner in warnings) for one in results.on(data)
    ]
    return data, [(COLUMNS[k], tables.HEADS[k]) for k in kept], rows


def row_of(summary: Summary, cells: list[str], kept: list[int], style: Style, warned: bool) -> dict[str, Any]:
    """One row of the table; `certain` where the interval of the difference, of three seeds or more, leaves out zero."""
    difference = summary.difference
    values = ["", len(summary.accuracy), summary.mean, summary.seconds, summary.peak_mb, difference]
    numbers = ["" if value is None or value != value else str(value) for value in values]
    certain = difference is not None and summary.pairs > 2 and abs(difference) > summary.difference_half_width
    shown = [(COLUMNS[k], tables.HEADS[k], cells[k], numbers[k]) for k in kept]
    return {
        "cells": shown,
        "failed": bool(summary.failed),
        "family": summary.family,
        "key": style.key,
        "tag": style.tag,
        "warned": warned,
        "certain": certain,
    }


def every_run(results: Results) -> dict[str, Any]:
    """Every result row as logged, for the folded table."""
    logged = [outcome.columns() for outcome in results.outcomes]
    first = ["data", "learner", "seed", "accuracy", "n_train", "seconds", "peak_mb"]
    rest = [key for row in logged for key in row]
    keys = [key for key in dict.fromkeys(first + rest) if any(key in row for row in logged)]
    rows = [[format_value(row.get(key, "")) for key in keys] for row in logged]
    return {"keys": [plain(key.replace("_", " ")) for key in keys], "rows": rows}


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
            if key not in ("command", "recipe", "config", "purpose"):
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
