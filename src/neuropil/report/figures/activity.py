"""Spike trains, potentials and weights over time, into axes of your own or of the report."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from neuropil.errors import Refusal, require
from neuropil.report.theme import COLOURS, INK, SOFT, Panel, style_axes
from neuropil.runs import PotentialsRow, SpikeTrainsRow, WeightsRow

ORANGE = COLOURS["local-0"][0]
PALETTE = tuple(COLOURS[name][0] for name in ("local-0", "baseline-0", "spiking-0", "local-1", "local-2", "baseline-1"))
LINES = len(PALETTE)  # of potentials, or of weights; more weights are shown as quantiles
INTERVALS = 24  # bins of a histogram of intervals


def trains_of(trains: Any) -> list[np.ndarray]:
    """One ascending array of finite times for each neuron or trial, from any form that the functions below take."""
    try:
        found = [np.asarray(train, dtype=np.float64) for train in trains]
    except (TypeError, ValueError) as error:
        raise _refused(trains) from error
    if not found or any(one.ndim != 1 or np.isnan(one).any() for one in found):
        raise _refused(trains)
    return [np.sort(one[np.isfinite(one)]) for one in found]


def _refused(trains: Any) -> Refusal:
    """What is said of other forms."""
    got = getattr(trains, "shape", None) or type(trains).__name__
    cure = "one list of times in s for each neuron, such as from_raster(raster, dt)[0]"
    return Refusal(f"a figure of spikes needs {cure}, got {got}.")


def window_of(times: Sequence[np.ndarray], t_start: float, t_end: float | None) -> float:
    """The end of what is shown: as given, or the last spike."""
    end = max((one[-1] for one in times if len(one)), default=t_start) if t_end is None else t_end
    end = float(end)
    require(t_end is None or end > t_start, f"a figure of spikes needs t_start < t_end, got {t_start} and {t_end}.")
    return end if end > t_start else t_start + 1.0


def plot_raster(
    axes: Axes, trains: Any, *, t_start: float = 0.0, t_end: float | None = None, colour: str = INK
) -> None:
    """A mark for every spike: time across, neurons upwards.

    Args:
        axes: of matplotlib, which it fills.
        trains: a list of spike times for each neuron, s; or (neurons, spikes), where inf is no spike.
        t_start, t_end: what is shown, s; up to the last spike if `t_end` is not given.
        colour: of the marks.

    Raises:
        Refusal: no list of times for each neuron, or an end before the start.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> plot_raster(axes, [[0.1, 0.4], [], [0.2]], t_end=0.5)
        >>> axes.lines[0].get_xydata().tolist()
        [[0.1, 0.0], [0.4, 0.0], [0.2, 2.0]]
    """
    times = trains_of(trains)
    end = window_of(times, t_start, t_end)
    style_axes(axes, grid="")
    x = np.concatenate(times)
    y = np.repeat(np.arange(len(times)), [len(one) for one in times])
    inside = (x >= t_start) & (x <= end)
    size = float(np.clip(220 / len(times), 1.5, 12))
    axes.plot(x[inside], y[inside], "|", color=colour, markersize=size, markeredgewidth=0.7)
    axes.set(xlim=(t_start, end), ylim=(-0.7, len(times) - 0.3), xlabel="time, s", ylabel="neuron")
    axes.locator_params(axis="y", integer=True)


def plot_psth(
    axes: Axes, trains: Any, *, t_start: float = 0.0, t_end: float | None = None, bin: float = 10e-3,
    colour: str = ORANGE,
) -> None:  # fmt: skip
    """Peri-stimulus time histogram: mean rate of the neurons or trials in every bin, Hz.

    Args:
        axes, trains, t_start, t_end, colour: as of `plot_raster`.
        bin: width, s; the nearest that fills the time shown.

    Raises:
        Refusal: as of `plot_raster`; a width that is not positive.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> plot_psth(axes, [[0.1], [0.2, 0.4]], t_end=0.5, bin=0.25)
        >>> axes.patches[0].get_data().values.tolist()
        [4.0, 2.0]
    """
    times = trains_of(trains)
    end = window_of(times, t_start, t_end)
    require(bin > 0, f"plot_psth needs bin > 0, in s, got {bin}.")
    bins = max(1, round((end - t_start) / bin))
    counts, edges = np.histogram(np.concatenate(times), bins, (t_start, end))
    style_axes(axes)
    axes.stairs(counts / (len(times) * (end - t_start) / bins), edges, fill=True, color=colour, alpha=0.75, linewidth=0)
    axes.set(xlim=(t_start, end), xlabel="time, s", ylabel="rate, Hz")
    axes.set_ylim(bottom=0)


def intervals_of(trains: Any) -> np.ndarray:
    """Times between spikes of the same neuron, of all neurons, s."""
    return np.concatenate([np.diff(one) for one in trains_of(trains)])


def plot_isi(axes: Axes, trains: Any, *, colour: str = ORANGE) -> None:
    """Histogram of interspike intervals, %, in bins of a logarithmic axis; dotted: a Poisson process of that rate.

    Args:
        axes, trains, colour: as of `plot_raster`.

    Raises:
        Refusal: no list of times for each neuron.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> plot_isi(axes, [[0.1, 0.2, 0.3], [0.1, 0.9]])
        >>> axes.patches[0].get_data().values.sum().round(6).item()  # all three intervals
        100.0
    """
    between = intervals_of(trains)
    between = between[between > 0]
    style_axes(axes)
    axes.set(xscale="log", xlabel="interval, s", ylabel="% of intervals")
    if not len(between):
        axes.text(0.5, 0.5, "no neuron spikes twice", transform=axes.transAxes, ha="center", color=SOFT, fontsize=8)
        return
    low, high = between.min() / 1.2, max(between.max(), 5 * between.mean()) * 1.2
    edges = np.geomspace(low, high, INTERVALS + 1)
    counts, _ = np.histogram(between, edges)
    axes.stairs(100 * counts / len(between), edges, fill=True, color=colour, alpha=0.75, linewidth=0)
    poisson = -np.diff(np.exp(-edges / between.mean()))
    axes.minorticks_off()
    axes.plot(np.sqrt(edges[1:] * edges[:-1]), 100 * poisson, color=INK, linestyle=":", linewidth=1.4)


def plot_voltages(
    axes: Axes, v: Any, *, dt: float, t_start: float = 0.0, trains: Any = None, threshold: float | None = None,
    unit: str = "V",
) -> None:  # fmt: skip
    """Potentials over time, one above the other's colour; a tick above stands for a spike.

    Args:
        axes: of matplotlib, which it fills.
        v: (time, neurons), at most six neurons; volts are shown as mV.
        dt: length of a step, s.
        t_start: time of the first step, s.
        trains: spike times of these neurons, as of `plot_raster`.
        threshold: a line, in the unit of `v`.
        unit: of `v`; another than "V" is written as it is.

    Raises:
        Refusal: potentials of another shape, or of too many neurons.

    Examples:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> plot_voltages(axes, torch.full((3, 1), -0.065), dt=1e-3)
        >>> axes.lines[0].get_ydata().round(3).tolist(), axes.get_ylabel()
        ([-65.0, -65.0, -65.0], 'potential, mV')
    """
    lines = np.asarray(v, dtype=np.float64)
    fits = lines.ndim == 2 and len(lines) > 0 and 1 <= lines.shape[1] <= LINES
    require(fits, f"plot_voltages needs (time, neurons) of 1 to {LINES} neurons, got {lines.shape}.")
    factor, name = (1000.0, "mV") if unit == "V" else (1.0, unit)
    times = t_start + dt * np.arange(1, len(lines) + 1)
    style_axes(axes)
    for line, colour in zip(lines.T, PALETTE):
        axes.plot(times, factor * line, color=colour, linewidth=1.1)
    if threshold is not None:
        axes.axhline(factor * threshold, color=SOFT, linewidth=0.9, linestyle="--")
    top = factor * max(lines.max(), -np.inf if threshold is None else threshold)
    rise = 0.06 * (top - factor * lines.min() or 1.0)
    for k, train in enumerate(trains_of(trains)[: lines.shape[1]] if trains is not None else []):
        axes.plot(train, np.full(len(train), top + (k + 1) * rise), "|", color=PALETTE[k], markersize=6)
    axes.set(xlim=(t_start, times[-1]), xlabel="time, s", ylabel=f"potential, {name}" if name else "potential")


def plot_weights(axes: Axes, times: Any, weights: Any, *, names: Sequence[str] = (), colour: str = ORANGE) -> None:
    """Weights over time: a line for each of up to six, else median, middle half, and the range of 90 % of them.

    Args:
        axes: of matplotlib, which it fills.
        times: when they were looked at, (looks,), s.
        weights: (looks, *synapses).
        names: of up to six synapses, for a legend.
        colour: of the quantiles.

    Raises:
        Refusal: numbers of looks that differ, or of names.

    Examples:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> plot_weights(axes, [0.0, 1.0], torch.tensor([[0.0, 1.0], [0.5, 0.5]]))
        >>> [line.get_ydata().tolist() for line in axes.lines]
        [[0.0, 0.5], [1.0, 0.5]]
    """
    at, lines = np.asarray(times, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    lines = lines.reshape(len(lines), -1) if lines.ndim else lines
    fits = at.ndim == 1 and lines.ndim == 2 and len(at) == len(lines) > 0 and lines.shape[1] > 0
    require(fits, f"plot_weights needs weights (looks, synapses) for {at.shape} times, got {lines.shape}.")
    require(len(names) in (0, lines.shape[1]), f"plot_weights needs {lines.shape[1]} names, got {len(names)}.")
    style_axes(axes)
    if lines.shape[1] <= LINES:
        for k, (line, own) in enumerate(zip(lines.T, PALETTE)):
            axes.plot(at, line, color=own, linewidth=1.5, label=names[k] if names else None)
        if names:
            axes.legend(frameon=False, fontsize=8, labelcolor=SOFT)
    else:
        low, first, middle, third, high = np.nanpercentile(lines, (5, 25, 50, 75, 95), axis=1)
        axes.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.fill_between(at, first, third, color=colour, alpha=0.3, linewidth=0)
        axes.plot(at, middle, color=colour, linewidth=1.6)
    axes.set(xlabel="time, s", ylabel="weight")
    axes.margins(x=0.01)


def activity_panels(row: SpikeTrainsRow | PotentialsRow | WeightsRow, colour: str) -> list[Panel]:
    """The panels of one row, in the colour of its learner."""
    if isinstance(row, SpikeTrainsRow):
        return train_panels(row, colour)
    return [potential_panel(row) if isinstance(row, PotentialsRow) else weight_panel(row, colour)]


def train_panels(row: SpikeTrainsRow, colour: str) -> list[Panel]:
    """Raster, rate over time, and intervals."""
    when: dict[str, Any] = {"t_start": row.t_start, "t_end": row.t_end}
    spikes = sum(map(len, row.trains))
    said = f"{row.title}: {spikes:,} spikes of {len(row.trains):,} neurons in {row.t_end - row.t_start:g} s."
    raster = Panel(row.title, f"Spike raster. {said}", partial(plot_raster, trains=row.trains, **when), said)
    psth = partial(plot_psth, trains=row.trains, bin=row.bin, colour=colour, **when)
    mean = f"{row.title}: mean rate of these neurons in bins of {1000 * row.bin:g} ms."
    dotted = f"{row.title}: intervals between spikes of a neuron. Dotted: a Poisson process of the same mean."
    isi = partial(plot_isi, trains=row.trains, colour=colour)
    return [raster, Panel("rate over time", mean, psth, mean), Panel("interspike intervals", dotted, isi, dotted)]


def potential_panel(row: PotentialsRow) -> Panel:
    """Potentials over time."""
    v = np.asarray(row.v, dtype=np.float64).T
    given: dict[str, Any] = {"dt": row.dt, "t_start": row.t_start, "trains": row.trains or None, "unit": row.unit}
    said = f"{row.title}: potentials of {len(row.v)} neurons, a tick above for each spike."
    return Panel(row.title, said, partial(plot_voltages, v=v, threshold=row.threshold, **given), said)


def weight_panel(row: WeightsRow, colour: str) -> Panel:
    """Weights over time."""
    how = "a line each" if np.asarray(row.weights).shape[-1] <= LINES else "median, middle half, and 90 % of them"
    said = f"{row.title}: {how}."
    given: dict[str, Any] = {"weights": row.weights, "names": row.names, "colour": colour}
    return Panel(row.title, said, partial(plot_weights, times=row.times, **given), said)
