"""`neuropil attack DIR`: learners come back as they were, are attacked, and what cannot come back is refused."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch

import neuropil as npl
from neuropil.cli import main
from neuropil.data import digits
from neuropil.experiments import own_data as _baselines
from neuropil.models import FeatureClassifier
from neuropil.recipes import compare
from neuropil.runs import Run, read
from test_recipes import FEEBLE, KROTOV, timeless

pytestmark = pytest.mark.usefixtures("blank")
QUICK = [str(Path(__file__).with_name("quick") / name) for name in ("krotov_hopfield.py", "backprop.py")]
SMALL = ["--units", "20", "--n-train", "150", "--labels", "1000", "--seeds", "2", "--learners", *QUICK]


def start(folder):
    return Run.start(folder, recipe="toy", config={}, command="neuropil run toy")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A finished comparison of two learners and two seeds."""
    out = tmp_path_factory.mktemp("runs") / "compared"
    assert main(["compare", *SMALL, "--out", str(out)]) == 0
    return out


def test_models_come_back_bit_for_bit(compared):
    plan = compare.comparison(compare.Config(units=20, n_train=150, learners=tuple(QUICK), seeds=2))
    x = digits(seed=1)[1].pixels()
    rows = {row["learner"]: row["accuracy"] for row in read(compared).rows if row["kind"] == "result" and row["seed"]}
    train, test = plan.splits(1)
    for build in plan.builds.values():
        rng = torch.Generator().manual_seed(1)
        method = build(train, rng)
        fresh, model = method.learner.fit(train, rng=rng), npl.load(compared, method.name, seed=1)
        assert torch.equal(model.decision_function(x), fresh.decision_function(x))
        assert (model.predict(x) == test.y).double().mean().item() == rows[method.name]


@pytest.mark.plotted
def test_the_command_attacks_every_learner_of_every_seed(compared, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["attack", str(compared), *FEEBLE.split(), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "withstands every attack" in said
    rows = read(out).rows
    found = {(row["learner"], row["seed"]) for row in rows if row["kind"] == "attack"}
    assert found == {(name, seed) for name in ("Krotov-Hopfield", "backprop") for seed in (0, 1)}
    page = (out / "report.html").read_text()
    assert 'id="robustness"' in page
    assert json.loads((out / "results.json").read_text())["rows"]


TWO_SEEDS = {
    "mnist_krotov": f"{KROTOV} --learners krotov_hopfield backprop",
}


@pytest.mark.parametrize("name", TWO_SEEDS)
def test_seeds_in_folders_of_their_own_are_attacked_together(name, tmp_path, monkeypatch):
    monkeypatch.setattr(_baselines, "load", lambda name, seed=0: digits(seed=0))
    many = tmp_path / "many"
    out = many / "attack"  # the attack's own folder, in which no model is, does not disturb it
    assert main(["run", name, *TWO_SEEDS[name].split(), "--seeds", "2", "--out", str(many)]) == 0
    assert main(["attack", str(many), *FEEBLE.split(), "--out", str(out)]) == 0
    assert {row["seed"] for row in read(out).rows if row["kind"] == "attack"} == {0, 1}


def test_an_attack_that_was_stopped_goes_on_bit_for_bit(compared, tmp_path, monkeypatch):
    room = import_module("neuropil.evaluate.robustness.suite")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(["attack", str(compared), *FEEBLE.split(), "--out", str(whole)]) == 0
    original, calls = room.verify, []

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(room, "verify", stop)
    monkeypatch.setattr(Run, "__init__", eager(Run.__init__))
    assert main(["attack", str(compared), *FEEBLE.split(), "--out", str(stopped)]) == 130
    monkeypatch.setattr(room, "verify", original)
    assert main(["run", "--resume", str(stopped)]) == 0
    assert timeless(stopped) == timeless(whole)


def eager(begin):
    """A run that writes a checkpoint after every iteration."""

    def made(self, *args, **settings):
        begin(self, *args, **settings)
        self.every = 0.0

    return made


def test_compare_attacks_when_asked_and_only_then(tmp_path):
    out = tmp_path / "out"
    assert main(["compare", *SMALL, "--seeds", "1", "--attack", *FEEBLE.split(), "--out", str(out)]) == 0
    kinds = {row["kind"] for row in read(out).rows}
    assert {"attack", "check", "corruption", "damage", "result", "labels"} <= kinds
    assert 'id="robustness"' in (out / "report.html").read_text()


def test_compare_without_attacks_has_none(compared):
    assert "attack" not in {row["kind"] for row in read(compared).rows}
    assert 'id="robustness"' not in (compared / "report.html").read_text()


# What cannot come back


def refused(capsys, *words):
    assert main([*map(str, words)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_what_cannot_be_attacked_is_refused_in_one_line(compared, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert "name the folder of a run first" in refused(capsys, "attack")
    assert "there is no run in" in refused(capsys, "attack", tmp_path / "nothing", "--out", out)
    toy = start(tmp_path / "toy")
    toy.close()
    assert "is unfinished" in refused(capsys, "attack", tmp_path / "toy", "--out", out)
    (tmp_path / "toy/run.json").write_text(
        json.dumps({**json.loads((tmp_path / "toy/run.json").read_text()), "finished": "now"})
    )
    assert "left no models" in refused(capsys, "attack", tmp_path / "toy", "--out", out)
    assert "Known: digits" in refused(capsys, "attack", compared, "--tasks", "digit", "--out", out)
    assert "budgets of an attack need to be above 0" in refused(capsys, "attack", compared, "--linf", "0", "--out", out)
    assert "finite size" not in refused(capsys, "attack", compared, "--linf", "-1", "--out", out)


def test_a_run_of_the_users_own_recipe_is_attacked_without_its_code(tmp_path):
    mine, out = tmp_path / "mine.py", tmp_path / "out"
    assert main(["copy", "compare", str(mine)]) == 0
    assert main(["run", str(mine), *SMALL, "--seeds", "1", "--out", str(tmp_path / "run")]) == 0
    mine.unlink()
    assert main(["attack", str(tmp_path / "run"), *FEEBLE.split(), "--out", str(out)]) == 0
    assert {row["learner"] for row in read(out).rows if row["kind"] == "attack"} == {"Krotov-Hopfield", "backprop"}


def test_a_model_whose_code_has_changed_is_refused(compared, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(FeatureClassifier, "predict", lambda self, x: torch.zeros(len(x), dtype=torch.int64))
    words = refused(capsys, "attack", compared, "--out", tmp_path / "out")
    assert "correctly" in words
    assert "changed code or data?" in words
