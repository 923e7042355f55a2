"""The recipes of associative networks at tiny size through the command line, and what can be asked of their runs."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from neuropil.cli import main
from neuropil.data import Split, digits
from neuropil.data.masks import image_mask
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy
from neuropil.experiments import comparison as _baselines
from neuropil.recipes import digits_mstdp, mnist_complete, mnist_semi, mnist_unsupervised
from neuropil.report import save_sheet
from neuropil.report.figures.samples import tiled
from neuropil.runs import NullTracker, read

TINY = "--n-train 300 --epochs 3 --backprop-epochs 2 --n-samples 3 --classification-units 30"
MSTDP = ("digits_mstdp", "mnist_mstdp", "fashion_mstdp")
NAMES = {**dict.fromkeys(MSTDP, "mSTDP"), "digits_astdp": "aSTDP", "mnist_astdp": "aSTDP"}
SEMI = "--n-train 300 --labels 60 --classification-units 40 --epochs 12 --batch 20 --min-steps 200 --n-rounds 1"
SEMI += " --pseudo-label-margin 0.6 --classification-lr 3e-3 --label-lr 1e-2 --rotation 0 --scale 0 --shift 0"
UNSUPERVISED = "--n-train 300 --units 30 --components 20 --epochs 8 --readout-epochs 4"
WITH = "--generation-units 20 --completion-units 25"
pytestmark = pytest.mark.filterwarnings("ignore:.*samples had not settled")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Digits of 8x8 in place of data sets that are not on every machine."""
    for room in (_baselines, mnist_complete):
        monkeypatch.setattr(room, "load", lambda name, seed=0: digits(seed=seed))


@pytest.fixture(scope="module")
def generating(tmp_path_factory):
    """A run whose network generates."""
    out = tmp_path_factory.mktemp("associative") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_baselines, "load", lambda name, seed=0: digits(seed=seed))
        assert main(["run", "digits_mstdp", *TINY.split(), *WITH.split(), "--no-baselines", "--out", str(out)]) == 0
    return out


def test_its_run_can_be_attacked(generating, tmp_path):
    feeble = "--n-test 20 --linf 0.1 --l2 1 --steps 2 --restarts 1 --queries 11"
    assert main(["attack", str(generating), *feeble.split(), "--out", str(tmp_path / "out")]) == 0
    assert {row["attack"] for row in rows(tmp_path / "out", "attack")} >= {"FGSM", "PGD", "square", "boundary"}


def rows(folder, kind):
    return [row for row in read(folder).rows if row["kind"] == kind]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_stands_beside_its_baselines_and_before_the_reference_classifier(name, tmp_path):
    out = tmp_path / "out"
    baselines = name == "mnist_mstdp"  # they are the same for all, and take their time
    words = ["run", name, *TINY.split(), *WITH.split(), "--baselines" if baselines else "--no-baselines"]
    assert main([*words, "--out", str(out)]) == 0
    families = {row["learner"]: row["family"] for row in rows(out, "result")}
    beside = ("backprop", "random features", "linear") if baselines else ()
    assert families == {NAMES[name]: "local", **dict.fromkeys(beside, "baseline")}
    scores = {row["source"]: row for row in rows(out, "samples")}
    assert set(scores) == {NAMES[name], "probabilistic PCA", "class means", "real test images"}
    assert scores["real test images"]["class_accuracy"] == scores["real test images"]["reference_accuracy"]
    assert scores["class means"]["pixel_variance"] == 0
    assert scores[NAMES[name]]["attempts"] > 1  # so few units rarely answer clearly
    page = (out / "report.html").read_text()
    assert 'id="samples"' in page
    assert f"Samples by {NAMES[name]}. 30 samples" in page


def test_generate_and_complete_write_sheets(generating, tmp_path, capsys):
    for words, size in (
        (["generate", str(generating), "--n-rounds", "3"], (10, 10)),
        (["generate", str(generating), "--label", "3", "--n", "6", "--n-rounds", "3"], (6, 1)),
        (["complete", str(generating), "--n", "4", "--n-rounds", "3"], (4, 5)),
        (["complete", str(generating), "--n", "4", "--keep", "frame", "--labels", "no", "--n-rounds", "3"], (4, 5)),
    ):
        file = tmp_path / "sheet.png"
        assert main([*words, "--out", str(file)]) == 0
        said = capsys.readouterr().out
        assert re.match(rf"{file}: the network classifies \d+ of \d+ .*images", said), said
        columns, lines = size
        assert Image.open(file).size == (2 * (columns * 26 - 2), 2 * (lines * 26 - 2))
    assert main(["generate", str(generating), "--n-rounds", "2"]) == 0
    assert (generating / "samples.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("generate {} --label 11", "labels need 0 to 9"),
        ("generate {} --label x", "--label takes a whole number from 0 on, got 'x'"),
        ("generate {} --n 0", "--n takes a whole number from 1 on, got '0'"),
        ("generate {} --out x.jpg", "name it"),
        ("generate", "Usage: neuropil generate RUN"),
        ("generate nowhere", "there is no run in nowhere"),
        ("complete {} --keep tpo", "Did you mean 'top'"),
        ("complete {} --labels maybe", "Known: no, yes"),
        ("complete {} --n 100000", "--n takes up to 359 test images"),
        ("run mnist_complete", "setting 'of' needs the folder of a finished run"),
    ],
)
def test_what_cannot_be_generated(words, message, generating, capsys):
    assert main([word.format(generating) for word in words.split()]) == 2
    assert message.lower() in capsys.readouterr().err.lower()


def test_a_run_without_a_network_that_generates_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    words = f"compare --learners linear --seeds 1 --n-train 100 --labels 1000 --out {out}"
    assert main(words.split()) == 0
    assert main(["generate", str(out)]) == 2
    assert "recipe 'compare' leaves no network that generates" in capsys.readouterr().err


def test_completion_of_a_finished_run(generating, tmp_path):
    out = tmp_path / "out"
    words = ["mnist_complete", "--of", str(generating), "--n-train", "300", "--baseline-epochs", "2", "--n-test", "100"]
    assert main(["run", *words, "--out", str(out)]) == 0
    found = {row["known"]: row for row in rows(out, "completion")}
    assert set(found) == {"upper half", "left half", "random half", "all but the centre", "label alone"}
    test = digits(seed=0)[1][:100]
    train = digits(seed=0)[0]
    assert all(row["mean_error"] > row["class_mean_error"] > 0 for row in found.values())
    partial = {row["known"]: row for row in rows(out, "partial classification")}
    assert set(partial) == set(found) - {"label alone"}
    assert len(train) > len(test)
    assert all(0.1 < row["backprop_accuracy"] <= 1 for row in partial.values())


def test_the_baseline_of_completion_has_the_completion_units_and_sees_masked_and_augmented_images(generating):
    record, train = read(generating), digits(seed=0)[0][:100]
    learner = digits_mstdp.revive(record.config, record.tensors())
    mask, shown = image_mask("top", (1, 8, 8)), []

    def changes(x, rng):
        shown.append(x)
        return x.flip(-1)

    config = mnist_complete.Config(baseline_epochs=5)
    learner.training = replace(learner.training, augment=changes)
    baseline = mnist_complete.baseline_for(learner, train, mask, config, NullTracker())
    assert len(baseline.body_.hidden.weight) == 25
    assert len(torch.cat(shown)) % 100 == 0
    assert torch.equal(baseline.decision_function(train.x), baseline.decision_function(train.x * mask))
    mirrored = Split(train.x.flip(-1), train.y, 10)
    assert accuracy(baseline, mirrored) > accuracy(baseline, train) + 0.2


def test_completion_without_baselines(generating, tmp_path):
    out = tmp_path / "out"
    words = ["run", "mnist_complete", "--of", str(generating), "--n-test", "40", "--baseline-epochs", "0"]
    assert main([*words, "--out", str(out)]) == 0
    assert {"backprop_accuracy" in row for row in rows(out, "partial classification")} == {False}


def test_without_labels_every_kind_of_unit_has_a_readout_and_those_of_one_sign_vote(tmp_path):
    out = tmp_path / "out"
    assert main(["run", "mnist_unsupervised", *UNSUPERVISED.split(), "--out", str(out)]) == 0
    readout = {row["learner"]: row["accuracy"] for row in rows(out, "result")}
    votes = {row["learner"]: row["accuracy"] for row in rows(out, "assigned units")}
    assert set(votes) == {"mSTDP without labels", "random features", "k-means"}
    assert set(readout) == set(votes) | {"principal components", "linear"}
    assert min(readout.values()) > 0.7
    assert min(votes.values()) > 0.2
    assert all(readout[name] > votes[name] for name in votes)
    assert "fields.mSTDP without labels" in read(out).tensors()


def test_hidden_labels_change_nothing_in_units_that_learn_without():
    fields = []
    for turn in (0, 1):
        train, _ = digits(seed=0)
        wrong = Split(train.x, (train.y + turn) % 10, 10)
        config = mnist_unsupervised.Config(units=10, epochs=1)
        method = mnist_unsupervised.stdp(config, wrong, torch.Generator().manual_seed(0))
        method.learner.fit(wrong, rng=torch.Generator().manual_seed(0))
        fields.append(method.learner.body_.hidden.weight)
    assert torch.equal(*fields)


def test_with_few_labels_every_learner_stands_beside_its_baselines(tmp_path):
    out = tmp_path / "out"
    assert main(["run", "mnist_semi", *SEMI.split(), "--out", str(out)]) == 0
    found = {(row["learner"], row["data"]): row for row in rows(out, "result")}
    learners = {learner for learner, _ in found}
    baselines = {"backprop", "backprop with pseudo-labels", "random features", "linear"}
    assert learners == baselines | {"mSTDP with pseudo-labels", "mSTDP, labelled images only"}
    assert set(found) == {(learner, "mnist, 60 labels") for learner in learners}
    assert all(row["n_train"] == 60 for row in found.values())
    assert all(row["accuracy"] > 0.5 for row in found.values())


def test_labelled_images_are_repeated_among_all_images():
    labelled, images = digits(seed=0)[0][:10], digits(seed=0)[0].x[:200]
    shown, labels = mnist_semi.mixed(labelled, images, 0.15)
    assert len(shown) == len(labels) == 3 * 10 + 200
    assert torch.equal(labels[:30], labelled.y.repeat(3))
    assert labels[30:].eq(-1).all()
    assert torch.equal(shown.x[10:20], labelled.x)
    assert torch.equal(shown.x[30:], images)


def test_momentum_settles_everywhere_at_the_same_accuracy(tmp_path):
    out = tmp_path / "out"
    assert main(f"run momentum --epochs 3 --momenta 0 0.5 --step-sizes 0.2 --out {out}".split()) == 0
    for task, quality in (("classify", "accuracy"), ("complete", "squared_error")):
        plain, pushed = (row for row in rows(out, "settling") if row["task"] == task)
        assert plain["settled"] == pushed["settled"] == 1
        assert pushed["iterations"] < plain["iterations"]
        assert pushed[quality] == pytest.approx(plain[quality], abs=2e-3)
    assert (out / "pictures" / "momentum.png").exists()


def test_a_sheet_shows_each_image_in_its_place():
    images = np.zeros((5, 1, 2, 3), np.float32)
    images[4, 0, 1, 2] = 1
    sheet = tiled(images, columns=3)
    times = 28 // 3
    assert sheet.shape == (2 * (2 * times + 2) - 2, 3 * (3 * times + 2) - 2, 4)
    bright = (sheet[..., :3] == 255).all(-1).nonzero()
    assert (bright[0].min(), bright[1].min()) == (2 * times + 2 + times, 3 * times + 2 + 2 * times)
    with pytest.raises(Refusal, match="1 or 3 channels"):
        tiled(np.zeros((2, 2, 4, 4)), columns=1)


def test_sheets_are_png_files(tmp_path):
    with pytest.raises(Refusal, match="name it"):
        save_sheet(np.zeros((1, 1, 4, 4)), tmp_path / "x.gif", columns=1)


def test_rows_are_plain_json(generating):
    for row in read(generating).rows:
        json.dumps(row, allow_nan=False)
