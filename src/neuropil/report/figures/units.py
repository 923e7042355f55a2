"""Histograms of the norms and wins of units."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from neuropil.report.theme import INK, Panel, style_axes


def unit_panels(norms: Sequence[float], wins: Sequence[float], colour: str) -> list[Panel]:
    """Histograms of the units' norms and wins, in percent of all units of all seeds."""
    panels = []
    if norms:
        alt = f"Histogram of {len(norms)} units: norms from {min(norms):.3g} to {max(norms):.3g}"
        panels.append(Panel("norm", alt, partial(plot_norms, values=norms, colour=colour)))
    if wins:
        alt = f"Histogram of wins: {sum(win == 0 for win in wins)} of {len(wins)} never win"
        panels.append(Panel("wins", alt, partial(plot_wins, wins=wins, colour=colour)))
    return panels


def plot_norms(axes: Axes, values: Sequence[float], colour: str) -> None:
    """A histogram around the mean."""
    style_axes(axes)
    width = max(np.ptp(values), 0.02 * abs(np.mean(values)), 1e-6)
    counts, edges = np.histogram(values, bins=28, range=(np.mean(values) - width, np.mean(values) + width))
    kept = np.flatnonzero(counts)
    counts, edges = counts[kept[0] : kept[-1] + 1], edges[kept[0] : kept[-1] + 2]
    axes.stairs(100 * counts / len(values), edges, fill=True, color=colour, alpha=0.75, linewidth=0)
    axes.set(xlabel="norm of the weights", ylabel="% of units")
    axes.locator_params(nbins=5)


def plot_wins(axes: Axes, wins: Sequence[float], colour: str) -> None:
    """Bars for never, once, 2-3 times, 4-7 times and so on; units that never win stand out in ink."""
    style_axes(axes)
    bins = np.array([int(win).bit_length() for win in wins])
    height = 100 * np.bincount(bins, minlength=2) / len(bins)
    axes.bar(range(len(height)), height, width=0.86, color=[INK] + [colour] * (len(height) - 1), alpha=0.75)
    every = math.ceil(len(height) / 8)
    ticks = [0, *range(1 if every == 1 else 2, len(height), every)]
    axes.set_xticks(ticks, ["never", *(short_count(2 ** (tick - 1)) for tick in ticks[1:])])
    axes.set(xlabel="wins, from", ylabel="% of units")
    axes.yaxis.set_major_locator(MaxNLocator(5))


def short_count(count: int) -> str:
    """1, 512, 2k, 1M."""
    size, unit = next(((size, unit) for size, unit in ((1 << 20, "M"), (1 << 10, "k")) if count >= size), (1, ""))
    return f"{count // size}{unit}"
