"""The benchmark of spiking networks: a row per case, and the scan beside it does the same work."""

import pytest
import torch

from neuropil.bench import _graphs
from neuropil.bench import spiking as bench
from neuropil.bench._timing import clock
from neuropil.cli.commands.bench import table
from neuropil.errors import Refusal
from neuropil.evaluate.metrics.cost import peak_memory
from neuropil.spiking import QIFLayer, ThetaLayer

SMALL = bench.Config(sizes=(20, 8, 6, 3), batches=(4, 1), repeats=2, scans=1, threads=1)


def test_there_is_a_row_for_every_case_with_ratios_and_memory():
    rows = bench.main(SMALL)
    assert [(row["network"], row["batch"]) for row in rows] == [
        ("theta 20-8-6-3", 4),
        ("theta 20-8-6-3", 1),
        ("QIF 20-8", 4),
        ("recurrent QIF 10", 1),
    ]
    for row in rows:
        assert row["scan_per_step"] > 0
        assert row["step_per_rate"] == pytest.approx(row["step_s"] / row["rate_s"])
        assert min(row[name] for name in ("step_s", "rate_s", "scan_s", "peak_mb")) > 0
        assert row["extra_mb"] >= 0
    assert table([bench.cells(row) for row in rows]).row_count == 4
    bench.CAPTION.format(**rows[-1])


def test_the_paper_is_as_active_as_a_trained_network():
    case = bench.theta_case(50, bench.Config())
    assert case.activity == pytest.approx(0.42, abs=0.01)


@pytest.mark.parametrize("make", [lambda: bench.theta_case(3, SMALL), lambda: bench.qif_case(3, SMALL)])
def test_the_scan_has_the_loss_of_the_step(make):
    case = make()
    torch.testing.assert_close(case.step().double(), case.scan(), rtol=1e-4, atol=1e-4)


def test_the_recurrent_scan_has_the_loss_of_the_step():
    case = bench.recurrent_case(SMALL)
    torch.testing.assert_close(case.step(), case.scan(), rtol=1e-7, atol=1e-7)


def test_bad_settings_are_refused():
    with pytest.raises(Refusal, match="repeats"):
        bench.Config(repeats=0)
    with pytest.raises(Refusal, match="scans"):
        bench.Config(scans=30)


@pytest.mark.parametrize("kind", [ThetaLayer, QIFLayer])
def test_memory_goes_with_the_spikes_not_with_events_times_neurons(kind):
    layer = kind(300, 100, t_end=2.0)
    times = torch.rand(1000, 300)
    layer(times[:2]).times.sum().backward()  # compile
    with peak_memory() as before:
        pass
    with peak_memory() as peak:
        layer(times).times.sum().backward()
    history = 1000 * 300 * 100 * 4 / 2**20  # MiB, of one number per event and neuron
    assert peak.mb - before.mb < history / 3


def test_rounds_to_warm_up_run_and_do_not_count():
    calls = []
    times = clock({name: lambda name=name: calls.append(name) for name in "ab"}, repeats=2, warm=3, before=1)
    assert calls == ["a", "a", "b", "b"] * 5
    assert {name: len(found) for name, found in times.items()} == {"a": 2, "b": 2}


def test_a_row_has_graphs_on_cuda_alone_and_none_where_the_host_decides(monkeypatch):
    runs = {"step": 0, "waits": 0, "slow": 0}

    def contestant(name):
        return lambda: runs.update({name: runs[name] + 1})

    contestants = {name: contestant(name) for name in runs}
    assert _graphs.graph_seconds(contestants, repeats=3, device="cpu") == {}
    assert set(runs.values()) == {0}
    monkeypatch.setattr(_graphs, "captured", lambda run, device: None if run is contestants["waits"] else run)
    taken = iter([0.5, 4.0, 0.125, 9.0, 0.75, 6.0])
    monkeypatch.setattr("neuropil.bench._timing.seconds", lambda replay, device: replay() or next(taken))
    row = _graphs.graph_seconds(contestants, repeats=3, device="cuda", before=2)
    assert row == {"step_graph_s": 0.5, "waits_graph_s": None, "slow_graph_s": 6.0}
    assert runs == {"step": 9, "waits": 0, "slow": 9}
    assert _graphs.graph_cell(row) == {"in a graph": "500.000 ms"}
    assert _graphs.graph_cell({"step_graph_s": None}) == _graphs.graph_cell({}) == {}
