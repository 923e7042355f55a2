"""The sections of the page that stand below the table, each only if there are rows for it."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from neuropil.report.figures.curves import confusions, learning_curves, sample_efficiency, unit_panels
from neuropil.report.figures.receptive_fields import field_sheets
from neuropil.report.figures.robustness import attack_panels, severity_panels
from neuropil.report.figures.samples import Sheet, sample_sheets
from neuropil.report.figures.spikes import spike_panels
from neuropil.report.results import Results, mean, plain
from neuropil.report.robustness_tables import MARK, DataRobustness, RobustnessTable, invalid_sentences, robustness_of
from neuropil.report.stats import quantity
from neuropil.report.theme import Panel, Style, data_uri, png, style_for, svg
from neuropil.runs import AttackRow, CorruptionRow, EpochRow, LabelsRow, RasterRow, Row, SilenceRow, UnitsRow

PICTURE_BYTES = 3_000_000  # pictures that a page takes in; it stays under 5 MB with its figures
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
    tables: list[RobustnessTable] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    text: str
    groups: list[Group] = field(default_factory=list)
    legend: list[Style] = field(default_factory=list)


def sections(results: Results, styles: Mapping[str, Style], files: Files) -> list[Section]:
    """All sections for which there are rows, in the order of the page; their PNG files are added to `files`."""
    epochs, labels = legend(results, styles, EpochRow), legend(results, styles, LabelsRow)
    curves = Section("curves", "Learning curves", CURVES, legend=epochs)
    efficiency = Section("labels", "Accuracy against number of labels", LABELS, legend=labels)
    made = [
        with_panels(curves, learning_curves(results, styles), "learning-curves", files),
        with_panels(efficiency, sample_efficiency(results, styles), "sample-efficiency", files),
        robustness_section(results, styles, files),
        with_sheets(Section("fields", "Receptive fields", FIELDS), field_sheets(results), files),
        spikes_section(results, styles, files),
        with_sheets(Section("samples", "Samples", SAMPLES), sample_sheets(results), files),
        with_panels(Section("confusion", "Confusion", CONFUSION), confusions(results), "confusion", files),
        units_section(results, styles, files),
    ]
    return [section for section in made if section.groups]


CURVES = "Mean over seeds; the band is the 95 % interval of the mean."
LABELS = "On the test split, when only some training examples carry a label; the bars are 95 % intervals over seeds."
FIELDS = "The weights of each unit as an image."
SAMPLES = "Images that learners generate from the class label alone."
CONFUSION = (
    "All seeds together; every row is a true class and sums to 100 %. Correct answers are grey, mistakes orange; "
    "the strength of a mistake grows with the square root of its percentage, on one scale for all learners."
)


def with_panels(section: Section, panels: Sequence[Panel], name: str, files: Files) -> Section:
    """The section with these panels, which also become the PNG file `name`."""
    if panels:
        files.add(name, png(panels, section.legend))
        section.groups.append(Group("", figures_of(panels, section.id)))
    return section


def with_sheets(section: Section, sheets: Sequence[Sheet], files: Files) -> Section:
    """The section with these sheets, which also become PNG files."""
    figures = []
    for sheet in sheets:
        files.add(f"{section.id}-{sheet.learner}", sheet.paper)
        image = Markup('<img class="{}" src="{}" alt="{}">').format(sheet.kind, data_uri(sheet.image), sheet.alt)
        figures.append(Figure(sheet.learner, sheet.caption, image, "325px"))
    section.groups.extend([Group("", figures)] if figures else [])
    return section


def figures_of(panels: Sequence[Panel], name: str) -> list[Figure]:
    """The panels as inline SVG."""
    drawn = [(panel, svg(panel, f"{name}{index}")) for index, panel in enumerate(panels)]
    return [Figure(panel.title, panel.caption, body, f"{panel.width}px") for panel, body in drawn]


def legend(results: Results, styles: Mapping[str, Style], kind: type[Row]) -> list[Style]:
    """The learners that have rows of this kind, in the order of the results."""
    return [style_for(styles, name) for name in dict.fromkeys(row.learner or "" for row in results.of(kind))]


def robustness_section(results: Results, styles: Mapping[str, Style], files: Files) -> Section:
    """Attacks by norm, corruptions, damage, and the comparison with the linear classifier."""
    attacks = attack_panels(results, styles)
    by_severity = {kind: severity_panels(results, styles, kind) for kind in ("corruption", "damage")}
    keys = legend(results, styles, AttackRow) or legend(results, styles, CorruptionRow)
    found = robustness_of(results)
    groups: list[Group] = []
    for one in found:
        prefix, start = f"{one.data}: " if len(found) > 1 else "", len(groups)
        for (data, norm), panels in attacks.items():
            if data == one.data:
                files.add(f"attacks-{data}-{norm}", png(panels, keys))
                groups.append(attack_group(one, norm, f"{prefix}attacks, {norm}", panels, len(groups)))
        for kind, by_data in by_severity.items():
            if one.data in by_data:
                files.add(f"{kind}-{one.data}", png(by_data[one.data], keys))
                tables = [table for table in one.tables if table.caption.endswith(kind)]
                figures = figures_of(by_data[one.data], f"{kind}{len(groups)}-")
                groups.append(Group(f"{prefix}{kind}", figures, tables=tables))
        if one.comparison and len(groups) > start:
            groups.append(Group(f"{prefix}beside the linear classifier", [], sentences=one.comparison))
    return Section("robustness", "Robustness", f"{ROBUST} {MARK}", groups, keys)


def attack_group(one: DataRobustness, norm: str, title: str, panels: Sequence[Panel], index: int) -> Group:
    """The attacks in one norm: figures, tables, and a sentence for every invalid curve."""
    tables = [table for table in one.tables if norm in table.caption]
    invalid = [said for table in tables if table.caption.startswith("checks") for said in invalid_sentences(table)]
    return Group(title, figures_of(panels, f"attack{index}-"), tables=tables, sentences=invalid)


ROBUST = (
    "Every adversarial image was clipped to its budget and classified again by the harness. Mean over seeds; bands are "
    "95 % intervals. A dotted curve with crosses and a hatched band is invalid."
)


def spikes_section(results: Results, styles: Mapping[str, Style], files: Files) -> Section:
    rasters = {row.learner or "": row for row in results.of(RasterRow)}
    silences = {row.learner or "": row for row in results.of(SilenceRow)}
    groups = []
    for index, name in enumerate(dict.fromkeys([*rasters, *silences])):
        panels = spike_panels(rasters.get(name), silences.get(name), style_for(styles, name))
        files.add(f"spikes-{name}", png(panels))
        groups.append(Group(name, figures_of(panels, f"spikes{index}-")))
    text = "What a spiking network does with one example, and how exact gradients make a silent one fire."
    return Section("spikes", "Spikes", text, groups)


def units_section(results: Results, styles: Mapping[str, Style], files: Files) -> Section:
    found: dict[tuple[str, str], list[UnitsRow]] = defaultdict(list)
    for row in results.of(UnitsRow):
        found[row.learner or "", row.layer].append(row)
    groups = []
    for index, ((name, layer), rows) in enumerate(found.items()):
        norms = [value for row in rows for value in row.norms if math.isfinite(value)]
        wins = [value for row in rows for value in row.wins]
        panels = unit_panels(norms, wins, style_for(styles, name).colour)
        title = f"{name}, layer {layer}" if layer else name
        groups.append(Group(title, figures_of(panels, f"unit{index}-"), unit_facts(rows)))
        if panels:
            files.add(f"units-{title}", png(panels))
    text = "Norms and wins of the units of all seeds; the numbers are means over seeds, with their range."
    return Section("units", "Units", text, groups)


def unit_facts(rows: Sequence[UnitsRow]) -> list[tuple[str, str]]:
    """Dead and converged units in percent, effective rank and entropy: the mean over seeds and its range."""
    fractions = {"dead": [row.dead for row in rows], "converged": [row.converged for row in rows]}
    ranks, entropies = [row.effective_rank for row in rows], [row.win_entropy for row in rows]
    facts = fractions | {"effective rank": ranks, "entropy of wins": entropies}
    known = [(name, values) for name, values in facts.items() if not math.isnan(mean(values))]
    return [(name, mean_and_range(values, percent=name in fractions)) for name, values in known]


def mean_and_range(values: Sequence[float], percent: bool) -> str:
    """'2.4 % (0.0 to 5.0)'."""
    write = (lambda value: f"{100 * value:.1f}") if percent else quantity
    text = write(mean(values)) + (" %" if percent else "")
    low, high = write(min(values)), write(max(values))
    return text if low == high else f"{text} ({low} to {high})"


def pictures(results: Results) -> list[dict[str, str]]:
    """Pictures that runs left in `pictures/NAME.png`, with the caption from `pictures/NAME.txt`; some only by name."""
    shown, room = [], PICTURE_BYTES
    for run in results.runs:
        for path in sorted((run.record.folder / "pictures").glob("*.png")):
            content, caption = path.read_bytes(), caption_of(path)
            entry = {"name": plain(path.stem), "run": run.name, "caption": caption, "src": ""}
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
