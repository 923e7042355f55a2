"""Corruptions and damage: what they do to images and weights known by heart, and that nobody's own are touched."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from common import rng
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.evaluate.robustness.corruptions import (
    CORRUPTIONS,
    accuracy_under_corruption,
    blur,
    contrast,
    corrupted,
    shift,
)
from neuropil.evaluate.robustness.damage import (
    accuracy_under_damage,
    damaged,
    damages_for,
    hidden_layers,
    weights_of,
)
from neuropil.models import BackpropClassifier, FeatureClassifier, SupervisedTraining, dense_body


@pytest.fixture(scope="module")
def images():
    return digits(seed=0)


# Corruptions


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_severity_is_further_from_the_image_and_stays_one(kind, images):
    test, before = images[1], images[1].x.clone()
    apart = []
    for severity in range(1, 6):
        broken = corrupted(test, kind, severity, rng())
        assert broken.x.shape == test.x.shape
        assert torch.equal(broken.y, test.y)
        apart.append((broken.x - test.pixels()).square().mean().item())
    assert torch.equal(test.x, before)
    assert apart == sorted(apart)
    assert apart[-1] > 1.5 * apart[0] > 0
    assert torch.equal(corrupted(test, kind, 3, rng(1)).x, corrupted(test, kind, 3, rng(1)).x)


def test_noise_has_its_deviation():
    grey = Split(torch.full((200, 1, 10, 10), 0.5), torch.zeros(200).long(), 1)
    assert corrupted(grey, "noise", 2, rng()).x.std().item() == pytest.approx(0.1, rel=0.02)


def test_blur_is_the_gaussian_of_scipy():
    from scipy.ndimage import gaussian_filter

    x = torch.rand(3, 2, 28, 28, generator=rng())
    want = gaussian_filter(x.double().numpy(), 0.06 * 28, axes=(2, 3), mode="mirror", truncate=6 / (0.06 * 28))
    torch.testing.assert_close(blur(x, 0.06, rng()).double(), torch.as_tensor(want), atol=1e-5, rtol=0)


def test_contrast_keeps_the_mean_and_scales_the_rest():
    x = torch.rand(4, 3, 5, 5, generator=rng())  # one mean for all channels
    made = contrast(x, 0.75, rng())
    torch.testing.assert_close(made.mean((1, 2, 3)), x.mean((1, 2, 3)))
    torch.testing.assert_close(made.std((1, 2, 3)), 0.25 * x.std((1, 2, 3)))


def test_occlusion_is_one_black_square_and_lost_pixels_are_the_right_fraction():
    white = Split(torch.ones(500, 1, 10, 10), torch.zeros(500).long(), 1)
    black = corrupted(white, "occlusion", 3, rng()).x[:, 0] == 0
    assert (black.flatten(1).sum(1) == 16).all()
    assert (black.any(1).sum(1) == 4).all()
    assert (black.any(2).sum(1) == 4).all()
    assert 0.005 < black.float().mean(0).min() < 0.25 < black.float().mean(0).max() < 0.4  # 1 and 16 of 49 places
    assert (corrupted(white, "lost pixels", 4, rng()).x == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    colour = corrupted(Split(torch.ones(4, 3, 9, 9), torch.zeros(4).long(), 1), "lost pixels", 4, rng()).x
    assert torch.equal(colour, colour[:, :1].expand_as(colour))  # a pixel is lost in all its colours


def test_a_shift_moves_the_centre_of_mass_by_its_length():
    x = torch.zeros(50, 1, 20, 20)
    x[:, :, 9:11, 9:11] = 1
    made = shift(x, 0.2, rng())
    side = torch.arange(20.0)
    mass = made.sum((1, 2, 3))
    across, down = ((made.sum(axis)[:, 0] * side).sum(1) / mass - 9.5 for axis in (2, 3))
    torch.testing.assert_close(torch.hypot(across, down), torch.full((50,), 4.0), atol=0.02, rtol=0)
    quarter = 2 * (across > 0) + (down > 0)
    assert quarter.bincount(minlength=4).min() > 5  # of 50 images, in every direction alike


def test_corruptions_without_sense_are_refused(images):
    vectors = Split(torch.rand(3, 4), torch.zeros(3).long(), 1)
    for split, kind, severity, words in (
        (images[1], "nosie", 1, "Did you mean 'noise'"),
        (images[1], "noise", 6, "severities 1 to 5, got 6"),
        (vectors, "noise", 1, r"needs images .* got \(3, 4\)"),
    ):
        with pytest.raises(Refusal, match=words):
            corrupted(split, kind, severity, rng())


# Damage


@pytest.fixture(scope="module")
def learner(images):
    torch.manual_seed(0)
    body = dense_body(images[0], 40, n=1.0)
    return BackpropClassifier(body, training=SupervisedTraining(epochs=3, min_steps=100)).fit(images[0], rng=rng())


def weights(network):
    return [part.clone() for part in network.parameters()]


@pytest.mark.parametrize("kind", ["lost weights", "lost units", "weight noise", "few bits"])
def test_damage_harms_a_copy_more_and_more_and_never_the_learner(kind, learner, images):
    before = weights(learner.network_)
    found = {severity: right for name, severity, _, right in accuracy_under_damage(learner, images[1]) if name == kind}
    assert all(torch.equal(a, b) for a, b in zip(before, learner.network_.parameters()))
    assert found[1] > found[5] + (0.1 if kind != "few bits" else 0.01)
    assert sorted(found) == [1, 2, 3, 4, 5]


def test_damage_does_to_the_weights_what_it_says(learner):
    hidden, head = learner.body_.hidden.weight, learner.network_[2][1].weight
    lost = damaged(learner, "lost weights", 3, rng())
    assert lost.network_ is not learner.network_
    for weight, now in ((hidden, lost.body_.hidden.weight), (head, lost.network_[2][1].weight)):
        gone = now == 0
        assert gone.float().mean().item() == pytest.approx(0.5, abs=0.05)
        assert torch.equal(now[~gone], weight[~gone])
    units = damaged(learner, "lost units", 2, rng())
    silent = (units.body_.hidden.weight == 0).all(1)
    assert 4 <= int(silent.sum()) <= 20
    assert torch.equal(units.body_.hidden.weight[~silent], hidden[~silent])
    assert torch.equal(units.network_[2][1].weight, head)  # the last layer's units are the classes
    shaken = damaged(learner, "weight noise", 4, rng()).body_.hidden.weight - hidden
    assert shaken.std().item() == pytest.approx(hidden.std().item(), rel=0.05)
    bits = damaged(learner, "few bits", 4, rng()).body_.hidden.weight
    assert len(bits.unique()) <= 7
    assert (bits - hidden).abs().max() <= hidden.abs().max() / 3 / 2 * 1.001


def test_the_bias_of_a_lost_unit_is_lost_too():
    network = nn.Sequential(nn.Linear(5, 30), nn.ReLU(), nn.Linear(30, 2)).eval()
    broken = damaged(network, "lost units", 3, rng())
    silent = (broken[0].weight == 0).all(1)
    assert silent.any()
    assert torch.equal(broken(torch.zeros(1, 5)), broken[2](torch.where(silent, 0, network[0].bias).relu())[None])
    for axes, kind in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d), start=1):
        kernels = kind(2, 30, 1)
        nn.init.constant_(kernels.bias, 7.0)
        broken = damaged(nn.Sequential(kernels, nn.Flatten(), nn.Linear(30, 2)).eval(), "lost units", 3, rng())
        given = broken[0](torch.ones(1, 2, *[1] * axes)).flatten()
        assert 5 < given.count_nonzero() < 25
        assert given[given != 0].min() > 5


def test_weights_are_found_once_wherever_they_are(images, learner):
    assert len(weights_of(learner)) == 2  # body_ and network_ share the first
    assert len(hidden_layers(learner)) == 1
    loose = SimpleNamespace(weights_=[torch.ones(2, 3)], gain_={"a": torch.ones(3)}, hidden=torch.ones(2, 2))
    assert [tuple(weight.shape) for weight in weights_of(loose)] == [(2, 3)]
    tied = nn.Linear(2, 3)
    assert len(weights_of(SimpleNamespace(body_=tied, also_=[tied.weight], again_=tied.weight))) == 1
    assert damages_for(loose) == ["lost weights", "weight noise", "few bits"]
    made = LogisticRegression(max_iter=300).fit(images[0].pixels().flatten(1).numpy(), images[0].y.numpy())
    before, found = made.coef_.copy(), dict.fromkeys(kind for kind, *_ in accuracy_under_damage(made, images[1]))
    assert list(found) == ["lost weights", "weight noise", "few bits"]
    assert (made.coef_ == before).all()
    assert (damaged(made, "lost weights", 5, rng()).coef_ == 0).mean() > 0.8


def test_damage_without_sense_is_refused(images):
    linear = FeatureClassifier(nn.Sequential(nn.Flatten()), readout=SupervisedTraining(min_steps=5, epochs=1))
    linear.fit(images[0], rng=rng())
    for kind, severity, words in (
        ("lost unit", 1, "Did you mean 'lost units'"),
        ("few bits", 0, "severities 1 to 5, got 0"),
        ("lost units", 1, "lost units need hidden units, and FeatureClassifier has none"),
    ):
        with pytest.raises(Refusal, match=words):
            damaged(linear, kind, severity, rng())


def test_corruptions_are_the_same_for_every_learner_with_one_seed(images, learner):
    once, again = (list(accuracy_under_corruption(learner, images[1], seed=3)) for _ in range(2))
    assert once == again
    assert len(once) == 30
