"""Rows of whole runs: means over pairs, refused rows, attacked runs, every epoch of a fit."""

from collections import OrderedDict
from contextlib import nullcontext
from statistics import mean
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import test_logged
from common import rng
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.experiments import pairs
from neuropil.experiments.comparison import NOT_SAVED, Comparison, Method
from neuropil.models import (
    AssociationClassifier,
    AssociationTraining,
    BackpropClassifier,
    FeatureClassifier,
    LocalLearning,
    RidgeRegression,
    SpikeTimeTraining,
    SpikingClassifier,
    SupervisedTraining,
)
from neuropil.plasticity import Oja
from neuropil.recipes import attack
from neuropil.report import gather
from neuropil.runs import FailedRow, ResultRow, Run, WarningRow
from test_logged import Book, Says, numbered

book = test_logged.book


def test_the_mean_over_pairs_is_a_result_that_a_report_can_read(tmp_path, monkeypatch):
    numbers = iter([(0.71, 40, 0.55, 1.5, 100.0), (0.84, 61, 0.61, 9.25, 350.5), (0.92, 60, 0.52, 2.0, 120.25)])

    def score(method, tracker, *, result, **_):
        accuracy, n, rate, seconds, peak = next(numbers)
        result.row = ResultRow(accuracy=accuracy, n_train=n, majority_rate=rate, seconds=seconds, peak_mb=peak)

    monkeypatch.setattr(pairs, "_score", score)
    monkeypatch.setattr(pairs, "save_learned", lambda *_: None)
    split = numbered([0, 1, 2, 0, 1, 2], 3)
    plan = Comparison({"a": lambda train, rng: Method("a", "local", None)}, "d", [3], lambda _: (split, split))
    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    pairs.run_pair_comparisons(plan, pairs.pair_comparisons(plan, (), 0), run)
    run.finish()
    found = gather([tmp_path / "run"])
    (outcome,), (summary,) = found.outcomes, found.summaries
    row = outcome.row
    assert (row.n_train, row.metrics) == (54, {"pairs": 3})  # 53.67 examples
    assert row.accuracy == summary.mean == pytest.approx(mean([0.71, 0.84, 0.92]))
    assert row.majority_rate == pytest.approx(0.56)
    assert (row.seconds, row.peak_mb) == pytest.approx((4.25, 190.25))
    assert found.runs[0].damaged == 0


def test_a_row_that_could_not_be_read_is_refused_when_it_is_logged(tmp_path):
    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    with pytest.raises(Refusal, match=r"a result row has 'n_train' in another form, got 53\.67"):
        run.log(ResultRow(accuracy=0.5, n_train=53.67))
    run.log(ResultRow(learner="a", data="d", seed=0, accuracy=0.5, n_train=53))
    run.finish()
    assert [one.row.n_train for one in gather([run.folder]).outcomes] == [53]


def test_an_attacked_run_repeats_its_own_failures_and_scores(tmp_path, book):
    folder = tmp_path / "run"
    run = Run.start(folder, recipe="", config={}, command="", quiet=True)
    for name, data, seed in (("a", "d", 3), ("b", "d", 4), ("c", "e", 3)):
        run.log(FailedRow(learner=name, data=data, seed=seed, reason=name))
    for name, message in (("e", f"{NOT_SAVED}: it has no save"), ("f", "3 units dead")):
        run.log(WarningRow(learner=name, data="d", seed=3, message=message))
    run.finish()
    about = {"data": "d", "seed": 3, "accuracy": 4 / 7, "n_train": 31}
    header = SimpleNamespace(path=folder / "models" / "m", about=about)
    attack.log_failures(header, (), book)
    attack.log_failures(header, ("a",), book)
    assert [row.learner for row in book.rows] == ["a", "e"]
    method = Method("mine", "local", Says([0, 1, 0, 0, 0, 1, 1]))
    attack.verify_accuracy(method, header, numbered([0, 1, 1, 0, 1, 1, 0], 2), book)
    row = book.rows[-1]
    assert (row.learner, row.data, row.seed, row.n_train) == ("mine", "d", 3, 31)
    for off in (-0.006, 0.006, -0.004, 0.004):  # half a point is the limit
        header.about["accuracy"] = 4 / 7 + off
        with pytest.raises(Refusal, match="changed code or data") if abs(off) > 0.005 else nullcontext():
            attack.verify_accuracy(method, header, numbered([0, 1, 1, 0, 1, 1, 0], 2), book)


class Loops(Book):
    """Keeps what every loop was told as well."""

    def __init__(self):
        super().__init__()
        self.loops = []

    def loop(self, title, count, **state):
        self.loops.append((title, count, state))
        return iter(range(count))


def test_every_epoch_of_a_fit_is_a_row_and_a_checkpoint_of_it_would_hold_the_generator():
    body = nn.Sequential(OrderedDict(flat=nn.Flatten(), hidden=nn.Linear(6, 4, bias=False)))
    local = LocalLearning({"hidden": Oja()}, epochs=2, batch=12)
    models = [
        FeatureClassifier(body, learning=local, readout=RidgeRegression()),
        BackpropClassifier(body, training=SupervisedTraining(2, 12, min_steps=1)),
        AssociationClassifier((4,), k=1, n_send=2, training=AssociationTraining(epochs=2, batch=12)),
        SpikingClassifier((3,), training=SpikeTimeTraining(epochs=2, batch=12, min_steps=1)),
    ]
    train, titles = Split(torch.rand(24, 6, generator=rng(5)), torch.arange(24) % 2, 2), []
    for model in models:
        book, generator = Loops(), rng(6)
        model.fit(train, rng=generator, tracker=book)
        titles += [title for title, *_ in book.loops]
        assert [(row.stage, row.epoch) for row in book.rows] == [
            (title, epoch) for title, count, _ in book.loops for epoch in range(count)
        ]
        assert all(row.metrics for row in book.rows)
        for title, count, state in book.loops:
            assert state.pop("rng") is generator
            learned = {"body"} if title == "features hidden" else {"network"}
            assert state.keys() == learned | ({"optimizer", "schedule"} if count > 1 else set())
    assert titles == ["features hidden", "readout", "backprop", "association", "exact spikes"]
