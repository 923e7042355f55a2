"""Robustness in figures: accuracy against budget, invalid curves hatched; accuracy against severity."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neuropil.report.figures.curves import Curve
from neuropil.report.results import Results
from neuropil.report.robustness_tables import WORST, Curves, curves_of, data_of, norms_of, severity_rows
from neuropil.report.stats import interval
from neuropil.report.theme import Panel, Style, style_axes, style_for, tell


def attack_panels(results: Results, styles: Mapping[str, Style]) -> dict[tuple[str, str], list[Panel]]:
    """For every data set and norm: all attacks together, large, and then each attack."""
    curves, panels = curves_of(results), {}
    for data, norm in norms_of(curves):
        mine = {key: curve for key, curve in curves.items() if (key.data, key.norm) == (data, norm)}
        names = sorted(dict.fromkeys(key.attack for key in mine), key=lambda name: name != WORST)
        panels[data, norm] = [attack_panel(mine, name, norm, styles) for name in names]
    return panels


def attack_panel(curves: Curves, attack: str, norm: str, styles: Mapping[str, Style]) -> Panel:
    """One attack on all learners."""
    own = {key.learner: curve for key, curve in curves.items() if key.attack == attack}
    invalid = [name for name, curve in own.items() if curve.invalid]
    caption = f"Invalid: {', '.join(invalid)}." if invalid else ""
    alt = f"Test accuracy in percent against {norm} budget under {attack}. {caption}"
    wide, high = (680, 340) if attack == WORST else (325, 220)
    left = {name: {size: list(by.values()) for size, by in sorted(one.by_size.items())} for name, one in own.items()}
    budget: dict[str, Any] = {"xlabel": f"{norm} budget", "xmargin": 0.03}
    plot = partial(plot_accuracies, curves=left, styles=styles, invalid=invalid, **budget)
    return Panel(f"{attack}, {norm}", alt, plot, caption, wide, high)


def plot_accuracies(
    axes: Axes, curves: Mapping[str, Curve], styles: Mapping[str, Style], invalid: Sequence[str] = (), **settings: Any
) -> None:
    """Means with bands of 95 %; an invalid curve is dotted, with crosses, and its band is hatched."""
    style_axes(axes)
    for name, curve in curves.items():
        plot_fractions(axes, curve, style_for(styles, name), name in invalid)
    axes.set(ylabel="accuracy, %", ylim=(-2, 102), **settings)
    if "xticks" not in settings:
        axes.locator_params(axis="x", nbins=5)


def plot_fractions(axes: Axes, curve: Curve, style: Style, invalid: bool) -> None:
    """One curve of fractions, in percent."""
    x = np.array(list(curve))
    middle, half_width = 100 * np.array([interval(values) for values in curve.values()]).T
    dash, marker = (":", "x") if invalid else (style.dash, style.marker)
    axes.plot(
        x, middle, color=style.colour, linestyle=dash, marker=marker, markersize=4.5, linewidth=1.6, gid=style.tag
    )
    tell(axes, style.name, ((at, y, f"{style.name}: {y:.1f} %") for at, y in zip(x, middle)))
    if np.isfinite(half_width).all():
        ends = (middle - half_width, middle + half_width)
        if invalid:
            face = {
                "facecolor": "none",
                "edgecolor": style.colour,
                "hatch": "////",
                "alpha": 0.3,
                "linewidth": 0,
                "gid": style.tag,
            }
            axes.fill_between(x, *ends, **face)  # type: ignore[arg-type]
        else:
            axes.fill_between(x, *ends, color=style.colour, alpha=0.12, linewidth=0, gid=style.tag)


def severity_panels(results: Results, styles: Mapping[str, Style], kind: str) -> dict[str, list[Panel]]:
    """For every data set: accuracy against severity, one panel for each kind of corruption or damage."""
    found: dict[tuple[str, str], dict[str, Curve]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for name, row in severity_rows(results, kind):
        found[row.data or "", name][row.learner or ""][row.severity].append(row.accuracy)
    panels: dict[str, list[Panel]] = {data: [] for data in data_of(results)}
    for (data, name), curves in found.items():
        alt = f"Test accuracy in percent against severity of {name} on {data}"
        severity: dict[str, Any] = {"xlabel": "severity", "xticks": range(1, 6)}
        panels[data].append(Panel(name, alt, partial(plot_accuracies, curves=curves, styles=styles, **severity)))
    return {data: made for data, made in panels.items() if made}
