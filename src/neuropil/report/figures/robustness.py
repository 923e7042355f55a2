"""Robustness in figures: accuracy against budget, void curves hatched; accuracy against severity."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from neuropil.report.figures.curves import Curve
from neuropil.report.results import Study, number
from neuropil.report.robustness_tables import WORST, Key, Left, curves_of, data_of, pairs_of
from neuropil.report.stats import interval
from neuropil.report.theme import Panel, Style, style_axes, style_for


def attack_panels(study: Study, styles: Mapping[str, Style]) -> dict[tuple[str, str], list[Panel]]:
    """For every data set and norm: all attacks together, large, and then each attack."""
    curves, panels = curves_of(study), {}
    for data, norm in pairs_of(curves):
        mine = {key: left for key, left in curves.items() if (key.data, key.norm) == (data, norm)}
        names = sorted(dict.fromkeys(key.attack for key in mine), key=lambda name: name != WORST)
        panels[data, norm] = [panel(mine, name, norm, styles) for name in names]
    return panels


def panel(curves: Mapping[Key, Left], attack: str, norm: str, styles: Mapping[str, Style]) -> Panel:
    own = {key.learner: left for key, left in curves.items() if key.attack == attack}
    void = [name for name, left in own.items() if left.void]
    caption = f"Void: {', '.join(void)}." if void else ""
    alt = f"Test accuracy in percent against {norm} budget under {attack}. {caption}"
    wide, high = (680, 340) if attack == WORST else (325, 220)
    draw = partial(over_budgets, curves=own, styles=styles, norm=norm)
    return Panel(f"{attack}, {norm}", alt, draw, caption, wide, high)


def over_budgets(axes: Axes, curves: Mapping[str, Left], styles: Mapping[str, Style], norm: str) -> None:
    """Means with bands of 95 %; a void curve is dotted, with crosses, and its band is hatched."""
    style_axes(axes)
    for name, left in curves.items():
        one = {size: list(seeds.values()) for size, seeds in sorted(left.by_size.items())}
        put(axes, one, style_for(styles, name), bool(left.void))
    axes.set(xlabel=f"{norm} budget", ylabel="accuracy, %", ylim=(-2, 102))
    axes.margins(x=0.03)


def put(axes: Axes, curve: Curve, style: Style, void: bool) -> None:
    """One curve of shares."""
    x = np.array(list(curve))
    middle, half = 100 * np.array([interval(values) for values in curve.values()]).T
    dash, marker = (":", "x") if void else (style.dash, style.marker)
    axes.plot(x, middle, color=style.colour, linestyle=dash, marker=marker, markersize=4.5, linewidth=1.6)
    if np.isfinite(half).all():
        ends = (middle - half, middle + half)
        if void:
            face = {"facecolor": "none", "edgecolor": style.colour, "hatch": "////", "alpha": 0.3, "linewidth": 0}
            axes.fill_between(x, *ends, **face)  # type: ignore[arg-type]
        else:
            axes.fill_between(x, *ends, color=style.colour, alpha=0.12, linewidth=0)


def hurt_panels(study: Study, styles: Mapping[str, Style], kind: str) -> dict[str, list[Panel]]:
    """For every data set: accuracy against severity, one panel for each kind of corruption or damage."""
    found: dict[tuple[str, str], dict[str, Curve]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in study.rows(kind):
        curve = found[row.get("data", ""), row[kind]][row["learner"]]
        curve[number(row, "severity")].append(number(row, "accuracy"))
    panels: dict[str, list[Panel]] = {data: [] for data in data_of(study)}
    for (data, name), curves in found.items():
        alt = f"Test accuracy in percent against severity of {name} on {data}"
        panels[data].append(Panel(name, alt, partial(over_severity, curves=curves, styles=styles)))
    return {data: made for data, made in panels.items() if made}


def over_severity(axes: Axes, curves: Mapping[str, Curve], styles: Mapping[str, Style]) -> None:
    """Accuracy against severities 1 to 5."""
    style_axes(axes)
    for name, curve in curves.items():
        put(axes, curve, style_for(styles, name), void=False)
    axes.set(xlabel="severity", ylabel="accuracy, %", ylim=(-2, 102), xticks=range(1, 6))
