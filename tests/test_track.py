"""Trackers get every number once, whatever stops the run; a tracker that fails stops nothing; tables for others."""

import csv
import json
import sys
from types import ModuleType

import pytest
import torch

import neuropil.report
from neuropil.cli import main
from neuropil.errors import Refusal
from neuropil.runs import EpochRow, ResultRow, Row, Run


def start(folder):
    return Run.start(folder, recipe="toy", config={"lr": 0.1}, command="neuropil run toy")


def work(run, until=None):
    """Two epochs for each of three learners; Ctrl-C after that many rows."""
    run.every, logged = 0.0, 0
    for index in run.loop("learners", 3, weight=torch.zeros(1)):
        who = {"learner": f"net {index}", "data": "a/b", "seed": 4}
        for epoch in run.loop("epochs", 2):
            run.log(
                EpochRow(stage="fit", epoch=epoch, metrics={"loss": 0.5 / (index + 1) - 0.1 * epoch, "ok": True}, **who)
            )
            logged += 1
            if logged == until:
                raise KeyboardInterrupt
        run.log(ResultRow(accuracy=0.25 * (index + 1), seconds=1.5, **who))
    run.log(Row(kind="note", metrics={"count": 3}))  # of no learner
    run.finish()


@pytest.fixture
def board(monkeypatch):
    """In the place of TensorBoard."""
    points = []

    class SummaryWriter:
        def __init__(self, folder):
            self.name = folder.rpartition("/")[2]

        def add_scalar(self, tag, value, step):
            points.append((self.name, tag, value, step))

        def close(self):
            points.append((self.name, "closed"))

    room = ModuleType("torch.utils.tensorboard")
    room.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", room)
    monkeypatch.setitem(sys.modules, "tensorboard", room)
    monkeypatch.setitem(sys.modules, "wandb", None)
    return points


def test_every_number_comes_once_though_the_run_was_stopped(tmp_path, board):
    whole, stopped = start(tmp_path / "whole"), start(tmp_path / "stopped")
    whole.track("csv", "tensorboard")
    work(whole)
    points = board[:]
    stopped.track("csv", "tensorboard")
    with pytest.raises(KeyboardInterrupt):
        work(stopped, until=5)
    stopped.close()
    board.clear()
    again = Run.resume(tmp_path / "stopped")
    again.track("csv", "tensorboard")
    work(again)
    lines = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "stopped")]
    assert lines[0] == lines[1]
    assert sorted(board) == sorted(points)
    rows = list(csv.DictReader(lines[0].splitlines()))
    assert len(rows) == 3 * (2 + 2)
    want = {"kind": "epoch", "learner": "net 1", "family": "", "data": "a/b", "seed": "4", "stage": "fit", "step": "1"}
    assert {**want, "name": "loss", "value": "0.15"} in rows
    assert ("a_b-net_1-4", "fit/loss", 0.15, 1) in points
    assert ("a_b-net_2-4", "result/accuracy", 0.75, 0) in points
    assert points.count(("a_b-net_2-4", "closed")) == 1


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path):
    class Fails:
        """Breaks at the second number."""

        got = 0

        def log(self, number):
            self.got += 1
            if self.got == 2:
                raise ConnectionError("no network")

        def close(self):
            raise AssertionError

    mine, run = Fails(), start(tmp_path / "run")
    run.track(mine)
    with pytest.warns(UserWarning, match="Fails is told no more: ConnectionError: no network"):
        work(run)
    assert mine.got == 2


def test_a_tracker_that_comes_late_is_told_of_the_rows_that_are_there(tmp_path):
    class Mine:
        def __init__(self):
            self.got = []

        def log(self, number):
            self.got.append((number.name, number.value))

        def close(self): ...

    class Once(Mine):
        again = False  # knows already what it was told before

    late, once, run = Mine(), Once(), start(tmp_path / "run")
    run.log(EpochRow(stage="fit", epoch=3, metrics={"loss": 3.0}, learner="net"))
    run.track(late, once)
    run.log(EpochRow(stage="fit", epoch=4, metrics={"loss": 4.0}, learner="net"))
    run.close()
    assert [value for _, value in late.got] == [3, 4]
    assert [value for _, value in once.got] == [4]


def test_unknown_trackers_and_those_without_their_package_are_refused_before_anything_is_written(
    tmp_path, capsys, board
):
    out = tmp_path / "out"
    assert main(["run", "digits_mstdp", "--track", "tensorbord", "--out", str(out)]) == 2
    assert "Did you mean 'tensorboard'?" in capsys.readouterr().err
    assert main(["run", "digits_mstdp", "--track", "wandb", "--out", str(out)]) == 2
    assert (
        "--track wandb needs the package wandb; install it with: pip install 'neuropil[wandb]'"
        in capsys.readouterr().err
    )
    assert not out.exists()
    with pytest.raises(Refusal, match="unknown tracker"):
        start(out).track("cvs")


def test_the_results_are_written_as_others_take_them(tmp_path, capsys):
    for seed, accuracy in (0, 0.9), (1, 0.8):
        run = start(tmp_path / f"seed-{seed}")
        for learner, less in ("50% & more_", 0), ("backprop", 0.05):
            whose = {"learner": learner, "family": "local", "data": "digits", "seed": seed}
            run.log(
                ResultRow(accuracy=accuracy - less, seconds=1.0, peak_mb=2.0, n_train=7, baseline="backprop", **whose)
            )
        run.finish()

    def said(form):
        assert main(["table", str(tmp_path), "--format", form]) == 0
        return capsys.readouterr().out

    rows = {row["learner"]: row for row in csv.DictReader(said("csv").splitlines())}
    assert float(rows["backprop"]["accuracy_mean"]) == pytest.approx(0.8)
    assert float(rows["50% & more_"]["difference_mean"]) == pytest.approx(0.05)
    assert rows["backprop"]["seeds"] == "0 1"
    latex = said("latex").splitlines()
    (line,) = (one for one in latex if one.startswith("50"))
    assert line.startswith(r"50\% \& more\_ & 2 & ")
    assert r"$\pm$" in line
    assert line.endswith(r"\\")
    assert "| backprop | 2 |" in said("markdown")
    assert len(json.loads(said("json"))["rows"]) == 4
    file = tmp_path / "table.csv"
    assert main(["table", str(tmp_path), "--format", "csv", "--out", str(file)]) == 0
    assert str(file) in capsys.readouterr().out
    assert file.read_text() == said("csv")
    assert main(["table", str(tmp_path), "--out", str(file)]) == 2
    frame = neuropil.report.frame(tmp_path)
    assert frame.groupby("learner").accuracy.mean()["backprop"] == pytest.approx(0.8)
