"""One wide layer: ridge regression against scikit-learn's, codes, k-means of patches, the signed winner-take-all."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from common import rng
from neuropil.data import Split, digits, hold_out
from neuropil.errors import Diverged, Refusal
from neuropil.experiments.k_means import init_centres_, init_whitened_, k_means_centres
from neuropil.experiments.self_taught import SelfTaught, answer
from neuropil.loading import load
from neuropil.models import (
    Beside,
    CReLU,
    FeatureClassifier,
    LeastSquares,
    Mirror,
    MirrorMean,
    PatchNormConv2d,
    RidgeRegression,
    SignedPower,
    init_kernels_,
    stacked,
)
from neuropil.models.training import ridge
from neuropil.models.training.readout import fresh_head
from neuropil.models.training.ridge import solutions
from neuropil.plasticity import SignedWTA, propose_
from neuropil.plasticity.patches import sample_patches
from neuropil.recipes import cifar_softhebb
from neuropil.runs import NullTracker


def blobs(n, d, classes=3, apart=1.0):
    x, y = torch.randn(n, d, generator=rng(n)), torch.arange(n) % classes
    return Split(0.7 * x + apart * torch.randn(classes, d, generator=rng(d))[y] + 3.1, y, classes)


@pytest.mark.parametrize(("n", "d"), [(53, 7), (17, 41)])
def test_ridge_regression_is_that_of_scikit_learn_with_fewer_and_with_more_features_than_examples(n, d):
    data, strengths = blobs(n, d), [0.013, 2.7]
    x, targets = data.x.double().numpy(), np.eye(3)[data.y.numpy()]
    scale = (x - x.mean(0)).var()
    for strength, (weight, bias) in zip(strengths, solutions(data.x.double(), data.y, 3, strengths)):
        want = Ridge(alpha=n * strength * scale, solver="cholesky").fit(x, targets)
        np.testing.assert_allclose(weight.numpy(), want.coef_, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(bias.numpy(), want.intercept_, rtol=1e-9, atol=1e-11)


def test_ridge_regression_in_uneven_pieces_is_that_of_all_and_sees_what_is_made_of_the_features(monkeypatch):
    first = lambda x: 1.7 * x.square() - 0.3
    for n, d in ((53, 7), (17, 41)):
        data = blobs(n, d)
        x, y = data.x.double(), data.y
        monkeypatch.setattr(ridge, "PIECE", 4096)
        ((weight, bias),) = solutions(first(x), y, 3, [0.13])
        monkeypatch.setattr(ridge, "PIECE", 9)
        ((other, beside),) = solutions(x, y, 3, [0.13], first)
        torch.testing.assert_close(other, weight, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(beside, bias, rtol=1e-10, atol=1e-12)
        head = fresh_head(data, standardise=False)
        seen = []
        tracker = SimpleNamespace(loop=lambda *_, **__: range(1), log=lambda row, seen=seen: seen.append(row.metrics))
        RidgeRegression((0.13,)).fit_(head, data, stage="readout", rng=rng(), tracker=tracker)
        assert seen[0]["train_accuracy"] == (head(data.x).argmax(1) == y).double().mean().item()


def fit(readout, data):
    head = fresh_head(data)
    readout.fit_(head, data, stage="readout", rng=rng(), tracker=NullTracker())
    return head


def test_the_strength_is_the_best_on_held_out_examples_and_all_examples_serve_for_the_weights():
    data = blobs(90, 60, apart=0.2)
    strengths = (1e-3, 0.1, 5.0, 300.0)
    rest, held = hold_out(data, 0.2, int(torch.randint(2**31, (), generator=rng())))
    standard = fresh_head(data)[0]
    scores = {}
    for strength in strengths:
        ((weight, bias),) = solutions(standard(rest.x), rest.y, 3, [strength])
        scores[strength] = ((standard(held.x).double() @ weight.T + bias).argmax(1) == held.y).double().mean().item()
    best = max(one for one in strengths if scores[one] == max(scores.values()))
    chosen, named = fit(RidgeRegression(strengths), data), fit(RidgeRegression((best,)), data)
    assert torch.equal(chosen.get_submodule("linear").weight, named.get_submodule("linear").weight)
    assert min(scores.values()) < max(scores.values())
    assert not any(parameter.requires_grad for parameter in chosen.parameters())


def test_too_few_examples_to_hold_some_out_get_the_strongest_penalty():
    data = blobs(3, 5)
    few = fit(RidgeRegression((0.1, 7.0)), data).get_submodule("linear").weight
    assert torch.equal(few, fit(RidgeRegression((7.0,)), data).get_submodule("linear").weight)


def test_what_ridge_regression_refuses():
    for wrong in {"strengths": ()}, {"strengths": (0.0,)}, {"strengths": (float("nan"),)}, {"held_out": 1.0}:
        with pytest.raises(Refusal, match="RidgeRegression needs"):
            RidgeRegression(**wrong)
    body, copies = nn.Sequential(nn.Flatten()), {"n_augmented": 1, "augment": Mirror(1.0)}
    with pytest.raises(Refusal, match="both sides of the held-out part"):
        FeatureClassifier(body, readout=RidgeRegression(), **copies)
    assert FeatureClassifier(body, readout=RidgeRegression((0.1,)), **copies)
    data = blobs(20, 4)
    with pytest.raises(Diverged, match="features that are NaN or infinite"):
        list(solutions(data.x * 1e38, data.y, 3, [0.1]))


def test_a_model_under_ridge_regression_is_saved_and_refitted(tmp_path):
    import neuropil as npl

    train, test = digits()
    model = FeatureClassifier(nn.Sequential(nn.Flatten()), readout=RidgeRegression()).fit(train, rng=rng())
    model.save(tmp_path / "model.safetensors")
    again = npl.load(tmp_path / "model.safetensors")
    assert torch.equal(again.decision_function(test.x), model.decision_function(test.x))
    assert again.refit_readout(train[:200], rng=rng()).readout == RidgeRegression()


def test_features_that_are_too_alike_for_the_penalty_are_refused_and_a_choice_takes_a_larger_one():
    train, fit = blobs(60, 3), lambda readout: FeatureClassifier(body, readout=readout).fit(train, rng=rng())
    body = nn.Sequential(nn.Flatten(), nn.Linear(3, 400, bias=False))
    with pytest.raises(Refusal, match=r"so alike .* larger penalty, got strengths=1e-17"):
        fit(RidgeRegression((1e-17,)))
    assert (fit(RidgeRegression((1e-17, 1e-3))).predict(train.x) == train.y).double().mean() > 0.5
    head = LeastSquares(3, 2, ridge=1e-300)
    head.learn_(torch.ones(4, 3) * torch.arange(4)[:, None], torch.tensor([0, 1, 0, 1]))
    with pytest.raises(Refusal, match=r"got ridge=1e-300"):
        head(torch.ones(1, 3))


def test_codes_have_both_signs_beyond_a_threshold_and_powers_keep_the_sign():
    x = torch.tensor([[[-2.0, 0.1], [0.75, 3.0]]])
    want = torch.tensor([[[0, 0], [0.25, 2.5], [1.5, 0], [0, 0]]])
    assert torch.equal(CReLU(threshold=0.5)(x), want)
    torch.testing.assert_close(SignedPower(0.5)(torch.tensor([-4.0, 0.0, 2.25])), torch.tensor([-2.0, 0.0, 1.5]))
    for wrong in (lambda: CReLU(threshold=-0.1), lambda: SignedPower(0.0)):
        with pytest.raises(Refusal):
            wrong()


def test_kernels_at_centres_meet_a_normalisation_that_has_its_statistics():
    train = digits()[0][:1000]
    conv, norm, above = nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6, momentum=None), nn.Conv2d(6, 4, 2, bias=False)
    init_centres_(stacked({"conv": conv, "norm": norm}, {"conv": above}), train, rng(5), count=300)
    torch.testing.assert_close(norm.running_mean, conv(train.pixels()).mean((0, 2, 3)).detach())
    for make in (init_centres_, init_whitened_):
        with pytest.raises(Refusal, match=r"as many patches to start from, got 3 for the 6 kernels of Conv2d\(1, 6"):
            make(stacked({"conv": conv}), train[:3], rng(5), count=3)


def test_kernels_at_centres_are_those_of_k_means_of_patches_as_the_layer_meets_them():
    train, _ = digits()
    body = stacked({"conv": PatchNormConv2d(1, 6, 3)}, {"conv": nn.Conv2d(6, 4, 2, bias=False)})
    body[0].whiten_(train, rng(3))
    init_centres_(body, train, rng(5), count=3000)
    gen = rng(5)
    some = train[torch.randint(len(train), (len(train),), generator=gen)]
    each = -(-3000 // len(some))
    parts = [sample_patches(body[0], part.x, each * len(part), gen) for part in some.batches(100)]
    x = torch.cat(parts).double().numpy()
    want = x[torch.randperm(len(x), generator=gen)[:6].numpy()]
    for _ in range(20):
        nearest = (x @ (want / np.linalg.norm(want, axis=1, keepdims=True)).T).argmax(1)
        want = np.stack([x[nearest == k].mean(0) for k in range(6)])
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(body[0].weight.detach().flatten(1), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(body[1].weight.flatten(1).norm(dim=1), torch.ones(4))
    assert k_means_centres(train.x.flatten(1)[:40], 5, 0).shape == (5, 64)


def test_a_plain_kernel_answers_to_patches_as_the_whitened_patch_that_it_stands_for():
    """Its answers are those of a kernel to whitened patches, which an eigenvalue solver of numpy whitens."""
    train, floor = digits()[0], 0.3
    body = stacked({"conv": nn.Conv2d(1, 6, 3, bias=False)}, {"conv": nn.Conv2d(6, 9, 2, bias=False)})
    init_whitened_(body, train, rng(5), floor=floor, count=4000)
    gen, below, all_seen = rng(5), train.pixels(), {"conv1": 6, "conv2": 9}
    for name, units in all_seen.items():
        layer = body.get_submodule(name)
        some = below[torch.randint(len(train), (len(train),), generator=gen)]
        each = -(-4000 // len(some))
        x = torch.cat([sample_patches(layer, part, each * len(part), gen) for part in some.split(100)]).double().numpy()
        z = x - x.mean(1, keepdims=True)
        z = z[np.linalg.norm(z, axis=1) > 0]
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        variance, axes = np.linalg.eigh(z.T @ z / len(z))
        whiten = axes / np.sqrt(variance.clip(0) + floor * variance.mean()) @ axes.T
        found = (z @ whiten) / np.linalg.norm(z @ whiten, axis=1, keepdims=True)
        chosen = found[torch.randperm(len(z), generator=gen)[:units].numpy()]
        want = (x - x.mean(1, keepdims=True)) @ whiten @ chosen.T
        got = x @ layer.weight.detach().flatten(1).double().numpy().T
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * abs(want).max())
        below = layer(below).detach()
    four, five = Split(torch.eye(4).view(4, 1, 2, 2), torch.arange(4), 4), nn.Conv2d(1, 5, 2, bias=False)
    with pytest.raises(Refusal, match="5 kernels need as many different patches, got"):
        init_whitened_(stacked({"conv": five}), four, rng(), count=90)


def test_a_unit_of_a_signed_winner_take_all_stands_for_an_axis():
    """Inputs lie near three axes, by either sign; every row ends at one of them, with norm 1."""
    axes = torch.linalg.qr(torch.randn(9, 3, generator=rng(1))).Q.T
    which, sign = torch.arange(600) % 3, (torch.rand(600, 1, generator=rng(2)) < 0.5).float() * 2 - 1
    x = sign * axes[which] + 0.02 * torch.randn(600, 9, generator=rng(4))
    layer = nn.Linear(9, 3, bias=False)
    layer.weight.data = x[:3] / x[:3].norm(dim=1, keepdim=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.3)
    for part in x.split(60) * 3:
        propose_(layer, SignedWTA()(layer, part))
        optimizer.step()
    likeness = (layer.weight.detach() @ axes.T).abs()
    assert likeness.max(1).values.min() > 0.995
    assert sorted(likeness.argmax(1).tolist()) == [0, 1, 2]


def test_an_answer_is_the_mean_over_the_copies_of_an_image():
    head, x = nn.Linear(5, 3).requires_grad_(False), torch.randn(8, 5)
    want = sum(head(copy).double().softmax(1) for copy in x.split(4)) / 2
    torch.testing.assert_close(answer(head, Split.unlabelled(x, 3), 2).double(), want)


def test_a_readout_that_teaches_itself_learns_from_the_surer_half_of_its_answers_to_each_class(tmp_path):
    """By hand: the plain classifier learns from images picked one by one; ridge regression asks for no order."""
    train, test = digits()
    few = train[:40]
    how = {"readout": RidgeRegression((0.1,)), "n_augmented": 1, "augment": Mirror(1.0)}
    plain, by_hand = (FeatureClassifier(nn.Sequential(nn.Flatten()), **how) for _ in range(2))
    taught = SelfTaught(plain, 2).fit(train, rng=rng())
    by_hand.fit(train, rng=rng())
    assert torch.equal(taught.decision_function(test.x), by_hand.decision_function(test.x))
    taught.refit_readout(few, rng=rng())
    by_hand.refit_readout(few, rng=rng())
    for _ in range(2):
        both = [by_hand.decision_function(x).double().softmax(1) for x in (train.x, train.x.flip(-1))]
        mean, picked = (sum(both) / 2).numpy(), []
        for k in range(10):
            own = sorted(np.flatnonzero(mean.argmax(1) == k), key=lambda n, k=k: -mean[n, k])
            picked += own[: -(-len(own) // 2)]
        times = round(len(picked) / 4 / 40)
        x = torch.cat([train.x[picked], few.x.repeat(times, 1, 1, 1)])
        y = torch.cat([torch.from_numpy(mean.argmax(1)[picked]), few.y.repeat(times)])
        by_hand.refit_readout(Split(x, y, 10), rng=rng())
    torch.testing.assert_close(
        taught.decision_function(test.x), by_hand.decision_function(test.x), rtol=1e-3, atol=1e-4
    )
    saved = load(taught.save(tmp_path / "taught.safetensors"))
    assert torch.equal(saved.decision_function(test.x), taught.decision_function(test.x))
    with pytest.raises(Refusal, match="rounds >= 1, got 0"):
        SelfTaught(plain, 0)


def test_images_without_patches_that_are_not_flat_are_refused():
    grey = Split(torch.full((40, 1, 8, 8), 0.5), torch.arange(40) % 2, 2)
    body = stacked({"conv": nn.Conv2d(1, 4, 3, bias=False)})
    with pytest.raises(Refusal, match="conv1 has 4 kernels, which need as many patches that are not flat, got 0"):
        init_whitened_(body, grey, rng(), floor=1.0, sweeps=0)


def test_an_image_and_its_mirror_image_have_the_mean_of_their_features(tmp_path):
    train = digits()[0][:60]
    stack = stacked({"conv": PatchNormConv2d(1, 4, 3), "pool": nn.AdaptiveAvgPool2d(2)})
    init_kernels_(stack, rng())
    model = FeatureClassifier(MirrorMean(stack), readout=RidgeRegression((0.1,))).fit(train, rng=rng())
    x, (layer,) = train.pixels(), model.feature_layers()
    torch.testing.assert_close(model.body_(x), (stack(x) + stack(x.flip(-1))).flatten(1) / 2)
    assert not torch.allclose(stack(x), stack(x.flip(-1)))
    torch.testing.assert_close(model.decision_function(x.flip(-1)), model.decision_function(x))
    torch.testing.assert_close(layer.module(x), stack[0](x))  # a layer sees the image as it is
    with pytest.raises(Refusal, match=r"MirrorMean needs images .*, got \(50, 5\); only these have a mirror image"):
        MirrorMean(nn.Linear(5, 3))(torch.rand(50, 5))
    saved = load(model.save(tmp_path / "mirror.safetensors"))
    assert torch.equal(saved.decision_function(x), model.decision_function(x))


def test_deep_kernels_learn_the_same_under_ridge_regression_of_both_ways():
    train, made = digits()[0][:60], []
    for mirror in (False, True):
        config = cifar_softhebb.Config(channels=(4, 5, 6), n_augmented=0, ridge=0.13, mirror=mirror, batch=20)
        made += [cifar_softhebb.soft_hebb(config, train, rng()).learner.fit(train, rng=rng(2))]
    assert [model.readout for model in made] == [RidgeRegression((0.13,))] * 2
    one, other = (model.body_ for model in made)
    assert isinstance(other, MirrorMean)
    weights = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    assert any(name.startswith("0.conv") for name, _ in other.named_parameters())


def test_networks_beside_each_other_answer_one_after_the_other_and_are_saved(tmp_path):
    train = digits()[0][:60]
    small, large = ({f"conv{k}x": PatchNormConv2d(1, 4, k), "pool": nn.AdaptiveAvgPool2d(2)} for k in (3, 5))
    body = Beside(stacked(small), stacked(large))
    init_kernels_(body[0], rng()), init_kernels_(body[1], rng(1))
    model = FeatureClassifier(body, readout=RidgeRegression((0.1,))).fit(train, rng=rng())
    x, (first, second) = train.pixels(), model.feature_layers()
    want = [nn.functional.adaptive_avg_pool2d(layer.module(x), 2).flatten(1) for layer in (first, second)]
    assert (first.name, second.name) == ("0.conv3x1", "1.conv5x1")
    assert first.module(x).shape[1:] == (4, 6, 6)
    assert second.module(x).shape[1:] == (4, 4, 4)
    torch.testing.assert_close(model.body_(x), torch.cat(want, 1))
    saved = load(model.save(tmp_path / "beside.safetensors"))
    assert torch.equal(saved.decision_function(x), model.decision_function(x))
