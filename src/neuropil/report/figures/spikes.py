"""Spiking networks in pictures: one trial spike by spike, and how gradients bring a silent network to fire."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neuropil.errors import require
from neuropil.report.figures.curves import log_ticks
from neuropil.report.results import Row
from neuropil.report.theme import COLOURS, INK, PAPER, RULE, SOFT, Panel, Style, style_axes

BAND = COLOURS["band"][0]
HIGH = 310  # CSS pixels of a panel
WAY = "from the first (0) to the trained weights (1)"
GAP = 0.12  # between two layers, in heights of the input


def spike_panels(trial: Row | None, way: Row | None, style: Style) -> list[Panel]:
    """The panels of one learner, as many as there are rows.

    Args:
        trial: of kind "raster": `t_end`, `label`, and `layers`, each with a `name` and for each of its neurons the
            list of its spike `times`; those after the horizon are pseudospikes.
        way: of kind "silence": along a path of networks at `path` 0 to 1, the first `times` of every output neuron,
            the `gradient` of that of the `label` and the number of `spikes` of all neurons; and the `t_end`.
        style: colour of the learner.
    """
    panels = []
    if trial is not None:
        panels.append(raster_panel(trial, style))
    if way is not None:
        panels += silence_panels(way, style)
    return panels


def raster_panel(trial: Row, style: Style) -> Panel:
    """Every spike of one trial, input below, outputs on top."""
    layers = trial["layers"]
    require(
        len(layers) >= 2 and all(len(layer["times"]) >= 1 for layer in layers),
        f"a raster needs two or more layers with neurons, got {len(layers)} for {trial['learner']!r}.",
    )
    ends = [trial["t_end"] < time for layer in layers for neuron in layer["times"] for time in neuron]
    said = (
        f"{len(ends) - sum(ends)} spikes of one training example of class {trial['label']}. Hollow marks after the end "
        f"of the trial are {sum(ends)} pseudospikes: when silent neurons would fire. Hidden neurons are sorted by time."
    )
    draw = partial(draw_raster, layers=layers, t_end=trial["t_end"], label=trial["label"], colour=style.colour)
    return Panel("One trial, spike by spike", f"Spike raster. {said}", draw, said, height=HIGH)


def draw_raster(axes: Axes, layers: Sequence[Any], t_end: float, label: int, colour: str) -> None:
    """Layers above each other, each as a block; ordinary spikes filled, pseudospikes hollow."""
    style_axes(axes, grid="")
    inner = len(layers) - 2
    blocks = zip(layers, [1.0, *[1.6] * inner, 1.0], [SOFT, *[colour] * inner, INK])
    bottom, middles = 0.0, []
    for depth, (layer, high, ink) in enumerate(blocks):
        rows = sort_by_time(layer["times"]) if 0 < depth <= inner else layer["times"]
        spots = [(time, bottom + high * (k + 0.5) / len(rows)) for k, row in enumerate(rows) for time in row]
        put_spikes(axes, spots, t_end, ink, len(rows))
        middles.append((bottom + high / 2, f"{len(rows)} {layer['name']}"))
        bottom += high + GAP
        if depth <= inner:
            axes.axhline(bottom - GAP / 2, color=RULE, linewidth=0.8)
    if rows[label]:
        spot = (rows[label][0], bottom - GAP - high * (1 - (label + 0.5) / len(rows)))
        look: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": "right", "fontsize": 8}
        axes.annotate(f"class {label}", spot, (-6, 0), color=INK, **look)
    end_of_trial(axes, t_end)
    axes.set(ylim=(0, bottom - GAP), xlabel="time")
    axes.set_yticks([middle for middle, _ in middles], [name for _, name in middles])


def sort_by_time(rows: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """Neurons by their first time, the earliest at the bottom."""
    return sorted(rows, key=lambda row: row[0] if row else np.inf)


def put_spikes(axes: Axes, spots: list[tuple[float, float]], t_end: float, colour: str, neurons: int) -> None:
    """Marks as large as there is room for."""
    size = 5.0 if neurons <= 20 else 2.6 if neurons <= 120 else 1.8
    for late in (False, True):
        points = [spot for spot in spots if (spot[0] > t_end) == late]
        if points:
            face = PAPER if late else colour
            axes.plot(*zip(*points), "o", markersize=size, color=colour, markerfacecolor=face, markeredgewidth=0.7)


def end_of_trial(axes: Axes, t_end: float) -> None:
    """A line where the trial ends, a ground for what would come later, and both named."""
    right = axes.get_xlim()[1]
    axes.set_xlim(axes.get_xlim()[0], max(right, 1.12 * t_end))
    axes.axvspan(t_end, axes.get_xlim()[1], color=BAND, zorder=0, linewidth=0)
    axes.axvline(t_end, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    spot: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
    axes.annotate("end of the trial, T", (t_end, 0), (4, 5), ha="left", color=SOFT, **spot)


def silence_panels(way: Row, style: Style) -> list[Panel]:
    """When the outputs fire first, and how strong the gradient is, on the way from the first network to the last."""
    share, times = np.array(way["path"]), np.array(way["times"])
    slope, spikes = np.array(way["gradient"]), np.array(way["spikes"])
    require(
        times.ndim == 2 and len(share) == len(times) == len(slope) == len(spikes) > 1,
        f"the way out of silence needs one row of times, a slope and a number of spikes for each share, "
        f"got {times.shape}, {slope.shape} and {spikes.shape} for {share.shape}.",
    )
    quiet = share[np.minimum.accumulate(times.min(1)) > way["t_end"]].max(initial=0)
    ground = " On the grey ground no output fires." if quiet else ""
    first = (
        f"One training example, its class {way['label']} in colour, while all weights go straight from their first to "
        "their trained values: pseudospikes (dashed) after the end T of the trial, ordinary spikes (solid) before it."
        f"{ground}"
    )
    second = (
        f"Length of the gradient of the time of class {way['label']} by the first layer's weights on the same way: "
        f"{slope[0]:.2g} at its start, where {int(spikes[0]) or 'no'} neurons fire, never below {slope.min():.2g}."
    )
    draw = partial(draw_times, share=share, times=times, quiet=quiet, way=way, colour=style.colour)
    again = partial(draw_slope, share=share, slope=slope, quiet=quiet, colour=style.colour)
    return [
        Panel("Out of silence: first spikes", first, draw, first, height=HIGH),
        Panel("The gradient through the silence", second, again, second, height=HIGH),
    ]


def draw_times(axes: Axes, share: Any, times: Any, quiet: float, way: Row, colour: str) -> None:
    """Solid before the end of the trial, dashed after it; the label's output on top."""
    style_axes(axes)
    silent_ground(axes, quiet)
    t_end, label = way["t_end"], way["label"]
    for neuron in [k for k in range(times.shape[1]) if k != label] + [label]:
        look: dict[str, Any] = {
            "color": colour if neuron == label else SOFT,
            "linewidth": 2.2 if neuron == label else 0.9,
        }
        late = times[:, neuron] > t_end
        for part, dash in ((~late, "-"), (late, (0, (2.2, 2)))):
            near = part | np.roll(part, 1) & np.r_[False, np.ones(len(part) - 1, bool)]  # up to where it crosses T
            axes.plot(share, np.where(near, times[:, neuron], np.nan), linestyle=dash, **look)
    axes.axhline(t_end, color=SOFT, linewidth=1)
    axes.annotate("T", (1, t_end), (5, 0), textcoords="offset points", va="center", color=SOFT, fontsize=8)
    axes.set(xlabel=WAY, ylabel="first spike", xlim=(0, 1))


def draw_slope(axes: Axes, share: Any, slope: Any, quiet: float, colour: str) -> None:
    """The gradient on a log scale."""
    style_axes(axes)
    silent_ground(axes, quiet)
    axes.plot(share, slope, color=colour, linewidth=1.8)
    axes.set(yscale="log", xlabel=WAY, xlim=(0, 1))
    axes.set_ylabel("gradient, log scale")
    log_ticks(axes, [value for value in slope.tolist() if value > 0] or [1.0])


def silent_ground(axes: Axes, quiet: float) -> None:
    """Grey up to where the first output fires."""
    if quiet:
        axes.axvspan(0, quiet, color=BAND, zorder=0, linewidth=0)
    if quiet > 0.25:  # there is room for words
        spot: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8}
        axes.annotate("outputs silent", (quiet / 2, 1), (0, -11), ha="center", color=SOFT, **spot)
