"""The recipes of associative networks at tiny size through the command line, and what can be asked of their runs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from neuropil.associative.tasks import half_images
from neuropil.cli import main
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy
from neuropil.experiments import comparison as _baselines
from neuropil.experiments.associative import revive
from neuropil.recipes import mnist_complete, mnist_semi, mnist_unsupervised
from neuropil.report import save_sheet
from neuropil.report.figures.samples import tiled
from neuropil.runs import NullTracker, read

TINY = "--n-train 300 --epochs 3 --backprop-epochs 2 --draw 3 --naming 30"
MSTDP = ("digits_mstdp", "mnist_mstdp", "fashion_mstdp")
NAMES = {**dict.fromkeys(MSTDP, "mSTDP"), "digits_astdp": "aSTDP", "mnist_astdp": "aSTDP"}
SEMI = "--n-train 300 --labels 60 --naming 40 --epochs 12 --batch 20 --steps 200 --lead 0.6 --rounds 1"
SEMI += " --naming-rate 3e-3 --label-rate 1e-2 --turn 0 --scale 0 --shift 0"
UNSUPERVISED = "--n-train 300 --units 30 --components 20 --epochs 8 --probe-epochs 4"
WITH = "--drawing 20 --parts 25"
pytestmark = pytest.mark.filterwarnings("ignore:.*samples had not settled")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Digits of 8x8 in place of data sets that are not on every machine."""
    for room in (_baselines, mnist_complete):
        monkeypatch.setattr(room, "load", lambda name, seed=0: digits(seed=seed))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A run whose network draws."""
    out = tmp_path_factory.mktemp("associative") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_baselines, "load", lambda name, seed=0: digits(seed=seed))
        assert main(["run", "digits_mstdp", *TINY.split(), *WITH.split(), "--no-baselines", "--out", str(out)]) == 0
    return out


def test_its_run_can_be_attacked(drawn, tmp_path):
    feeble = "--n-test 20 --linf 0.1 --l2 1 --steps 2 --restarts 1 --queries 11"
    assert main(["attack", str(drawn), *feeble.split(), "--out", str(tmp_path / "out")]) == 0
    assert {row["attack"] for row in rows(tmp_path / "out", "attack")} >= {"FGSM", "PGD", "square", "boundary"}


def rows(folder, kind):
    return [row for row in read(folder).rows if row["kind"] == kind]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_stands_beside_its_baselines_and_before_the_judge(name, tmp_path):
    out = tmp_path / "out"
    baselines = name == "mnist_mstdp"  # they are the same for all, and take their time
    words = ["run", name, *TINY.split(), *WITH.split(), "--baselines" if baselines else "--no-baselines"]
    assert main([*words, "--out", str(out)]) == 0
    families = {row["learner"]: row["family"] for row in rows(out, "result")}
    beside = ("backprop", "random features", "linear") if baselines else ()
    assert families == {NAMES[name]: "local", **dict.fromkeys(beside, "baseline")}
    judged = {row["source"]: row for row in rows(out, "samples")}
    assert set(judged) == {NAMES[name], "probabilistic PCA", "class means", "real test images"}
    assert judged["real test images"]["class_accuracy"] == judged["real test images"]["reference_accuracy"]
    assert judged["class means"]["pixel_variance"] == 0
    assert judged[NAMES[name]]["attempts"] > 1  # so few units are rarely sure
    page = (out / "report.html").read_text()
    assert 'id="drawings"' in page
    assert f"Drawings by {NAMES[name]}. 30 drawings" in page


def test_generate_and_complete_draw_from_a_run(drawn, tmp_path, capsys):
    for words, size in (
        (["generate", str(drawn), "--rounds", "3"], (10, 10)),
        (["generate", str(drawn), "--label", "3", "--n", "6", "--rounds", "3"], (6, 1)),
        (["complete", str(drawn), "--n", "4", "--rounds", "3"], (4, 5)),
        (["complete", str(drawn), "--n", "4", "--keep", "frame", "--labels", "no", "--rounds", "3"], (4, 5)),
    ):
        file = tmp_path / "sheet.png"
        assert main([*words, "--out", str(file)]) == 0
        assert capsys.readouterr().out.strip() == str(file)
        columns, lines = size
        assert Image.open(file).size == (2 * (columns * 26 - 2), 2 * (lines * 26 - 2))
    assert main(["generate", str(drawn), "--rounds", "2"]) == 0
    assert (drawn / "drawings.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("generate {} --label 11", "labels need 0 to 9"),
        ("generate {} --label x", "--label takes a whole number from 0 on, got 'x'"),
        ("generate {} --n 0", "--n takes a whole number from 1 on, got '0'"),
        ("generate {} --out x.jpg", "name it"),
        ("generate", "Usage: neuropil generate DIR"),
        ("generate nowhere", "there is no run in nowhere"),
        ("complete {} --keep tpo", "Did you mean 'top'"),
        ("complete {} --labels maybe", "Known: no, yes"),
        ("complete {} --n 100000", "--n takes up to 359 test images"),
        ("run mnist_complete", "setting 'of' needs the folder of a finished run"),
    ],
)
def test_what_cannot_be_drawn(words, message, drawn, capsys):
    assert main([word.format(drawn) for word in words.split()]) == 2
    assert message.lower() in capsys.readouterr().err.lower()


def test_a_run_without_a_network_that_draws_is_refused(tmp_path, capsys):
    out = tmp_path / "out"
    words = f"compare --learners linear --seeds 1 --n-train 100 --labels 1000 --out {out}"
    assert main(words.split()) == 0
    assert main(["generate", str(out)]) == 2
    assert "recipe 'compare' leaves no network that draws" in capsys.readouterr().err


def test_completion_of_a_finished_run(drawn, tmp_path):
    out = tmp_path / "out"
    words = ["mnist_complete", "--of", str(drawn), "--n-train", "300", "--baseline-epochs", "2", "--n-test", "100"]
    assert main(["run", *words, "--out", str(out)]) == 0
    found = {row["given"]: row for row in rows(out, "completion")}
    assert set(found) == {"upper half", "left half", "random half", "all but the centre", "label alone"}
    test = digits(seed=0)[1][:100]
    train = digits(seed=0)[0]
    assert all(row["mean_error"] > row["class_mean_error"] > 0 for row in found.values())
    named = {row["given"]: row for row in rows(out, "classification from a part")}
    assert set(named) == set(found) - {"label alone"}
    assert len(train) > len(test)
    assert all(0.1 < row["backprop_accuracy"] <= 1 for row in named.values())


def test_the_baseline_of_completion_has_the_parts_units_and_sees_what_is_given_of_changed_images(drawn):
    record, train = read(drawn), digits(seed=0)[0][:100]
    learner = revive(record.config, record.tensors())
    mask, shown = half_images(train.x.shape[1:])[0].view(1, 8, 8), []

    def changes(x, rng):
        shown.append(x)
        return x.flip(-1)

    config = mnist_complete.Config(baseline_epochs=5)
    baseline = mnist_complete.baseline_for(learner, train, mask, config, changes, NullTracker())
    assert len(baseline.body_.hidden.weight) == 25
    assert len(torch.cat(shown)) % 100 == 0
    assert torch.equal(baseline.decision_function(train.x), baseline.decision_function(train.x * mask))
    mirrored = Split(train.x.flip(-1), train.y, 10)
    assert accuracy(baseline, mirrored) > accuracy(baseline, train) + 0.2


def test_completion_without_baselines(drawn, tmp_path):
    out = tmp_path / "out"
    words = ["run", "mnist_complete", "--of", str(drawn), "--n-test", "40", "--baseline-epochs", "0"]
    assert main([*words, "--out", str(out)]) == 0
    assert {"backprop_accuracy" in row for row in rows(out, "classification from a part")} == {False}


def test_without_labels_every_kind_of_unit_is_probed_and_those_of_one_sign_vote(tmp_path):
    out = tmp_path / "out"
    assert main(["run", "mnist_unsupervised", *UNSUPERVISED.split(), "--out", str(out)]) == 0
    probed = {row["learner"]: row["accuracy"] for row in rows(out, "result")}
    voted = {row["learner"]: row["accuracy"] for row in rows(out, "assigned units")}
    assert set(voted) == {"mSTDP without labels", "random features", "k-means"}
    assert set(probed) == set(voted) | {"principal components", "linear"}
    assert min(probed.values()) > 0.7
    assert min(voted.values()) > 0.2
    assert all(probed[name] > voted[name] for name in voted)
    assert "fields.mSTDP without labels" in read(out).tensors()


def test_labels_that_are_hidden_change_nothing_in_units_that_learn_without():
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
    baselines = {"backprop", "backprop, teaching itself", "random features", "linear"}
    assert learners == baselines | {"mSTDP, teaching itself", "mSTDP, labelled images only"}
    assert set(found) == {(learner, "mnist, 60 labels") for learner in learners}
    assert all(row["n_train"] == 60 for row in found.values())
    assert all(row["accuracy"] > 0.5 for row in found.values())


def test_labelled_images_are_repeated_among_all_images():
    labelled, images = digits(seed=0)[0][:10], digits(seed=0)[0].x[:200]
    shown, labels = mnist_semi.mixed(labelled, images, copies=0.15)
    assert len(shown) == len(labels) == 3 * 10 + 200
    assert torch.equal(labels[:30], labelled.y.repeat(3))
    assert labels[30:].eq(-1).all()
    assert torch.equal(shown.x[10:20], labelled.x)
    assert torch.equal(shown.x[30:], images)


def test_momentum_settles_everywhere_at_the_same_accuracy(tmp_path):
    out = tmp_path / "out"
    assert main(f"run momentum --epochs 3 --momenta 0 0.5 --sizes 0.2 --out {out}".split()) == 0
    for task, quality in (("naming", "accuracy"), ("completing", "squared_error")):
        plain, pushed = (row for row in rows(out, "settling") if row["task"] == task)
        assert plain["settled"] == pushed["settled"] == 1
        assert pushed["steps"] < plain["steps"]
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


def test_rows_are_plain_json(drawn):
    for row in read(drawn).rows:
        json.dumps(row, allow_nan=False)
