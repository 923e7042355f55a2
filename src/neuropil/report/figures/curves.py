"""Curves and confusion matrices as panels, each readable on its own."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from neuropil.errors import require
from neuropil.report.results import Results, Series, plain
from neuropil.report.stats import counted, interval, quantity
from neuropil.report.theme import RULE, Panel, Style, short_name, style_axes, style_for, tell
from neuropil.runs import ConfusionRow, LabelsRow

Curve = dict[float, list[float]]  # x -> one value per seed
Curves = Mapping[str, Curve]  # by learner
Part = tuple[str | None, float | Sequence[float] | np.ndarray, float | Sequence[float]]  # learner, x, y: points of it
POINTS = 150  # of a curve
FRACTIONS = ("accuracy", "converged", "dead")
CORRECT, WRONG = "#8b949e", "#dd5a1c"  # of confusion matrices, to be seen on white and on black
NONE = ("none",)  # the column of examples for which a learner named no class


def collect(parts: Iterable[Part]) -> dict[str, Curve]:
    """Learner -> its curve over the seeds, from (learner, x, y), at no more points than can be seen.

    What is not finite stays out, its panel says so.
    """
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for learner, x, y in parts:
        found[learner or ""].append(np.atleast_2d(np.array([x, y], dtype=np.float64).T))
    curves = {name: curve_of(np.concatenate(points)) for name, points in found.items()}
    return {name: curve for name, curve in curves.items() if curve}


def curve_of(points: np.ndarray) -> Curve:
    """x -> its y, from points (n, 2)."""
    points = points[np.isfinite(points).all(1)]
    places = np.unique(points[:, 0])
    kept = places[np.linspace(0, len(places) - 1, POINTS).round().astype(int)] if len(places) > POINTS else places
    x, y = points[np.isin(points[:, 0], kept)].T
    order = np.argsort(x, kind="stable")
    parts = np.split(y[order], np.searchsorted(x[order], kept)[1:])
    return {place: part.tolist() for place, part in zip(kept.tolist(), parts)}


def learning_curves(results: Results, styles: Mapping[str, Style]) -> list[Panel]:
    """One panel for each stage and each number that was logged in it, such as 'readout: loss'."""
    found: dict[tuple[str, str], list[Part]] = defaultdict(list)
    for one in results.series:
        for name, (epochs, values) in one.numbers.items():
            found[stage_of(one, results), name].append((one.learner, epochs, values))
    logged = dict.fromkeys(stage_of(one, results) for run in results.shown for one in run.series)
    place = {stage: index for index, stage in enumerate(logged)}
    ordered = sorted(found.items(), key=lambda item: place[item[0][0]])
    return [epoch_panel(stage, metric, parts, styles) for (stage, metric), parts in ordered]


def progress_panels(results: Results, styles: Mapping[str, Style]) -> list[Panel]:
    """For each data set one panel with all methods: accuracy on the training examples over the training.

    Of a method with several stages it is the last one that logged an accuracy.
    """
    found: dict[str, dict[str, dict[str, list[Part]]]] = defaultdict(lambda: defaultdict(dict))
    for one in results.series:
        if "train_accuracy" in one.numbers:
            part = progress(one.learner, *one.numbers["train_accuracy"])
            found[one.data][one.learner].setdefault(one.stage, []).append(part)
    panels = []
    for data, methods in found.items():
        curves = collect(part for stages in methods.values() for part in [*stages.values()][-1])
        title = "accuracy on the training examples, %" + (f", {data}" if len(found) > 1 else "")
        plot = partial(plot_progress, curves=curves, styles=styles)
        panels.append(Panel(title, f"{title}, against progress of the training, all methods", plot, BEFORE, 680, 340))
    return panels


BEFORE = "Features that learn without labels have been learned before there is an accuracy; their curves begin then."


def progress(learner: str, epochs: Sequence[float], accuracy: Sequence[float]) -> Part:
    """Learner, percent of the training, and accuracy of one stage with one seed: of epochs of one percent the last."""
    done = np.array(epochs) + 1
    percent = np.round(100 * done / done[-1])
    last = np.append(percent[1:] != percent[:-1], True)
    return learner, percent[last], np.array(accuracy)[last]


def plot_progress(axes: Axes, curves: Curves, styles: Mapping[str, Style]) -> None:
    """Accuracy in percent against percent of the training."""
    plot_curves(axes, curves, styles, 100, marks=False)
    axes.set(xlabel="percent of the training that needs labels")


def epoch_panel(stage: str, metric: str, parts: Sequence[Part], styles: Mapping[str, Style]) -> Panel:
    """The panel of one number, with a line for each learner."""
    curves, count = collect(parts), sum(np.size(values) for _, _, values in parts)
    lost = count - sum(int(np.isfinite(values).sum()) for _, _, values in parts)
    fraction = metric.endswith(FRACTIONS)
    name = metric.replace("_", " ") + (", %" if fraction else "")
    plot = partial(plot_epochs, curves=curves, styles=styles, fraction=fraction)
    caption = f"{lost} of {count} values are NaN or infinite and are not plotted." if lost else ""
    return Panel(f"{stage}: {name}", f"{name} against epoch, stage {stage}", plot, caption)


def stage_of(one: Series, results: Results) -> str:
    """The stage, with its data set where there are several."""
    return f"{one.data}, {one.stage}" if len(results.data) > 1 and one.data else one.stage


def plot_epochs(axes: Axes, curves: Curves, styles: Mapping[str, Style], fraction: bool) -> None:
    """Learning curves; a log scale where positive numbers span more than a factor of 50."""
    values = [value for curve in curves.values() for row in curve.values() for value in row]
    if not fraction and values and min(values) > 0 and max(values) > 50 * min(values):
        axes.set_yscale("log")
    plot_curves(axes, curves, styles, 100 if fraction else 1, marks=len(values) == len(curves))
    axes.set(xlabel="epoch")
    if values:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def sample_efficiency(results: Results, styles: Mapping[str, Style]) -> list[Panel]:
    """Two panels for each data set, against the number of labels: test accuracy, and error on a log scale."""
    found: dict[str, list[LabelsRow]] = defaultdict(list)
    for row in results.of(LabelsRow):
        found[row.data or ""].append(row)
    panels = []
    for data, rows in found.items():
        if len({row.n_labels for row in rows}) == 1:  # one number is no curve, and stands in the table
            continue
        accuracy = collect((row.learner, row.n_labels, row.accuracy) for row in rows)
        error = collect((row.learner, row.n_labels, 1 - row.accuracy) for row in rows)
        shown = [("accuracy", accuracy, "linear"), ("error", error, "log")][: 1 + any(row.accuracy < 1 for row in rows)]
        for name, curves, scale in shown:
            plot = partial(plot_labels, curves=curves, styles=styles, scale=scale)
            title = (f"{data}: " if len(found) > 1 else "") + f"{name}, %" + (", log scale" if scale == "log" else "")
            panels.append(Panel(title, f"Test {name} on {data} against number of labels", plot, width=500, height=310))
    return panels


def plot_labels(axes: Axes, curves: Curves, styles: Mapping[str, Style], scale: str) -> None:
    """Sample efficiency, against the number of labels on a log scale."""
    axes.set(xscale="log", yscale=scale, xlabel="labelled examples")
    plot_curves(axes, curves, styles, 100, marks=True)
    ticks = thin_ticks({x for curve in curves.values() for x in curve})
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.set_xticks([], minor=True)


def thin_ticks(ticks: set[float]) -> list[float]:
    """Of crowded ticks on a log axis only the last, so that their labels stay apart."""
    kept: list[float] = []
    room = (max(ticks) / min(ticks)) ** 0.09 if ticks else 1.0
    for tick in sorted(ticks, reverse=True):
        if not kept or kept[-1] > tick * room:
            kept.append(tick)
    return kept[::-1]


def plot_curves(axes: Axes, curves: Curves, styles: Mapping[str, Style], scale: float, marks: bool) -> None:
    """Means as lines, 95 % intervals as bands, or as bars where there are marks; one seed has neither."""
    style_axes(axes)
    for index, (name, curve) in enumerate(curves.items()):
        shift = 0.004 * (index - len(curves) / 2)  # so that bars do not hide each other
        plot_curve(axes, curve, style_for(styles, name), scale, shift if marks else None)
    axes.margins(x=0.03)
    middles = [scale * sum(values) / len(values) for curve in curves.values() for values in curve.values()]
    if axes.get_yscale() == "log" and middles:
        log_ticks(axes, [middle for middle in middles if middle > 0] or [1.0])
    elif not middles:
        axes.set(xticks=[], yticks=[])
    else:
        set_range(axes, middles, 100 if scale == 100 else math.inf)


def band(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of what is plotted around it: the 95 % interval; of two seeds their distance."""
    middle, half_width = interval(values)
    return middle, abs(values[0] - values[1]) / 2 if len(values) == 2 else half_width


def plot_curve(axes: Axes, curve: Curve, style: Style, scale: float, shift: float | None) -> None:
    """The curve of one learner; with marks, moved aside by `shift`, if given."""
    x: Any = list(curve)
    middle, half_width = np.array([band(values) for values in curve.values()]).T * scale
    line: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "linewidth": 1.6}
    if shift is None:
        axes.plot(x, middle, gid=style.tag, **line)
        ends = middle - half_width, middle + half_width
        axes.fill_between(x, *ends, color=style.colour, alpha=0.12, linewidth=0, gid=style.tag)
    else:
        x = np.array(x) * max(1, *x) ** shift
        bars = axes.errorbar(x, middle, half_width, marker=style.marker, markersize=4.5, elinewidth=1, **line)
        bars[-1][0].set_alpha(0.55)
        for part in (bars[0], *bars[-1]):
            part.set_gid(style.tag)
    write = (lambda value: f"{value:.2f} %") if scale == 100 else quantity
    some = range(0, len(middle), max(1, len(middle) // 10))  # enough to hover over
    seeds = [", ".join(f"{scale * value:.4g}" for value in values[:10]) for values in curve.values()]
    said = lambda k: f"{style.name}: {write(middle[k])}" + (f" (seeds: {seeds[k]})" if "," in seeds[k] else "")
    tell(axes, style.name, ((x[k], middle[k], said(k)) for k in some))


def set_range(axes: Axes, middles: list[float], top: float) -> None:
    """A range that shows every mean with its surroundings; wide intervals leave it, and fractions end at 100 %."""
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


def confusions(results: Results) -> list[Panel]:
    """One panel per data set and learner: all seeds summed, each row in fractions of its true class, one scale."""
    fractions = {key: total / np.maximum(total.sum(1, keepdims=True), 1) for key, total in summed(results).items()}
    named = {row.data or "": [plain(name) for name in row.classes] for row in results.of(ConfusionRow) if row.classes}
    top = max([0.02, *(mistakes(one).max() for one in fractions.values())])
    panels = []
    for (data, name), one in fractions.items():
        title = f"{name}, {data}" if len(results.data) > 1 else name
        classes = [*named.get(data, list(map(str, range(len(one))))), *NONE[: one.shape[1] - len(one)]]
        said = commonest_mistakes(one, classes)
        plot = partial(plot_confusion, fractions=one, top=top, classes=classes)
        alt = f"Confusion matrix of {name} on {data}. Commonest mistakes: {said}"
        panels.append(Panel(title, alt, plot, said, 230, 230))
    return panels


def summed(results: Results) -> dict[tuple[str, str], np.ndarray]:
    """(data set, learner) -> the confusion matrices of all seeds, summed; a last column counts those named "none"."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for row in results.of(ConfusionRow):
        key = (row.data or "", row.learner or "")
        whose = f"{key[1]!r} on {key[0]!r}"
        matrix, before = counted(row.matrix, whose), found.get(key)
        same = before is None or len(matrix) == len(before)
        require(same, f"confusion matrices need one square shape, got {matrix.shape} for {whose}.")
        pair = [matrix] if before is None else [before, matrix]
        wide = max(one.shape[1] for one in pair)
        found[key] = np.sum([np.pad(one, ((0, 0), (0, wide - one.shape[1]))) for one in pair], axis=0)
    return found


def mistakes(fractions: np.ndarray) -> np.ndarray:
    """The same without those that were classified correctly."""
    return np.asarray(fractions * (1 - np.eye(*fractions.shape)))


def commonest_mistakes(fractions: np.ndarray, classes: Sequence[str]) -> str:
    """The three commonest in words."""
    wrong = mistakes(fractions)
    order = np.argsort(-wrong, axis=None, kind="stable")[:3]
    cells = [divmod(int(index), wrong.shape[1]) for index in order]
    said = [
        f"{classes[true]}→{classes[given]} {100 * wrong[true, given]:.1f} %"
        for true, given in cells
        if wrong[true, given] > 0
    ]
    return ", ".join(said) if said else "No mistakes"


def plot_confusion(axes: Axes, fractions: np.ndarray, top: float, classes: Sequence[str]) -> None:
    """Correct in grey, mistakes in orange; their strength grows with the root of their fraction, up to `top`."""
    correct = np.eye(*fractions.shape) > 0
    strength = np.where(correct, 0.55 * fractions, np.sqrt(fractions / top))
    colours = np.where(correct[..., None], to_rgb(CORRECT), to_rgb(WRONG))
    axes.imshow(np.dstack([colours, np.clip(strength, 0, 1)]), interpolation="none")
    said = (
        (k, i, f"true {classes[i]}, predicted {classes[k]}: {100 * value:.1f} %")
        for (i, k), value in np.ndenumerate(fractions)
    )
    tell(axes, "", (cell for cell in said if fractions[cell[1], cell[0]] > 0))
    style_axes(axes, grid="")
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)
    n = len(fractions)
    ticks = range(n) if n <= 12 else range(0, n, math.ceil(n / 10))
    across = [*ticks, *range(n, fractions.shape[1])]
    axes.set(xticks=across, yticks=ticks, xlabel="predicted class", ylabel="true class")
    labels = [short_name(classes[tick], 9) for tick in across]
    axes.set_xticklabels(labels, rotation=90 if max(map(len, labels)) > 2 else 0)
    axes.set_yticklabels(labels[: len(ticks)])
