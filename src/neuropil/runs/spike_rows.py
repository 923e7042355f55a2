"""The kinds of row that tell of spikes, potentials and weights over time."""

from collections.abc import Sequence
from typing import TypedDict

from neuropil.runs.rows import Row


class LayerSpikes(TypedDict):
    """Spike times of one layer: for each of its neurons a list."""

    name: str
    times: Sequence[Sequence[float]]


class RasterRow(Row):
    """All spikes of one example, from the input to the output; times after `t_end` are pseudospikes. `Run` logs it."""

    t_end: float
    label: int
    layers: Sequence[LayerSpikes]


class SilenceRow(Row):
    """One example on the straight line from the initial to the trained weights. `Run` logs it.

    Attributes:
        t_end: end of the trial.
        label: class of the example.
        path: position on the line, 0 to 1, (points,).
        times: first spike of every output neuron, (points, classes).
        gradient: length of the gradient of the label's first spike by the first layer's weights, (points,).
        spikes: number of ordinary spikes of all neurons, (points,).
    """

    t_end: float
    label: int
    path: Sequence[float]
    times: Sequence[Sequence[float]]
    gradient: Sequence[float]
    spikes: Sequence[int]


class SpikeTrainsRow(Row):
    """Spikes of some neurons in a stretch of time: raster, rate over time, intervals. `Run` logs it.

    Attributes:
        title: what they are.
        trains: spike times of each neuron, s.
        t_start, t_end: the stretch, s.
        bin: of the rate over time, s.
    """

    title: str
    trains: Sequence[Sequence[float]]
    t_start: float = 0.0
    t_end: float
    bin: float = 10e-3


class PotentialsRow(Row):
    """Potentials of up to six neurons, step by step. `Run` logs it.

    Attributes:
        title: what they are.
        v: potentials of each neuron, (neurons, time).
        dt: length of a step, s.
        t_start: time of the first step, s.
        trains: spike times of each neuron, s; none if they are not known.
        threshold: a line to show, in the unit of `v`.
        unit: of `v`.
    """

    title: str
    v: Sequence[Sequence[float]]
    dt: float
    t_start: float = 0.0
    trains: Sequence[Sequence[float]] = ()
    threshold: float | None = None
    unit: str = "V"


class WeightsRow(Row):
    """Weights of some synapses over time. `Run` logs it.

    Attributes:
        title: what they are.
        times: when they were looked at, (looks,), s.
        weights: (looks, synapses).
        names: of up to six synapses.
    """

    title: str
    times: Sequence[float]
    weights: Sequence[Sequence[float]]
    names: Sequence[str] = ()
