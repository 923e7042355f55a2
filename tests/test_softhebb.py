"""Deep SoftHebb: heads that see altered copies, mirrors, batch statistics, and what the recipes refuse."""

import pytest
import torch
from torch import nn

from common import first_digits, rng
from neuropil.cli import main
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.experiments import own_data as _baselines
from neuropil.models import BackpropClassifier, FeatureClassifier, Mirror, SupervisedTraining
from neuropil.models.training.readout import featurise
from neuropil.recipes import cifar_softhebb, mnist_conv_krotov
from neuropil.recipes.cifar_softhebb import Config, SoftCompetition, network_for
from neuropil.runs import NullTracker

train = first_digits(60)


def test_a_mirror_exchanges_left_and_right_of_the_images_that_are_drawn():
    x = torch.rand(400, 2, 3, 4, generator=rng())
    assert torch.equal(Mirror(1.0)(x, rng()), torch.stack([x[..., column] for column in (3, 2, 1, 0)], -1))
    assert torch.equal(Mirror(0.0)(x, rng()), x)
    some = Mirror(0.25)(x, rng())
    flip_inputs = [k for k in range(400) if torch.equal(some[k], x[k].flip(2))]
    assert all(torch.equal(some[k], x[k]) for k in range(400) if k not in flip_inputs)
    assert 70 < len(flip_inputs) < 130


@pytest.mark.parametrize("wrong", [lambda: Mirror(1.5), lambda: Mirror()(torch.zeros(3, 64), rng())])
def test_what_a_mirror_cannot_do(wrong):
    with pytest.raises(Refusal, match="Mirror needs"):
        wrong()


def test_the_copies_follow_the_images_with_their_labels(train):
    seen = featurise(nn.Flatten(), train, batch=7, n_augmented=2, augment=lambda x, rng: 1 - x, rng=rng())
    flat = train.pixels().flatten(1)
    torch.testing.assert_close(seen.x, torch.cat([flat, 1 - flat, 1 - flat]))
    assert seen.y.tolist() == train.y.tolist() * 3


def test_a_head_learns_what_only_the_copies_show():
    # bars on the left; mirrored they are on the right
    left = torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]])[:, None, None]
    train = Split(left.expand(2, 1, 5, 6).contiguous(), torch.tensor([0, 1]), 2)
    body, head = (
        nn.Sequential(nn.Flatten()),
        SupervisedTraining(epochs=200, batch=4, lr=0.05, weight_decay=0.0, min_steps=1),
    )
    mirrored = train.pixels().flip(-1)
    plain = FeatureClassifier(body, readout=head).fit(train, rng=rng())
    taught = FeatureClassifier(body, readout=head, n_augmented=1, augment=Mirror(1.0)).fit(train, rng=rng())
    assert plain.decision_function(mirrored).diff(dim=0).abs().max() < 1e-3  # it cannot tell the mirrored bars apart
    assert taught.predict(mirrored).tolist() == taught.predict(train.pixels()).tolist() == [0, 1]


@pytest.mark.parametrize(("labels", "seen"), [(60, 120), (50, 100), (40, 120), (20, 100)])
def test_few_labels_get_as_many_more_copies_as_make_the_fewest_examples(train, labels, seen):
    shown = []

    class Notes(SupervisedTraining):
        def fit_(self, network, features, **rest):
            shown.append(len(features))
            super().fit_(network, features, **rest)

    head = Notes(epochs=1, min_steps=1)
    learner = FeatureClassifier(
        nn.Sequential(nn.Flatten()), readout=head, n_augmented=1, augment=Mirror(), min_examples=100
    )
    learner.fit(train[:labels], rng=rng())
    assert shown == [seen]


wrong_copies = [{"n_augmented": 1}, {"min_examples": 9}, {"augment": Mirror()}]
wrong_copies += [
    {"n_augmented": 1, "augment": Mirror(), "min_examples": -1},
    {"n_augmented": -1, "augment": Mirror(), "min_examples": 2},
]


@pytest.mark.parametrize("wrong", wrong_copies)
def test_copies_need_to_be_altered_somehow(wrong):
    with pytest.raises(Refusal, match="n_augmented and min_examples >= 0"):
        FeatureClassifier(nn.Sequential(nn.Flatten()), **wrong)


def test_backprop_trains_its_batch_statistics_and_then_fixes_them(train):
    body = nn.Sequential(nn.BatchNorm2d(1, affine=False, momentum=1.0), nn.Flatten()).eval()
    training = SupervisedTraining(epochs=1, batch=60, min_steps=1)
    learner = BackpropClassifier(body, training=training).fit(train, rng=rng())
    torch.testing.assert_close(learner.body_[0].running_mean, train.pixels().mean((0, 2, 3)))
    before = learner.decision_function(train.pixels())
    torch.testing.assert_close(learner.decision_function(train.pixels()[:3]), before[:3])


def test_the_deep_body_is_the_published_one():
    config = Config(channels=(6, 24, 96))  # a sixteenth of the published widths
    images = Split(torch.rand(2, 3, 32, 32), torch.tensor([0, 1]), 10)
    body = network_for(config, images, rng(), config.power)
    assert body(images.x).shape == (2, 96, 4, 4)
    sizes = []
    for name, layer in body.named_children():
        layer.register_forward_hook(lambda _, __, out, name=name: sizes.append((name, *out.shape[1:])))
    body.eval()(images.x)
    assert [size for size in sizes if size[0].startswith(("conv", "pool"))] == [
        ("conv1", 6, 32, 32),
        ("pool1", 6, 16, 16),
        ("conv2", 24, 16, 16),
        ("pool2", 24, 8, 8),
        ("conv3", 96, 8, 8),
        ("pool3", 96, 4, 4),
    ]


def test_the_border_of_odd_maps_is_pooled_as_well():
    config = Config(channels=(2, 2, 3))
    images = Split(torch.zeros(1, 1, 28, 28), torch.tensor([0]), 10)
    pool = network_for(config, images, rng(), config.power).get_submodule("pool3")
    seen = torch.zeros(1, 3, 7, 7)
    seen[..., 6, 6] = 1.0
    assert pool(seen)[0, :, 3, 3].tolist() == [1.0] * 3


def test_one_pass_brings_the_kernels_from_afar_towards_norm_one(train):
    config = Config(channels=(6, 8, 10), lr=(0.5, 0.5, 0.5), epochs=30)
    body = network_for(config, train, rng(), config.power)
    for weight in body.parameters():
        with torch.no_grad():
            weight.normal_(0, 5 * weight[0].numel() ** -0.5, generator=rng())
    body.requires_grad_(False)
    from_afar = [(weight.flatten(1).norm(dim=1) - 1).abs().mean() for weight in body.parameters()]
    SoftCompetition(config).fit_(body, train, rng=rng(), tracker=NullTracker())
    arrived = [(weight.flatten(1).norm(dim=1) - 1).abs().mean() for weight in body.parameters()]
    assert all(late < 0.7 * early for late, early in zip(arrived, from_afar))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--channels 4 6", "one setting for every layer"),
        ("--kernels 4 3 3", "odd kernels"),
        ("--tau 0 1 1", "tau > 0"),
        ("--learners softhebb", "Did you mean 'soft_hebb'"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(words, says, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cifar_softhebb, "run_comparison", None)
    assert main(["run", "cifar_softhebb", *words.split(), "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("recipe", [cifar_softhebb, mnist_conv_krotov])
@pytest.mark.parametrize(("n_augmented", "min_examples"), [(0, 0), (0, 50), (2, 0)])
def test_augmented_copies_reach_every_readout_and_augmented_images_backprop(recipe, n_augmented, min_examples, train):
    copies = {"n_augmented": n_augmented, "min_examples": min_examples}
    small = {"kernel": 5, "kernels": 9} if recipe is mnist_conv_krotov else {"channels": (4, 5, 6)}
    config = recipe.Config(data="cifar10", **copies, **small)
    builds = config.plan(recipe.METHODS, config.data).builds.values()
    learners = {method.name: method.learner for build in builds if (method := build(train, rng()))}
    heads = [learner for name, learner in learners.items() if name not in ("backprop", "linear")]
    assert len(heads) >= 2
    augment = Mirror(1.0) if n_augmented or min_examples else None
    assert {(head.n_augmented, head.min_examples, head.augment) for head in heads} == {(*copies.values(), augment)}
    always = recipe is cifar_softhebb
    assert learners["backprop"].training.augment == (Mirror() if augment or always else None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_recipe_runs_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(_baselines, "load", lambda name, seed=0: digits(seed=seed))
    tiny = (
        "--channels 4 6 8 --n-train 200 --n-augmented 1 --readout-epochs 3 --backprop-epochs 2 --backprop-min-steps 20"
    )
    words = f"run cifar_softhebb {tiny} --labels 50 --device cuda --out {tmp_path / 'out'}"
    assert main(words.split()) == 0
