"""Cells of tables and numbers in sentences, from made-up rows: each is worked out here, by other means."""

import csv
import json
import math
import re
from io import StringIO
from statistics import mean, stdev
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from neuropil.report import sweeps
from neuropil.report.export import export
from neuropil.report.figures.curves import learning_curves, progress_panels
from neuropil.report.figures.curves import progress as progress_of
from neuropil.report.figures.robustness import attack_panels
from neuropil.report.figures.summary_figure import wide_figure
from neuropil.report.figures.units import unit_panels
from neuropil.report.layout import Files
from neuropil.report.page import every_run, heads_of
from neuropil.report.results import gather
from neuropil.report.robustness_tables import attack_tables, check_table, curves_of, linear_comparison, severity_table
from neuropil.report.sections import labels_section, numbers_section, unit_facts
from neuropil.report.stats import quantity
from neuropil.report.sweep_results import SweepResults, Tried
from neuropil.report.tables import HEADS, cells_of, summary_rows, summary_sentence
from neuropil.report.theme import spots_of, styles_of, tell
from neuropil.runs import UnitsRow
from neuropil.sweeps import progress
from neuropil.sweeps.folder import Place, Score
from report_runs import BASELINE, LOCAL, make, result

STUDENT = {1: 12.7062047, 2: 4.30265273, 3: 3.18244631, 4: 2.77644511}  # 97.5 % points, as printed tables have them
MINE, OTHER = {7: 0.811, 1: 0.731, 4: 0.698, 2: 0.752}, {9: 0.612, 2: 0.701, 7: 0.803, 4: 0.713}
GAPS = [0.811 - 0.803, 0.698 - 0.713, 0.752 - 0.701]


def half(values):
    return STUDENT[len(values) - 1] * stdev(values) / math.sqrt(len(values))


def percents(values):
    """Mean and half width with one decimal, in percent."""
    return f"{100 * mean(values):.1f} ± {100 * half(values):.1f}"


# The report


@pytest.fixture
def compared(tmp_path):
    """Four seeds of a learner and of its baseline, three of them common; costs far from symmetric, one unknown."""
    costs = {7: (31.5, 900.5), 1: (3.25, 120.25), 4: (4.125, 130.5), 2: (None, None)}
    train = {7: 1000, 1: 1000, 4: 2000, 2: 1000}
    rows = [
        result(seed=seed, accuracy=right, seconds=costs[seed][0], peak_mb=costs[seed][1], n_train=train[seed])
        for seed, right in MINE.items()
    ]
    rows = [(kind, {name: value for name, value in row.items() if value is not None}) for kind, row in rows]
    rows += [result(BASELINE, seed, right, family="baseline") for seed, right in OTHER.items()]
    return gather([make(tmp_path / "run", rows)])


def test_a_line_of_the_table_is_worked_out_from_its_rows(compared):
    first, second = compared.summaries
    assert (first.learner, second.learner) == (LOCAL, BASELINE)
    seconds, peak = mean([31.5, 3.25, 4.125]), mean([900.5, 120.25, 130.5])
    difference = f"+{100 * mean(GAPS):.1f} ± {100 * half(GAPS):.1f} (3 pairs)"
    assert cells_of(first) == [LOCAL, "4", percents([*MINE.values()]), f"{seconds:.1f}", f"{peak:.0f}", difference]
    assert cells_of(second)[1:3] == ["4", percents([*OTHER.values()])]
    row = summary_rows(compared)[0]
    want = {"n": 4, "accuracy_mean": mean(MINE.values()), "accuracy_interval": half([*MINE.values()])}
    want |= {"seconds_mean": seconds, "peak_mb_mean": peak, "difference_pairs": 3}
    want |= {"difference_mean": mean(GAPS), "difference_interval": half(GAPS)}
    assert {name: row[name] for name in want} == pytest.approx(want, rel=1e-8)
    assert (row["seeds"], row["baseline"], row["family"]) == ([1, 2, 4, 7], BASELINE, "local")
    said = summary_sentence(compared, "digits").replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith("2 learners on digits, 5 seeds, 1,000 or 1,437 or 2,000 training examples: ")
    assert f"the best local learner is {LOCAL}, {percents([*MINE.values()])} %" in said


def test_other_tools_get_the_same_numbers(compared):
    first, second = csv.DictReader(StringIO(export(compared, "csv")))
    assert (first["learner"], first["n"], first["seeds"], first["difference_pairs"]) == (LOCAL, "4", "1 2 4 7", "3")
    assert float(first["accuracy_interval"]) == pytest.approx(half([*MINE.values()]), rel=1e-8)
    assert float(first["difference_mean"]) == pytest.approx(mean(GAPS))
    assert float(second["accuracy_mean"]) == pytest.approx(mean(OTHER.values()))
    lines = export(compared, "latex").splitlines()
    (row,) = [line for line in lines if line.startswith(LOCAL)]
    assert row.split(" & ")[1:3] == ["4", percents([*MINE.values()]).replace("±", r"$\pm$")]


def test_a_latex_table_has_a_column_for_every_cell(compared, tmp_path):
    two = [make(tmp_path / data, [result(data=data), result(BASELINE, data=data)]) for data in ("one", "two")]
    for found, words in ((compared, "l"), (gather(two), "ll")):
        head, *lines = export(found, "latex").splitlines()
        columns = words + "r" * (len(HEADS) - 1)
        assert head == rf"\begin{{tabular}}{{{columns}}}"
        assert {line.count(" & ") + 1 for line in lines if line.endswith(r"\\")} == {len(columns)}


def test_every_run_is_shown_with_its_own_numbers(compared):
    shown = every_run(compared)
    rows = [dict(zip(shown["keys"], row, strict=True)) for row in shown["rows"]]
    some = [(row["learner"], row["seed"], row["accuracy"], row["seconds"], row["peak mb"]) for row in rows]
    assert some[0] == (LOCAL, "7", "0.811", "31.5", "900.5")
    assert some[3] == (LOCAL, "2", "0.752", "", "")
    assert len(rows) == 8


def test_a_cost_has_three_figures_at_its_borders_too():
    shown = {0.4167: "0.42", 9.994: "9.99", 9.996: "10.0", 10.04: "10.0", 99.94: "99.9", 99.96: "100", 1203.6: "1,204"}
    assert {value: quantity(value) for value in shown} == shown
    assert quantity(math.nan) == "–"


def labelled(learner, seed, count, right):
    return "labels", {"learner": learner, "data": "digits", "seed": seed, "n_labels": count, "accuracy": right}


def test_accuracy_by_labels_is_a_mean_over_seeds(tmp_path):
    few, many = [0.412, 0.531, 0.437], [0.911, 0.907, 0.931]
    rows = [labelled(LOCAL, seed, 1000, right) for seed, right in enumerate(many)]
    rows += [labelled(LOCAL, seed, 10, right) for seed, right in enumerate(few)]
    found = gather([make(tmp_path / "run", [result(), *rows])])
    (group,) = labels_section(found, styles_of(found), Files()).groups
    (table,) = group.tables
    assert (table.heads, table.rows) == (["learner", "10", "1,000"], [[LOCAL, percents(few), percents(many)]])


def test_other_rows_are_a_table_of_their_kind_with_five_figures(tmp_path):
    about = {"learner": LOCAL, "seed": 3}
    rows = [("tuning", {**about, "first_rate": 0.123456789, "fine": True, "sizes": [3, 4.00000123]})]
    rows += [("tuning", {**about, "second_rate": 123456.7}), ("jumps", {**about, "update": 7})]
    first, second = numbers_section(gather([make(tmp_path / "run", rows)])).groups
    (table,) = first.tables
    assert (table.caption, table.folded) == ("tuning", False)
    assert table.heads == ["learner", "seed", "first rate", "fine", "sizes", "second rate"]
    assert table.rows == [[LOCAL, "3", "0.12346", "yes", "3, 4", ""], [LOCAL, "3", "", "", "", "1.2346e+05"]]
    assert second.tables[0].rows == [[LOCAL, "3", "7"]]


def test_facts_of_units_are_means_over_seeds_with_their_range():
    numbers = ((0.05, 0.875, 130.6, math.nan), (0.02, 0.75, 12.5, 0.913), (0.11, 0.95, 31.25, 0.751))
    rows = [UnitsRow(dead=a, converged=b, effective_rank=c, win_entropy=d) for a, b, c, d in numbers]
    assert unit_facts(rows) == [
        ("dead", "6.0 % (2.0 to 11.0)"),
        ("converged", "85.8 % (75.0 to 95.0)"),
        ("effective rank", "58.1 (12.5 to 131)"),
        ("entropy of wins", "0.83 (0.75 to 0.91)"),
    ]
    norm, wins = unit_panels([0.512, 1.25, 0.875], [0, 3, 0, 17, 1], "#000000")
    assert norm.alt == "Histogram of 3 units: norms from 0.512 to 1.25"
    assert wins.alt == "Histogram of wins: 2 of 5 never win"
    axes = Figure().add_subplot()
    wins.plot(axes)
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([40, 20, 20, 0, 0, 20])  # % of all five


def attacked(learner, seed, size, right, *, attack="all attacks", invalid=False):
    about = {"learner": learner, "data": "digits", "seed": seed, "norm": "L2", "attack": attack, "size": size}
    return "attack", {**about, "accuracy": right, "invalid": invalid, "n_test": 90}


def test_cells_of_robustness_are_means_over_seeds(tmp_path):
    left = {0.5: [0.71, 0.64, 0.52], 0.0: [0.93, 0.95, 0.91], 0.25: [0.83, 0.81, 0.86]}
    rows = [attacked(LOCAL, seed, size, right) for size, some in left.items() for seed, right in enumerate(some)]
    rows += [attacked(LOCAL, 0, 0.25, 0.41, attack="PGD", invalid=True), attacked(LOCAL, 1, 0.25, 0.5, attack="PGD")]
    check = {"learner": LOCAL, "data": "digits", "norm": "L2", "attack": "PGD"}
    found = {"zeros": ("3.1% are", "12.0% are", "7.25% are"), "beats noise": ("no", "at 0.5", "at 0.25")}
    for name, findings in found.items():
        for seed, said in enumerate(findings):
            passed = name == "zeros" or said == "no"
            rows.append(("check", {**check, "seed": seed, "check": name, "passed": passed, "finding": said}))
    amounts = {0: [0.9, 0.8, 0.4, 0.3, 0.1], 1: [0.7, 0.5], 2: [0.95, 0.85, 0.75]}  # means count, by seed
    for seed, some in amounts.items():
        for k, right in enumerate(some):
            about = {"learner": LOCAL, "data": "digits", "seed": seed, "severity": k + 1, "accuracy": right}
            rows += [
                ("corruption", {**about, "corruption": "blur"}),
                ("damage", {**about, "damage": "cut", "amount": 1}),
            ]
    results = gather([make(tmp_path / "run", [result(), *rows])])
    worst, each = attack_tables(curves_of(results), "digits", "L2")
    assert worst.heads == ["learner", "clean", "0.25", "0.5"]
    assert worst.rows == [[LOCAL, percents(left[0.0]), percents(left[0.25]), percents(left[0.5])]]
    assert each.rows == [[f"PGD: {LOCAL}", "–", f"{percents([0.41, 0.5])} †", "–"]]
    checks = check_table(results, "digits", "L2")
    assert checks.rows == [[f"{LOCAL}: PGD", "ok (12.0 %)", "failed in 2 of 3: at 0.5"]]
    assert checks.heads[1:] == ["zeros", "beats noise"]
    for kind, name in (("corruption", "blur"), ("damage", "cut")):
        shown = severity_table(results, "digits", kind)
        assert (shown.heads, shown.rows) == (["learner", name], [[LOCAL, percents([0.5, 0.6, 0.85])]])


def test_the_gap_to_the_linear_classifier_is_paired_by_seed_over_the_means_of_budgets(tmp_path):
    rows, mine, other = [result()], [], []
    left = {4: ((0.91, 0.62), (0.55, 0.31)), 1: ((0.81, 0.45), (0.52, 0.11)), 2: ((0.86, 0.31), (0.63, 0.23))}
    for seed, (ours, linear) in left.items():
        for size, one, two in zip((0.1, 0.3), ours, linear):
            about = {"learner": LOCAL, "data": "digits", "seed": seed, "norm": "Linf", "size": size, "n_both": 50}
            rows += [("matched", {**about, "accuracy": one, "linear_accuracy": two, "linear": "linear"})]
            about = {**about, "data": "other", "linear": "linear"}
            rows += [("matched", {**about, "accuracy": two / 3, "linear_accuracy": one})]
        mine.append(mean(ours))
        other.append(mean(linear))
        rows += [attacked(LOCAL, seed, 0.1, 0.5)]
    results = gather([make(tmp_path / "run", rows)])
    gaps = [a - b for a, b in zip(mine, other)]
    want = f"+{percents(gaps)} points ({100 * mean(mine):.1f} against {100 * mean(other):.1f} %)"
    assert linear_comparison(results, curves_of(results), "digits")[1] == f"{LOCAL}: in Linf yes, by {want}"


def words_in(axes):
    """What is written in a figure, and what the page says where the pointer is."""
    hidden = [line for one in axes.patches if not one.get_visible() for line in one.get_label().split("\n")]
    return [text.get_text() for text in axes.texts] + hidden


def test_words_in_figures_have_the_numbers_of_their_rows(tmp_path):
    rows = [result(seed=seed, accuracy=right, majority_rate=0.123) for seed, right in MINE.items()]
    rows += [result(BASELINE, seed, right, family="baseline", majority_rate=0.123) for seed, right in OTHER.items()]
    rows += [result("linear", seed, 0.41 + seed / 100, family="baseline") for seed in OTHER]
    epochs = {4: (0.5, 0.25), 1: (0.75, 0.125), 7: (0.625, 0.3)}
    for seed, values in epochs.items():
        about = {"learner": LOCAL, "seed": seed, "stage": "head"}
        rows += [("epoch", {**about, "epoch": k, "loss": 10 * v, "accuracy": v}) for k, v in enumerate(values)]
    rows += [attacked(LOCAL, seed, 0.5, right) for seed, right in enumerate((0.71, 0.64, 0.52))]
    found = gather([make(tmp_path / "run", rows)])
    styles = styles_of(found)
    (axes,) = wide_figure(found.summaries, styles).axes
    (dashed,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [*dashed.get_xdata()] == pytest.approx([100 * mean(OTHER.values())] * 2)
    shown = words_in(axes)
    assert "best baseline: backprop" in shown
    assert "← most common class 12.3 %" in shown
    for name, scores in ((LOCAL, MINE), (BASELINE, OTHER)):
        assert percents([*scores.values()]) + " %" in [text.replace("\N{NO-BREAK SPACE}", " ") for text in shown]
        assert {f"{name}, seed {seed}: {100 * right:.2f} %" for seed, right in scores.items()} <= set(shown)
    loss, accuracy = (words_in(drawn(panel)) for panel in learning_curves(found, styles))
    assert loss == [f"{LOCAL}: 6.25 (seeds: 5, 7.5, 6.25)", f"{LOCAL}: 2.25 (seeds: 2.5, 1.25, 3)"]
    assert accuracy == [f"{LOCAL}: 62.50 % (seeds: 50, 75, 62.5)", f"{LOCAL}: 22.50 % (seeds: 25, 12.5, 30)"]
    (panel,) = attack_panels(found, styles)["digits", "L2"]
    assert words_in(drawn(panel)) == [f"{LOCAL}: {100 * mean((0.71, 0.64, 0.52)):.1f} %"]


@pytest.mark.parametrize("held", [False, True])
def test_a_page_says_on_how_many_examples_a_score_was_taken(tmp_path, held):
    about = {"learner": LOCAL, "data": "digits", "seed": 0}
    run = make(tmp_path / "run", [result(data="digits", seed=0), ("confusion", {**about, "matrix": [[9, 1], [3, 74]]})])
    if held:
        facts = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(facts | {"hold_out": 0.2}))
    found = gather([run])
    assert f", 87 {'held-out' if held else 'test'} examples: " in summary_sentence(found, "digits")
    kept = []
    (head,) = heads_of(found, styles_of(found), SimpleNamespace(add=lambda name, png: kept.append(name)))
    assert kept == ["accuracy"]
    assert ("accuracy on held-out examples" in str(head["wide"])) == held
    assert ("test accuracy" in str(head["wide"])) != held


def test_what_is_no_number_is_an_empty_cell_for_other_tools(tmp_path):
    (row,) = csv.DictReader(StringIO(export(gather([make(tmp_path / "run", [result(seed=0)])]), "csv")))
    assert not [name for name, cell in row.items() if cell == "nan"]
    assert (row["n"], row["accuracy_interval"], row["difference_interval"]) == ("1", "", "")


def test_epochs_of_one_percent_are_no_seeds():
    _, percent, accuracy = progress_of("mine", range(250), [k / 250 for k in range(250)])
    assert len(set(percent.tolist())) == len(percent) == 101
    assert percent.tolist() == sorted(percent.tolist())
    assert percent[-1] == 100
    assert accuracy[-1] == 249 / 250
    few = progress_of("mine", [0, 1, 3], [0.1, 0.2, 0.4])
    assert (few[1].tolist(), few[2].tolist()) == ([25, 50, 100], [0.1, 0.2, 0.4])


def test_the_progress_of_a_method_of_two_stages_is_that_of_the_last(tmp_path):
    rows = [result(seed=7)]
    for stage, values in (("body", (0.1, 0.2)), ("head", (0.5, 0.625, 0.75))):
        about = {"learner": LOCAL, "seed": 7, "stage": stage}
        rows += [("epoch", {**about, "epoch": k, "train_accuracy": value}) for k, value in enumerate(values)]
    found = gather([make(tmp_path / "run", rows)])
    (panel,) = progress_panels(found, styles_of(found))
    (line,) = [one for one in drawn(panel).lines if len(one.get_ydata()) > 1]
    assert [100 * value for value in (0.5, 0.625, 0.75)] == pytest.approx([*line.get_ydata()])


def drawn(panel):
    axes = Figure().add_subplot()
    panel.plot(axes)
    return axes


def test_a_point_that_is_missing_takes_its_words_with_it():
    axes = Figure().add_subplot()
    axes.set_xlim(0, 4)
    tell(axes, "a", [(0, 1, "one"), (1, math.nan, "two"), (2, 0.5, "three")])
    said = dict(re.findall(r'cx="([\d.]+)"[^>]*><title>(\w+)<', spots_of(axes.figure)))
    assert [said[x] for x in sorted(said, key=float)] == ["one", "three"]


# Sweeps


def swept(number, setting, accuracy, *, failed=None, left=(), seconds=1.5):
    return Tried(number, setting, accuracy, failed or {}, left, seconds)


@pytest.fixture
def tried(tmp_path):
    """Three settings, of which the second is the best; one seed of the third failed."""
    best = swept(2, {"lr": "0.1"}, {3: 0.9, 4: 0.87, 5: 0.96}, seconds=12.34)
    near = swept(1, {"lr": "0.3"}, {5: 0.93, 3: 0.88, 4: 0.79}, seconds=0.4167)
    lost = swept(3, {"lr": "3"}, {3: 0.5, 5: 0.25}, failed={4: "failed: at 7"}, seconds=105.6)
    at = lambda place: tmp_path / f"{place.setting}-{place.seed}"
    sweep = SimpleNamespace(settings=[{"lr": "0.3"}, {"lr": "0.1"}, {"lr": "3"}], seeds=[3, 4, 5], folder=tmp_path)
    sweep.at, sweep.open = at, lambda: [Place(0, 3), Place(0, 4)]
    scores = [Score(Place(1, 4), LOCAL, "digits", 0.87, 12.5), Score(Place(0, 3), LOCAL, "digits", 0.88123456, 0.5)]
    return SweepResults(sweep, LOCAL, "digits", {LOCAL: [best, near, lost]}, scores)


def test_a_sweep_is_shown_setting_by_setting_paired_with_the_chosen_one(tried):
    gaps = [0.93 - 0.96, 0.88 - 0.9, 0.79 - 0.87]
    beside = f"−{100 * abs(mean(gaps)):.1f} ± {100 * half(gaps):.1f}"
    heads = ["setting", "lr", "n", "accuracy on held-out examples, %", "minus chosen, points", "seconds"]
    assert sweeps.heads_of(tried) == heads
    rows = sweeps.rows_of(tried, LOCAL)
    assert rows[0] == ["2", "0.1", "3", percents([0.9, 0.87, 0.96]), "chosen", "12.3"]
    assert rows[1] == ["1", "0.3", "3", percents([0.93, 0.88, 0.79]), beside, "0.42"]
    assert rows[2] == ["3", "3", "2 + 1 failed", percents([0.5, 0.25]), "failed: at 7", "106"]
    one, two, *_ = sweeps._summaries(tried)
    assert (one["chosen"], two["chosen"], one["setting"], two["n"]) == (True, False, 2, 3)
    want = {"accuracy_mean": mean([0.93, 0.88, 0.79]), "accuracy_interval": half([0.93, 0.88, 0.79])}
    want |= {"difference_mean": mean(gaps), "difference_interval": half(gaps)}
    assert {name: two[name] for name in want} == pytest.approx(want, rel=1e-8)
    said = sweeps.sentences(tried)
    assert said[0] == f"3 settings of {LOCAL} on digits, seeds 3–5."
    assert said[1] == f"Chosen: setting 2, lr 0.1, with {percents([0.9, 0.87, 0.96])} % of held-out examples."
    assert said[2] == "Not told apart from it by these seeds: setting 1."
    tried.tried[LOCAL][1] = swept(1, {"lr": "0.3"}, {3: 0.88, 4: 0.85, 5: 0.941})  # a little worse with every seed
    assert not any(text.startswith("Not told apart") for text in sweeps.sentences(tried))
    assert sweeps.reasons(tried) == [
        "Setting 3 (lr 3), seed 4: failed: at 7",
        "Unfinished runs: 2; go on with neuropil sweep --resume.",
    ]
    every = sweeps._every(tried)
    assert every["rows"][0] == ["1", "0.3", "3", LOCAL, "digits", "0.88123", "0.5", "", "0-3"]


def test_the_table_of_another_learner_has_a_choice_of_its_own(tried):
    best, other = {3: 0.8, 4: 0.7, 5: 0.75}, {3: 0.6, 4: 0.53}
    tried.tried[BASELINE] = [swept(3, {"lr": "3"}, best), swept(2, {"lr": "0.1"}, other)]
    gaps = [0.6 - 0.8, 0.53 - 0.7]
    beside = [row[4] for row in sweeps.rows_of(tried, BASELINE)]
    assert beside == ["chosen", f"−{100 * abs(mean(gaps)):.1f} ± {100 * half(gaps):.1f}"]


def test_what_is_left_of_a_sweep_is_reckoned_from_the_runs_of_this_sitting(monkeypatch, capsys):
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=1000.0)
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress.threading, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    shown = progress.Progress(11, 4, 2, lambda place: f"run {place.seed}", lambda place: None, quiet=False)
    for now, seed in ((1600.0, 5), (2200.0, 6)):
        clock.now = now
        shown.began(Place(0, seed))
        shown.ended(Place(0, seed), "done")
    said = capsys.readouterr().err.splitlines()
    assert said == ["[sweep] 5/11 run 5: done (about 60 min left)", "[sweep] 6/11 run 6: done (about 50 min left)"]
