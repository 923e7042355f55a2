"""Corruptions and damage: what they do to images and weights known by heart, and that nobody's own are touched."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn
from torch.nn.utils import prune

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
    DAMAGES,
    accuracy_under_damage,
    check_used,
    damaged,
    damages_for,
    hidden_layers,
    weights_of,
)
from neuropil.models import BackpropClassifier, FeatureClassifier, SupervisedTraining, dense_body
from neuropil.sklearn import AssociationRuleClassifier, HebbianClassifier


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


def test_a_weight_of_0_is_no_synapse_and_gets_no_noise_and_no_bits():
    """Two layers of 40 x 50, in whose weights only each third is there, beside a layer of these alone."""
    there = (torch.arange(2000) % 3 == 0).view(40, 50)
    weight = torch.randn(40, 50, generator=rng(), dtype=torch.float64) * 0.37 * there
    layer = nn.Linear(50, 40, dtype=torch.float64).eval().requires_grad_(False)
    layer.weight.copy_(weight)
    hidden = nn.Linear(50, 40, dtype=torch.float64).eval().requires_grad_(False)
    hidden.weight.copy_(torch.where(there, weight, 9.0))  # behind a mask
    hidden.register_buffer("mask", there.double())
    for one in (layer, hidden):
        for kind in DAMAGES:
            if kind != "lost units":
                assert bool((damaged(one, kind, 3, rng(1)).weight[~there] == 0).all())
        noise = damaged(one, "weight noise", 4, rng(1)).weight - weight
        s = weight[there].std().item()
        assert noise[there].std().item() == pytest.approx(s, rel=0.06)
        assert bool((noise[there] != 0).all())
    alone = nn.Linear(1, 1, bias=False).eval()
    assert bool(damaged(alone, "weight noise", 3, rng()).weight.isfinite().all())
    assert not torch.equal(damaged(alone, "weight noise", 3, rng()).weight, alone.weight)


class HeadFirst(nn.Module):
    """A network whose layer of classes is registered before the others."""

    def __init__(self):
        super().__init__()
        self.head, self.norm, self.body = nn.Linear(30, 10), nn.LayerNorm((5, 6)), nn.Linear(64, 30)

    def forward(self, x):
        return self.head(self.norm(self.body(x.flatten(1)).view(-1, 5, 6)).flatten(1).relu())


def test_the_layer_of_the_classes_is_the_one_that_computes_last(images):
    torch.manual_seed(0)
    net = HeadFirst().eval()
    assert hidden_layers(net) == [net.head]  # what the order of the names tells
    assert hidden_layers(net, images[1]) == [net.body]
    broken = damaged(net, "lost units", 3, rng(), images[1])
    assert torch.equal(broken.head.weight, net.head.weight)
    assert (broken.body.weight == 0).all(1).any()
    assert [tuple(weight.shape) for weight in weights_of(net)] == [(10, 30), (30, 64)]  # gains are no weights


def test_weights_that_are_copies_or_computed_are_refused(images):
    train, test = images
    x, y = train.pixels().flatten(1).numpy(), train.y.numpy()
    machine = SVC(kernel="linear").fit(x[:300], y[:300])  # its coef_ is made anew whenever it is asked for
    assert list(accuracy_under_damage(machine, test)) == []
    with pytest.raises(Refusal, match="weights, and SVC has none"):
        damaged(machine, "lost weights", 5, rng())
    held = SimpleNamespace(network_=nn.Linear(64, 10), predict=lambda x: x.flatten(1)[:, :10].argmax(1))
    with pytest.raises(Refusal, match="the weights that a learner predicts with, and SimpleNamespace answers alike"):
        list(accuracy_under_damage(held, test))
    check_used(SimpleNamespace(weights_=torch.zeros(3, 4), predict=held.predict), test)  # noise cannot tell
    for made in (nn.utils.parametrizations.weight_norm, lambda layer: prune.random_unstructured(layer, "weight", 0.3)):
        net = nn.Sequential(nn.Flatten(), made(nn.Linear(64, 20)), nn.ReLU(), nn.Linear(20, 10)).eval()
        with pytest.raises(Refusal, match=r"parameters, got computed ones in .*Linear '1'; call remove"):
            damaged(net, "lost units", 2, rng())
    sparse = LogisticRegression(max_iter=300).fit(x, y).sparsify()
    with pytest.raises(Refusal, match=r"arrays, got csr_matrix as coef_; call densify\(\)"):
        damaged(sparse, "lost weights", 2, rng())


def test_learners_within_learners_are_damaged(images):
    train, test = images
    x, y = train.pixels().flatten(1).numpy(), train.y.numpy()
    pipe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x, y)
    mine = AssociationRuleClassifier(60, min_steps=60, random_state=0).fit(x[:300], y[:300])
    two = HebbianClassifier(n_units=30, random_state=0).fit(x[:300], y[:300])
    for learner, count in ((pipe, 1), (mine, 1), (two, 2)):
        assert len(weights_of(learner)) == count
        found = {(kind, severity): right for kind, severity, _, right in accuracy_under_damage(learner, test)}
        assert found["lost weights", 5] < found["lost weights", 1] - 0.1
