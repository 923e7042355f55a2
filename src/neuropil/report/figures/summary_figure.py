"""The headline figure: every seed, the mean and its interval, learner by learner, with chance and the best baseline."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropil.report.results import Line
from neuropil.report.tables import score_of
from neuropil.report.theme import INK, PAPER, RULE, SOFT, Style, inline, label, sheet, style_axes

WIDE, NARROW = 900, 348  # CSS pixels
ROOM = 25  # letters of a name


def summary_figure(lines: Sequence[Line], styles: dict[str, Style], name: str) -> tuple[Markup, Markup, bytes]:
    """The figure for wide and for narrow screens, and as PNG."""
    alt = "Test accuracy. " + ". ".join(f"{line.learner}: {said(line)}" for line in lines)
    wide, narrow = wide_figure(lines, styles), narrow_figure(lines, styles)
    return inline(wide, f"{name}-wide", alt, WIDE), inline(narrow, f"{name}-narrow", alt, NARROW), sheet(wide)


def said(line: Line) -> str:
    """The number beside a row."""
    if not line.accuracy:
        return f"{len(line.pending)} unfinished"
    return score_of(line) if math.isfinite(line.half) else f"{100 * line.mean:.2f} % (n = 1)"


def titled(line: Line) -> str:
    """The name beside a row, which says who is a baseline."""
    return label(line.learner, ROOM) + " (baseline)" * (line.family == "baseline")


def colour_of(line: Line) -> str:
    """Of its name: baselines step back."""
    return SOFT if line.family == "baseline" else INK


def wide_figure(lines: Sequence[Line], styles: dict[str, Style]) -> Figure:
    """Names to the left, numbers to the right."""
    longest = max(len(titled(line)) for line in lines)
    left, right, top, bottom, row = 26 + int(7.4 * longest), 146, 30, 44, 34
    figure, axes = stage(lines, WIDE, row, (left, right, top, bottom))
    for y, line in enumerate(lines):
        put(axes, line, y, styles[line.learner])
        beside: dict[str, Any] = {
            "xycoords": ("axes fraction", "data"),
            "textcoords": "offset points",
            "va": "center",
            "fontsize": 9.75,
        }
        axes.annotate(titled(line), (0, y), (-12, 0), ha="right", color=colour_of(line), **beside)
        axes.annotate(said(line), (1, y), (12, 0), ha="left", color=INK, **beside)
    return figure


def narrow_figure(lines: Sequence[Line], styles: dict[str, Style]) -> Figure:
    """Names and numbers above each row."""
    figure, axes = stage(lines, NARROW, 46, (6, 6, 34, 40))
    for y, line in enumerate(lines):
        put(axes, line, y + 0.16, styles[line.learner], spread=0.11)
        clear = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
        above: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9.75, "bbox": clear}
        axes.annotate(titled(line), (0, y - 0.26), ha="left", color=colour_of(line), **above)
        axes.annotate(said(line), (1, y - 0.26), ha="right", color=INK, **above)
    return figure


def stage(lines: Sequence[Line], width: int, row: int, margins: tuple[int, int, int, int]) -> tuple[Figure, Axes]:
    """Empty axes with a row for each learner, the best baseline and chance marked; all measures in CSS pixels."""
    left, right, top, bottom = margins
    height = top + row * len(lines) + bottom
    figure = Figure(figsize=(width / 96, height / 96))
    box = (left / width, bottom / height, 1 - (left + right) / width, row * len(lines) / height)
    axes = figure.add_axes(box)
    low, high = limits(lines)
    axes.set(xlim=(low, high), ylim=(len(lines) - 0.5, -0.5), yticks=[])
    axes.set_xlabel("test accuracy, %", loc="right")
    axes.locator_params(axis="x", nbins=max(3, int(width * box[2] / 75)))
    style_axes(axes, grid="x")
    mark_baseline(axes, lines)
    mark_chance(axes, lines, low)
    return figure, axes


def limits(lines: Sequence[Line]) -> tuple[float, float]:
    """The range of all seeds and intervals in percent, with air; chance is taken in where it is near."""
    ends = [100 * value for line in lines for value in (*line.accuracy.values(), *line.pending.values())]
    ends += [100 * (line.mean + side * line.half) for line in lines for side in (-1, 1) if math.isfinite(line.half)]
    low, high = min(ends), max(ends)
    air = 0.06 * (high - low) or 1.0
    near = [100 * line.majority_rate for line in lines if low - 6 * air < 100 * line.majority_rate]
    low, high = min([low, *near]) - air, high + air
    return max(low, -air / 3), min(high, 100 + air / 3)


def put(axes: Axes, line: Line, y: float, style: Style, spread: float = 0.2) -> None:
    """One learner: its seeds, and the mean with its interval; unfinished seeds are hollow."""
    axes.axhline(y, color=RULE, linewidth=0.8, zorder=0)
    for seeds, hollow in ((line.accuracy, False), (line.pending, True)):
        shift = [y + spread * ((index * 2) % 5 - 2) / 2 for index in range(len(seeds))]
        face = "none" if hollow else style.colour
        values = [100 * value for value in seeds.values()]
        axes.scatter(values, shift, s=20, facecolor=face, edgecolor=style.colour, alpha=1 if hollow else 0.45, zorder=3)
    if math.isfinite(line.half):
        ends = [100 * (line.mean - line.half), 100 * (line.mean + line.half)]
        axes.plot(ends, [y, y], color=style.colour, linewidth=2.25, solid_capstyle="round", zorder=4)
    if line.accuracy:
        axes.plot(
            100 * line.mean,
            y,
            "D",
            color=style.colour,
            markersize=7,
            markeredgecolor=PAPER,
            markeredgewidth=1.2,
            zorder=5,
        )


def mark_baseline(axes: Axes, lines: Sequence[Line]) -> None:
    """A dashed line at the best baseline; what stands right of it is better."""
    best = next((line for line in lines if line.family == "baseline" and line.accuracy), None)
    if best is None:
        return
    x = 100 * best.mean
    axes.axvline(x, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    low, high = axes.get_xlim()
    side = "right" if x - low > (high - low) / 2 else "left"
    text = f"best baseline: {label(best.learner, 22)}"
    spot: dict[str, Any] = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "va": "bottom",
        "fontsize": 8.25,
    }
    axes.annotate(text, (x, 1), (4 if side == "right" else -4, 6), ha=side, color=SOFT, **spot)


def mark_chance(axes: Axes, lines: Sequence[Line], low: float) -> None:
    """A dotted line at chance, or an arrow where chance lies far outside; the words stand below the axis."""
    chances = [100 * line.majority_rate for line in lines if math.isfinite(line.majority_rate)]
    if not chances:
        return
    chance = min(chances)
    if chance >= low:
        axes.axvline(chance, color=SOFT, linewidth=1, linestyle=":", zorder=1)
    text = f"{'dotted:' if chance >= low else '←'} chance {chance:.1f} %"
    axes.annotate(
        text,
        (0, 0),
        (0, -21),
        xycoords="axes fraction",
        textcoords="offset points",
        va="center",
        fontsize=8.25,
        color=SOFT,
    )
