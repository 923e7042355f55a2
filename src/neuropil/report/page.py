"""One self-contained HTML page about a set of runs, with its figures as PNG and its numbers as JSON beside it."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from neuropil.errors import require
from neuropil.report.figures.summary_figure import summary_figure
from neuropil.report.results import Line, Study, gather, plain
from neuropil.report.sections import Files, Section, pictures, sections
from neuropil.report.tables import (
    HEADS,
    NOTE,
    alarms_of,
    cells_of,
    counts_of,
    lede_of,
    strict,
    summary_of,
    uneven_of,
    unfinished_of,
)
from neuropil.report.theme import COLOURS, styles_of
from neuropil.runs.files import write_atomically

HERE = Path(__file__).parent


def write(folders: Sequence[Path], out: Path) -> Path:
    """The page at `out`, written whole or not at all, with `figures/*.png` and `results.json` beside it.

    Args:
        folders: run folders, or folders that hold run folders; one run may hold many learners and seeds.
        out: the HTML file; an older report there is replaced.
    """
    out = Path(out)
    require(not out.is_dir(), f"a report needs a file to write, got the folder '{out}'; try '{out / 'report.html'}'.")
    study = gather(folders)
    html, files = render(study)
    for name, content in files.items():
        place(out.parent / "figures" / f"{name}.png", content)
    place(out.parent / "results.json", results_json(study).encode())
    place(out, html.encode())
    return out


def place(path: Path, content: bytes) -> None:
    """The file, whole or as it was before; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def results_json(study: Study) -> str:
    """The rows as logged, the summary, and the commands, as strict JSON."""
    content = {"rows": study.results, "summary": summary_of(study), "commands": commands_of(study)}
    return json.dumps(strict(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def render(study: Study) -> tuple[str, Files]:
    """The HTML text and the PNG files that go beside it."""
    styles, files = styles_of(study), Files()
    heads = []
    for index, data in enumerate(study.data):
        lines = [line for line in study.lines if line.data == data]
        wide, narrow, png = summary_figure(lines, styles, f"head{index}")
        files.add("accuracy" if len(study.data) == 1 else f"accuracy-{data}", png)
        heads.append({"data": data, "lede": lede_of(study, data), "wide": wide, "narrow": narrow})
    shown: list[Section] = sections(study, styles, files)
    settings = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    alarms = alarms_of(study)
    html = settings.get_template("page.html").render(
        title=title_of(study),
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        light={name: pair[0] for name, pair in COLOURS.items()},
        dark={name: pair[1] for name, pair in COLOURS.items()},
        unfinished=unfinished_of(study),
        uneven=uneven_of(study),
        heads=heads,
        columns=HEADS,
        note=NOTE,
        tables=[
            (data, [row_of(line, styles, alarms) for line in study.lines if line.data == data]) for data in study.data
        ],
        alarms=alarms,
        counts=counts_of(alarms),
        styles=styles,
        sections=shown,
        pictures=pictures(study),
        every=every_run(study),
        commands=commands_of(study),
        facts=facts_of(study),
    )
    return html, files


def title_of(study: Study) -> str:
    """What was compared, in a few words."""
    families = {line.family for line in study.lines}
    what = "Local learners beside their baselines" if families >= {"local", "baseline"} else "Results"
    return f"{what}: {', '.join(study.data)}"


def row_of(line: Line, styles: dict[str, Any], alarms: dict[str, Any]) -> dict[str, Any]:
    """One line of the table; `sure` where the interval of the difference leaves out zero."""
    sure = line.gap is not None and abs(line.gap) > line.gap_half
    return {
        "cells": cells_of(line),
        "family": line.family,
        "key": styles[line.learner].key,
        "alarm": len(alarms.get(line.learner, [])),
        "sure": sure,
    }


def every_run(study: Study) -> dict[str, Any]:
    """Every result row as logged, for the folded table."""
    first = ["data", "learner", "seed", "accuracy", "n_train", "seconds", "peak_mb"]
    rest = [key for row in study.results for key in row]
    keys = [key for key in dict.fromkeys(first + rest) if any(key in row for row in study.results)]
    rows = [[brief(row.get(key, "")) for key in keys] for row in study.results]
    return {"keys": [plain(key.replace("_", " ")) for key in keys], "rows": rows}


def brief(value: object) -> str:
    """A value for a table: numbers with five figures, truth as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.5g}" if isinstance(value, float) else plain(value)


def commands_of(study: Study) -> list[str]:
    """The commands that reproduce it, each once."""
    return list(
        dict.fromkeys(plain(record.facts["command"]) for record in study.records if record.facts.get("command"))
    )


def facts_of(study: Study) -> list[tuple[str, list[tuple[str, str]]]]:
    """Config, versions, machine and data checksums of all runs: equal values once, different ones side by side."""
    groups: dict[str, dict[str, list[str]]] = {}
    for record in study.records:
        add(groups.setdefault(f"Settings of {plain(record.recipe)}", {}), flat(record.config))
        for key, value in record.facts.items():
            if key not in ("command", "recipe", "config"):
                name = plain(key).capitalize() if isinstance(value, dict) else "Run"
                add(groups.setdefault(name, {}), flat(value, "" if isinstance(value, dict) else plain(key)))
    return [
        (name, [(key, ", ".join(values)) for key, values in pairs.items()]) for name, pairs in groups.items() if pairs
    ]


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
