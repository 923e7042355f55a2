"""What stands in tables and at the top of the report, and the costs that a run writes down for them."""

import json
import math
import tracemalloc
from io import StringIO
from itertools import product

import pytest
import torch
from rich.console import Console

from neuropil.data import Split
from neuropil.evaluate import fit_and_score
from neuropil.report.export import as_latex, export
from neuropil.report.figures.curves import learning_curves, progress
from neuropil.report.layout import Files
from neuropil.report.page import table_of
from neuropil.report.remarks import uneven_of
from neuropil.report.results import gather
from neuropil.report.robustness_tables import robustness_of
from neuropil.report.sections import labels_section, unit_facts
from neuropil.report.tables import HEADS, cells_of, markdown, summary_sentence, table
from neuropil.report.theme import styles_of
from neuropil.runs import NullTracker, Run, UnitsRow
from neuropil.runs import run as room
from report_runs import BASELINE, LOCAL, everything, make, result

# The report


def test_costs_are_means_over_the_runs_that_finished(tmp_path):
    done = make(tmp_path / "done", [result(seed=0, peak_mb=100.0), result(seed=1, peak_mb=300.0)])
    half = make(tmp_path / "half", [result(seed=2, seconds=90.0, peak_mb=900.0)], finish=False)
    found = gather([done, half])
    (summary,) = found.summaries
    assert (summary.seconds, summary.peak_mb) == (2.5, 200.0)
    shown = dict(zip(HEADS, cells_of(summary), strict=True))
    assert (shown["n"], shown["seconds"], shown["peak MiB"]) == ("2 + 1 unfinished", "2.50", "200")
    (row,) = table_of(found, "digits", styles_of(found), {})[2]
    by_number = {head: number for _, head, _, number in row["cells"]}  # by what the page sorts
    assert (by_number["n"], by_number["seconds"], by_number["peak MiB"]) == ("2", "2.5", "200.0")


def test_what_a_learner_lacks_is_a_gap_in_its_row(tmp_path):
    rows = [result(LOCAL), result(BASELINE, family="baseline")]
    for name, count, kind in ((LOCAL, 10, "blur"), (BASELINE, 100, "noise")):
        about = {"learner": name, "data": "digits", "seed": 0, "accuracy": count / 200}
        attack = {"norm": "Linf", "attack": "all attacks", "access": "", "size": count / 100, "invalid": False}
        rows += [("labels", {**about, "n_labels": count}), ("attack", {**about, **attack, "n_test": 9})]
        rows += [("corruption", {**about, "corruption": kind, "severity": 1})]
    found = gather([make(tmp_path / "run", rows)])
    (group,) = labels_section(found, styles_of(found), Files()).groups
    for shown in (group.tables[0], *(one for one in robustness_of(found)[0].tables if one.rows and not one.folded)):
        cells = {name: dict(zip(shown.heads[1:], own, strict=True)) for name, *own in shown.rows}
        first, second = shown.heads[1:]
        gaps = {LOCAL: {first: "5.0", second: "–"}, BASELINE: {first: "–", second: "50.0"}}
        assert cells == gaps, shown.caption


def test_units_and_data_sets_stand_under_their_names(tmp_path):
    rows = [*everything(seeds=(0,)), result(LOCAL, 0, data="iris")]
    found = gather([make(tmp_path / "run", rows)])
    facts = dict(unit_facts(found.of(UnitsRow)))
    assert (facts["dead"], facts["converged"], facts["effective rank"]) == ("25.0 %", "50.0 %", "3.00")
    lines = [line.split(" & ") for line in export(found, "latex").splitlines()]
    assert [line[:2] for line in lines if line[1:2] == [LOCAL]] == [["digits", LOCAL], ["iris", LOCAL]]


def test_a_difference_is_certain_only_where_its_interval_leaves_out_zero(tmp_path):
    gaps = {"sure": (0.010, 0.011, 0.012), "worse": (-0.10, -0.11, -0.12), "unsure": (0.1, -0.1, 0.02)}
    rows = [result(BASELINE, seed, 0.5) for seed in range(3)]
    rows += [result(name, seed, 0.5 + gap) for name, some in gaps.items() for seed, gap in enumerate(some)]
    results = gather([make(tmp_path / "run", rows)])
    _, _, shown = table_of(results, "digits", styles_of(results), {})
    certain = {row["cells"][0][2]: row["certain"] for row in shown}
    assert certain == {"sure": True, "worse": True, "unsure": False, BASELINE: False}


def test_as_many_seeds_that_are_others_are_uneven(tmp_path):
    rows = [result(seed=seed) for seed in (0, 1)] + [result(BASELINE, seed) for seed in (0, 2)]
    (said,) = uneven_of(gather([make(tmp_path / "run", rows)]))
    assert "SoftHebb: 0–1; backprop: 0, 2" in said


def test_the_sentence_at_the_top_names_the_best_of_each_family(tmp_path):
    rows = [result(LOCAL, 0, 0.7), result("hard WTA", 0, 0.8), result("Sanger", 0, 0.6)]
    rows += [result(name, 0, right, family="baseline") for name, right in (("linear", 0.5), (BASELINE, 0.9))]
    said = summary_sentence(gather([make(tmp_path / "run", rows)]), "digits").replace("\N{NO-BREAK SPACE}", " ")
    assert "the best local learner is hard WTA, 80.00 %" in said
    assert "the best baseline is backprop, 90.00 %" in said


def test_curves_are_those_of_finished_runs_while_there_are_any(tmp_path):
    epoch = lambda name: ("epoch", {"learner": name, "seed": 0, "stage": "head", "epoch": 0, "loss": 1.0})
    done = make(tmp_path / "done", [result("one", 0), epoch("one")])
    half = make(tmp_path / "half", [result("two", 0), epoch("two")], finish=False)
    assert [row.learner for row in gather([done, half]).series] == ["one"]
    assert [row.learner for row in gather([half]).series] == ["two"]


def test_progress_is_counted_by_the_passes_of_its_own_seed():
    for count, want in (2, [50, 100]), (5, [20, 40, 60, 80, 100]):
        learner, x, y = progress("a", range(count), [k / 10 for k in range(count)])
        assert (learner, list(x), list(y[:2])) == ("a", want, [0.0, 0.1])


def test_a_million_epochs_are_columns_and_their_curve_no_more_points_than_can_be_seen(tmp_path):
    folder, passes = make(tmp_path / "run", [result()]), 20_000
    loss = lambda seed, epoch: 1 / (1 + epoch) + seed / 7
    with open(folder / "metrics.jsonl", "a") as file:
        for seed, epoch in product((0, 1), range(passes)):
            row = {"kind": "epoch", "learner": LOCAL, "seed": seed, "stage": "head", "epoch": epoch, "word": "x"}
            print(json.dumps({**row, "loss": loss(seed, epoch)}), file=file)
    tracemalloc.start()
    found = gather([folder])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2 * passes  # bytes a row
    (panel,) = learning_curves(found, {})
    curve = panel.plot.keywords["curves"][LOCAL]
    assert len(curve) == 150
    assert (min(curve), max(curve)) == (0, passes - 1)
    assert curve == {epoch: [loss(0, epoch), loss(1, epoch)] for epoch in curve}


# What runs write down for it


class Clock(NullTracker):
    """Has been at work for some time already."""

    seconds = 5.0

    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(row)


class Slow:
    def fit(self, train, *, rng, tracker):
        tracker.seconds += 2

    def predict(self, x):
        return torch.zeros(len(x), dtype=torch.int64)


def test_a_learner_costs_what_its_own_fit_took():
    split, clock = Split(torch.rand(4, 2), torch.zeros(4).long(), 2), Clock()
    fit_and_score(Slow(), split, split, rng=torch.Generator(), tracker=clock)
    assert clock.rows[0].seconds == 2.0


def test_the_peak_memory_of_a_run_is_that_of_all_its_processes(tmp_path, monkeypatch):
    """And a loop around others is kept after each of its iterations, so that the one inside it can be kept at all."""
    done, used = [], 700.0
    monkeypatch.setattr(room, "peak_memory_mb", lambda: used)

    def nested(run, stop):
        for outer in run.loop("outer", 3):
            run.every = math.inf if outer == 0 else 0.0
            for inner in run.loop("inner", 3):
                if (outer, inner) == stop:
                    raise KeyboardInterrupt
                done.append((outer, inner))

    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    with pytest.raises(KeyboardInterrupt):
        nested(run, (1, 2))
    run.close()
    done.clear()
    used = 300.0
    run = Run.resume(tmp_path / "run", quiet=True)
    nested(run, None)
    run.finish()
    assert done == [(1, 2), (2, 0), (2, 1), (2, 2)]
    assert run._facts["peak_memory_mb"] == 700.0


def test_a_comparison_of_one_seed_fits_into_80_columns_a_line_per_learner(tmp_path):
    left_out = {"learner": "mSTDP", "data": "digits", "seed": 0, "reason": "needs pixels, got -2.3"}
    rows = [result(name, 0, 0.75) for name in ("Krotov-Hopfield", "random examples")]
    rows += [result(BASELINE, 0, 0.5), ("failed", left_out)]
    console = Console(width=80, record=True, file=StringIO())
    console.print(table([make(tmp_path / "run", rows)]))
    text = console.export_text()
    lines = [line.strip("│ ").split("│") for line in text.splitlines()]
    cells = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines if len(line) > 1}
    assert (*cells["Krotov-Hopfield"][:2], cells["Krotov-Hopfield"][-1]) == ("1", "75.00", "+25.00")
    assert cells["random examples"][1] == "75.00"
    assert cells["mSTDP"][:2] == ["–", "1 left out"]
    assert "mSTDP, left out: needs pixels, got -2.3 (seed 0)" in " ".join(text.split())


def test_a_column_without_an_entry_is_left_out_of_every_table(tmp_path):
    alone = gather([make(tmp_path / "alone", [result(), result(seed=1), result("mine", accuracy=0.8)])])
    beside = gather([make(tmp_path / "beside", [result(), result(BASELINE, family="baseline")])])
    head = "minus backprop baseline, points"
    console = Console(file=StringIO(), width=200)
    console.print(table(alone))
    for said in (markdown(alone), as_latex(alone), console.file.getvalue()):
        assert head not in said
        assert "paired by seed" not in said
    assert "paired by seed" in markdown(beside)
    assert head in markdown(beside)
    assert head in as_latex(beside)
    assert markdown(alone).splitlines()[0] == "| learner | n | accuracy, % | seconds | peak MiB |"
    assert as_latex(alone).startswith(r"\begin{tabular}{lrrrr}")
