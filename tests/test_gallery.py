"""What a run keeps for the eye is what its words say: mistakes, fields, completed and adversarial images."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import neuropil as npl
from neuropil.data import Split
from neuropil.evaluate.robustness import Suite
from neuropil.experiments.comparison import Method, about_of
from neuropil.experiments.gallery import SIDE, log_adversarial, log_examples, log_mistakes, save_pictures, spread
from neuropil.experiments.methods import builders, method_names
from neuropil.runs import Run, TaggedTracker, read


@pytest.fixture
def tracker(tmp_path):
    run = Run.start(tmp_path / "run", recipe="test", config={}, command="test")
    yield TaggedTracker(run, learner="mine", data="toy", seed=0)
    run.close()


@pytest.fixture(scope="module")
def digits():
    train, test = npl.load_data("digits")
    return npl.subset(train, 200, 0), test


def kept(tracker):
    """The one row of images, and its images in [0, 1]."""
    record = read(tracker.run.folder)
    (row,) = [row for row in record.rows if row["kind"] == "images"]
    return row, record.tensors()[row["tensor"]].double() / 255


def test_mistakes_are_those_of_the_learner_with_their_classes_by_name(tracker):
    """An oracle that knows which: a learner that answers 0 for everything."""
    x = torch.rand(30, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    test = Split(x, torch.arange(30) % 3, 3, names=("cat", "dog", "owl"))
    log_mistakes(SimpleNamespace(predict=lambda x: torch.zeros(len(x), dtype=torch.int64)), test, tracker)
    row, images = kept(tracker)
    assert row["words"] == ["dog → cat", "owl → cat"] * 5
    torch.testing.assert_close(images, x[test.y > 0][:10].double(), atol=0.5 / 255 + 1e-6, rtol=0)


def test_a_learner_of_ones_own_may_answer_with_an_array(tracker):
    test = Split(torch.rand(30, 1, 6, 5), torch.arange(30) % 3, 3)
    log_mistakes(SimpleNamespace(predict=lambda x: np.ones(len(x), np.int32)), test, tracker)
    assert kept(tracker)[0]["words"] == ["0 → 1", "2 → 1"] * 5


def test_below_a_mistake_stands_what_was_said_of_this_image(tracker):
    x = torch.rand(30, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    test = Split(x, torch.arange(30) % 5, 5)
    answers = torch.where(torch.arange(30) % 3 == 0, test.y, (3 * test.y + 1) % 5)
    log_mistakes(SimpleNamespace(predict=lambda x: answers[: len(x)]), test, tracker)
    wrong = (answers != test.y).nonzero().flatten()[:10].tolist()
    assert kept(tracker)[0]["words"] == [f"{int(test.y[k])} → {int(answers[k])}" for k in wrong]


def test_a_learner_without_mistakes_keeps_none(tracker):
    test = Split(torch.rand(9, 1, 4, 4), torch.zeros(9, dtype=torch.int64), 2)
    log_mistakes(SimpleNamespace(predict=lambda x: torch.zeros(len(x), dtype=torch.int64)), test, tracker)
    assert read(tracker.run.folder).rows == []


def test_examples_are_one_of_each_class_and_large_ones_are_made_small(tracker):
    x = torch.zeros(6, 3, 130, 260)
    x[3:] = 1
    x[4, ..., ::2] = 0  # stripes of a pixel become grey
    log_examples(Split(x, torch.tensor([1, 1, 1, 0, 2, 2]), 3), tracker)
    row, images = kept(tracker)
    assert row["words"] == ["0", "1", "2"]
    assert images.shape == (3, 3, SIDE // 2, SIDE)
    assert images[:2].amin((1, 2, 3)).tolist() == images[:2].amax((1, 2, 3)).tolist() == [1, 0]
    assert 0.3 < images[2].min() < images[2].max() < 0.7


def test_spread_takes_examples_from_everywhere():
    split = Split(torch.arange(1000.0)[:, None], torch.zeros(1000, dtype=torch.int64), 1)
    assert spread(split, 5).x[:, 0].tolist() == [0, 249, 499, 749, 999]
    assert len(spread(split, 2000)) == 1000


def test_fields_before_learning_are_those_of_the_seed_of_the_run(tmp_path, digits):
    train, test = digits
    learner = npl.AssociationClassifier((20,), k=None, training=npl.AssociationTraining(1, 50))
    learner.fit(train, rng=torch.Generator().manual_seed(5))
    run = Run.start(tmp_path / "five", recipe="test", config={}, command="test")
    save_pictures(learner, train, test, TaggedTracker(run, learner="mine", data="toy", seed=5))
    first = learner.fresh(train, torch.Generator().manual_seed(5)).get_parameter("hidden.weight")
    before = read(run.folder).tensors()["fields_before.mine"].float()
    torch.testing.assert_close(before, first.detach().view(20, 1, 8, 8), atol=1e-3, rtol=1e-3)
    run.close()


def test_fields_before_are_the_first_weights_and_frozen_ones_are_kept_once(tracker, digits):
    train, test = digits
    rng = torch.Generator().manual_seed(0)
    body = npl.dense_body(train, 12, n=2.0)
    npl.init_examples_(body, train, rng)
    learning = npl.LocalLearning({"hidden": npl.SoftHebb(tau=0.1)}, epochs=1, batch=50, lr=0.1)
    quick = npl.SupervisedTraining(epochs=1, min_steps=1)
    first = body.get_parameter("hidden.weight").detach().clone()
    learner = npl.FeatureClassifier(body, learning=learning, readout=quick).fit(train, rng=rng)
    save_pictures(learner, train, test, tracker)
    tensors = read(tracker.run.folder).tensors()
    torch.testing.assert_close(tensors["fields_before.mine"].float(), first.view(12, 1, 8, 8), atol=1e-3, rtol=1e-3)
    assert not torch.equal(tensors["fields.mine"], tensors["fields_before.mine"].float())
    frozen = npl.FeatureClassifier(body, readout=quick).fit(train, rng=rng)
    other = TaggedTracker(tracker.run, learner="frozen", data="toy", seed=0)
    save_pictures(frozen, train, test, other)
    assert {"fields.frozen"} == {
        name for name in read(tracker.run.folder).tensors() if "frozen" in name and name[0] == "f"
    }


def test_adversarial_images_stay_in_their_budget_and_say_what_became_of_them(tracker, digits):
    train, test = digits
    body, rng = npl.dense_body(train, 20, n=1.0), torch.Generator().manual_seed(0)
    npl.init_normal_(body, rng)
    learner = npl.FeatureClassifier(body, readout=npl.SupervisedTraining(epochs=5, min_steps=50)).fit(train, rng=rng)
    suite = Suite(linf=(0.05, 0.3, 0.1), l2=(), attack_steps=3, attack_restarts=1, attack_queries=20)
    log_adversarial(learner, test, tracker, suite)
    row, images = kept(tracker)
    clean, moved = images.chunk(2)
    assert row["per_line"] == len(clean) == 8
    assert row["caption"].endswith("under PGD, Linf 0.1.")  # the middle one
    assert (clean - moved).abs().max() <= 0.1 + 1 / 255
    assert (clean - moved).abs().amax((1, 2, 3)).min() > 0.05
    before, after = row["words"][:8], row["words"][8:]
    assert learner.predict(clean.float()).tolist() == [int(word) for word in before]
    given = [word.partition(" → ")[2] or word.partition(",")[0] for word in after]
    found = learner.predict(moved.float()).tolist()
    assert sum(int(one) == two for one, two in zip(given, found)) >= 7  # bytes may tip an answer on the edge


def test_every_method_of_the_comparison_has_a_sentence_and_a_link():
    train, rng = npl.load_data("digits")[0], torch.Generator().manual_seed(0)
    made = builders((), 30)
    assert len(made) == len(method_names()) >= 13
    for build in made.values():
        row = build(train, rng).row()
        assert 20 < len(row.about) < 140, row.about
        assert row.link.startswith("https://")
        assert "https://" not in row.about


def test_what_builds_a_method_says_what_it_does():
    def mine(train, rng, units):
        """It guesses.

        See https://example.org/guess for more.
        """

    assert about_of(partial(partial(mine, units=3))) == mine.__doc__
    assert about_of(lambda train, rng: None) == ""
    row = Method("mine", "local", None).introduced(partial(mine, units=3)).row()
    assert (row.about, row.link) == ("It guesses.", "https://example.org/guess")
    own = Method("mine", "local", None, about="Own words.").introduced(mine).row()
    assert (own.about, own.link) == ("Own words.", "")
