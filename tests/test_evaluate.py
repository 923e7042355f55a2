"""Scores against scikit-learn, choices that never see the test, statistics of units against matrices known by heart."""

import pytest
import torch
from sklearn import metrics

from neuropil.data import Split
from neuropil.errors import Diverged, Refusal
from neuropil.evaluate import (
    UnitStatistics,
    accuracy,
    confusion,
    count_wins,
    fit_and_score,
    log_units,
    majority_rate,
    peak_memory,
    sample_efficiency,
    select,
    unit_statistics,
    unit_warnings,
)
from neuropil.evaluate.robustness import victim_of
from neuropil.models import OnlineClassifier
from neuropil.models.training.local import unit_state
from neuropil.runs import EpochRow, NullTracker


class Says:
    """Predicts the label it was told, by the number in the first feature of an example."""

    def __init__(self, answers):
        self.answers, self.asked = answers, 0

    def predict(self, x):
        self.asked += len(x)
        return self.answers[x[:, 0].long()]

    def fit(self, train, *, rng, tracker):
        tracker.log(EpochRow(epoch=0, metrics={"loss": 0.5}))
        return self


class Notebook(NullTracker):
    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(row)


def numbered(labels, classes):
    return Split(torch.arange(len(labels), dtype=torch.float32)[:, None], labels, classes)


@pytest.fixture
def guesses():
    rng = torch.Generator().manual_seed(0)
    labels, answers = (torch.randint(4, (2500,), generator=rng) for _ in range(2))
    answers[:1500] = labels[:1500]
    return numbered(labels, 4), answers


def test_confusion_and_accuracy_are_those_of_scikit_learn(guesses):
    split, answers = guesses
    assert confusion(Says(answers), split, batch=333).tolist() == metrics.confusion_matrix(split.y, answers).tolist()
    assert accuracy(Says(answers), split) == pytest.approx(metrics.accuracy_score(split.y, answers), abs=1e-12)


def test_examples_that_a_learner_names_none_have_a_column_of_their_own():
    """The matrix is a count by hand; each row sums to the examples of its class."""
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    silent = Says(torch.tensor([0, 0, 0, -1, -1, -1, 2, 1, 2]))
    assert confusion(silent, numbered(labels, 3)).tolist() == [[3, 0, 0, 0], [0, 0, 0, 3], [0, 1, 2, 0]]
    assert accuracy(silent, numbered(labels, 3)) == pytest.approx(5 / 9, abs=1e-12)
    never = Says(torch.full((9,), -1))
    assert confusion(never, numbered(labels, 3)).sum(1).tolist() == [3, 3, 3]
    assert accuracy(never, numbered(labels, 3)) == 0.0


@pytest.mark.parametrize("form", [torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.int])
def test_labels_may_come_as_list_array_or_other_integers(guesses, form):
    split, answers = guesses
    learner = Says(answers)
    learner.predict = lambda x: form(answers[x[:, 0].long()])
    assert torch.equal(confusion(learner, split), confusion(Says(answers), split))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (torch.tensor([0, 5, 0]), "labels from 0 to 1, got 0 to 5"),
        (torch.tensor([0, -2, 0]), "labels from 0 to 1, got -2 to 0"),
        (torch.zeros(3), "whole numbers as labels, got torch.float32"),
        (torch.zeros(3, 2), r"name 3 examples, got labels \(3, 2\); if scores, take argmax"),
        (torch.zeros(2).long(), r"name 3 examples, got labels \(2,\)"),
        (["a", "b", "c"], "whole numbers as labels, got list"),
        (None, "whole numbers as labels, got NoneType"),
    ],
)
def test_answers_that_are_no_labels_are_refused_in_one_line(answer, words):
    learner = Says(answer)
    learner.predict = lambda x: answer
    for score in (confusion, accuracy):
        with pytest.raises(Refusal, match=words) as caught:
            score(learner, numbered(torch.tensor([0, 1, 0]), 2))
        assert "\n" not in str(caught.value)


def test_the_majority_of_examples_without_labels_is_refused():
    with pytest.raises(Refusal, match="majority rate"):
        majority_rate(numbered(torch.tensor([0, -1]), 2))


def test_a_trial_reads_the_test_set_once_and_writes_down_what_it_found(guesses):
    split, answers = guesses
    learner, notebook = Says(answers), Notebook()
    right = fit_and_score(learner, split[:100], split, rng=torch.Generator(), tracker=notebook)
    assert learner.asked == len(split)
    assert [row.kind for row in notebook.rows] == ["epoch", "result", "confusion"]
    _, result, counts = notebook.rows
    assert result.accuracy == right == accuracy(learner, split)
    assert result.n_train == 100
    assert result.majority_rate == pytest.approx(split.y.bincount().max().item() / len(split))
    assert sum(map(sum, counts.matrix)) == len(split)


@pytest.mark.parametrize(("answers", "said"), [
    ([1, 1, 1, 1], "it gives one answer to all 4 test examples: class b."),
    ([-1] * 4, "it gives one answer to all 4 test examples: none of the classes."),
    ([1, 1, 1, 2], None),
])  # fmt: skip
def test_a_learner_that_tells_nothing_apart_is_warned_of(answers, said):
    split, notebook = Split(torch.arange(4.0)[:, None], torch.tensor([0, 1, 2, 1]), 3, ("a", "b", "c")), Notebook()
    fit_and_score(Says(torch.tensor(answers)), split, split, rng=torch.Generator(), tracker=notebook)
    assert [row.message for row in notebook.rows if row.kind == "warning"] == ([said] if said else [])
    one, notebook = split[[1, 3]], Notebook()
    fit_and_score(Says(torch.tensor(answers)), one, one, rng=torch.Generator(), tracker=notebook)
    assert notebook.rows[-1].kind == "confusion"  # where there is one class, one answer is right


@pytest.mark.parametrize("wrong", [slice(None), slice(1), slice(3, 4)])
def test_a_learner_has_diverged_where_any_of_its_scores_is_nan(guesses, wrong):
    split, answers = guesses
    learner, scores = Says(answers), torch.eye(4)[answers]
    learner.decision_function = lambda x: scores[x[:, 0].long()]
    assert fit_and_score(learner, split, split, rng=torch.Generator(), tracker=Notebook()) > 0.5
    scores[[3, 700], wrong] = torch.nan
    with pytest.raises(Diverged, match="the scores of 2 of 1000 test examples are NaN"):
        fit_and_score(learner, split, split, rng=torch.Generator(), tracker=Notebook())


def test_choose_takes_the_best_on_validation_and_fits_on_the_rest():
    labels = torch.arange(600) % 3
    sizes = []

    def fit(share):
        def make(rest):
            sizes.append(len(rest))
            answers = labels.clone()
            answers[: int(share * 600)] = (answers[: int(share * 600)] + 1) % 3
            return Says(answers)

        return make

    choice = select({"bad": fit(0.9), "good": fit(0.1), "worse": fit(1.0)}, numbered(labels, 3), holdout_fraction=0.2)
    assert choice.best == "good"
    assert sizes == [480, 480, 480]
    assert choice.accuracy["worse"] == 0.0


def test_sample_efficiency_trains_on_stratified_subsets_and_tests_on_all(guesses):
    split, answers = guesses
    seen = []

    def fit(part):
        seen.append(part)
        return Says(answers)

    found = list(sample_efficiency(fit, split, split, [8, 100], seed=3))
    assert [len(part) for part in seen] == [8, 100]
    assert seen[0].y.bincount().tolist() == [2, 2, 2, 2]
    assert found == [(8, accuracy(Says(answers), split)), (100, accuracy(Says(answers), split))]


def test_unit_statistics_of_matrices_known_by_heart():
    eye = unit_statistics(torch.eye(10), torch.full((10,), 7))
    assert (eye.dead, eye.converged) == (0.0, 1.0)
    assert eye.effective_rank == pytest.approx(10, rel=1e-5)
    assert eye.win_entropy == pytest.approx(1, rel=1e-6)
    copies = unit_statistics(torch.ones(10, 4) * 0.5, torch.tensor([30] + [0] * 9))
    assert copies.dead == pytest.approx(0.9)
    assert copies.converged == 1.0  # four times 0.5 squared is 1
    assert copies.effective_rank == pytest.approx(1, rel=1e-3)
    assert copies.win_entropy == 0.0
    cubes = unit_statistics(torch.full((2, 8), 0.5), torch.ones(2), p=3.0)
    assert cubes.norms.tolist() == pytest.approx([1.0, 1.0])
    assert unit_statistics(torch.full((2, 8), 0.4), torch.ones(2), p=3.0).converged == 0.0


def test_wins_are_counted_over_batches_and_positions():
    x = torch.tensor([[3.0, 1, 0], [0, 5, 1], [9, 1, 1], [0, 0, 2]])
    split = Split(x, torch.zeros(4, dtype=torch.int64), 1)
    assert count_wins(lambda part: part, split, batch=3).tolist() == [2, 1, 1]
    maps = count_wins(lambda part: torch.stack([part, 2 - part], dim=1), split)  # (batch, 2 units, 3 positions)
    assert maps.tolist() == [4, 4]  # at the four ones both are equally active, so nobody wins


@pytest.mark.parametrize(
    ("weight", "wins", "words"),
    [
        (torch.eye(10), torch.tensor([0, 0, 0] + [5] * 7), "30% of the units never win"),
        (2 * torch.eye(10), torch.ones(10), "only 0% of the rows are within 0.1 of norm 1"),
        (torch.eye(30)[[0] * 30], torch.ones(30), "spans about 1 directions"),
        (torch.full((3, 3), 1e30), torch.ones(3), "not finite"),
    ],
)
def test_bad_numbers_raise_a_warning(weight, wins, words):
    assert any(words in sentence for sentence in unit_warnings(unit_statistics(weight, wins)))


@pytest.mark.parametrize(
    ("name", "fine", "bad"), [("dead", 0.25, 0.26), ("converged", 0.75, 0.74), ("effective_rank", 10.0, 9.9)]
)
def test_a_number_worries_from_its_limit_on(name, fine, bad):
    good = UnitStatistics(torch.ones(300), torch.ones(300), 0.0, 1.0, 100.0, 1.0)
    assert unit_warnings(good._replace(**{name: fine})) == []
    assert len(unit_warnings(good._replace(**{name: bad}))) == 1


def test_a_row_has_converged_within_a_tenth_of_norm_1():
    weight = torch.tensor([0.89, 0.91, 1.09, 1.11]).sqrt().diag()
    assert unit_statistics(weight, torch.ones(4)).converged == 0.5
    assert unit_state(weight, torch.ones(4), norm=2.0)["converged"] == 0.5


def test_good_numbers_raise_none_and_rules_without_a_norm_are_not_blamed_for_it():
    assert unit_warnings(unit_statistics(torch.eye(10), torch.ones(10))) == []
    assert unit_warnings(unit_statistics(2 * torch.eye(10), torch.ones(10)), normed=False) == []
    assert unit_warnings(unit_statistics(torch.eye(10), torch.tensor([5] + [0] * 9)), competes=False) == []


def test_peak_memory_sees_a_block_that_is_gone_again():
    with peak_memory() as low:
        torch.ones(10)
    with peak_memory() as high:
        block = torch.ones(2**26)  # 256 MiB
        del block
    assert 200 < high.mb - low.mb < 400


@pytest.mark.parametrize(("norm", "converged"), [(3.0, 1.0), (2.0, 0.0), (None, 0.0)])
def test_the_norm_of_the_rule_decides_what_has_converged(norm, converged):
    weight, notebook = torch.full((2, 8), 0.5), Notebook()  # eight times 0.5 cubed is 1
    split = Split(torch.eye(2), torch.zeros(2, dtype=torch.int64), 1)
    log_units(lambda part: part, weight, split, norm=norm, tracker=notebook)
    units, *warnings = notebook.rows
    assert (units.kind, units.converged) == ("units", converged)
    assert any("norm 1" in row.message for row in warnings) == (norm == 2.0)


def test_a_label_is_given_and_an_attack_is_made_only_where_all_scores_are_numbers():
    for wrong in range(3):
        scores = torch.rand(4, 3)
        scores[2, wrong] = torch.nan
        model = OnlineClassifier(torch.nn.Sequential(torch.nn.Flatten()))
        model.decision_function = lambda x, scores=scores: scores
        with pytest.raises(Refusal, match="the scores of 1 of 4 examples are NaN"):
            model.predict(torch.rand(4, 5))
        with pytest.raises(Refusal, match="gave NaN scores for 1 of 4 examples"):
            victim_of(model, 3).decision_function(torch.rand(4, 5))
