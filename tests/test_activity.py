"""Figures and statistics of spike trains: every mark, bin and number is that of loops over spikes."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from neuropil.errors import Refusal
from neuropil.report import plot_isi, plot_psth, plot_raster, plot_voltages, plot_weights
from neuropil.report.figures.activity import activity_panels
from neuropil.runs import PotentialsRow, SpikeTrainsRow
from neuropil.spiking import firing_rates, from_raster, interval_cv, synchrony


@pytest.fixture
def axes():
    return Figure().add_subplot()


@pytest.fixture(scope="module")
def raster():
    """(time, neurons), in steps of 2 ms: random, silent, regular, one spike, and a copy of the first."""
    spikes = (torch.rand(500, 5, generator=torch.Generator().manual_seed(3)) < 0.07).float()
    spikes[:, 1:4] = 0
    spikes[::25, 2], spikes[77, 3], spikes[:, 4] = 1, 1, spikes[:, 0]
    return spikes


def times_of(raster, dt):
    """Of each neuron, in the middle of their steps."""
    return [[(t + 0.5) * dt for t in range(len(raster)) if raster[t, k]] for k in range(raster.shape[1])]


def test_statistics_are_those_of_loops_over_spikes(raster):
    trains = times_of(raster, 2e-3)
    assert firing_rates(raster, 2e-3).tolist() == pytest.approx([len(train) / 1.0 for train in trains])
    for train, cv in zip(trains, interval_cv(raster).tolist()):
        gaps = np.diff(train)
        assert math.isnan(cv) if len(gaps) < 2 else cv == pytest.approx(gaps.std() / gaps.mean(), abs=1e-12)
    counts = np.array([[sum(k * 0.014 < t < (k + 1) * 0.014 for t in train) for k in range(71)] for train in trains])
    pairs = np.corrcoef(counts[[0, 2, 3, 4]])[np.triu_indices(4, 1)]  # the silent one has no correlation
    assert synchrony(raster, 2e-3, 14e-3) == pytest.approx(pairs.mean(), abs=1e-12)
    assert math.isnan(synchrony(raster[:, :2], 2e-3, 14e-3))


def test_a_raster_has_one_mark_for_every_spike_in_its_window(raster, axes):
    trains = times_of(raster, 2e-3)
    plot_raster(axes, from_raster(raster[:, None], 2e-3)[0], t_start=0.25, t_end=0.75)
    want = [(round(t, 6), k) for k, train in enumerate(trains) for t in train if 0.25 <= t <= 0.75]
    assert sorted((round(x, 6), y) for x, y in axes.lines[0].get_xydata()) == sorted(want)
    assert axes.get_xlim() == (0.25, 0.75)


def test_rates_and_intervals_in_bins_are_counted_one_by_one(raster, axes):
    trains = times_of(raster, 2e-3)
    plot_psth(axes, trains, t_end=1.0, bin=0.1)
    values, edges, _ = axes.patches[0].get_data()
    want = [sum(low <= t < high for train in trains for t in train) / 5 / 0.1 for low, high in pairwise(edges)]
    assert values.tolist() == pytest.approx(want)
    plot_psth(axes, trains, t_start=0.2, t_end=0.9, bin=0.3)  # two bins of 0.35 s
    values, edges, _ = axes.patches[1].get_data()
    want = [sum(low <= t < high for train in trains for t in train) / 5 / 0.35 for low, high in pairwise(edges)]
    assert edges.tolist() == pytest.approx([0.2, 0.55, 0.9])
    assert values.tolist() == pytest.approx(want)
    axes = Figure().add_subplot()
    plot_isi(axes, trains)
    values, edges, _ = axes.patches[0].get_data()
    gaps = [b - a for train in trains for a, b in pairwise(train)]
    want = [100 * sum(low <= gap < high for gap in gaps) / len(gaps) for low, high in pairwise(edges)]
    assert values.tolist() == pytest.approx(want)
    mean, at = sum(gaps) / len(gaps), axes.lines[0].get_ydata()
    assert at[5] == pytest.approx(100 * (math.exp(-edges[5] / mean) - math.exp(-edges[6] / mean)))


def test_many_weights_are_quantiles_and_potentials_are_in_millivolts(axes):
    weights = torch.arange(101.0)[None] * torch.tensor([[0.01], [0.02]])
    plot_weights(axes, [0.0, 3.0], weights)
    assert axes.lines[0].get_xydata().tolist() == [[0.0, pytest.approx(0.5)], [3.0, pytest.approx(1.0)]]
    assert {round(y, 3) for y in axes.collections[0].get_paths()[0].vertices[:, 1]} == {0.05, 0.1, 0.95, 1.9}
    axes = Figure().add_subplot()
    plot_voltages(axes, np.array([[-0.06, 0.0], [-0.05, 0.01]]), dt=0.1, trains=[[0.1], []], threshold=-0.04)
    assert axes.lines[1].get_xydata() == pytest.approx(np.array([[0.1, 0.0], [0.2, 10.0]]))
    assert axes.lines[2].get_ydata() == pytest.approx([-40.0, -40.0])
    assert axes.lines[3].get_xdata().tolist() == [0.1]


def test_a_row_is_shown_in_its_own_stretch_of_time(axes):
    row = PotentialsRow(title="v", v=[[-0.06, -0.05]], dt=0.5, t_start=2.0, trains=[[2.5]], threshold=-0.04)
    (panel,) = activity_panels(row, "k")
    panel.plot(axes)
    assert axes.get_xlim() == (2.0, 3.0)
    assert [line.get_xdata()[0] for line in axes.lines] == [2.5, 0, 2.5]
    for panel in activity_panels(SpikeTrainsRow(title="s", trains=[[2.2]], t_start=2.0, t_end=2.5, bin=0.25), "k")[:2]:
        panel.plot(axes := Figure().add_subplot())
        assert axes.get_xlim() == (2.0, 2.5)
    assert axes.patches[0].get_data().values.tolist() == [4.0, 0.0]


def test_neurons_that_never_spike_have_figures_too(axes):
    plot_raster(axes, [[], []])
    plot_psth(axes, torch.full((2, 3), torch.inf), t_end=0.5)
    plot_isi(Figure().add_subplot(), [[0.1], []])
    assert axes.patches[0].get_data().values.sum() == 0


REFUSED = {
    "one list of times": lambda axes: plot_raster(axes, [0.1, 0.2]),
    "t_start < t_end": lambda axes: plot_psth(axes, [[0.1]], t_start=1.0, t_end=0.5),
    "bin > 0": lambda axes: plot_psth(axes, [[0.1]], bin=0.0),
    r"1 to 6 neurons, got \(3, 7\)": lambda axes: plot_voltages(axes, np.zeros((3, 7)), dt=1e-3),
    r"for \(3,\) times": lambda axes: plot_weights(axes, [0, 1, 2], np.zeros((2, 4))),
    "2 names, got 1": lambda axes: plot_weights(axes, [0, 1], np.zeros((2, 2)), names=["a"]),
    r"raster \(time, units\)": lambda _: interval_cv(torch.zeros(3)),
    "dt > 0": lambda _: firing_rates(torch.zeros(3, 1), 0.0),
    "two windows or more, got 1": lambda _: synchrony(torch.zeros(3, 2), 1e-3, 2e-3),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_no_spike_train_is_refused_in_one_line(said, axes):
    with pytest.raises(Refusal, match=said) as refused:
        REFUSED[said](axes)
    assert "\n" not in str(refused.value)


def test_a_window_of_less_than_a_step_is_one_step():
    spikes = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 1, 0]])
    assert synchrony(spikes, 1e-3, window=1e-4) == synchrony(spikes, 1e-3, window=1e-3)


@pytest.mark.filterwarnings("error")
def test_units_that_never_spike_have_no_synchrony_and_no_warning():
    assert math.isnan(synchrony(torch.zeros(10, 3), dt=1e-3))
    assert interval_cv(torch.zeros(10, 3)).isnan().all()
