"""Rows and cells of benchmarks: each number is a ratio of made-up times, in its own cell and unit."""

import math
from statistics import stdev
from types import SimpleNamespace

import pytest
import torch

from neuropil.bench import associative, attack, conv, distributed, own, plasticity, sklearn, spiking, stdp
from neuropil.cli.commands import bench, data
from neuropil.experiments import audited

STUDENT = 4.30265273  # 97.5 % point for two degrees of freedom, as printed tables have it


def half(values):
    return STUDENT * stdev(values) / math.sqrt(3)


CELLS = [
    (
        associative.cells,
        {"task": "classify", "batch": 50, "iteration_s": 0.00123456, "iteration_per_gemm": 2.345, "step_s": 0.0213,
         "step_per_gemm": 1.234, "epoch_s": 25.56, "epoch_gemm_s": 20.0},
        ["classify", "50", "1.235 ms", "2.35", "21.30 ms", "1.23", "25.6 s"],
    ),
    (
        conv.cells,
        {"rule": "r", "geometry": "g", "step_s": 0.1234, "gemm_s": 0.5, "textbook_s": 0.9, "step_per_gemm": 1.567,
         "textbook_per_step": 2.56, "peak_extra_mb": 12.6, "peak_extra_textbook_mb": 345.4},
        ["r", "g", "123.4 ms", "1.57", "2.6 x", "13 MiB", "345 MiB"],
    ),
    (
        plasticity.cells,
        {"rule": "r", "batch": 100, "step_s": 0.00456, "rule_s": 0.9, "step_per_gemm": 1.256,
         "best_step_per_gemm": 9.0, "textbook_per_step": 3.456, "best_textbook_per_step": 9.0, "of_limit": 0.4567,
         "peak_extra_mb": 0.256},
        ["r", "100", "4.56 ms", "1.26", "3.46 x", "46%", "0.3 MiB"],
    ),
    (
        spiking.cells,
        {"network": "n", "batch": 4, "step_s": 0.01234, "rate_s": 0.5, "step_per_rate": 3.456, "scan_s": 1.0,
         "scan_per_step": 23.6, "activity": 0.4213, "extra_mb": 1.6, "peak_mb": 512.4},
        ["n", "4", "12.34 ms", "3.46", "24 x", "0.42", "2 MiB", "512 MiB"],
    ),
    (
        stdp.cells,
        {"what": "w", "step_s": 0.00123, "plain_s": 0.00345, "rule_s": 0.00067, "step_median_s": 9.0,
         "step_per_plain": 0.3567, "faster_than_first": 1.26, "rule_faster_than_first": 2.37, "peak_extra_mb": 7.6,
         "of_bound": 0.456, "bytes": 3_450_000, "peer": "P 1.2", "peer_per_step": 3.456},
        ["w", "1.23 ms", "3.45 ms", "0.36", "46%", "2.8", "1.3 x", "0.67 ms", "2.4 x", "8 MiB", "3.5 x the step"],
    ),
    (
        stdp.cells,
        {"what": "c", "step_s": 0.00123, "plain_s": 0.00345, "step_per_plain": 0.3567},
        ["c", "1.23 ms", "3.45 ms", "0.36"],
    ),
    (stdp.cells, {"what": "presentation", "step_s": 0.25, "shown": 20}, ["presentation", "12.50 ms an image"]),
    (
        distributed.cells,
        {"case": "c", "processes": 3, "one_s": 0.09, "step_s": 0.04, "sum_s": 0.0123, "message_bytes": 3 * 2**19,
         "least_bytes": 2**18},
        ["c", "3", "90.0 ms", "40.0 ms", "2.25 x", "12.3 ms", "", "1.50 MiB", "0.25 MiB"],
    ),
    (
        distributed.cells,
        {"case": "c", "stages": 2, "one_s": 0.09, "pass_s": 0.05, "waited_s": 0.0071, "message_bytes": 2**21,
         "least_bytes": 2**20},
        ["c", "2 stages", "90.0 ms", "50.0 ms", "1.80 x", "", "7.1 ms", "2.00 MiB", "1.00 MiB"],
    ),
    (
        own.cells,
        {"data": "d", "network": "n", "rule": "r", "optimizer": "o", "untrained": [0.51, 0.62, 0.58],
         "control": [0.53, 0.63, 0.61], "learned": [0.49, 0.71, 0.6], "dead": 3, "copies": 4, "diverged": 0,
         "refused": ""},
        ["d", "n", "r", "o", "57.0", f"+2.00 ± {100 * half([0.02, 0.01, 0.03]):.2f}",
         f"+3.00 ± {100 * half([-0.02, 0.09, 0.02]):.2f}", f"+1.00 ± {100 * half([-0.04, 0.08, -0.01]):.2f}",
         "3", "4", "0"],
    ),
    (
        sklearn.cells,
        {"data": "d", "logistic regression": [0.91, 0.93, 0.98], "start": [0.81, 0.92, 0.79],
         "Hebbian": [0.88, 0.95, 0.84]},
        ["d", f"94.00 ± {100 * half([0.91, 0.93, 0.98]):.2f}", f"84.00 ± {100 * half([0.81, 0.92, 0.79]):.2f}",
         f"89.00 ± {100 * half([0.88, 0.95, 0.84]):.2f}", f"-5.00 ± {100 * half([-0.03, 0.02, -0.14]):.2f}",
         f"+5.00 ± {100 * half([0.07, 0.03, 0.05]):.2f}"],
    ),
    (
        audited.cells,
        {"name": "oja", "other_inputs": 0.0, "neighbours": 0.123, "neighbours_weights": None, "samples": 1e-9,
         "labels": 2.0, "above": 0.0456, "below": 31.0, "reads": "layer"},
        ["oja", "0", "0.12", "–", "1e-09", "2", "0.046", "31", "its layer"],
    ),
    (bench._cells, {"a": 0.123456, "b": 7, "c": "x", "d": 12345.6}, ["0.1235", "7", "x", "1.235e+04"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "row", "want"), CELLS, ids=[f"{k}-{case[0].__module__}" for k, case in enumerate(CELLS)]
)
def test_a_benchmark_shows_each_number_in_its_own_cell_and_unit(cells, row, want):
    assert [*cells(row).values()] == want


TIMES = {"step": [0.9, 0.3, 0.4], "gemm": [0.05, 0.11, 0.07], "drive": [0.03, 0.5, 0.4], "rule": [0.2, 0.25, 0.7]}
TIMES |= {"textbook": [2.0, 1.3, 9.0], "plain": [0.7, 0.2, 0.35], "rate": [0.16, 0.5, 0.02], "scan": [6.0, 3.0, 3.5]}
TIMES |= {"products": [0.04, 0.02, 0.03]}
TIMES |= {"settling": [0.6, 1.5, 0.66], "products of an iteration": [0.01, 0.09, 0.02], "products once": [0.3, 0.25, 9]}


@pytest.fixture
def timed(monkeypatch):
    """Every contestant takes the TIMES of its name, and a step 3 MiB; the textbook 7."""
    clock = lambda contestants, **_: {name: TIMES[name] for name in contestants}
    for room in (associative, conv, plasticity, stdp):
        monkeypatch.setattr(room, "clock", clock)
    for room in (conv, plasticity, stdp):
        sizes = lambda step, device: (7 if step.__name__ == "by_the_book" else 3) * 2**20
        monkeypatch.setattr(room, "peak_extra", sizes)


def holds(row, want):
    assert {name: row[name] for name in want} == pytest.approx(want)


def test_ratios_of_benchmarks_are_those_of_medians_or_of_the_fastest(timed, monkeypatch):
    monkeypatch.setattr(conv, "GEOMETRIES", {"g": (2, 6, 9)})
    seconds = {"step_s": 0.4, "gemm_s": 0.07, "textbook_s": 2.0}
    ratios = {"step_per_gemm": 0.4 / 0.07, "textbook_per_step": 5.0, "peak_extra_mb": 3.0}
    row = conv.row("SoftHebb", "g", conv.Config(batch=2, kernel=3, repeats=3))
    holds(row, seconds | ratios | {"peak_extra_textbook_mb": 7.0})
    config = plasticity.Config(inputs=6, units=9, repeats=3)
    best = {"best_step_per_gemm": 0.3 / 0.05, "best_textbook_per_step": 1.3 / 0.3, "rule_s": 0.25}
    row = plasticity.row("r", plasticity.CASES["Krotov-Hopfield"], 4, config)
    holds(row, seconds | ratios | best | {"of_limit": 0.03 / 0.3, "batch": 4, "inputs": 6, "units": 9})
    row = plasticity.row("r", plasticity.CASES["Sanger"], 4, config)
    products = 2 * 4 * 6 * 9 + (4 + 6) * 9 * 9 // 2  # drive and co-activity, and two half-empty products
    holds(row, {"of_limit": 0.03 * products / (4 * 6 * 9) / 0.3})
    rows = stdp.row("1 %", stdp.Config(inputs=5, units=4, batch=3, repeats=3))
    fast = {"step_s": 0.3, "plain_s": 0.2, "rule_s": 0.2, "step_per_plain": 1.5, "peak_extra_mb": 3.0}
    holds(rows, fast | {"step_median_s": 0.4, "plain_median_s": 0.35, "rule_median_s": 0.25, "of_bound": 0.02 / 0.3})
    presented = stdp.convolved(stdp.Config(maps=1, kernels=1, kernel=2, side=3, conv_batch=1))
    holds(presented, {"step_s": 0.3, "plain_s": 0.2, "step_per_plain": 1.5, "step_median_s": 0.4})
    config = associative.Config(inputs=6, units=4, max_iterations=6, nudge_steps=3, epoch_images=500, repeats=3)
    bound = 0.3 + 9 * 0.02  # products once, and those of six iterations of settling and three of the nudge
    want = {"iteration_s": 0.66 / 6, "iteration_per_gemm": 0.66 / 6 / 0.02, "step_per_gemm": 0.4 / bound}
    want |= {"epoch_s": 0.4 * 500 / 20, "epoch_gemm_s": bound * 500 / 20, "step_s": 0.4}
    holds(associative.row(associative.CLASSIFY, 20, config), want)


def test_rows_of_stdp_are_compared_with_the_first(monkeypatch):
    found = iter([(0.6, 0.9), (0.2, 0.3), (0.5, 0.1), (0.4, 0.8)])
    monkeypatch.setattr(stdp, "row", lambda name, config: dict(zip(("step_s", "rule_s"), next(found, ()))))
    for name in ("presentation", "convolved", "simulated"):
        monkeypatch.setattr(stdp, name, lambda config: {})
    *rows, _, _, _, _ = stdp.main(stdp.Config())
    assert [row["faster_than_first"] for row in rows] == pytest.approx([1, 3, 1.2, 1.5])
    assert [row["rule_faster_than_first"] for row in rows] == pytest.approx([1, 3, 9, 1.125])


def test_a_spiking_step_is_compared_with_what_ran_in_its_own_loop(monkeypatch):
    loops = iter([{"step": [7.0]}, {"step": [0.9, 0.3, 0.4], "rate": [0.16, 0.5, 0.02]}])
    last = {"scan": [6.0, 3.0, 3.5], "step": [0.8, 0.5, 0.7]}
    monkeypatch.setattr(spiking, "clock", lambda contestants, **_: next(loops, last))
    case = spiking.Case("n", 250, *[lambda: torch.zeros(())] * 3, 0.42)
    row = spiking.row(lambda config: case, spiking.Config(repeats=3, scans=3))
    want = {"step_s": 0.4, "rate_s": 0.16, "scan_s": 10.5, "step_per_rate": 2.5, "best_step_per_rate": 0.3 / 0.02}
    holds(row, want | {"scan_per_step": 10.5 / 0.7, "best_scan_per_step": 9.0 / 0.5, "activity": 0.42})
    assert row["extra_mb"] <= row["peak_mb"]


def test_an_attack_is_compared_with_the_passes_that_it_made():
    middle = {"forward": 0.02, "both": 0.07, ("PGD", "Linf"): 1.5, ("noise", "L2"): 0.25}
    row = attack.row(("PGD", "Linf"), (31.0, 10.0), middle, attack.Config(batch=600))
    want = {"images_per_s": 400.0, "forward": 31.0, "backward": 10.0, "ms": 1500.0}
    holds(row, want | {"ratio_to_passes": 1.5 / (21 * 0.02 + 10 * 0.07)})
    assert row["attack"] == "PGD, Linf"
    assert "ratio_to_passes" not in attack.row(("noise", "L2"), (0.0, 0.0), middle, attack.Config(batch=600))


def test_data_sets_are_listed_with_their_sizes(monkeypatch, capsys):
    one = SimpleNamespace(name="made up", examples=(12345, 678), purpose="why", where="there", present=False)
    monkeypatch.setattr(data.data, "list_sets", lambda: [one])
    data.main(["list"])
    assert capsys.readouterr().out.splitlines()[1].split() == ["made", "up", "12,345", "678", "no", "why"]
