"""The classifier of QIF neurons: it learns, names by spikes alone as well, repeats itself, and refuses nonsense."""

import pytest
import torch

from neuropil.checks import Refusal
from neuropil.data import load, subset
from neuropil.learners.qif_classifier import QIFClassifier, QIFTraining


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def fitted():
    train, test = load("yin_yang")
    training = QIFTraining(epochs=8, batch=50, lr=2e-2)
    return QIFClassifier((40,), span=2.5, training=training).fit(subset(train, 1000, 0), rng=seeded(0)), test


def test_it_learns_and_ordinary_spikes_say_the_same(fitted):
    learner, test = fitted
    named, alone = learner.predict(test.x), learner.predict_ordinary(test.x)
    assert (named == test.y).float().mean() > 0.85
    fired = learner.activity(test.x)[-1].sum(1) > 0
    assert fired.float().mean() > 0.9
    assert torch.equal(alone[fired], named[fired])  # a pseudospike never comes before an ordinary one
    assert (alone[~fired] == -1).all()


def test_the_first_to_fire_has_the_highest_score(fitted):
    learner, test = fitted
    times = learner.network_(learner.encode(test.x[:20]))[1][..., 0]
    assert torch.equal(learner.scores(test.x[:20]), -times)
    assert torch.equal(learner.predict(test.x[:20]), times.argmin(1))


def test_numbers_become_times_and_one_more_input_is_always_first():
    times = QIFClassifier(span=2.0).encode(torch.tensor([[0.0, 0.25, 1.0]]))
    assert times.tolist() == [[0.0, 0.5, 2.0, 0.0]]


def test_the_same_seed_gives_the_same_network():
    train = subset(load("yin_yang")[0], 100, 0)
    training = QIFTraining(epochs=1, steps=4)
    one, two, three = (QIFClassifier((8,), training=training).fit(train, rng=seeded(s)) for s in (3, 3, 4))
    for a, b, c in zip(*(learner.network_.parameters() for learner in (one, two, three))):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_bad_settings_are_refused():
    for make in (
        lambda: QIFTraining(epochs=0),
        lambda: QIFTraining(lr=0.0),
        lambda: QIFTraining(margin=-1.0),
        lambda: QIFClassifier(span=5.0),
    ):
        with pytest.raises(Refusal):
            make()
