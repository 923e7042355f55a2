"""Figures of a sweep: the best settings with all their seeds, and accuracy against each setting that was swept."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neuropil.report.figures.summary_figure import caption_of, summary_figure
from neuropil.report.layout import Files
from neuropil.report.summaries import Summary
from neuropil.report.sweep_results import SweepResults, Tried
from neuropil.report.theme import Panel, Style, short_name, style, style_axes, tell
from neuropil.sweeps.axes import title_of

SHOWN = 20  # settings in the figure at the top
OF = "accuracy on held-out examples"


def head_of(results: SweepResults, files: Files) -> dict[str, Any]:
    """The figure at the top: the best settings, every seed of them, mean and interval."""
    shown = [one for one in results.tried.get(results.learner, []) if one.accuracy][:SHOWN]
    if not shown:
        return {"data": results.data, "wide": "", "narrow": "", "caption": ""}
    summaries = [_as_summary(one, results.data) for one in shown]
    styles = {one.learner: style(one.learner, "local", 0) for one in summaries}
    wide, narrow, png = summary_figure(summaries, styles, "head", OF)
    files.add("settings", png)
    more = len(results.sweep.settings) - len(shown)
    caption = caption_of(summaries) + (f" {more} more settings are in the table." if more else "")
    return {"data": results.data, "wide": wide, "narrow": narrow, "caption": caption}


def _as_summary(one: Tried, data: str) -> Summary:
    """A setting as the figures of the report take learners."""
    middle, half = one.interval
    return Summary(
        f"{one.number}: {title_of(one.setting)}", data, "local", "", one.accuracy, {}, {}, (), one.seconds,
        math.nan, math.nan, middle, half,
    )  # fmt: skip


def panels_of(results: SweepResults) -> list[Panel]:
    """Accuracy against each setting that was swept."""
    tried = [one for one in results.tried[results.learner] if one.accuracy]
    names = list(results.sweep.settings[0]) if tried else []
    panels = []
    for name in names:
        if len({one.setting[name] for one in tried}) > 1:
            plot = partial(_plot, name=name, tried=tried, look=style(results.learner, "local", 0))
            panels.append(Panel(f"{OF}, %, against {name}", f"{OF} against {name}", plot, width=450, height=280))
    return panels


def _plot(axes: Axes, name: str, tried: Sequence[Tried], look: Style) -> None:
    """Means and intervals of all settings against the values of one; numbers on their scale, words side by side."""
    style_axes(axes)
    values = list(dict.fromkeys(one.setting[name] for one in sorted(tried, key=lambda one: one.number)))
    try:
        place = {value: float(value) for value in values}
        numbers = [*place.values()]
        if min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
            axes.set_xscale("log")
    except ValueError:
        place = {value: float(index) for index, value in enumerate(values)}
        axes.set_xticks([*place.values()], [short_name(value, 12) for value in values])
    x = [place[one.setting[name]] for one in tried]
    middle, half = np.array([one.interval for one in tried]).T * 100
    axes.errorbar(x, middle, half, fmt="o", color=look.colour, markersize=4, elinewidth=0.8, alpha=0.5)
    best = {at: max(m for one, m in zip(x, middle) if one == at) for at in sorted(set(x))}
    axes.plot([*best], [*best.values()], color=look.colour, linewidth=1.6)
    tell(axes, look.name, ((at, m, f"{title_of(one.setting)}: {m:.2f} %") for one, at, m in zip(tried, x, middle)))
    axes.set_xlabel(name)
    air = 0.3 * (max(middle) - min(middle)) or 1.0
    axes.set_ylim(max(axes.get_ylim()[0], min(middle) - 2 * air), min(axes.get_ylim()[1], max(middle) + 2 * air))
