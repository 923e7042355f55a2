"""Spiking networks in figures: one trial spike by spike, and how gradients bring a silent network to fire."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neuropil.errors import require
from neuropil.report.figures.curves import log_ticks
from neuropil.report.theme import COLOURS, INK, PAPER, RULE, SOFT, Panel, Style, annotate, style_axes
from neuropil.runs import RasterRow, SilenceRow
from neuropil.runs.spike_rows import LayerSpikes

BAND = COLOURS["band"][0]
HIGH = 310  # CSS pixels of a panel
PATH = "from the initial (0) to the trained weights (1)"
GAP = 0.12  # between two layers, in heights of the input


def spike_panels(raster: RasterRow | None, silence: SilenceRow | None, style: Style) -> list[Panel]:
    """The panels of one learner, as many as there are rows, in the colour of `style`."""
    panels = [raster_panel(raster, style)] if raster else []
    return panels + (silence_panels(silence, style) if silence else [])


def raster_panel(row: RasterRow, style: Style) -> Panel:
    """Every spike of one trial, input below, outputs on top."""
    layers = row.layers
    message = f"a raster needs two or more layers with neurons, got {len(layers)} for {row.learner!r}."
    require(len(layers) >= 2 and all(len(layer["times"]) >= 1 for layer in layers), message)
    late = [row.t_end < time for layer in layers for neuron in layer["times"] for time in neuron]
    caption = (
        f"{len(late) - sum(late)} spikes of one training example of class {row.label}. Hollow marks after the end "
        f"of the trial are {sum(late)} pseudospikes: when silent neurons would fire. Hidden neurons are sorted by time."
    )
    plot = partial(plot_trial, layers=layers, t_end=row.t_end, label=row.label, colour=style.colour)
    return Panel("One trial, spike by spike", f"Spike raster. {caption}", plot, caption, height=HIGH)


def plot_trial(axes: Axes, layers: Sequence[LayerSpikes], t_end: float, label: int, colour: str) -> None:
    """Layers above each other, each as a block; ordinary spikes filled, pseudospikes hollow."""
    style_axes(axes, grid="")
    inner = len(layers) - 2
    blocks = zip(layers, [1.0, *[1.6] * inner, 1.0], [SOFT, *[colour] * inner, INK])
    bottom, middles, first_time = 0.0, [], lambda row: row[0] if row else np.inf
    for depth, (layer, high, ink) in enumerate(blocks):
        rows = sorted(layer["times"], key=first_time) if 0 < depth <= inner else layer["times"]
        spots = [(time, bottom + high * (k + 0.5) / len(rows)) for k, row in enumerate(rows) for time in row]
        plot_spikes(axes, spots, t_end, ink, len(rows))
        middles.append((bottom + high / 2, f"{len(rows)} {layer['name']}"))
        bottom += high + GAP
        if depth <= inner:
            axes.axhline(bottom - GAP / 2, color=RULE, linewidth=0.8)
    if rows[label]:
        spot = (rows[label][0], bottom - GAP - high * (1 - (label + 0.5) / len(rows)))
        annotate(axes, f"class {label}", spot, (-6, 0), xycoords="data", va="center", ha="right", color=INK, fontsize=8)
    end_of_trial(axes, t_end)
    axes.set(ylim=(0, bottom - GAP), xlabel="time")
    axes.set_yticks([middle for middle, _ in middles], [name for _, name in middles])


def plot_spikes(axes: Axes, spots: list[tuple[float, float]], t_end: float, colour: str, neurons: int) -> None:
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
    annotate(axes, "end of the trial, T", (t_end, 0), (4, 5), ha="left", fontsize=8)


def silence_panels(row: SilenceRow, style: Style) -> list[Panel]:
    """When the outputs fire first, and how strong the gradient is, from the initial network to the trained one."""
    path, times, gradient = np.array(row.path), np.array(row.times), np.array(row.gradient)
    require(
        times.ndim == 2 and len(path) == len(times) == len(gradient) == len(row.spikes) > 1,
        f"the path out of silence needs one row of times, a gradient and a number of spikes for each point, "
        f"got {times.shape}, {gradient.shape} and ({len(row.spikes)},) for {path.shape}.",
    )
    quiet = path[np.minimum.accumulate(times.min(1)) > row.t_end].max(initial=0)
    ground = " On the grey ground no output fires." if quiet else ""
    first = (
        f"One training example, its class {row.label} in colour, while all weights go straight from their initial to "
        "their trained values: pseudospikes (dashed) after the end T of the trial, ordinary spikes (solid) before it."
        f"{ground}"
    )
    second = (
        f"Length of the gradient of the spike time of class {row.label} by the first layer's weights on the same path: "
        f"{gradient[0]:.2g} at its start, where {row.spikes[0] or 'no'} neurons fire, never below {gradient.min():.2g}."
    )
    plot_first = partial(plot_times, path=path, times=times, quiet=quiet, row=row, colour=style.colour)
    plot_second = partial(plot_gradient, path=path, gradient=gradient, quiet=quiet, colour=style.colour)
    panel = Panel("Out of silence: first spikes", first, plot_first, first, height=HIGH)
    return [panel, Panel("The gradient through the silence", second, plot_second, second, height=HIGH)]


def plot_times(axes: Axes, path: Any, times: Any, quiet: float, row: SilenceRow, colour: str) -> None:
    """Solid before the end of the trial, dashed after it; the label's output on top."""
    style_axes(axes)
    silent_ground(axes, quiet)
    for neuron in [k for k in range(times.shape[1]) if k != row.label] + [row.label]:
        mine = neuron == row.label
        line: dict[str, Any] = {"color": colour if mine else SOFT, "linewidth": 2.2 if mine else 0.9}
        late = times[:, neuron] > row.t_end
        for chosen, dash in ((~late, "-"), (late, (0, (2.2, 2)))):
            before = np.roll(chosen, 1) & np.r_[False, np.ones(len(chosen) - 1, bool)]  # up to where it crosses T
            axes.plot(path, np.where(chosen | before, times[:, neuron], np.nan), linestyle=dash, **line)
    axes.axhline(row.t_end, color=SOFT, linewidth=1)
    annotate(axes, "T", (1, row.t_end), (5, 0), xycoords="data", va="center", fontsize=8)
    axes.set(xlabel=PATH, ylabel="first spike", xlim=(0, 1))


def plot_gradient(axes: Axes, path: Any, gradient: Any, quiet: float, colour: str) -> None:
    """On a log scale."""
    style_axes(axes)
    silent_ground(axes, quiet)
    axes.plot(path, gradient, color=colour, linewidth=1.8)
    axes.set(yscale="log", xlabel=PATH, xlim=(0, 1))
    axes.set_ylabel("gradient, log scale")
    log_ticks(axes, [value for value in gradient.tolist() if value > 0] or [1.0])


def silent_ground(axes: Axes, quiet: float) -> None:
    """Grey up to where the first output fires."""
    if quiet:
        axes.axvspan(0, quiet, color=BAND, zorder=0, linewidth=0)
    if quiet > 0.25:  # there is room for words
        annotate(axes, "outputs silent", (quiet / 2, 1), (0, -11), ha="center", fontsize=8)
