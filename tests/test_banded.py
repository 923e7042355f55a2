"""Ridge regression by bands: scikit-learn's on scaled features, tiles, choice of a penalty, interruptions, refusals."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from common import rng
from neuropil.cli import main
from neuropil.data import Split, digits, hold_out
from neuropil.errors import Diverged, Refusal
from neuropil.experiments.self_taught import SelfTaught
from neuropil.experiments.wide_layer import stacks_of, wide_and_deep
from neuropil.loading import load
from neuropil.models import (
    BandedRidge,
    Beside,
    FeatureClassifier,
    Mirror,
    MirrorMean,
    SignedPower,
    SignedStep,
    init_kernels_,
    stacked,
)
from neuropil.models.nn.convolution import Stack
from neuropil.models.training import gram
from neuropil.models.training.ridge import solutions
from neuropil.recipes import cifar_softhebb
from neuropil.runs import NullTracker

SHARES = (0.23, 1.31)
train, test = digits(seed=0)
SOME, OTHERS = train[:90], test[:200]


def bands():
    """Two kinds of features of one image, of different scale, neither of mean 0: 64 and 18."""
    stack = stacked({"conv": nn.Conv2d(1, 2, 3, bias=False), "pool": nn.AdaptiveAvgPool2d(3)}).requires_grad_(False)
    init_kernels_(stack, rng(), scale=7.3)
    return Beside(nn.Sequential(nn.Flatten(), nn.Softplus()), stack)


def fitted(*arguments, body=None, data=SOME, **settings):
    return FeatureClassifier(body or bands(), readout=BandedRidge(*arguments, **settings)).fit(data, rng=rng(4))


def by_scikit_learn(data, shares, strength, body=None):
    """Scores of `OTHERS`: the features of each band times sqrt(d s / v), then one penalty for all."""
    x, other = (
        [part(split.pixels()).flatten(1).double().numpy() for part in body or bands()] for split in (data, OTHERS)
    )
    d, scales = sum(part.shape[1] for part in x), []
    for part, share in zip(x, np.array(shares) / sum(shares)):
        scales.append((d * share / np.square(part - part.mean(0)).sum(1).mean()) ** 0.5)
    model = Ridge(alpha=len(data) * strength, solver="cholesky")
    model.fit(np.hstack([part * scale for part, scale in zip(x, scales)]), np.eye(data.classes)[data.y.numpy()])
    return model.predict(np.hstack([part * scale for part, scale in zip(other, scales)]))


@pytest.mark.parametrize("data", [SOME, train[:31]])
def test_penalties_of_bands_are_those_of_scikit_learn_on_features_that_were_scaled(data):
    scores = fitted(SHARES, (0.0173,), data=data).decision_function(OTHERS.x)
    np.testing.assert_allclose(scores.numpy(), by_scikit_learn(data, SHARES, 0.0173), atol=2e-4)
    alike = fitted((), (0.0173,), data=data).decision_function(OTHERS.x)
    np.testing.assert_allclose(alike.numpy(), by_scikit_learn(data, (1, 1), 0.0173), atol=2e-4)
    assert (alike - scores).abs().max() > 0.05


def test_a_body_of_one_band_has_the_answer_of_ridge_regression():
    model = fitted((), (0.0137,), body=nn.Sequential(nn.Flatten()))
    ((weight, bias),) = solutions(SOME.pixels().flatten(1).double(), SOME.y, 10, [0.0137])
    linear = model.network_.get_submodule("readout.linear")
    torch.testing.assert_close(linear.weight.double(), weight, rtol=0, atol=2e-4)
    torch.testing.assert_close(linear.bias.double(), bias, rtol=0, atol=2e-4)


def test_tiles_of_any_size_give_the_same(monkeypatch):
    want = fitted(SHARES, (0.0173,)).decision_function(OTHERS.x)
    monkeypatch.setattr(gram, "TILE", 13)
    torch.testing.assert_close(fitted(SHARES, (0.0173,)).decision_function(OTHERS.x), want, rtol=0, atol=1e-4)


def test_mirror_means_are_bands_of_their_own():
    networks = [nn.Sequential(nn.Flatten()), nn.Sequential(nn.AvgPool2d(3))]
    together, apart = MirrorMean(*networks), Beside(*(MirrorMean(one) for one in networks))
    scores = [fitted(SHARES, (0.03,), body=body).decision_function(OTHERS.x) for body in (together, apart)]
    assert torch.equal(*scores)
    inside = fitted(SHARES, (0.03,), body=nn.Sequential(together)).decision_function(OTHERS.x)
    assert torch.equal(inside, scores[0])
    torch.testing.assert_close(scores[0], fitted(SHARES, (0.03,), body=together).decision_function(OTHERS.x.flip(-1)))


def test_the_penalty_is_the_best_on_held_out_examples_and_all_examples_serve_for_the_weights():
    seen, strengths = [], (3e-4, 0.02, 0.9, 40.0)
    tracker = SimpleNamespace(loop=NullTracker().loop, log=lambda row: seen.append(row.metrics))
    readout = BandedRidge(SHARES, strengths, held_out=0.3)
    FeatureClassifier(bands(), readout=readout).fit(SOME, rng=rng(4), tracker=tracker)
    rest, held = hold_out(SOME, 0.3, int(torch.randint(2**31, (), generator=rng(4))))
    x = Split(held.x, held.y, held.classes)
    right = {}
    for strength in sorted(strengths, reverse=True):
        one = FeatureClassifier(bands(), readout=BandedRidge(SHARES, (strength,))).fit(rest, rng=rng())
        right[strength] = float((one.predict(x.x) == x.y).float().mean())
    best = max(right, key=right.get)
    assert len({*right.values()}) > 2
    assert seen[0]["strength"] == best
    np.testing.assert_allclose(
        fitted(SHARES, strengths, held_out=0.3).decision_function(OTHERS.x).numpy(),
        by_scikit_learn(SOME, SHARES, best), atol=2e-4,
    )  # fmt: skip
    model = fitted(SHARES, strengths, held_out=0.3)
    assert seen[0]["train_accuracy"] == pytest.approx(float((model.predict(SOME.x) == SOME.y).float().mean()), abs=1e-6)
    alone = train[:90][[int((train.y[:90] == k).nonzero()[0]) for k in range(10)]]  # one of each class: none to spare
    seen.clear()
    FeatureClassifier(bands(), readout=readout).fit(alone, rng=rng(4), tracker=tracker)
    assert seen[0]["strength"] == 40.0


@pytest.mark.parametrize("tile", [7, 41, 64])
def test_the_system_is_that_of_centred_features_and_the_kernel_is_left_as_it_was(tile, monkeypatch):
    monkeypatch.setattr(gram, "TILE", tile)
    x, wanted = (torch.randn(41, d, generator=rng(d), dtype=torch.float64) + 3.7 for d in (60, 3))
    centred, kernel = (x - x.mean(0)).numpy(), x @ x.T
    want = np.linalg.solve(centred @ centred.T + 2.3 * np.eye(41), (wanted - wanted.mean(0)).numpy())
    before = kernel.clone()
    found, intercept = gram.solved_in_place(kernel, wanted, 2.3)
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose((kernel @ found + 2.3 * found + intercept).numpy(), wanted.numpy(), rtol=1e-9)
    assert torch.equal(kernel, before)
    kernel[-1, -1] = before[-1, -1] = -1e5  # fails in the last tile
    with pytest.raises(Refusal, match="take a larger one of its strengths"):
        gram.solved_in_place(kernel, wanted, 2.3)
    assert torch.equal(kernel, before)


def test_where_nothing_can_be_learned_the_choice_is_the_commonest_class():
    y = (torch.arange(200) % 10 < 3).long()
    noise, seen = Split(torch.rand(200, 1, 5, 8, generator=rng()), y[torch.randperm(200, generator=rng())], 2), []
    tracker = SimpleNamespace(loop=NullTracker().loop, log=lambda row: seen.append(row.metrics["strength"]))
    readout = BandedRidge((), (1e-3, 0.1, 300.0))
    FeatureClassifier(nn.Sequential(nn.Flatten()), readout=readout).fit(noise, rng=rng(), tracker=tracker)
    assert seen == [300.0]


class Interrupted:
    """Goes on with the turns from `first` on, with the state that it had before them."""

    def __init__(self, first):
        self.first, self.states, self.kept = first, [], None

    def loop(self, title, count, network, rng):
        if self.kept:
            network.load_state_dict(self.kept)
        for turn in range(self.first, count):
            yield turn
            self.states.append({name: part.clone() for name, part in network.state_dict().items()})

    def log(self, row):
        pass


@pytest.mark.parametrize("first", [1, 2, 3])
def test_bands_that_were_interrupted_give_the_same(first):
    whole, rest = Interrupted(0), Interrupted(first)
    learner = FeatureClassifier(bands(), readout=BandedRidge(SHARES, (0.003, 0.03)))
    learner.fit(SOME, rng=rng(4), tracker=whole)
    assert len(whole.states) == 4
    want, rest.kept = learner.decision_function(OTHERS.x), whole.states[first - 1]
    assert torch.equal(learner.fit(SOME, rng=rng(4), tracker=rest).decision_function(OTHERS.x), want)


def test_numbers_rounded_to_bfloat16_are_near_and_the_setting_of_torch_is_as_it_was():
    before = torch.get_float32_matmul_precision()
    full, rounded = (
        fitted(SHARES, (0.03,), precision=how).decision_function(OTHERS.x) for how in ("float32", "bfloat16")
    )
    assert torch.get_float32_matmul_precision() == before
    assert 1e-5 < (full - rounded).abs().max() < 0.1
    with pytest.raises(Diverged), torch.no_grad():
        fitted(precision="bfloat16", body=Beside(nn.Flatten(), Infinite()))
    assert torch.get_float32_matmul_precision() == before


class Infinite(nn.Module):
    def forward(self, x):
        return x.flatten(1) / 0


class Wide(nn.Module):
    def forward(self, x):
        return x.flatten(1).double()


def test_a_band_that_never_varies_has_no_weight():
    body = Beside(nn.Sequential(nn.Flatten()), nn.Sequential(nn.Flatten(), nn.Hardtanh(3.0, 4.0)))
    weight = fitted((), (0.1,), body=body).network_.get_parameter("readout.linear.weight")
    assert bool(weight[:, :64].any())
    assert not weight[:, 64:].any()


def test_what_bands_cannot_do_is_refused_in_one_line():
    with pytest.raises(Refusal, match=r"needs 2 shares, one for each network side by side, got \(0.2, 0.3, 0.5\)"):
        fitted((0.2, 0.3, 0.5))
    with pytest.raises(Refusal, match="needs networks that answer in float32, got float64"):
        fitted(body=Beside(nn.Flatten(), Wide()))
    with pytest.raises(Refusal, match="BandedRidge takes no augmented copies"):
        FeatureClassifier(bands(), readout=BandedRidge(), n_augmented=1, augment=Mirror())
    with pytest.raises(Refusal, match="SelfTaught cannot teach a readout by BandedRidge"):
        SelfTaught(FeatureClassifier(bands(), readout=BandedRidge()), 1)
    twins = Split(train.x[:1].repeat(90, 1, 1, 1), SOME.y, 10)
    twins.x[0, 0, 0, 0] += 1e-3 if twins.x.is_floating_point() else 1
    with pytest.raises(Refusal, match="take a larger one of its strengths"):
        fitted(SHARES, (1e-12,), data=twins)
    fitted(SHARES, (1e-12, 1e4), data=twins)  # the one that is too small is left out


def test_memory_that_is_not_there_is_told_before_anything_learns(monkeypatch):
    learnt = []
    learning = SimpleNamespace(fit_=lambda *_, **__: learnt.append(1))
    model = FeatureClassifier(bands(), learning=learning, readout=BandedRidge(SHARES, (0.03,)))
    empty = torch.empty

    def full(*shape, **how):
        if shape == (len(SOME), len(SOME)):
            raise RuntimeError("can't allocate memory: you tried to allocate 9999999999 bytes.")
        return empty(*shape, **how)

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(Refusal, match=r"there is not enough memory for 9\.3 GiB at once"):
        model.fit(SOME, rng=rng())
    assert not learnt


def test_a_model_of_bands_is_saved(tmp_path):
    model = fitted(SHARES, (0.03,))
    saved = load(model.save(tmp_path / "bands.safetensors"))
    assert torch.equal(saved.decision_function(OTHERS.x), model.decision_function(OTHERS.x))
    assert repr(saved.readout) == repr(model.readout)


def test_steps_count_by_sign():
    x = torch.tensor([[[0.31, 0.29], [-0.31, 0.0]]])[:, :, None]
    assert SignedStep(0.3)(x).flatten().tolist() == [1, 0, 0, 0, 0, 0, 1, 0]
    assert SignedStep(0.3)(x.double()).dtype == torch.float64
    with pytest.raises(Refusal, match=r"SignedStep needs a threshold >= 0, got -0\.1"):
        SignedStep(-0.1)


@pytest.mark.parametrize(("units", "stride", "pieces"), [(2, 1, [16, 4]), (2**15, 1, [1] * 20), (2**15, 2, [4] * 5)])
def test_a_wide_convolution_gets_fewer_images_at_a_time(units, stride, pieces, monkeypatch):
    seen = []
    monkeypatch.setattr(Stack, "_quickly", lambda self, x: seen.append(len(x)) or x)
    with torch.no_grad():
        stacked({"conv": nn.Conv2d(1, units, 1, stride)}).eval()(torch.zeros(20, 1, 8, 8))
    assert seen == pieces


def test_wide_and_lower_layers_stand_before_the_deep_network_and_learn_by_themselves(tmp_path):
    few, words = train[:60], {"channels": (4, 5, 6), "n_augmented": 0, "ridge": 0.13, "batch": 20}
    config = cifar_softhebb.Config(
        beside=5, beside_kernels=(3, 4), lower=1, mirror=True, band_shares=(0.2, 0.3, 0.1, 0.5), **words
    )
    learner = cifar_softhebb.soft_hebb(config, few, rng()).learner
    firsts = ("conv3x1", "conv4x1", "conv1")
    before = [one.get_parameter(f"{name}.weight").clone() for one, name in zip(stacks_of(learner.body), firsts)]
    model = learner.fit(few, rng=rng(2))
    assert model.readout == BandedRidge((0.2, 0.3, 0.1, 0.5), (0.13,))
    names = [layer.name.rpartition(".")[2] for layer in model.feature_layers()]
    assert names == ["conv3x1", "conv4x1", "conv1", "conv2", "conv3"]
    small, large, deep = stacks_of(model.body_)
    for one, name, start in zip((small, large, deep), firsts, before):
        assert not torch.equal(one.get_parameter(f"{name}.weight"), start)
    x, root, mean = few.pixels(), SignedPower(0.5), nn.AvgPool2d(2, ceil_mode=True)
    both = lambda one: (one(x) + one(x.flip(-1))).flatten(1) / 2
    below = lambda x: mean(deep[:8](x))
    assert list(deep[:8]._modules)[-1] == "pool2"
    torch.testing.assert_close(
        model.body_(x), torch.cat([root(both(small)), root(both(large)), both(below), both(deep)], 1)
    )
    alone = cifar_softhebb.soft_hebb(cifar_softhebb.Config(**words), few, rng()).learner.fit(few, rng=rng(2))
    assert torch.equal(alone.body_.get_parameter("conv3.weight"), deep.get_parameter("conv3.weight"))
    assert wide_and_deep(deep, {}) is deep
    saved = load(model.save(tmp_path / "wide.safetensors"))
    torch.testing.assert_close(saved.decision_function(few.x), model.decision_function(few.x))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--beside 4", "need ridge above 0, n_augmented=0"),
        ("--beside 4 --ridge 0.1 --n-augmented 0 --band-shares 0.4", "band_shares needs 2 numbers > 0, or none"),
        ("--beside -1", "'beside' needs a number >= 0"),
        ("--lower 3 --ridge 0.1 --n-augmented 0", "3 layers have at most 2 below the last, got lower=3"),
        ("--data digits --beside 4 --ridge 0.1 --n-augmented 0 --beside-kernels 7", "12"),
    ],
)
def test_settings_of_wide_layers_that_cannot_be(words, said, capsys, tmp_path):
    assert main(["run", "cifar_softhebb", *words.split(), "--out", str(tmp_path / "out")]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
