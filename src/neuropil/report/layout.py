"""What a section of the page is made of: figures in groups, with tables and sentences."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from neuropil.report.figures.samples import Sheet
from neuropil.report.figures.summary_figure import NARROW
from neuropil.report.results import Series
from neuropil.report.robustness_tables import RobustnessTable
from neuropil.report.theme import Panel, Style, data_uri, png, style_for, svg
from neuropil.runs import Row


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
    text: str = ""
    folded: str = ""  # what the fold is called that hides the figures; empty for no fold


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    text: str
    groups: list[Group] = field(default_factory=list)
    legend: list[Style] = field(default_factory=list)


def with_panels(section: Section, panels: Sequence[Panel], name: str, files: Files, folded: str = "") -> Section:
    """The section with these panels, which also become the PNG file `name`."""
    if panels:
        files.add(name, png(panels, section.legend))
        section.groups.append(Group("", figures_of(panels, name), folded=folded))
    return section


PAIR = Markup(
    '<div class="pair"><div>{}<p class="fine">before learning</p></div>'
    '<div>{}<p class="fine">after learning</p></div></div>'
)


def with_sheets(section: Section, sheets: Sequence[Sheet], files: Files) -> Section:
    """The section with these sheets, which also become PNG files."""
    figures = []
    for sheet in sheets:
        files.add(f"{section.id}-{sheet.learner}", sheet.paper)
        image = Markup('<img class="{}" src="{}" alt="{}">')
        body = image.format(sheet.kind, data_uri(sheet.image), sheet.alt)
        if sheet.before:
            first = image.format(sheet.kind, data_uri(sheet.before), f"Before learning. {sheet.alt}")
            body = PAIR.format(first, body)
        figures.append(Figure(sheet.learner, sheet.caption, body, "682px" if sheet.before else "325px"))
    section.groups.extend([Group("", figures)] if figures else [])
    return section


def figures_of(panels: Sequence[Panel], name: str) -> list[Figure]:
    """The panels as inline SVG."""
    figures = []
    for index, panel in enumerate(panels):
        body = svg(panel, f"{name}{index}")
        if panel.width > NARROW:  # letters would become too small on a phone
            narrow = svg(replace(panel, width=NARROW, height=260), f"{name}{index}n")
            body = Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(body, narrow)
        figures.append(Figure(panel.title, panel.caption, body, f"{panel.width}px"))
    return figures


def legend(rows: Sequence[Row | Series], styles: Mapping[str, Style]) -> list[Style]:
    """The learners that have these rows, in their order."""
    return [style_for(styles, name) for name in dict.fromkeys(row.learner or "" for row in rows)]
