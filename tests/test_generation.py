"""The scores of generated images: every number against a closed form, loops or a case whose answer is known."""

import math

import pytest
import torch
from scipy.linalg import sqrtm

from common import rng
from neuropil.associative.sampling import Samples
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.evaluate import ReferenceClassifier, accuracy, evaluate_samples
from neuropil.evaluate.metrics.generation import GenerationScores, frechet_distance, nearest, spread_within
from neuropil.experiments import generation as room
from neuropil.experiments.comparison import Method
from neuropil.experiments.generation import class_means, first_of_each, pca_samples
from neuropil.runs import NullTracker, Run, TaggedTracker, read


@pytest.fixture(scope="module")
def parts():
    return digits(seed=0)


@pytest.fixture(scope="module")
def reference(parts):
    return ReferenceClassifier(n_features=32, epochs=6, batch=20).fit(parts[0], rng=rng(), tracker=NullTracker())


def test_frechet_distance_of_known_normals_is_the_closed_form():
    x = torch.randn(200_000, 3, generator=rng(), dtype=torch.float64)
    moved = x * torch.tensor([2.0, 0.5, 1.0]) + torch.tensor([1.0, 0.0, -2.0])
    want = 1 + 4 + (2 - 1) ** 2 + (0.5 - 1) ** 2
    assert frechet_distance(x, moved) == pytest.approx(want, rel=0.02)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_is_that_of_scipy():
    a = torch.randn(50, 4, generator=rng(1), dtype=torch.float64)
    b = torch.randn(40, 4, generator=rng(2), dtype=torch.float64) @ torch.randn(4, 4, generator=rng(3)).double()
    one, two = a.T.cov().numpy(), b.T.cov().numpy()
    want = (a.mean(0) - b.mean(0)).square().sum().item() + (one + two - 2 * sqrtm(one @ two).real).trace()
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-8)


def test_spread_within_is_the_mean_over_classes_of_the_summed_variance():
    x, y = torch.rand(7, 2, 3, generator=rng()), torch.tensor([0, 1, 0, 1, 1, 2, 0])
    want = []
    for label in (0, 1):
        rows = [x[k].flatten().tolist() for k in range(7) if y[k] == label]
        means = [sum(column) / len(rows) for column in zip(*rows)]
        want.append(sum((row[j] - means[j]) ** 2 for row in rows for j in range(6)) / (len(rows) - 1))
    assert spread_within(x, y) == pytest.approx(sum(want) / 2, rel=1e-6)
    with pytest.raises(Refusal, match="two examples of some class"):
        spread_within(x[:2], torch.tensor([0, 1]))


def test_nearest_is_the_smallest_distance_found_by_loops(parts):
    train, test = parts[0][:150], parts[1][:5]
    found = nearest(test.x, train, batch=40)
    for k in range(5):
        want = min(math.dist(test.x[k].flatten().tolist(), other.flatten().tolist()) for other in train.x)
        assert found[k].item() == pytest.approx(want, rel=1e-4)
    assert nearest(train.x[:3], train).max() < 1e-2


def test_the_reference_classifier_knows_real_images_and_tells_copies_means_and_wrong_classes(reference, parts):
    train, test = parts
    assert accuracy(reference, test) > 0.9
    scores = reference.network_[-1](reference.features(test.x))
    assert torch.equal(scores.argmax(1), reference.predict(test.x))
    assert reference.features(test.x).min() == 0  # after the rectifier
    real = evaluate_samples(reference, test.x, test.y, test, train)
    assert real.pixel_variance == pytest.approx(1)
    assert real.frechet == pytest.approx(0, abs=1e-4)
    asked = torch.arange(10).repeat_interleave(5)
    means = evaluate_samples(reference, class_means(train)[asked], asked, test, train)
    assert (means.pixel_variance, means.feature_variance) == (0, 0)
    assert means.class_accuracy > 0.8
    assert means.frechet > 5 * abs(real.frechet)
    copies = evaluate_samples(reference, train.x[:100], train.y[:100], test, train)
    assert copies.nearest < 0.1 * real.nearest
    wrong = evaluate_samples(reference, test.x, (test.y + 1) % 10, test, train)
    assert wrong.class_accuracy < 0.1


def test_samples_of_a_probabilistic_pca_have_the_moments_of_their_class(parts):
    train = parts[0]
    asked = torch.full((4000,), 3)
    drawn = pca_samples(train, asked, rng())
    mine = train.x[train.y == 3]
    torch.testing.assert_close(drawn.mean(0), mine.mean(0), atol=0.06, rtol=0)  # cut to [0, 1], hence not exact
    assert 0.5 < spread_within(drawn, asked) / spread_within(mine, train.y[train.y == 3]) < 1.1
    assert (drawn[0] - drawn[1]).abs().max() > 0.1
    axis = torch.nn.functional.normalize(torch.randn(36, generator=rng(1)), dim=0)  # far from 0 and 1: nothing is cut
    grey = 0.5 + 0.06 * torch.randn(300, 1, generator=rng(2)) * axis + 0.01 * torch.randn(300, 36, generator=rng(3))
    train = Split(grey.view(300, 1, 6, 6), torch.zeros(300, dtype=torch.int64), 1)
    x = pca_samples(train, torch.zeros(4000, dtype=torch.int64), rng()).flatten(1)
    x, given = x - x.mean(0), grey - grey.mean(0)
    assert (x @ axis).std().item() == pytest.approx((given @ axis).std().item(), rel=0.05)
    assert x.square().sum(1).mean().item() == pytest.approx(given.square().sum(1).mean().item(), rel=0.05)


def test_the_first_of_each_class_come_class_after_class():
    images, classes = torch.arange(6.0)[:, None], torch.tensor([1, 0, 1, 0, 1, 0])
    assert first_of_each(images, classes, count=2).flatten().tolist() == [1, 3, 0, 2]


def test_what_a_reference_classifier_refuses(reference, parts):
    train, test = parts
    with pytest.raises(Refusal, match=r"needs images .*got \(4, 3\)"):
        ReferenceClassifier().fit(Split(torch.rand(4, 3), torch.zeros(4).long(), 1), rng=rng(), tracker=NullTracker())
    with pytest.raises(Refusal, match=r"a class each, got \(3, 1, 8, 8\) and \(2,\)"):
        evaluate_samples(reference, test.x[:3], test.y[:2], test, train)


class Draws:
    """Generates the first training image again and again, and is its own judge."""

    generates = True

    def generate(self, labels, each, rng):
        return Samples(torch.zeros(len(labels) * each, 1, 8, 8), torch.ones(len(labels) * each))

    def fit(self, train, *, rng, tracker):
        self.train = train
        return self


def test_generated_images_stand_beside_means_and_samples_of_training_images(parts, tmp_path, monkeypatch):
    (train, test), seen, drawn, judge = parts, [], [], Draws()
    monkeypatch.setattr(room, "ReferenceClassifier", lambda: judge)
    monkeypatch.setattr(room, "accuracy", lambda judge, split: float(split is test))
    keep = lambda judge, images, classes, *real: seen.append((images, classes, real)) or GenerationScores(0, 0, 0, 0, 0)
    monkeypatch.setattr(room, "evaluate_samples", keep)
    monkeypatch.setattr(room, "pca_samples", lambda train, asked, rng: drawn.append(train) or torch.ones(20, 1, 8, 8))
    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    tracker = TaggedTracker(run, learner="a", data="digits", seed=0)
    room.log_generation_scores(Method("a", "local", judge), train, test, tracker, each=2)
    asked = torch.arange(10).repeat_interleave(2)
    made, sampled, means, real = ((images, classes) for images, classes, _ in seen)
    assert all(torch.equal(classes, asked) for _, classes in (made, sampled, means))
    assert torch.equal(means[0], class_means(train)[asked])
    assert torch.equal(real[0], test.pixels())
    assert torch.equal(real[1], test.y)
    assert judge.train is drawn[0] is train
    assert all(given == (test, train) for _, _, given in seen)
    rows = [row for row in read(run.folder).rows if row["kind"] == "samples"]
    assert [row["source"] for row in rows] == ["a", "probabilistic PCA", "class means", "real test images"]
    assert {row["reference_accuracy"] for row in rows} == {1.0}
