"""The report in numbers: honest means and intervals, exact rows, refusals, tables."""

import io
import json
import math
import re

import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats as oracle

from neuropil.errors import Refusal
from neuropil.report import frame, interval, markdown, paired, results, table, write
from neuropil.report.figures.curves import confusions, set_range
from neuropil.report.figures.summary_figure import limits, narrow_figure, wide_figure
from neuropil.report.remarks import classes_of, splits_of, uneven_of, warnings_of
from neuropil.report.results import Summary, gather
from neuropil.report.stats import percent, points, spans
from neuropil.report.theme import styles_of
from report_runs import BASELINE, LOCAL, everything, make, pairs, result


def results_of(folders, out):
    write(folders, out / "report.html")
    return json.loads((out / "results.json").read_text())


# Numbers


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_interval_is_that_of_scipy(n):
    values = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64).tolist()
    mean, half = interval(values)
    low, high = oracle.t.interval(0.95, n - 1, loc=sum(values) / n, scale=oracle.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-12)


def test_the_interval_by_hand():
    """1, 2, 3: s = 1, and Student's 97.5 % point for two degrees of freedom is 4.30265 in every printed table."""
    assert interval([1, 2, 3]) == pytest.approx((2, 4.30265273 / math.sqrt(3)), rel=1e-8)


def test_one_value_has_no_interval_and_none_is_refused():
    mean, half = interval([0.5])
    assert mean == 0.5
    assert math.isnan(half)
    with pytest.raises(Refusal, match="at least one value"):
        interval([])
    with pytest.raises(Refusal, match="finite values, got"):
        interval([0.5, math.nan])


def test_differences_are_paired_by_seed_not_by_order():
    a, b = {2: 0.9, 0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.6, 2: 0.8, 7: 0.0}
    mean, half = paired(a, b)
    assert mean == pytest.approx(0.1)
    assert half == pytest.approx(0, abs=1e-12)  # the same gap for every seed, though the seeds differ widely
    with pytest.raises(Refusal, match="a seed that both have"):
        paired({0: 1.0}, {1: 1.0})


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (percent(0.97534, 0.00213), "97.53 ± 0.21"),
        (percent(0.97534, 0.0213), "97.5 ± 2.1"),
        (percent(0.97534, math.nan), "97.53 (n = 1)"),
        (points(0.0031, 0.002), "+0.31 ± 0.20"),
        (points(-0.0031, 0.002), "−0.31 ± 0.20"),
        (points(-0.000001, 0.002), "0.00 ± 0.20"),
        (spans([4, 0, 1, 2, 7]), "0–2, 4, 7"),
    ],
)
def test_numbers_have_sensible_digits(text, want):
    assert text == want


# Rows


def test_results_json_has_the_rows_as_logged(tmp_path):
    rows = [result(seed=0, accuracy=0.5, parameters=7, odd=math.nan), result(BASELINE, 0, 0.25)]
    content = results_of([make(tmp_path / "run", rows)], tmp_path)
    first = {"learner": LOCAL, "data": "digits", "seed": 0, "n_train": 1437, "accuracy": 0.5, "seconds": 2.0}
    first |= {"peak_mb": 300.0, "parameters": 7, "odd": None, "family": "local", "run": "run", "finished": True}
    second = {"learner": BASELINE, "data": "digits", "seed": 0, "n_train": 1437, "accuracy": 0.25, "seconds": 2.0}
    second |= {"peak_mb": 300.0, "family": "baseline", "run": "run", "finished": True}
    assert content["rows"] == [first, second]
    assert content["commands"] == ["neuropil compare --data digits"]


def test_the_summary_pairs_with_the_baseline(tmp_path):
    content = results_of([make(tmp_path / "run", pairs())], tmp_path)
    best, other = content["summary"]
    assert (best["learner"], other["learner"]) == (BASELINE, LOCAL)  # best first
    assert other["n"] == 4
    assert other["accuracy_mean"] == pytest.approx((0.9 + 0.8 + 0.7 + 0.1) / 4)
    assert other["seconds_mean"] == pytest.approx(3.5)
    assert other["difference_pairs"] == 3
    mean, half = interval([0.01, 0.02, 0.03])
    assert (other["difference_mean"], other["difference_interval"]) == pytest.approx((mean, half))
    assert best["difference_mean"] is None


def test_a_row_may_name_its_own_baseline(tmp_path):
    rows = [result(LOCAL, 0, 0.5, baseline="backprop, deep"), result("backprop, deep", 0, 0.75, family="baseline")]
    ours = next(
        row for row in results_of([make(tmp_path / "run", rows)], tmp_path)["summary"] if row["learner"] == LOCAL
    )
    assert (ours["baseline"], ours["difference_mean"]) == ("backprop, deep", -0.25)


def test_one_run_or_one_per_seed_or_their_parent_say_the_same(tmp_path):
    whole = make(tmp_path / "whole", [result(seed=seed, accuracy=0.8 + seed / 100) for seed in range(3)])
    parts = [make(tmp_path / f"parts/{seed}", [result(seed=seed, accuracy=0.8 + seed / 100)]) for seed in range(3)]
    want = results_of([whole], tmp_path / "a")["summary"]
    assert results_of(parts, tmp_path / "b")["summary"] == want
    assert results_of([tmp_path / "parts"], tmp_path / "c")["summary"] == want


def test_the_interval_of_two_seeds_may_leave_the_figure_that_of_three_may_not():
    nan = math.nan
    shown = lambda accuracy, mean, half: Summary(
        "a", "digits", "local", "", accuracy, {}, {}, (), 1.0, nan, nan, mean, half
    )
    assert limits([shown({0: 0.5, 1: 0.6}, 0.55, 0.6)]) == pytest.approx((49.4, 60.6))  # 6 % of 10 points beyond
    assert limits([shown({0: 0.5, 1: 0.6, 2: 0.55}, 0.55, 0.2)]) == pytest.approx((32.6, 77.4))  # 6 % of 40


def test_unfinished_runs_are_shown_but_enter_no_mean(tmp_path):
    done = make(tmp_path / "done", [result(seed=0, accuracy=0.9), result(seed=1, accuracy=0.8)])
    half = make(tmp_path / "half", [result(seed=2, accuracy=0.1), result("hard WTA", 0, 0.3)], finish=False)
    content = results_of([done, half], tmp_path)
    ours, other = content["summary"]
    assert (ours["accuracy_mean"], ours["n"], ours["unfinished_seeds"]) == (pytest.approx(0.85), 2, [2])
    assert (other["accuracy_mean"], other["n"]) == (None, 0)
    assert [row["finished"] for row in content["rows"]] == [True, True, False, False]
    text = (tmp_path / "report.html").read_text()
    assert "Unfinished: half." in text
    assert "2 + 1 unfinished" in text
    assert "1 unfinished" in shown(table([half]))


def test_only_unfinished_runs_still_make_a_page(tmp_path):
    half = make(tmp_path / "half", everything(), finish=False)
    text = write([half], tmp_path / "report.html").read_text()
    assert "Not final." in text
    assert "no run has finished yet" in text
    assert "Learning curves" in text


def test_the_same_learner_data_and_seed_twice_is_refused(tmp_path):
    folders = [make(tmp_path / name, [result()]) for name in ("a", "b")]
    with pytest.raises(Refusal, match=r"got two for 'SoftHebb' on 'digits', seed 0 \(runs 'a' and 'b'\)"):
        write(folders, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    write([folders[0], folders[0]], tmp_path / "report.html")  # one folder named twice is one run


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ("warning", {"learner": LOCAL, "seed": 0, "message": "no"}),
            "at least one result row, learning curve or picture, got none",
        ),
        (result(accuracy=97.5), r"accuracy in 0\.\.1, got 97\.5 for 'SoftHebb'"),
        (result(accuracy=math.nan), r"accuracy in 0\.\.1, got nan"),
        (("result", {"learner": LOCAL, "seed": 0, "accuracy": 0.5}), "needs 'data'"),
    ],
)
def test_bad_rows_are_refused_in_one_line(tmp_path, row, message):
    folder = make(tmp_path / "run", [row])
    with pytest.raises(Refusal, match=message) as caught:
        write([folder], tmp_path / "report.html")
    assert "\n" not in str(caught.value)


def test_no_folder_and_a_folder_as_page_are_refused(tmp_path):
    with pytest.raises(Refusal, match="at least one run folder"):
        write([], tmp_path / "report.html")
    with pytest.raises(Refusal, match=r"got the folder .*report\.html"):
        write([make(tmp_path / "run", [result()])], tmp_path)


def test_a_run_is_read_once_and_its_rows_are_parsed_once(tmp_path, monkeypatch):
    read_checked, records = results.read_checked, []
    monkeypatch.setattr(results, "read_checked", lambda path: records.append(path) or read_checked(path))
    found = gather([make(tmp_path / "run", everything(), save={f"fields.{LOCAL}": torch.randn(4, 1, 5, 5)})])
    write(found, tmp_path / "report.html")
    shown(table(found))
    markdown(found)
    assert records == [tmp_path / "run/metrics.jsonl"]
    assert "rows" not in vars(found.runs[0].record)


def test_uneven_comparisons_are_named(tmp_path):
    rows = [result(seed=0), result(seed=1), result(BASELINE, 0, n_train=100)]
    seeds, sizes = uneven_of(gather([make(tmp_path / "run", rows)]))
    assert "SoftHebb: 0–1; backprop: 0" in seeds
    assert "SoftHebb: 1,437; backprop: 100" in sizes


def test_seeds_that_split_the_same_examples_anew_are_told_to_share_some(tmp_path):
    rows = [result(seed=seed) for seed in range(3)]
    rows += [("confusion", {"learner": LOCAL, "data": "digits", "seed": 0, "matrix": [[180, 0], [0, 179]]})]
    for name, tests, many in (("a", "xyz", True), ("b", "xxx", False)):
        split = {f"seed {seed}": {"train": "t", "test": test} for seed, test in enumerate(tests)}
        found = gather([make(tmp_path / name, rows, data={"digits": split})])
        assert len(splits_of(found)) == many
    row = {"data": "digits", "norm": "Linf", "attack": "PGD", "size": 0.1, "accuracy": 0.5, "n_test": 359}
    apart = {f"run{test}": {"digits": {"seed 0": {"train": "t", "test": test}}} for test in "xyz"}  # a folder each
    attacked = make(tmp_path / "c", [*rows[:3], ("attack", row)], facts={"attacked": apart})
    assert splits_of(gather([attacked])) == splits_of(gather([tmp_path / "a"]))
    wider = math.sqrt(1 + 3 * 359 / 1437)
    (said,) = splits_of(gather([tmp_path / "a"]))
    assert said.startswith("Each seed chose its test examples from all of digits.")
    assert f"by a factor of about {wider:.1f}, after Nadeau & Bengio 2003" in said


def test_classes_of_uneven_size_get_their_balanced_accuracy(tmp_path):
    counts = {(LOCAL, 0): [[80, 0], [20, 0]], (LOCAL, 1): [[70, 10], [10, 10]], (BASELINE, 0): [[80, 0], [0, 20]]}
    rows = [
        ("confusion", {"learner": name, "data": "digits", "seed": seed, "matrix": matrix, "classes": ["ok", "bad"]})
        for (name, seed), matrix in counts.items()
    ]
    found = gather([make(tmp_path / "run", [result(), result(seed=1), result(BASELINE), *rows])])
    (said,) = classes_of(found)
    assert "to answer always 'ok' is right for 80.0 % of the examples" in said
    mean, half = interval([0.5, 0.6875])
    assert f"SoftHebb {percent(mean, half)}" in said
    assert "backprop 100.00 (n = 1)" in said
    assert "Balanced accuracy" in markdown(found)
    even = [("confusion", {"learner": LOCAL, "data": "digits", "seed": 0, "matrix": [[40, 10], [20, 30]]})]
    assert classes_of(gather([make(tmp_path / "even", [result(), *even])])) == []
    wrong = [("confusion", {"learner": LOCAL, "data": "digits", "seed": 0, "matrix": [[80, 0], [20]]})]
    with pytest.raises(Refusal, match="need one square shape"):
        classes_of(gather([make(tmp_path / "wrong", [result(), *wrong])]))


def test_warnings_that_differ_in_numbers_only_are_one(tmp_path):
    messages = [(0, "3 units dead"), (1, "4.5 units dead"), (1, "norms grow")]
    rows = [("warning", {"learner": LOCAL, "seed": seed, "message": text}) for seed, text in messages]
    dead, norms = warnings_of(gather([make(tmp_path / "run", [result(), *rows])]))[LOCAL]
    assert dead.first == "3 units dead"
    assert dead.sentences == ["seed 0: 3 units dead", "seed 1: 4.5 units dead"]
    assert dead.seeds == [0, 1]
    assert (norms.first, norms.sentences, norms.seeds) == ("norms grow", [], [1])


# Tables


def shown(text) -> str:
    console = Console(width=140, file=io.StringIO(), record=True, force_terminal=False)
    console.print(text)
    return console.export_text()


def test_terminal_and_markdown_hold_the_same_numbers(tmp_path):
    folder = make(tmp_path / "run", pairs())
    for text in (shown(table([folder])), markdown([folder])):
        assert "62.5 ± 57.2" in text
        assert "+2.0 ± 2.5 (3 pairs)" in text
        assert "the baseline" in text
        assert "300" in text
    assert markdown([folder]).startswith(
        "| learner | n | accuracy, % | seconds | peak MiB | minus backprop baseline, points |\n"
    )


def test_one_seed_prints_no_interval(tmp_path):
    folder = make(tmp_path / "run", [result(), result(BASELINE, accuracy=0.95)])
    page = write([folder], tmp_path / "report.html").read_text()
    for text in (shown(table([folder])), markdown([folder]), page):  # in the terminal n has its column
        assert "90.00 (n = 1)" in text or re.search(r"SoftHebb +│ 1 │ +90\.00 │", text)
        assert not re.search(r"\d ± \d|± nan|>nan<", text)


def test_hostile_names_are_plain_text_in_tables(tmp_path):
    folder = make(tmp_path / "run", [result("[red]a[/red]\x1b[31m|b")])
    assert "[red]a[/red]\N{REPLACEMENT CHARACTER}[31m|b" in shown(table([folder]))
    assert r"\[red\]a\[/red\]" in markdown([folder])
    assert r"\|b" in markdown([folder])


# Confusion matrices


def test_seeds_with_and_without_unnamed_examples_share_one_matrix_with_a_column_none(tmp_path):
    about = {"learner": LOCAL, "data": "digits"}
    rows = [("confusion", {**about, "seed": 0, "matrix": [[9, 1], [3, 7]]})]
    rows += [("confusion", {**about, "seed": 1, "matrix": [[4, 0, 6], [0, 9, 1]]})]
    (panel,) = confusions(gather([make(tmp_path / "run", [result(), *rows])]))
    assert panel.caption == "0→none 30.0 %, 1→0 15.0 %, 0→1 5.0 %"
    panel.plot(axes := Figure().subplots())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    write([tmp_path / "run"], tmp_path / "report.html")
    assert "true 0, predicted none: 30.0 %" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("middles", "top", "shown", "want"),
    [
        ([0.2, 0.6], 1.0, (-5, 5), (0.1, 0.7)),  # a quarter of the span on both sides
        ([0.2, 0.6], 1.0, (0.15, 0.65), (0.15, 0.65)),  # no wider than it was
        ([0.9, 1.0], 1.0, (-5, 5), (0.875, 1.01)),  # fractions end at 100 %
        ([0.01, 1.0], 9.0, (-5, 5), (-0.02, 1.2475)),  # not far below 0 where nothing is
        ([-1.0, 1.0], 9.0, (-5, 5), (-1.5, 1.5)),
    ],
)
def test_a_range_shows_every_mean_with_its_surroundings(middles, top, shown, want):
    axes = Figure().subplots()
    axes.set_ylim(*shown)
    set_range(axes, middles, top)
    assert axes.get_ylim() == pytest.approx(want)


def test_a_frame_takes_folders_by_name_and_what_was_gathered(tmp_path):
    found = gather([make(tmp_path / "run", [result()])])
    pytest.importorskip("pandas")
    for runs in (tmp_path / "run", str(tmp_path / "run"), [str(tmp_path / "run")], found):
        assert len(frame(runs)) == 1
    with pytest.raises(Refusal, match="at least one run folder"):
        frame([])


def test_a_run_whose_only_row_is_damaged_says_so(tmp_path):
    folder = make(tmp_path / "run", [result()])
    (folder / "metrics.jsonl").write_text("nothing\n")
    with pytest.raises(Refusal, match=r"got none in .*run'; .* Damaged: .* 1 line of its metrics.jsonl is damaged"):
        gather([folder])


@pytest.mark.parametrize("scores", [(0.9875, 1.0), (0.1, 1.0), (0.0, 0.5), (0.9875, 0.9876)])
def test_no_word_of_the_summary_leaves_its_figure(tmp_path, scores):
    rows = [result(learner, seed, score) for learner in (LOCAL, BASELINE) for seed, score in enumerate(scores)]
    found = gather([make(tmp_path / "run", rows)])
    for figure in (draw(found.summaries, styles_of(found)) for draw in (narrow_figure, wide_figure)):
        figure.canvas.draw()
        (axes,) = figure.axes
        low, high = axes.get_xlim()
        shown = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
        for text in (*axes.texts, *shown, axes.xaxis.label):
            box = text.get_window_extent()
            assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
