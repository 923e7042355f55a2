"""Data and learners of one's own in the commands: files of code, arrays and folders, from the words to the report."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import neuropil as npl
from neuropil import compare
from neuropil.cli import main
from neuropil.errors import Refusal
from neuropil.experiments import robustness
from neuropil.experiments.comparison import Method
from neuropil.experiments.own_learners import as_method
from neuropil.models.saving import Header
from neuropil.runs import Run, read
from test_own_data import BYTES, NAMES

pytestmark = pytest.mark.usefixtures("blank")
MINE = """
from neuropil.data import load, subset


def mine(seed):
    train, test = load("digits", seed=seed)
    return subset(train, 100, seed), test
"""
LEARNER = '''
from torch import nn

import neuropil as npl


class Mine(npl.BackpropClassifier):
    """A class of one's own."""


npl.savable(Mine, learned=("network_",), for_learning=("body", "training"))


def build(train, rng):
    """Plain pixels under a readout."""
    return Mine(nn.Sequential(nn.Flatten()), training=npl.SupervisedTraining(epochs=2, min_steps=20))
'''
FEEBLE = "--n-test 20 --linf 0.1 --l2 0.5 --attack-steps 1 --attack-restarts 1 --attack-queries 25"


def go(words):
    return main(words.split())


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "my_learner.py").write_text(LEARNER)
    np.savez(tmp_path / "x.npz", x=np.repeat(BYTES, 4, 0), y=np.repeat(NAMES, 4))
    return tmp_path


def test_files_of_ones_own_are_compared_resumed_and_attacked(own, capsys):
    words = "compare --data ./mine.py --learners ./my_learner.py plain_linear --seeds 1 --labels 20 --out out"
    assert go(words) == 0
    assert (own / "out/mine.py").read_text() == MINE
    assert (own / "out/my_learner.py").read_text() == LEARNER
    said = {row["learner"]: row["about"] for row in read(own / "out").rows if row["kind"] == "method"}
    assert said["my learner"] == "Plain pixels under a readout."
    rows = [row for row in read(own / "out").rows if row["kind"] == "result"]
    assert [(row["learner"], row["data"], row["n_train"]) for row in rows] == [
        ("my learner", "mine", 100),
        ("plain linear", "mine", 100),
    ]
    assert main(["attack", "out", *FEEBLE.split()]) == 2
    assert "run it with --data FILE.py" in capsys.readouterr().err
    words = f"attack out --learners ./my_learner.py --data ./mine.py {FEEBLE} --out attacked"
    assert go(words) == 0
    assert {row["learner"] for row in read(own / "attacked").rows} == {"my learner"}


def test_classes_keep_their_names_up_to_the_report(own):
    assert go("compare --data x.npz --learners plain_linear --seeds 1 --labels 20 --out out") == 0
    (row,) = (row for row in read(own / "out").rows if row["kind"] == "confusion")
    assert row["classes"] == ["ape", "cat", "dog"]
    assert main(["attack", "out", *FEEBLE.split(), "--out", "attacked"]) == 0  # from another file than code: as it is
    assert json.loads((own / "attacked/results.json").read_text())["summary"][0]["data"] == "x"


def test_recipes_take_data_and_learners_of_ones_own(own, capsys):
    words = "run mnist_krotov --data x.npz --learners ./my_learner.py linear --labels 20 --out out"
    assert go(words) == 0
    record = read(own / "out")
    assert {row["learner"] for row in record.rows} >= {"my learner", "linear"}
    assert "Here with --data x.npz --learners ./my_learner.py linear --labels 20." in record.facts["purpose"]
    assert go("run mnist_conv_krotov --data x.npz --out conv") == 2
    assert "images of 9x9 or more are needed, x.npz has (1, 5, 7)" in capsys.readouterr().err


@pytest.mark.parametrize(("task", "data"), [("classes", "x"), ("parity", "x parity"), ("pairs", "x pairs")])
def test_the_association_recipe_takes_data_of_ones_own(task, data, own):
    small = "--hidden 12 12 --columns 1 1 --receptive-field 0 --epochs 1 --learners association linear"
    assert go(f"run mnist_association --data x.npz --task {task} {small} --out out") == 0
    assert {row["data"] for row in read(own / "out").rows if row["kind"] == "result"} == {data}
    if task == "pairs":
        assert main(["attack", "out", *FEEBLE.split(), "--tasks", "x 0 or 2", "--out", "attacked"]) == 0


def test_in_python_data_may_be_a_path_too(own):
    from neuropil.experiments.baselines import linear

    (row,) = (row for row in compare({"linear": linear}, "x.npz", seeds=1) if row["kind"] == "result")
    assert (row["data"], row["n_train"]) == ("x", 48)
    with pytest.raises(Refusal, match="by path or as a pair of splits, got tuple"):
        compare({"linear": linear}, (BYTES, NAMES))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"needs a function bad\(seed\) or load\(seed\)"),
        ("def load(:", r"bad\.py line 1"),
        (None, r"no file bad\.py"),
        (
            "from neuropil import load_data\ndef load(): return load_data('digits')[0], load_data('iris')[1]",
            r"one shape and the same classes, got \(1, 8, 8\) in 10 classes and \(4,\) in 3 classes",
        ),
    ],
)
def test_a_file_that_gives_no_data_is_refused(text, message, own, capsys):
    if text is not None:
        (own / "bad.py").write_text(text)
    assert go("compare --data bad.py --learners linear --seeds 1") == 2
    with pytest.raises(Refusal, match=message):
        raise Refusal(capsys.readouterr().err)
    assert not (own / "runs").exists()


def test_a_learner_file_without_build_is_refused_before_anything_is_written(own, capsys):
    assert go("compare --learners ./mine.py --seeds 1") == 2
    assert "needs a function build(train, rng) that returns a model" in capsys.readouterr().err
    assert go("compare --learners ./none.py --seeds 1") == 2
    assert "there is no file none.py" in capsys.readouterr().err
    assert not (own / "runs").exists()


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    def go(run, checksum, kill):
        run.every = 0
        run.update_metadata(data={"mine": {"train": checksum}})
        for step in run.loop("steps", 3):
            if step == kill:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(Run.start(tmp_path / "run", recipe="x", config={}, command="x"), "a", kill=2)
    (run_again := Run.resume(tmp_path / "run")).close()
    with pytest.raises(Refusal, match="began, this has changed: data"):
        go(run_again, "b", kill=None)
    go(run_again, "a", kill=None)


class Own:
    """Fits and predicts, and is none of ours."""

    fit = predict = print


def test_a_learner_of_ones_own_is_of_the_family_of_its_class_and_says_what_its_build_does():
    train = npl.load_data("digits")[0]
    body = npl.dense_body(train, 5, n=2.0)
    learning = npl.LocalLearning({"hidden": npl.Hebb()})

    def mine(train, rng, made):
        """It is mine."""
        return made

    families = {
        Own(): "local", npl.FeatureClassifier(body, learning=learning): "local",
        npl.FeatureClassifier(body): "baseline", npl.BackpropClassifier(body): "baseline",
        npl.SpikingClassifier((3,)): "spiking",
    }  # fmt: skip
    for made, family in families.items():
        method = as_method("mine", partial(mine, made=made), train, torch.Generator())
        assert method == Method("mine", family, made, about="It is mine.")
    for about in (None, "", "Own words."):
        given = Method("named", "spiking", Own(), about=about)
        found = as_method("mine", partial(mine, made=given), train, torch.Generator())
        assert found == replace(given, about="It is mine." if about is None else about)
    with pytest.raises(TypeError, match="'mine' needs to return a model, with fit and predict; got int"):
        as_method("mine", partial(mine, made=3), train, torch.Generator())


def test_a_loaded_model_is_a_method_with_the_words_of_its_file(monkeypatch):
    monkeypatch.setattr(robustness, "read_model", lambda path, device: (path, device))
    headers = [Header("a", Own, {"name": "n", "family": "local", "about": "Words."})]
    headers += [Header("b", Own, {"name": "m", "family": "spiking"})]
    one, two = robustness.loaded(headers, "meta")
    assert one == Method("n", "local", ("a", "meta"), about="Words.")
    assert two == Method("m", "spiking", ("b", "meta"), about="")
