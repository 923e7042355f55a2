"""Curves, confusion matrices and unit statistics as panels, each readable on its own."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from neuropil.errors import require
from neuropil.report.results import Row, Study, number
from neuropil.report.stats import interval
from neuropil.report.theme import INK, RULE, Panel, Style, style_axes, style_for

Curve = dict[float, list[float]]  # x -> one value per seed
SHARES = ("accuracy", "converged", "dead")
NOT_METRICS = ("seed", "epoch")
RIGHT, WRONG = "#8b949e", "#dd5a1c"  # of confusion matrices, to be seen on white and on black


def collect(rows: list[Row], x: str, y: str) -> dict[str, Curve]:
    """Learner -> its curve over the seeds; numbers that are not finite stay out, their panel says so."""
    curves: dict[str, Curve] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if math.isfinite(number(row, x)) and math.isfinite(number(row, y)):
            curves[row["learner"]][number(row, x)].append(number(row, y))
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def learning_curves(study: Study, styles: Mapping[str, Style]) -> list[Panel]:
    """One panel for each stage and each number that was logged in it, such as 'head: valid accuracy'."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in study.rows("epoch"):
        for key, value in row.items():
            if key not in NOT_METRICS and isinstance(value, int | float) and not isinstance(value, bool):
                found[stage_of(row, study), key].append(row)
    panels = []
    stages = list(dict.fromkeys(stage_of(row, study) for row in study.logged("epoch")))
    for (stage, key), rows in sorted(found.items(), key=lambda item: stages.index(item[0][0])):
        share = key.endswith(SHARES)
        name = key.replace("_", " ") + (", %" if share else "")
        draw = partial(over_epochs, curves=collect(rows, "epoch", key), styles=styles, share=share)
        lost = sum(not math.isfinite(row[key]) for row in rows)
        caption = f"{lost} of {len(rows)} values are NaN or infinite and are not drawn." if lost else ""
        panels.append(Panel(f"{stage}: {name}", f"{name} against epoch, stage {stage}", draw, caption))
    return panels


def stage_of(row: Row, study: Study) -> str:
    """The stage, with its data set where there are several."""
    stage = str(row.get("stage", "training"))
    return f"{row['data']}, {stage}" if len(study.data) > 1 and "data" in row else stage


def over_epochs(axes: Axes, curves: Mapping[str, Curve], styles: Mapping[str, Style], share: bool) -> None:
    """Learning curves; a log scale where positive numbers span more than a factor of 50."""
    values = [value for curve in curves.values() for row in curve.values() for value in row]
    if not share and values and min(values) > 0 and max(values) > 50 * min(values):
        axes.set_yscale("log")
    put_curves(axes, curves, styles, 100 if share else 1, marks=len(values) == len(curves))
    axes.set(xlabel="epoch")
    if values:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def efficiency(study: Study, styles: Mapping[str, Style]) -> list[Panel]:
    """Two panels for each data set, against the number of labels: test accuracy, and error on a log scale."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in study.rows("labels"):
        found[row.get("data", "")].append({**row, "error": 1 - number(row, "accuracy")})
    panels = []
    for data, rows in found.items():
        for key, title, scale in (("accuracy", "accuracy, %", "linear"), ("error", "error, %, log scale", "log")):
            draw = partial(over_labels, curves=collect(rows, "n_labels", key), styles=styles, scale=scale)
            title = f"{data}: {title}" if len(found) > 1 else title
            panels.append(Panel(title, f"Test {key} on {data} against number of labels", draw, width=500, height=310))
    return panels


def over_labels(axes: Axes, curves: Mapping[str, Curve], styles: Mapping[str, Style], scale: str) -> None:
    """Sample efficiency, against the number of labels on a log scale."""
    axes.set(xscale="log", yscale=scale, xlabel="labelled examples")
    put_curves(axes, curves, styles, 100, marks=True)
    ticks = apart({x for curve in curves.values() for x in curve})
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.set_xticks([], minor=True)


def apart(ticks: set[float]) -> list[float]:
    """Of crowded ticks on a log axis only the last, so that their labels stay apart."""
    kept: list[float] = []
    room = (max(ticks) / min(ticks)) ** 0.09 if ticks else 1.0
    for tick in sorted(ticks, reverse=True):
        if not kept or kept[-1] > tick * room:
            kept.append(tick)
    return kept[::-1]


def put_curves(axes: Axes, curves: Mapping[str, Curve], styles: Mapping[str, Style], scale: float, marks: bool) -> None:
    """Means as lines, 95 % intervals as bands, or as bars where there are marks; one seed has neither."""
    style_axes(axes)
    for index, (name, curve) in enumerate(curves.items()):
        style, x = style_for(styles, name), list(curve)
        middle, half = np.array([interval(values) for values in curve.values()]).T * scale
        look: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "linewidth": 1.6}
        if marks:
            beside = np.array(x) * max(1, *x) ** (
                0.004 * (index - len(curves) / 2)
            )  # so that bars do not hide each other
            bars = axes.errorbar(beside, middle, half, marker=style.marker, markersize=4.5, elinewidth=1, **look)
            bars[-1][0].set_alpha(0.55)
        else:
            axes.plot(x, middle, **look)
            axes.fill_between(x, middle - half, middle + half, color=style.colour, alpha=0.12, linewidth=0)
    axes.margins(x=0.03)
    middles = [scale * sum(values) / len(values) for curve in curves.values() for values in curve.values()]
    if axes.get_yscale() == "log" and middles:
        log_ticks(axes, [middle for middle in middles if middle > 0] or [1.0])
    elif not middles:
        axes.set(xticks=[], yticks=[])
    else:
        frame(axes, middles, 100 if scale == 100 else math.inf)


def frame(axes: Axes, middles: list[float], top: float) -> None:
    """A range that shows every mean with its surroundings; wide intervals leave it, and shares end at 100 %."""
    low, high = axes.get_ylim()
    air = 0.25 * (max(middles) - min(middles)) or 0.05 * abs(max(middles)) or 1.0
    floor = min(middles) - air if min(middles) < 0 else max(min(middles) - air, -0.02 * max(middles))
    axes.set_ylim(max(low, floor), min(high, max(middles) + air, 1.01 * top))
    axes.yaxis.set_major_locator(MaxNLocator(6))


def log_ticks(axes: Axes, middles: list[float]) -> None:
    """A log axis that shows every mean, with plain numbers: 1, 2 and 5 of each decade."""
    low, high = min(middles) / 1.5, max(middles) * 1.25
    axes.set_ylim(low, high)
    ticks = [k * 10.0**e for e in range(-12, 13) for k in (1, 2, 5) if low <= k * 10.0**e <= high]
    if 2 <= len(ticks) <= 8:
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.tick_params(which="minor", left=False, labelleft=False)


def confusions(study: Study) -> list[Panel]:
    """One panel per data set and learner: all seeds summed, each row in shares of its true class, one scale for all."""
    found: dict[tuple[str, str], Any] = {}
    for row in study.rows("confusion"):
        key = (row.get("data", ""), row["learner"])
        matrix, before = np.array(row["matrix"], dtype=np.float64), found.get(key)
        require(
            matrix.ndim == 2 and len(set(matrix.shape)) == 1 and (before is None or before.shape == matrix.shape),
            f"confusion matrices need one square shape, got {matrix.shape} for {key[1]!r} on {key[0]!r}.",
        )
        found[key] = matrix if before is None else before + matrix
    shares = {key: total / np.maximum(total.sum(1, keepdims=True), 1) for key, total in found.items()}
    top = max([0.02, *((share * (1 - np.eye(len(share)))).max() for share in shares.values())])
    panels = []
    for (data, name), share in shares.items():
        title = f"{name}, {data}" if len(study.data) > 1 else name
        alt = f"Confusion matrix of {name} on {data}. {worst(share)}"
        panels.append(Panel(title, alt, partial(draw_confusion, shares=share, top=top), worst(share), 230, 230))
    return panels


def worst(shares: np.ndarray) -> str:
    """The three commonest mistakes in words."""
    wrong = shares * (1 - np.eye(len(shares)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:3]
    cells = [divmod(int(index), len(shares)) for index in order]
    said = [f"{true}→{given} {100 * wrong[true, given]:.1f} %" for true, given in cells if wrong[true, given] > 0]
    return "Commonest mistakes: " + ", ".join(said) if said else "No mistakes"


def draw_confusion(axes: Axes, shares: np.ndarray, top: float) -> None:
    """Right answers in grey, mistakes in orange, whose strength grows with the root of their share, up to `top`."""
    right = np.eye(len(shares), dtype=bool)
    strength = np.where(right, 0.55 * shares, np.sqrt(shares / top))
    colours = np.where(right[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    axes.imshow(np.dstack([colours, np.clip(strength, 0, 1)]), interpolation="none")
    style_axes(axes, grid="")
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)
    ticks = range(len(shares)) if len(shares) <= 12 else range(0, len(shares), math.ceil(len(shares) / 10))
    axes.set(xticks=ticks, yticks=ticks, xlabel="answered", ylabel="true class")


def unit_panels(norms: list[float], wins: list[float], colour: str) -> list[Panel]:
    """Histograms of the units' norms and wins, as shares of all units of all seeds."""
    panels = []
    if norms:
        text = f"norms from {min(norms):.3g} to {max(norms):.3g}"
        panels.append(Panel("norm", f"Histogram of {len(norms)} units: {text}", histogram(norms, colour)))
    if wins:
        text = f"{sum(win == 0 for win in wins)} of {len(wins)} never win"
        panels.append(Panel("wins", f"Histogram of wins: {text}", octaves(wins, colour)))
    return panels


def histogram(values: list[float], colour: str) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        style_axes(axes)
        width = max(np.ptp(values), 0.02 * abs(np.mean(values)), 1e-6)
        counts, edges = np.histogram(values, bins=28, range=(np.mean(values) - width, np.mean(values) + width))
        kept = np.flatnonzero(counts)
        counts, edges = counts[kept[0] : kept[-1] + 1], edges[kept[0] : kept[-1] + 2]
        axes.stairs(100 * counts / len(values), edges, fill=True, color=colour, alpha=0.75, linewidth=0)
        axes.set(xlabel="norm of the weights", ylabel="% of units")
        axes.locator_params(nbins=5)

    return draw


def octaves(wins: list[float], colour: str) -> Callable[[Axes], None]:
    """Bars for never, once, 2-3 times, 4-7 times and so on; units that never win stand out in ink."""

    def draw(axes: Axes) -> None:
        style_axes(axes)
        bins = np.array([int(win).bit_length() for win in wins])
        height = 100 * np.bincount(bins, minlength=2) / len(bins)
        axes.bar(range(len(height)), height, width=0.86, color=[INK] + [colour] * (len(height) - 1), alpha=0.75)
        every = math.ceil(len(height) / 8)
        ticks = [0, *range(1 if every == 1 else 2, len(height), every)]
        names = ["never" if tick == 0 else short(2 ** (tick - 1)) for tick in ticks]
        axes.set_xticks(ticks, names)
        axes.set(xlabel="wins, from", ylabel="% of units")
        axes.yaxis.set_major_locator(MaxNLocator(5))

    return draw


def short(count: int) -> str:
    """1, 512, 2k, 1M."""
    for size, unit in ((1 << 20, "M"), (1 << 10, "k")):
        if count >= size:
            return f"{count // size}{unit}"
    return str(count)
