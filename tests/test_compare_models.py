"""`neuropil.compare`: what it logs, keeps and refuses."""

import pytest
import torch
from torch import nn

from neuropil import BackpropClassifier, FeatureClassifier, SupervisedTraining, accuracy, compare, load
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.experiments.baselines import linear

FAST = SupervisedTraining(epochs=2, min_steps=1)


def frozen(train, rng):
    return FeatureClassifier(nn.Sequential(nn.Flatten()), readout=FAST)


def trained(train, rng):
    return BackpropClassifier(nn.Sequential(nn.Flatten()), training=FAST)


def test_a_row_for_each_model_and_seed_and_all_of_it_is_kept_where_asked(tmp_path, capsys):
    splits = tuple(part[:200] for part in digits(seed=0))
    rows = compare({"mine": frozen, "theirs": trained}, splits, seeds=2, labels=[50], out=tmp_path / "out")
    results = [row for row in rows if row["kind"] == "result"]
    assert [(row["learner"], row["seed"]) for row in results] == [(n, s) for s in (0, 1) for n in ("mine", "theirs")]
    assert {row["family"] for row in results} == {"baseline"}
    assert {row["n_labels"] for row in rows if row["kind"] == "labels"} == {50, 200}
    assert "mine" in capsys.readouterr().out
    assert (tmp_path / "out/report.html").exists()
    assert accuracy(load(tmp_path / "out", name="mine", seed=1), splits[1]) == results[2]["accuracy"]


def test_each_seed_splits_data_anew_that_have_no_official_test_set(monkeypatch):
    seen = {}

    def seeing(train, rng):
        seen[rng.initial_seed()] = train.x
        return frozen(train, rng)

    rows = compare({"mine": seeing}, "digits", seeds=2)
    assert len(seen) == 2
    first, second = seen.values()
    assert not torch.equal(first, second)
    for row, seed in zip([row for row in rows if row["kind"] == "result"], range(2)):
        test = digits(seed=seed)[1]
        assert row["majority_rate"] == pytest.approx(test.y.bincount().max().item() / len(test))


def test_a_model_is_what_it_would_be_alone():
    splits = tuple(part[:200] for part in digits(seed=0))
    rows = compare({"linear": linear}, splits, seeds=1)  # its folder is gone by now
    shown = rows._repr_html_()
    assert (shown.count("<table"), shown.count("<svg role")) == (1, 2)  # the figure for wide and for narrow screens
    (row,) = (row for row in rows if row["kind"] == "result")
    rng = torch.Generator().manual_seed(0)
    assert row["accuracy"] == accuracy(linear(splits[0], rng).learner.fit(splits[0], rng=rng), splits[1])


def test_the_linear_baseline_standardises_tables_and_takes_pixels_as_they_are():
    for shape, standardises in (((6, 3), True), ((6, 1, 2, 2), False)):
        train = Split(torch.rand(shape), torch.arange(6) % 2, 2)
        assert linear(train, torch.Generator()).learner.standardise == standardises


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(Refusal, match="needs at least one model"):
        compare({}, "digits")
    with pytest.raises(Refusal, match="needs seeds >= 1"):
        compare({"mine": frozen}, "digits", seeds=0)
    (tmp_path / "run.json").touch()
    with pytest.raises(Refusal, match="exists already"):
        compare({"mine": frozen}, "digits", out=tmp_path)
    with pytest.raises(Refusal, match="Did you mean 'digits'"):
        compare({"mine": frozen}, "digit", out=tmp_path / "out")


def test_models_without_names_are_refused():
    with pytest.raises(Refusal, match="needs a mapping of names to functions"):
        compare([1], "digits", seeds=1)


def test_what_makes_no_model_is_refused():
    with pytest.raises(Refusal, match="needs a function"):
        compare({"mine": frozen(None, None)}, "digits", seeds=1)
    with pytest.raises(TypeError, match="'mine' needs to return a model, with fit and predict; got int"):
        compare({"mine": lambda train, rng: 3}, "digits", seeds=1)


def test_fewer_labels_than_classes_are_refused_before_anything_learns():
    with pytest.raises(Refusal, match="every class needs a label"):
        compare({"mine": frozen}, "digits", seeds=1, labels=[5])
