"""The figure at the top: every seed, the mean and its interval, learner by learner, and the best baseline."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropil.report.results import Summary
from neuropil.report.tables import score_of
from neuropil.report.theme import INK, PAPER, RULE, SOFT, Style, annotate, inline, png_of, short_name, style_axes, tell

WIDE, NARROW = 900, 348  # CSS pixels
NAME_LENGTH = 25  # letters
MARGIN, SHIFT = 16, 8  # of the narrow figure: CSS pixels beside the axes; points by which its texts reach into them


def summary_figure(
    summaries: Sequence[Summary], styles: dict[str, Style], name: str, of: str = "test accuracy"
) -> tuple[Markup, Markup, bytes]:
    """The figure for wide and for narrow screens, and as PNG; `of` is what it shows."""
    alt = f"{of.capitalize()}. " + ". ".join(f"{one.learner}: {score(one)}" for one in summaries)
    wide, narrow = wide_figure(summaries, styles, of), narrow_figure(summaries, styles, of)
    return inline(wide, f"{name}-wide", alt, WIDE), inline(narrow, f"{name}-narrow", alt, NARROW), png_of(wide)


def score(summary: Summary) -> str:
    """The number beside a row."""
    return score_of(summary) if summary.accuracy else f"{len(summary.unfinished)} unfinished"


def title(summary: Summary) -> str:
    """The name beside a row, which says who is a baseline."""
    return short_name(summary.learner, NAME_LENGTH) + " (baseline)" * (summary.family == "baseline")


def colour_of(summary: Summary) -> str:
    """Of its name: baselines step back."""
    return SOFT if summary.family == "baseline" else INK


def wide_figure(summaries: Sequence[Summary], styles: dict[str, Style], of: str = "test accuracy") -> Figure:
    """Names to the left, numbers to the right."""
    longest = max(len(title(one)) for one in summaries)
    left, right, top, bottom, row = 26 + int(7.4 * longest), 146, 30, 44, 34
    figure, axes = empty_axes(summaries, WIDE, row, (left, right, top, bottom), of)
    for y, one in enumerate(summaries):
        plot_summary(axes, one, y, styles[one.learner])
        beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9.75}
        annotate(axes, title(one), (0, y), (-12, 0), ha="right", color=colour_of(one), **beside)
        annotate(axes, score(one), (1, y), (12, 0), ha="left", color=INK, **beside)
    return figure


def narrow_figure(summaries: Sequence[Summary], styles: dict[str, Style], of: str = "test accuracy") -> Figure:
    """Names and numbers above each row; the margins leave room for half a label of the scale."""
    figure, axes = empty_axes(summaries, NARROW, 46, (MARGIN, MARGIN, 34, 40), of)
    for y, one in enumerate(summaries):
        plot_summary(axes, one, y + 0.16, styles[one.learner], spread=0.11)
        clear = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
        above: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9.75, "bbox": clear}
        annotate(axes, title(one), (0, y - 0.26), (-SHIFT, 0), ha="left", color=colour_of(one), **above)
        annotate(axes, score(one), (1, y - 0.26), (SHIFT, 0), ha="right", color=INK, **above)
    return figure


def empty_axes(
    summaries: Sequence[Summary], width: int, row: int, margins: tuple[int, int, int, int], of: str
) -> tuple[Figure, Axes]:
    """Axes with a row for each learner; the best baseline and the majority rate are marked. All in CSS pixels."""
    left, right, top, bottom = margins
    height = top + row * len(summaries) + bottom
    figure = Figure(figsize=(width / 96, height / 96))
    box = (left / width, bottom / height, 1 - (left + right) / width, row * len(summaries) / height)
    axes = figure.add_axes(box)
    low, high = limits(summaries)
    axes.set(xlim=(low, high), ylim=(len(summaries) - 0.5, -0.5), yticks=[])
    axes.set_xlabel(f"{of}, %", loc="right")
    axes.locator_params(axis="x", nbins=max(3, int(width * box[2] / 75)))
    style_axes(axes, grid="x")
    mark_baseline(axes, summaries)
    mark_majority_rate(axes, summaries, low)
    return figure, axes


def limits(summaries: Sequence[Summary]) -> tuple[float, float]:
    """The range of all seeds and intervals in percent, with a margin; a majority rate near it is included.

    The interval of two seeds is so wide that it would leave no room for anything else; it may leave the figure.
    """
    ends = [100 * value for one in summaries for value in (*one.accuracy.values(), *one.unfinished.values())]
    with_interval = [one for one in summaries if len(one.accuracy) > 2]
    ends += [100 * (one.mean + side * one.half_width) for one in with_interval for side in (-1, 1)]
    low, high = min(ends), max(ends)
    margin = 0.06 * (high - low) or 1.0
    near = [100 * one.majority_rate for one in summaries if low - 6 * margin < 100 * one.majority_rate]
    low, high = min([low, *near]) - margin, high + margin
    return max(low, -margin / 3), min(high, 100 + margin / 3)


def plot_summary(axes: Axes, summary: Summary, y: float, style: Style, spread: float = 0.2) -> None:
    """One learner: its seeds, and the mean with its interval; unfinished seeds are hollow."""
    axes.axhline(y, color=RULE, linewidth=0.8, zorder=0)
    for seeds, hollow in ((summary.accuracy, False), (summary.unfinished, True)):
        shift = [y + spread * ((index * 2) % 5 - 2) / 2 for index in range(len(seeds))]
        face = "none" if hollow else style.colour
        values = [100 * value for value in seeds.values()]
        look: dict[str, Any] = {"facecolor": face, "edgecolor": style.colour, "zorder": 3, "gid": style.tag}
        axes.scatter(values, shift, s=20, alpha=1 if hollow or len(seeds) < 3 else 0.45, **look)
        told = (f"{summary.learner}, seed {seed}: {100 * value:.2f} %" for seed, value in seeds.items())
        tell(axes, summary.learner, zip(values, shift, told))
    if len(summary.accuracy) > 1:
        plot_interval(axes, summary, y, style)


def plot_interval(axes: Axes, summary: Summary, y: float, style: Style) -> None:
    """A diamond on a bar; of two seeds a tick on a thin line, with an arrow where it leaves the figure."""
    middle, half, many = 100 * summary.mean, 100 * summary.half_width, len(summary.accuracy) > 2
    low, high = axes.get_xlim()
    line: dict[str, Any] = {"color": style.colour, "solid_capstyle": "round", "zorder": 4, "gid": style.tag}
    ends = [max(low, middle - half), min(high, middle + half)]
    axes.plot(ends, [y, y], linewidth=2.25 if many else 0.8, **line)
    if many:
        diamond: dict[str, Any] = {"markersize": 7, "markeredgecolor": PAPER, "markeredgewidth": 1.2, "zorder": 5}
        axes.plot(middle, y, "D", color=style.colour, gid=style.tag, **diamond)
    else:
        axes.plot(middle, y, "|", color=style.colour, markersize=9, zorder=5, gid=style.tag)
        for end, limit, arrow in ((middle - half, low, "<"), (middle + half, high, ">")):
            if (end - limit) * (1 if arrow == ">" else -1) > 0:
                axes.plot(limit, y, arrow, color=style.colour, markersize=4, clip_on=False, zorder=5, gid=style.tag)


def caption_of(summaries: Sequence[Summary]) -> str:
    """How to read the figure, with as many seeds as there are."""
    said = ["Each point is a seed."]
    if any(len(one.accuracy) > 2 for one in summaries):
        said.append("The diamond is the mean, the bar its 95 % interval (Student t).")
    if any(len(one.accuracy) == 2 for one in summaries):
        said.append("Of two seeds the tick is the mean, the thin line the 95 % interval, which may leave the figure.")
    if any(one.unfinished for one in summaries):
        said.append("Hollow points are of unfinished runs.")
    return " ".join(said)


def mark_baseline(axes: Axes, summaries: Sequence[Summary]) -> None:
    """A dashed line at the best baseline; what stands right of it is better."""
    best = next((one for one in summaries if one.family == "baseline" and one.accuracy), None)
    if best is None:
        return
    x = 100 * best.mean
    axes.axvline(x, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    low, high = axes.get_xlim()
    side = "right" if x - low > (high - low) / 2 else "left"
    text, shift = f"best baseline: {short_name(best.learner, 22)}", 4 if side == "right" else -4
    annotate(axes, text, (x, 1), (shift, 6), ha=side, va="bottom")


def mark_majority_rate(axes: Axes, summaries: Sequence[Summary], low: float) -> None:
    """A dotted line at the accuracy of always answering the most common class, or an arrow where it lies outside."""
    rates = [100 * one.majority_rate for one in summaries if math.isfinite(one.majority_rate)]
    if not rates:
        return
    rate = min(rates)
    if rate >= low:
        axes.axvline(rate, color=SOFT, linewidth=1, linestyle=":", zorder=1)
    text = f"{'dotted:' if rate >= low else '←'} most common class {rate:.1f} %"
    annotate(axes, text, (0, 0), (0, -21), xycoords="axes fraction", va="center")
