"""The sections of the page that stand below the table, each only if there are rows for it."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuropil.report.figures.activity import activity_panels
from neuropil.report.figures.curves import confusions, learning_curves, progress_panels, sample_efficiency
from neuropil.report.figures.receptive_fields import field_sheets
from neuropil.report.figures.robustness import attack_panels, severity_panels
from neuropil.report.figures.samples import labelled_tiles, sample_sheets
from neuropil.report.figures.spikes import spike_panels
from neuropil.report.figures.units import unit_panels
from neuropil.report.layout import Figure, Files, Group, Section, figures_of, legend, with_panels, with_sheets
from neuropil.report.results import ROWS, Results, mean, plain
from neuropil.report.robustness_tables import (
    MARK,
    DataRobustness,
    RobustnessTable,
    format_fractions,
    invalid_sentences,
    robustness_of,
)
from neuropil.report.stats import quantity
from neuropil.report.theme import Panel, Style, data_uri, png, style_for
from neuropil.runs import (
    AttackRow,
    CorruptionRow,
    ImagesRow,
    LabelsRow,
    PotentialsRow,
    RasterRow,
    Row,
    SilenceRow,
    SpikeTrainsRow,
    UnitsRow,
    WeightsRow,
)

PICTURE_BYTES = 3_000_000  # pictures that a page takes in; it stays under 5 MB with its figures
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def sections(results: Results, styles: Mapping[str, Style], files: Files) -> list[Section]:
    """All sections for which there are rows, in the order of the page; their PNG files are added to `files`."""
    fields = Section("fields", "Receptive fields", FIELDS)
    made = [
        curves_section(results, styles, files),
        labels_section(results, styles, files),
        robustness_section(results, styles, files),
        with_sheets(fields, field_sheets(results), files),
        images_section(results),
        with_sheets(Section("samples", "Samples", SAMPLES), sample_sheets(results), files),
        spikes_section(results, styles, files),
        activity_section(results, styles, files),
        with_panels(Section("confusion", "Confusion", CONFUSION), confusions(results), "confusion", files),
        units_section(results, styles, files),
        numbers_section(results),
    ]
    return [section for section in made if section.groups]


CURVES = "Mean over seeds; the band is the 95 % interval of the mean. One seed has none; of two seeds it spans the two."
LABELS = (
    "On the test split, when only some training examples carry a label; the bars are 95 % intervals over seeds "
    "(of two seeds: from one to the other). Choose a learner in the legend to highlight it."
)
FIELDS = (
    "The weights of units of the first layer, each as an image: what drives the unit most. At most 100 units of a "
    "layer are shown, evenly chosen. Orange is positive, blue negative, each unit scaled to its largest weight."
)
SAMPLES = "Images that learners generate from the class label alone."
CONFUSION = (
    "All seeds together; every row is a true class and sums to 100 %. Correct answers are grey, mistakes orange; "
    "the strength of a mistake grows with the square root of its percentage, on one scale for all learners. "
    "Below each: its commonest mistakes, true class → class that was given."
)
IMAGES = "Small images that the runs kept, of their first seed."
ACTIVITY = "Spikes, potentials and weights over time, of the first run that has them."
NUMBERS = "What the runs logged besides, as it was logged."


def curves_section(results: Results, styles: Mapping[str, Style], files: Files) -> Section:
    """Accuracy of all methods over the training first; every other number of every stage is folded away."""
    section = Section("curves", "Learning curves", CURVES, legend=legend(results.series, styles))
    first, every = progress_panels(results, styles), learning_curves(results, styles)
    with_panels(section, first, "training-accuracy", files)
    with_panels(section, every, "learning-curves", files, folded="every stage and number" if first else "")
    return section


def labels_section(results: Results, styles: Mapping[str, Style], files: Files) -> Section:
    """The curves, and the same in numbers."""
    rows = results.of(LabelsRow)
    section = Section("labels", "Accuracy against number of labels", LABELS, legend=legend(rows, styles))
    with_panels(section, sample_efficiency(results, styles), "sample-efficiency", files)
    if not section.groups:
        return section
    found: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        found[row.data or ""][row.learner or ""][row.n_labels].append(row.accuracy)
    for data, learners in found.items():
        counts = sorted({count for own in learners.values() for count in own})
        cell = lambda own, count: format_fractions(own[count]) if count in own else "–"
        cells = [[name, *(cell(own, count) for count in counts)] for name, own in learners.items()]
        heads = ["learner", *(f"{count:,}" for count in counts)]
        caption = f"{data}: the same in numbers, accuracy, %, by number of labels"
        section.groups[0].tables.append(RobustnessTable(caption, heads, cells, folded=True))
    return section


def images_section(results: Results) -> Section:
    """Images of one title together, a figure for each learner, from the first shown run that has them."""
    groups: dict[str, Group] = {}
    seen = set()
    for run in results.shown:
        for row in run.of(ImagesRow):
            key = (row.title, row.data, row.learner)
            if row.tensor in run.tensors and key not in seen:
                seen.add(key)
                images = run.tensors[row.tensor]
                pixels = images.float().cpu().numpy() / (1 if images.is_floating_point() else 255)
                group = groups.setdefault(row.title, Group(plain(row.title), [], text=plain(row.caption)))
                caption = plain(row.caption) if plain(row.caption) != group.text else ""
                size = f"{64 * row.per_line}px" if row.per_line else "325px" if row.learner else "100%"
                group.figures.append(Figure(plain(row.learner or ""), caption, labelled_tiles(pixels, row), size))
    place = {name: index for index, name in enumerate(results.learners)}
    for group in groups.values():
        group.figures.sort(key=lambda figure: place.get(figure.title, len(place)))
    return Section("images", "Images", IMAGES, list(groups.values()))


def numbers_section(results: Results) -> Section:
    """Rows of kinds that have no figure, a table for each kind; folded where there are results to look at."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in results.of(Row):
        found[plain(row.kind)].append({name: value for name, value in row.columns().items() if name != "kind"})
    groups = []
    for kind, rows in found.items():
        keys = list(dict.fromkeys(key for row in rows for key in row))
        cells = [[format_value(row.get(key, "")) for key in keys] for row in rows[:ROWS]]
        heads = [plain(key.replace("_", " ")) for key in keys]
        table = RobustnessTable(kind.replace("_", " "), heads, cells, folded=bool(results.summaries))
        groups.append(Group("", [], tables=[table]))
    return Section("numbers", "Numbers", NUMBERS, groups)


def format_value(value: object) -> str:
    """A value for a table: numbers with five figures, truth as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value))
    return f"{value:.5g}" if isinstance(value, float) else plain(value)


def robustness_section(results: Results, styles: Mapping[str, Style], files: Files) -> Section:
    """Attacks by norm, corruptions, damage, and the comparison with the linear classifier."""
    attacks = attack_panels(results, styles)
    by_severity = {kind: severity_panels(results, styles, kind) for kind in ("corruption", "damage")}
    keys = legend(results.of(AttackRow), styles) or legend(results.of(CorruptionRow), styles)
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


def activity_section(results: Results, styles: Mapping[str, Style], files: Files) -> Section:
    """Spike trains, potentials and weights over time, of the first shown run that has them."""
    found: dict[tuple[type[Row], str, str], list[Panel]] = {}
    kinds = results.of(SpikeTrainsRow), results.of(PotentialsRow), results.of(WeightsRow)
    for row in [one for rows in kinds for one in rows]:
        key, colour = (type(row), row.title, row.learner or ""), style_for(styles, row.learner or "").colour
        if key not in found:
            found[key] = activity_panels(replace(row, title=plain(row.title)), colour)
    by_learner: dict[str, list[Panel]] = defaultdict(list)
    for (_, _, name), panels in found.items():
        by_learner[name] += panels
    groups = []
    for index, (name, panels) in enumerate(by_learner.items()):
        files.add(f"activity-{name}", png(panels))
        groups.append(Group(name, figures_of(panels, f"activity{index}-")))
    return Section("activity", "Activity", ACTIVITY, groups)


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
    known = {name: [value for value in values if math.isfinite(value)] for name, values in facts.items()}
    return [(name, mean_and_range(values, percent=name in fractions)) for name, values in known.items() if values]


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
        for path in run.pictures:
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
