"""The parts of the page that stand below the table, each only if there are rows for it."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from neuropil.report.figures.curves import confusions, efficiency, learning_curves, unit_panels
from neuropil.report.figures.receptive_fields import grids
from neuropil.report.figures.robustness import attack_panels, hurt_panels
from neuropil.report.figures.samples import sheets
from neuropil.report.figures.spikes import spike_panels
from neuropil.report.results import Row, Study, mean, name_of, number, plain
from neuropil.report.robustness_tables import MARK, Grid, check_grid, data_of, grids_of, void_words
from neuropil.report.stats import quantity
from neuropil.report.theme import Panel, Style, data_uri, png, style_for, svg

PICTURE_ROOM = 3_000_000  # bytes of pictures that a page takes in; it stays under 5 MB with its figures
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Files(dict[str, bytes]):
    """PNG files to be written, by names that every file system takes."""

    def add(self, name: str, content: bytes) -> None:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "figure"
        unused = next(text for text in (slug, *(f"{slug}-{k}" for k in range(2, len(self) + 3))) if text not in self)
        self[unused] = content


@dataclass(frozen=True)
class Figure:
    """A picture as the page shows it: inline SVG, or an image with its address."""

    title: str
    caption: str
    body: Markup
    size: str = ""


@dataclass(frozen=True)
class Group:
    """Figures that belong together, with what is known about them in numbers."""

    title: str
    figures: list[Figure]
    facts: list[tuple[str, str]] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    text: str
    groups: list[Group]
    legend: list[Style] = field(default_factory=list)


def sections(study: Study, styles: Mapping[str, Style], files: Files) -> list[Section]:
    """All parts for which there are rows, in the order of the page; their PNG files are added to `files`."""
    made = [
        curves_section(study, styles, files),
        efficiency_section(study, styles, files),
        robust_section(study, styles, files),
        fields_section(study, files),
        spikes_section(study, styles, files),
        samples_section(study, files),
        confusion_section(study, files),
        units_section(study, styles, files),
    ]
    return [section for section in made if section is not None]


def drawn(panels: Sequence[Panel], name: str) -> list[Figure]:
    """The panels as inline SVG."""
    return [
        Figure(panel.title, panel.caption, svg(panel, f"{name}{index}"), f"{panel.width}px")
        for index, panel in enumerate(panels)
    ]


def legend(study: Study, styles: Mapping[str, Style], kind: str) -> list[Style]:
    """The learners that have rows of this kind, in the order of the results."""
    present = dict.fromkeys(row["learner"] for row in study.rows(kind))
    known = [name for name in dict.fromkeys(line.learner for line in study.lines) if name in present]
    return [style_for(styles, name) for name in [*known, *(name for name in present if name not in styles)]]


def curves_section(study: Study, styles: Mapping[str, Style], files: Files) -> Section | None:
    panels = learning_curves(study, styles)
    if not panels:
        return None
    keys = legend(study, styles, "epoch")
    files.add("learning-curves", png(panels, keys))
    text = "Mean over seeds; the band is the 95 % interval of the mean."
    return Section("curves", "Learning curves", text, [Group("", drawn(panels, "curve"))], keys)


def efficiency_section(study: Study, styles: Mapping[str, Style], files: Files) -> Section | None:
    panels = efficiency(study, styles)
    if not panels:
        return None
    keys = legend(study, styles, "labels")
    files.add("sample-efficiency", png(panels, keys))
    text = "On the test split, when only some training examples carry a label; the bars are 95 % intervals over seeds."
    return Section("labels", "Accuracy against number of labels", text, [Group("", drawn(panels, "label"))], keys)


def robust_section(study: Study, styles: Mapping[str, Style], files: Files) -> Section | None:
    """Attacks by norm, corruptions, damage, and the answer to the question about the linear model."""
    attacks = attack_panels(study, styles)
    hurts = {kind: hurt_panels(study, styles, kind) for kind in ("corruption", "damage")}
    groups: list[Group] = []
    keys = legend(study, styles, "attack") or legend(study, styles, "corruption")
    many = len(data_of(study)) > 1
    for data, tables, said in grids_of(study):
        start, name = len(groups), f"{data}: " if many else ""
        for (own, norm), panels in attacks.items():
            if own == data:
                files.add(f"attacks-{data}-{norm}", png(panels, keys))
                mine = [grid for grid in tables if norm in grid.caption]
                title, figures = f"{name}attacks, {norm}", drawn(panels, f"attack{len(groups)}-")
                groups.append(Group(title, figures, grids=mine, said=void_words(check_grid(study, data, norm))))
        for kind, found in hurts.items():
            if data in found:
                files.add(f"{kind}-{data}", png(found[data], keys))
                mine = [grid for grid in tables if grid.caption.endswith(kind)]
                groups.append(Group(f"{name}{kind}", drawn(found[data], f"{kind}{len(groups)}-"), grids=mine))
        if said and len(groups) > start:
            groups.append(Group(f"{name}beside the linear model", [], said=said))
    return Section("robustness", "Robustness", f"{ROBUST} {MARK}", groups, keys) if groups else None


ROBUST = (
    "Every moved image was clipped to its budget and scored again by the harness. Mean over seeds; bands are 95 % "
    "intervals. A dotted curve with crosses and a hatched band is void."
)


def fields_section(study: Study, files: Files) -> Section | None:
    figures = []
    for grid in grids(study):
        files.add(f"fields-{grid.learner}", grid.paper)
        alt = f"Receptive fields of {grid.learner}. {grid.caption}"
        image = Markup('<img class="{}" src="{}" alt="{}">').format(grid.kind, data_uri(grid.image), alt)
        figures.append(Figure(grid.learner, f"{grid.caption} Run {grid.run}.", image, "325px"))
    text = "What each unit weighs, drawn as an image."
    return Section("fields", "Receptive fields", text, [Group("", figures)]) if figures else None


def spikes_section(study: Study, styles: Mapping[str, Style], files: Files) -> Section | None:
    trials, ways = ({row["learner"]: row for row in study.rows(kind)} for kind in ("raster", "silence"))
    groups = []
    for index, name in enumerate(dict.fromkeys([*trials, *ways])):
        panels = spike_panels(trials.get(name), ways.get(name), style_for(styles, name))
        files.add(f"spikes-{name}", png(panels))
        groups.append(Group(name, drawn(panels, f"spikes{index}-")))
    text = "What a spiking network does with one example, and how exact gradients make a silent one fire."
    return Section("spikes", "Spikes", text, groups) if groups else None


def samples_section(study: Study, files: Files) -> Section | None:
    figures = []
    for sheet in sheets(study):
        files.add(f"samples-{sheet.learner}", sheet.image)
        alt = f"Samples by {sheet.learner}. {sheet.caption}"
        image = Markup('<img class="fields" src="{}" alt="{}">').format(data_uri(sheet.image), alt)
        figures.append(Figure(sheet.learner, sheet.caption, image, "325px"))
    text = "Images that learners generate when only the class is given."
    return Section("samples", "Samples", text, [Group("", figures)]) if figures else None


def confusion_section(study: Study, files: Files) -> Section | None:
    panels = confusions(study)
    if not panels:
        return None
    files.add("confusion", png(panels))
    text = (
        "All seeds together; every row is a true class and sums to 100 %. Right answers are grey, mistakes orange; "
        "the strength of a mistake grows with the square root of its share, on one scale for all learners."
    )
    return Section("confusion", "Confusion", text, [Group("", drawn(panels, "confusion"))])


def units_section(study: Study, styles: Mapping[str, Style], files: Files) -> Section | None:
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in study.rows("units"):
        found[row["learner"], str(row.get("layer", ""))].append(row)
    groups = []
    for index, ((name, layer), rows) in enumerate(found.items()):
        norms = [value for row in rows for value in row.get("norms") or [] if math.isfinite(value)]
        wins = [value for row in rows for value in row.get("wins") or []]
        panels = unit_panels(norms, wins, style_for(styles, name).colour)
        title = f"{name}, layer {layer}" if layer else name
        groups.append(Group(title, drawn(panels, f"unit{index}-"), unit_facts(rows)))
        if panels:
            files.add(f"units-{title}", png(panels))
    text = "Norms and wins of the units of all seeds; the numbers are means over seeds, with their range."
    return Section("units", "Units", text, groups) if groups else None


def unit_facts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Dead share, converged share, rank and entropy: the mean over seeds and its range."""
    facts = [("dead", [dead_share(row) for row in rows], True), ("converged", column(rows, "converged"), True)]
    facts += [
        ("effective rank", column(rows, "effective_rank"), False),
        ("entropy of wins", column(rows, "win_entropy"), False),
    ]
    return [(name, spread(values, share)) for name, values, share in facts if mean(values) == mean(values)]


def column(rows: Sequence[Row], key: str) -> list[float]:
    return [number(row, key) for row in rows]


def dead_share(row: Row) -> float:
    """Dead units as a share: whole numbers are counts."""
    dead, units = row.get("dead"), len(row.get("wins") or row.get("norms") or [])
    return dead / units if isinstance(dead, int) and units else number(row, "dead")


def spread(values: Sequence[float], share: bool) -> str:
    """'2.4 % (0.0 to 5.0)'."""
    write = (lambda value: f"{100 * value:.1f}") if share else quantity
    text = write(mean(values)) + (" %" if share else "")
    low, high = write(min(values)), write(max(values))
    return text if low == high else f"{text} ({low} to {high})"


def pictures(study: Study) -> list[dict[str, str]]:
    """Pictures that runs left in `pictures/NAME.png`, with the caption from `pictures/NAME.txt`; some only by name."""
    shown, room = [], PICTURE_ROOM
    for record in study.records:
        for path in sorted((record.folder / "pictures").glob("*.png")):
            content, caption = path.read_bytes(), caption_of(path)
            entry = {"name": plain(path.stem), "run": name_of(record), "caption": caption, "src": ""}
            if not content.startswith(SIGNATURE):
                entry["left_out"] = "it is not a PNG file"
            elif len(content) > room:
                entry["left_out"] = f"with its {len(content) / 1e6:.1f} MB the page would grow too large"
            else:
                room -= len(content)
                entry["src"] = data_uri(content)
            shown.append(entry)
    return shown


def caption_of(picture: Path) -> str:
    text = picture.with_suffix(".txt")
    return plain(" ".join(text.read_text(encoding="utf-8", errors="replace").split())) if text.exists() else ""
