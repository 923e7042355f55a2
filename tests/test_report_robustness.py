"""Robustness in the report: tables, invalid curves marked everywhere, the sentence on the linear classifier."""

from dataclasses import replace
from io import StringIO

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from neuropil.report import markdown, table, write
from neuropil.report.figures.robustness import attack_panels, severity_panels
from neuropil.report.results import gather
from neuropil.report.robustness_tables import (
    Key,
    attack_tables,
    check_table,
    curves_of,
    invalid_sentences,
    linear_comparison,
    outcome,
    robustness_of,
    severity_table,
)
from neuropil.report.stats import interval
from neuropil.report.theme import styles_of
from neuropil.runs import CheckRow
from report_runs import HOSTILE, LOCAL, make, result

LEFT = {LOCAL: (0.98, 0.6), "linear": (0.95, 0.4)}  # clean, and at 0.1


def attacks(seed, learner, *, invalid=False, attack="all attacks"):
    for size, right in zip((0.0, 0.1), LEFT.get(learner, (0.9, 0.2))):
        row = {"learner": learner, "data": "digits", "seed": seed, "norm": "Linf", "attack": attack, "size": size}
        yield "attack", {**row, "access": "", "accuracy": right - 0.01 * seed, "invalid": invalid, "n_test": 100}


def checks(seed, learner, passed):
    about = {"learner": learner, "data": "digits", "seed": seed, "norm": "Linf", "attack": "PGD"}
    yield "check", {**about, "check": "a larger budget hurts", "passed": True, "finding": "at every size"}
    yield "check", {**about, "check": "gradients", "passed": passed, "finding": "97.0% of the gradients are zero"}


def matched(seed, learner, gap):
    for size, shift in ((0.1, 0.0), (0.2, 0.2)):  # the mean over budgets is what counts
        both = {"accuracy": 0.5 + gap + shift, "linear_accuracy": 0.5, "linear": "linear", "n_both": 90}
        yield "matched", {"learner": learner, "data": "digits", "seed": seed, "norm": "Linf", "size": size, **both}


def severities(seed, learner):
    for severity in range(1, 6):
        about = {"learner": learner, "data": "digits", "seed": seed, "severity": severity}
        yield "corruption", {**about, "corruption": "noise", "accuracy": 1 - 0.1 * severity}
        yield "damage", {**about, "damage": "few bits", "amount": 8 - severity, "accuracy": 0.9}


def rows(invalid=(), gap=-0.1, seeds=(0, 1, 2), learners=(LOCAL, "linear")):
    """Everything that a suite logs about two learners."""
    made = []
    for seed in seeds:
        for learner in learners:
            made += [
                result(
                    learner, seed, LEFT.get(learner, (0.9,))[0], family="baseline" if learner == "linear" else "local"
                )
            ]
            made += attacks(seed, learner, invalid=learner in invalid and seed == 1)
            made += attacks(seed, learner, invalid=learner in invalid and seed == 1, attack="PGD")
            made += checks(seed, learner, not (learner in invalid and seed == 1))
            made += matched(seed, learner, gap if learner != "linear" else -0.1)
            made += severities(seed, learner)
    return made


@pytest.fixture
def study(tmp_path):
    return lambda **more: gather([make(tmp_path / f"run{len(list(tmp_path.iterdir()))}", rows(**more))])


def test_the_table_has_means_and_intervals_over_seeds(study):
    found = study()
    worst, each = attack_tables(curves_of(found), "digits", "Linf")
    assert worst.heads == ["learner", "clean", "0.1"]
    middle, half = interval([0.6, 0.59, 0.58])
    assert worst.rows[0] == [LOCAL, "97.0 ± 2.5", f"{100 * middle:.1f} ± {100 * half:.1f}"]
    assert [row[0] for row in each.rows] == [f"PGD: {LOCAL}", "PGD: linear"]
    assert each.folded
    assert not worst.folded


def test_a_curve_that_is_invalid_in_one_seed_is_invalid(study):
    found = study(invalid=[LOCAL])
    worst, _ = attack_tables(curves_of(found), "digits", "Linf")
    assert [cell.endswith("†") for cell in worst.rows[0][1:]] == [False, True]  # clean accuracy is no attack's
    assert not any("†" in cell for cell in worst.rows[1])
    grid = check_table(found, "digits", "Linf")
    assert grid.heads == ["learner: attack", "a larger budget hurts", "gradients"]
    assert grid.rows[0] == [f"{LOCAL}: PGD", "ok", "failed in 1 of 3: 97.0% of the gradients are zero"]
    assert grid.rows[1] == ["linear: PGD", "ok", "ok (97.0 %)"]
    said = f"Invalid: {LOCAL}: PGD. gradients failed in 1 of 3: 97.0% of the gradients are zero."
    assert invalid_sentences(grid) == [said]


def test_a_check_that_passed_says_the_smallest_gap_that_it_would_have_seen():
    row = CheckRow(norm="Linf", attack="PGD", check="beats FGSM", passed=True, finding="at every size")
    found = [replace(row, finding=f"at every size; a gap below {gap}% is not seen") for gap in ("8.3", "12.5")]
    assert outcome(found) == "ok (gaps from 12.5 %)"
    assert outcome([row]) == "ok"


@pytest.mark.parametrize(
    ("gap", "invalid", "words"),
    [
        (0.1, [], "in Linf yes, by +20.00 ± 0.00 points (70.0 against 50.0 %)"),
        (0.1, [LOCAL], "in Linf not shown, +20.00 ± 0.00 points (70.0 against 50.0 %) is an upper bound"),
        (0.1, ["linear"], "in Linf yes, by +20.00 ± 0.00 points"),  # less of the linear model would only add to it
        (-0.3, [], "in Linf no, −20.00 ± 0.00 points"),
        (-0.3, [LOCAL], "in Linf no, −20.00 ± 0.00 points"),  # an upper bound is enough to say no
        (-0.3, ["linear"], "in Linf not decided, −20.00 ± 0.00 points (30.0 against 50.0 %) is a lower bound"),
        (-0.1, [], "in Linf no difference is seen"),
    ],
)
def test_the_question_about_the_linear_model_is_answered_from_the_numbers(study, gap, invalid, words):
    found = study(gap=gap, invalid=invalid)
    question, *answers = linear_comparison(found, curves_of(found), "digits")
    assert question.startswith("Is it more robust than a linear classifier of the same clean accuracy?")
    assert len(answers) == 1  # the linear model is not compared with itself
    assert answers[0].startswith(f"{LOCAL}: ")
    assert words in answers[0]


def test_one_seed_gives_no_verdict(study):
    found = study(seeds=(0,), gap=0.1)
    assert "one seed tells +20.00 (n = 1) points" in linear_comparison(found, curves_of(found), "digits")[1]


def test_corruptions_and_damage_are_means_over_severities(study):
    found = study()
    assert severity_table(found, "digits", "corruption").rows[0] == [LOCAL, "70.0 ± 0.0"]
    assert severity_table(found, "digits", "damage").heads == ["learner", "few bits"]


def axes_of(panel):
    axes = Figure().add_subplot()
    panel.plot(axes)
    return axes


def test_invalid_curves_are_dotted_with_crosses_and_hatched(study):
    found = study(invalid=[LOCAL])
    panels = attack_panels(found, styles_of(found))["digits", "Linf"]
    assert [panel.title for panel in panels] == ["all attacks, Linf", "PGD, Linf"]
    assert panels[0].caption == f"Invalid: {LOCAL}."
    axes = axes_of(panels[0])
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
    assert looks[0] == (":", "x")
    assert looks[1][1] != "x"
    assert [band.get_hatch() for band in axes.collections] == ["////", None]
    assert axes.lines[1].get_xydata()[:, 1].tolist() == pytest.approx([94.0, 39.0])


def test_severity_panels_show_five_severities(study):
    found = study()
    (panel,) = severity_panels(found, styles_of(found), "corruption")["digits"]
    assert axes_of(panel).lines[0].get_xydata()[:, 0].tolist() == [1, 2, 3, 4, 5]


def test_page_markdown_and_terminal_tell_the_same(tmp_path):
    folder = make(tmp_path / "run", rows(invalid=[HOSTILE], gap=0.1, learners=(HOSTILE, "linear")))
    page = write([folder], tmp_path / "report.html").read_text()
    assert 'id="robustness"' in page
    assert "<script>alert" not in page
    assert {path.name for path in (tmp_path / "figures").glob("*.png")} >= {
        "attacks-digits-linf.png",
        "corruption-digits.png",
        "damage-digits.png",
    }
    text = markdown([folder])
    console = Console(width=200, record=True, file=StringIO())
    console.print(table([folder]))
    for said in (page, text, console.export_text()):
        assert "withstands every attack" in said.replace("\\", "")
        assert "failed in 1 of 3" in said
        assert "97.0% of the gradients are zero" in said.replace("\\", "")
        assert "is an upper bound" in said
        assert "† invalid" in said


def test_without_attacks_there_is_no_section(tmp_path):
    folder = make(tmp_path / "run", [result()])
    found = gather([folder])
    assert robustness_of(found) == []
    assert curves_of(found) == {}
    assert 'id="robustness"' not in write([folder], tmp_path / "report.html").read_text()


def test_two_data_sets_stay_apart(tmp_path):
    mine = rows()
    other = [(kind, {**row, "data": "mnist"}) for kind, row in rows(gap=0.1)]
    found = gather([make(tmp_path / "run", [*mine, *other])])
    assert {key.data for key in curves_of(found)} == {"digits", "mnist"}
    assert len(curves_of(found)[Key("mnist", "Linf", "PGD", LOCAL)].by_size[0.1]) == 3
    assert [one.data for one in robustness_of(found)] == ["digits", "mnist"]
