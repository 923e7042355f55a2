"""How figures look: one palette for light and dark, crisp SVG inside the page, PNG beside it."""

import base64
import io
import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from neuropil.report.results import BASELINES, Results

# Each colour in light and in dark. Figures are plotted in the light one; in the page it becomes a CSS variable.
# Local learners are warm, spiking networks green, baselines blue and grey; neighbours differ in lightness, so that they
# part without hue too.
COLOURS = {
    "paper": ("#ffffff", "#14171a"),
    "ink": ("#1d2329", "#e8eaed"),
    "soft": ("#5a646e", "#a3acb5"),
    "rule": ("#dfe3e7", "#31373d"),
    "band": ("#f5f6f8", "#1c2024"),
    "local-0": ("#d1440c", "#ff8a5b"),
    "local-1": ("#8a1c5b", "#e36bb0"),
    "local-2": ("#c98a00", "#f2c14e"),
    "local-3": ("#e0607e", "#ffb3c4"),
    "local-4": ("#7d4a12", "#c99257"),
    "local-5": ("#5d8a00", "#a9cf54"),
    "local-6": ("#7b3fb5", "#c39bf2"),
    "spiking-0": ("#0b7a5e", "#45c9a0"),
    "spiking-1": ("#4d6b00", "#b6d94c"),
    "baseline-0": ("#1061ad", "#5ab0f5"),
    "baseline-1": ("#727e8a", "#98a4b0"),
    "baseline-2": ("#35a2c4", "#7fd4ee"),
    "baseline-3": ("#3f4a75", "#8f9bd1"),
    "baseline-4": ("#a3623a", "#d6a27e"),
    "baseline-5": ("#5b8c7b", "#93c9b5"),
    "warning": ("#a83200", "#ffb08a"),
}
LIGHT = {light: name for name, (light, _) in COLOURS.items()}
PAPER, INK, SOFT, RULE = (COLOURS[name][0] for name in ("paper", "ink", "soft", "rule"))
MARKERS = {
    "o": "M4 0a4 4 0 1 1-.01 0z",
    "s": "M.6.6h6.8v6.8H.6z",
    "^": "M4 .2 8 7.6H0z",
    "D": "M4-.4 8.4 4 4 8.4-.4 4z",
}
Dash = Literal["-", "--", ":", "-."]
DASHES: dict[str, tuple[Dash, ...]] = {"local": ("-",), "spiking": ("-",), "baseline": ("--", ":", "-.")}
STROKES = {"-": "none", "--": "5 2.5", ":": "1.5 2.5", "-.": "6 2 1.5 2"}


@dataclass(frozen=True)
class Style:
    """The colour, marker and dash of one learner in every figure."""

    name: str
    variable: str
    marker: str
    dash: Dash

    @property
    def colour(self) -> str:
        return COLOURS[self.variable][0]

    @property
    def tag(self) -> str:
        """By which the page knows everything of this learner; as an id of a plotted line it is kept as such."""
        return tag_of(self.name)

    @property
    def key(self) -> Markup:
        """The entry of this learner in a legend of the page."""
        line = f'<path d="M0 6H26" stroke-width="2" fill="none" stroke-dasharray="{STROKES[self.dash]}"/>'
        mark = f'<path d="{MARKERS[self.marker]}" transform="translate(9 2)" stroke="none"/>'
        color = f'style="stroke:var(--{self.variable});fill:var(--{self.variable})"'
        return Markup(f'<svg class="key" viewBox="0 0 26 12" aria-hidden="true" {color}>{line}{mark}</svg>')


@dataclass(frozen=True)
class Panel:
    """One figure of a section: its title, what it shows in words, and the function that plots it."""

    title: str
    alt: str
    plot: Callable[[Axes], None]
    caption: str = ""
    width: int = 325  # CSS pixels; three of them fill the page
    height: int = 220


def tag_of(name: str) -> str:
    """The tag of a learner, whatever letters are in its name."""
    return f"s{zlib.crc32(name.encode()):08x}"


def styles_of(results: Results) -> dict[str, Style]:
    """Learner -> style: colours of its family in the order of names; the three usual baselines are always alike."""
    families: dict[str, list[str]] = {"baseline": [], "local": [], "spiking": []}
    known = {one.learner: one.family for one in results.summaries} or dict.fromkeys(results.trained, "local")
    for name, family in sorted(known.items()):
        families[family if family in families else "local"].append(name)
    families["baseline"] = [*BASELINES, *(name for name in families["baseline"] if name not in BASELINES)]
    found = {name: (family, slot) for family, names in families.items() for slot, name in enumerate(names)}
    return {name: style(name, *found[name]) for name in found if name in results.learners}


def style(name: str, family: str, slot: int) -> Style:
    variable = f"{family}-{slot % sum(key.startswith(family) for key in COLOURS)}"
    return Style(name, variable, [*MARKERS][slot % len(MARKERS)], DASHES[family][slot % len(DASHES[family])])


def style_for(styles: Mapping[str, Style], name: str) -> Style:
    """The style of a learner, grey for one that has curves but no result."""
    return styles.get(name) or Style(name, "baseline-1", "o", "-")


def short_name(text: str, length: int = 34) -> str:
    """A name for a figure: short enough, and never taken for mathematics."""
    return (text if len(text) <= length else text[: length - 1] + "…").replace("$", r"\$")


def style_axes(axes: Axes, grid: str = "y") -> None:
    """No box, no ticks, a faint grid."""
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom" and grid == "y")
        spine.set_color(RULE)
    axes.tick_params(length=0, labelsize=8.25, colors=SOFT, pad=4)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=RULE, linewidth=0.8)  # type: ignore[arg-type]
    for name in (axes.xaxis.label, axes.yaxis.label):
        name.set(color=SOFT, fontsize=8.25)


def tell(axes: Axes, name: str, spots: Iterable[tuple[float, float, str]]) -> None:
    """What the page says at these places (x, y) of a learner's curve; invisible in the figure itself."""
    places = list(spots)
    if places:
        hidden = Polygon([(x, y) for x, y, _ in places], closed=False, visible=False, gid=tag_of(name))
        hidden.set_label("\n".join(text for *_, text in places))
        axes.add_artist(hidden)


def spots_of(figure: Figure) -> str:
    """The places that `tell` named, as circles with titles, in the coordinates of the SVG."""
    made, high = [], figure.get_size_inches()[1] * 72
    for axes in figure.axes:
        for hidden in (one for one in axes.patches if not one.get_visible() and one.get_gid()):
            points = axes.transData.transform(hidden.get_xy()) / figure.dpi * 72  # type: ignore[attr-defined]
            for (x, y), text in zip(points, str(hidden.get_label()).split("\n")):
                if math.isfinite(x + y):
                    at = f'data-series="{hidden.get_gid()}" cx="{x:.1f}" cy="{high - y:.1f}" r="5"'
                    made.append(f"<circle {at}><title>{escape(text)}</title></circle>")
    return f'<g class="spots">{"".join(made)}</g>\n</svg>' if made else "</svg>"


def annotate(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **look: Any) -> None:
    """A word `shift` points from `at`, which is x in units of the data and y as a fraction of the axes."""
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "color": SOFT}
    axes.annotate(text, at, shift, **{**place, "fontsize": 8.25, **look})


def svg(panel: Panel, name: str) -> Markup:
    """The panel as inline SVG in the page's own fonts and colours; `name` keeps its ids apart from other figures."""
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02)
    figure = Figure(figsize=(panel.width / 96, panel.height / 96), layout=tight)
    panel.plot(figure.add_subplot())
    return inline(figure, name, panel.alt, panel.width)


def inline(figure: Figure, name: str, alt: str, width: int) -> Markup:
    """A figure in light colours as SVG that follows the theme of the page around it."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "neuropil"}), warnings.catch_warnings():
        # Letters stay letters in this SVG and the reader's fonts render them; a PNG that lacks one still warns.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", buffer.getvalue(), flags=re.S)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text).replace("xlink:href", "href").replace(" \n", " ")
    text = re.sub(r' id="(s[0-9a-f]{8})"', r' data-series="\1"', text)
    used = set(re.findall(r'#([\w.]+)["\)]', text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    text = re.sub(r": (#[0-9a-f]{6})", lambda found: f": {variable(found[1])}", text)
    body = re.sub(r"\n *", "\n", text[text.index(">", text.index("<svg")) + 1 :])
    wide, high = figure.get_size_inches() * 72
    head = f'<svg role="img" aria-label="{escape(alt)}" viewBox="0 0 {wide:g} {high:g}" style="max-width:{width}px">'
    return Markup(head + body.rstrip().removesuffix("</svg>") + spots_of(figure))


def variable(colour: str) -> str:
    return f"var(--{LIGHT[colour]})" if colour in LIGHT else colour


def png(panels: Sequence[Panel], styles: Iterable[Style] = ()) -> bytes:
    """All panels on one white sheet, with a legend, for papers and slides."""
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend = [Line2D([], [], color=s.colour, ls=s.dash, marker=s.marker, label=short_name(s.name)) for s in styles]
    below = 0.34 * math.ceil(len(legend) / 4)
    wide, high = max(panel.width for panel in panels), max(panel.height for panel in panels)
    figure = Figure(figsize=(columns * wide / 96, rows * (high / 96 + 0.3) + below), layout="constrained")
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        panel.plot(axes)
        axes.set_title(short_name(panel.title, 48), fontsize=9, color=INK, loc="left")
    if legend:
        figure.legend(handles=legend, loc="outside lower left", ncols=4, frameon=False, fontsize=8, labelcolor=INK)
    return png_of(figure)


def png_of(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor=PAPER, metadata={"Software": None})
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """PNG bytes as an address that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
