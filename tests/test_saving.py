"""Saved models predict bit for bit as before; files hold no code; what does not fit is refused in one line."""

import json
import math
import os
from collections import OrderedDict
from inspect import signature

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

import neuropil as npl
from common import first_digits, rng
from neuropil.associative import CLASSIFY, GENERATE, AssociativeNetwork, AssociativeTraining, Nudge, Sampling, Settling
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.models import CReLU, Mirror, description
from neuropil.models.association import fields
from neuropil.models.nn.columns import TopKSigmoid
from neuropil.models.nn.layers import MaskedLinear
from neuropil.plasticity import HardWTA
from neuropil.spiking import QIF, LatencyEncoding, LinearTimeEncoding, Theta

QUICK = npl.SupervisedTraining(epochs=1, min_steps=2, augment=Mirror())
HEAD = npl.SupervisedTraining(epochs=1, min_steps=2)
pytestmark = pytest.mark.filterwarnings("ignore:.*samples had not settled")


train = first_digits(200)


def hebbian(train):
    body = npl.dense_body(train, 30, n=2.0)
    npl.init_examples_(body, train, rng())
    learning = npl.LocalLearning({"hidden": HardWTA()}, epochs=1)
    return npl.FeatureClassifier(body, learning=learning, readout=HEAD, n_augmented=1, augment=npl.Distort())


def whitened(train):
    conv = npl.PatchNormConv2d(1, 12, 3).whiten_(train, rng(), count=500)
    body = npl.stacked({"conv": conv, "act": npl.Triangle(0.7), "pool": nn.AdaptiveMaxPool2d(2)})
    npl.init_kernels_(body, rng())
    return npl.FeatureClassifier(body, readout=HEAD)


def deep(train):
    size = {"padding": 1, "padding_mode": "reflect", "bias": False}
    stages = [
        {"norm": nn.BatchNorm2d(1, affine=False), "conv": nn.Conv2d(1, 6, 3, **size), "pool": nn.MaxPool2d(4, 2, 1)},
        {"norm": nn.BatchNorm2d(6), "conv": nn.Conv2d(6, 8, 3, **size), "pool": nn.AvgPool2d(2, ceil_mode=True)},
    ]
    body = npl.stacked(*stages)
    npl.init_kernels_(body, rng())
    return npl.BackpropClassifier(body, training=QUICK)


def masked(train):
    layer = MaskedLinear(fields((1, 8, 8), 4, 4, 20))
    layers = OrderedDict(flat=nn.Flatten(), hidden=layer, act=TopKSigmoid(2.0, 3, 4), nest=nn.Sequential(CReLU(2.0)))
    return npl.BackpropClassifier(nn.Sequential(layers), training=HEAD, standardise=False)


def associative(train):
    training = AssociativeTraining(tasks=(CLASSIFY, GENERATE), epochs=1, augment=npl.Distort())
    settling, sampling = Settling(5, momentum=0.2), Sampling(n_rounds=3, accept_margin=0.1)
    return AssociativeNetwork((12, 8), 9, 7, settling=settling, nudge=Nudge(2), training=training, sampling=sampling)


EVENTS = npl.AssociationTraining(epochs=1)
SPIKES = npl.SpikeTimeTraining(epochs=1, min_steps=2, augment=npl.Distort(), clip=float("inf"))
MODELS = {
    "hebbian features": hebbian,
    "whitened patches": whitened,
    "deep": deep,
    "masked": masked,
    "linear": lambda train: npl.FeatureClassifier(nn.Sequential(nn.Flatten()), readout=HEAD),
    "association": lambda train: npl.AssociationClassifier(
        (40, 30), columns=(4, 1), receptive_field=4, k=1, training=EVENTS
    ),
    "plain association": lambda train: npl.AssociationClassifier((20,), k=None, n_send=None, training=EVENTS),
    "theta": lambda train: npl.SpikingClassifier(
        (15,), encode=LatencyEncoding(1.5, levels=8), neuron=Theta(), t_end=2.75, training=SPIKES
    ),
    "QIF": lambda train: npl.SpikingClassifier(
        (15,), encode=LinearTimeEncoding(), neuron=QIF(), t_end=3.0, training=SPIKES
    ),
    "associative": associative,
}


def contents(file):
    """Metadata and tensors of a file, comparable; safetensors orders its metadata at random."""
    with safe_open(file, "pt") as opened:
        return opened.metadata(), {name: value.tolist() for name, value in safetensors.torch.load_file(file).items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_bit_for_bit(name, train, tmp_path):
    model = MODELS[name](train).fit(train, rng=rng())
    file = model.save(tmp_path / "folder/model.safetensors", about={"name": name})
    back, x = npl.load(file), train.x[:40]
    assert type(back) is type(model)
    assert repr(back).partition("fitted")[2] == repr(model).partition("fitted")[2]
    assert torch.equal(back.decision_function(x), model.decision_function(x))
    assert torch.equal(back.forward(x[:5]), model.forward(x[:5]))
    for mine, theirs in zip(back.feature_layers(), model.feature_layers(), strict=True):
        assert mine.name == theirs.name
        assert torch.equal(mine.weight, theirs.weight)
        assert torch.equal(mine.module(x), theirs.module(x))
    assert contents(back.save(tmp_path / "again.safetensors", about={"name": name})) == contents(file)
    if hasattr(model, "generate"):
        asked = torch.arange(3)
        assert torch.equal(back.generate(asked, 2, rng()).images, model.generate(asked, 2, rng()).images)


@pytest.mark.parametrize("name", MODELS)
def test_examples_are_taken_in_other_precision_and_as_stored(name, train):
    model, bytes_ = MODELS[name](train), (train.x[:40] * 16).to(torch.uint8)
    model.fit(train, rng=rng())
    wanted = model.decision_function(bytes_ / 255)
    assert torch.equal(model.decision_function(bytes_), wanted)
    assert torch.equal(model.decision_function((bytes_ / 255).double()), wanted)
    assert torch.equal(model.forward(bytes_[:3]), model.forward(bytes_[:3] / 255))


def test_scores_that_are_nan_are_no_label(train):
    model = MODELS["linear"](train).fit(train, rng=rng())
    with pytest.raises(Refusal, match="the scores of 1 of 3 examples are NaN"):
        model.predict(torch.cat([train.x[:2], train.x[:1] * math.nan]))


@pytest.mark.parametrize("fact", [torch.ones(1), math.nan])
def test_facts_about_a_model_are_what_json_can_hold(fact, train, tmp_path):
    model = MODELS["linear"](train).fit(train, rng=rng())
    with pytest.raises(Refusal, match="facts about a model need to be what JSON can hold"):
        model.save(tmp_path / "model.safetensors", about={"fact": fact})
    assert not any(tmp_path.iterdir())


def test_double_precision_stays(train, tmp_path):
    model = npl.FeatureClassifier(nn.Sequential(nn.Flatten()), readout=HEAD).fit(train, rng=rng())
    model.network_.double()
    back = npl.load(model.save(tmp_path / "model.safetensors"))
    assert torch.equal(back.decision_function(train.x.double()), model.decision_function(train.x.double()))


def test_a_loaded_readout_is_fitted_again_and_a_body_is_not(train, tmp_path):
    model = hebbian(train).fit(train, rng=rng())
    back = npl.load(model.save(tmp_path / "model.safetensors"))
    again = model.refit_readout(train[:50], rng=rng(1)).decision_function(train.x)
    assert torch.equal(back.refit_readout(train[:50], rng=rng(1)).decision_function(train.x), again)
    with pytest.raises(Refusal, match="has no 'body', without which it cannot learn; make a new model"):
        back.fit(train, rng=rng())


@pytest.mark.parametrize("shared", ["activation", "layer"])
def test_a_layer_that_stands_in_two_places_does_so_in_the_file_and_elsewhere(shared, train, tmp_path):
    act, layer = nn.Tanh(), nn.Linear(20, 20)
    acts, inner = [act] * 3 if shared == "activation" else [nn.Tanh() for _ in range(3)], [layer, layer]
    inner = inner if shared == "layer" else [layer, nn.Linear(20, 20)]
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), acts[0], inner[0], acts[1], inner[1], acts[2])
    model = npl.BackpropClassifier(body, training=HEAD).fit(train, rng=rng())
    scores = model.decision_function(train.x)
    back = npl.load(model.save(tmp_path / "model.safetensors"))
    assert torch.equal(back.decision_function(train.x), scores)
    once = back.network_.get_submodule("body")
    assert len({id(one) for one in once}) == len({id(one) for one in body})
    torch.testing.assert_close(npl.exchange.to_torch(model, (1, 8, 8))(train.pixels()), scores)
    features = [layer.module(train.pixels()) for layer in model.feature_layers()]
    torch.testing.assert_close(features[-1], model.network_.get_submodule("body")(train.pixels()))
    learning = npl.LocalLearning({"5": npl.KrotovHopfield(p=2, k=2)}, epochs=1)
    npl.FeatureClassifier(body, learning=learning, readout=HEAD).fit(train, rng=rng())


def test_settings_of_torch_layers_that_change_an_answer_are_in_the_file():
    same_answer = {"inplace", "device", "dtype", "return_indices"}  # and torch has a new one, which is refused:
    same_answer |= {"bias"} if "bias" in signature(nn.BatchNorm1d).parameters else set()
    for name, known in description._known.items():
        if known.cls.__module__.startswith("torch.nn") and known.cls is not nn.Sequential:
            given = {p.name for p in signature(known.cls).parameters.values() if p.kind is not p.VAR_POSITIONAL}
            left = given - set(known.settings) - same_answer - {"args", "kwargs", "min_value", "max_value"}
            assert not left, name
            assert not known.learned


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.GELU(approximate="tanh"), (64,)),
        (nn.MaxPool2d(2, stride=1, dilation=3), (1, 8, 8)),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), (1, 8, 8)),
        (nn.BatchNorm1d(64, track_running_stats=False), (64,)),
        (nn.LayerNorm(64, bias=False), (64,)),
        (nn.Unflatten(1, (4, 16)), (64,)),
        (nn.GroupNorm(2, 64), (64,)),
        (nn.LeakyReLU(0.3), (64,)),
        (nn.Softplus(beta=3.0), (64,)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_such_a_setting_is_there_again(layer, shape, train, tmp_path):
    first = nn.Unflatten(1, shape) if len(shape) > 1 else nn.Identity()
    body = nn.Sequential(nn.Flatten(), first, layer, nn.Flatten())
    model = npl.BackpropClassifier(body, training=HEAD).fit(train, rng=rng())
    back = npl.load(model.save(tmp_path / "model.safetensors"))
    assert torch.equal(back.decision_function(train.x), model.decision_function(train.x))


def test_a_norm_without_its_bias_is_refused():
    for layer in (nn.BatchNorm1d(3), nn.GroupNorm(1, 3)):
        layer.bias = None
        with pytest.raises(Refusal, match=r"a file of a model cannot hold a .*Norm.* with bias=False"):
            description.describe(layer)


# What is refused


@pytest.fixture(scope="module")
def file(train, tmp_path_factory):
    model = hebbian(train).fit(train, rng=rng())
    return model.save(tmp_path_factory.mktemp("models") / "model.safetensors")


def changed(file, folder, change):
    """A copy of `file` in which `change(tensors, metadata, tree)` changed something."""
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors, tree = safetensors.torch.load_file(file), json.loads(metadata["model"])
    change(tensors, metadata, tree)
    metadata["model"] = json.dumps(tree)
    path = folder / "changed.safetensors"
    safetensors.torch.save_file(tensors, path, metadata)
    return path


def layers(tree):
    return tree["learned"]["network_"]["layers"]["body"]["layers"]


CHANGES = {
    "another version": (lambda t, m, d: m.update(version="7"), "has format version 7, this neuropil reads 1"),
    "another kind of file": (lambda t, m, d: m.pop("format"), "but not of a neuropil model"),
    "unknown model": (lambda t, m, d: d.update({"class": "FeatureClasifier"}), "Did you mean 'FeatureClassifier'"),
    "unknown layer": (lambda t, m, d: layers(d)["hidden"].update({"class": "Linaer"}), "Did you mean 'Linear'"),
    "code": (lambda t, m, d: layers(d)["hidden"].update({"class": "os.system"}), "unknown class 'os.system'"),
    "unknown setting": (
        lambda t, m, d: layers(d)["act"]["settings"].update(power=2.0),
        "unknown setting of RePU 'power'",
    ),
    "bad setting": (lambda t, m, d: layers(d)["act"]["settings"].update(n=0.1), r"n >= 1, got 0\.1"),
    "missing setting": (lambda t, m, d: layers(d)["hidden"]["settings"].pop("in_features"), "in_features"),
    "lacks what it learned": (lambda t, m, d: d.update(learned={}), "network_"),
    "missing tensor": (lambda t, m, d: t.pop("body.hidden.weight"), "'body.hidden.weight' is missing"),
    "wrong shape": (
        lambda t, m, d: t.update({"body.hidden.weight": torch.zeros(30, 63)}),
        r"has the shape \(30, 63\), its layer needs \(30, 64\)",
    ),
    "whole numbers": (
        lambda t, m, d: t.update({"body.hidden.weight": torch.ones(30, 64, dtype=torch.int64)}),
        r"'body.hidden.weight' is in torch.int64, its layer needs torch.float32",
    ),
    "two dtypes": (
        lambda t, m, d: t.update({"body.hidden.weight": torch.zeros(30, 64, dtype=torch.float64)}),
        "need one dtype, got 'readout.linear.bias' in torch.float32 and 'body.hidden.weight' in torch.float64",
    ),
    "no numbers": (lambda t, m, d: t["body.hidden.weight"][3].fill_(torch.nan), "'body.hidden.weight' has .* NaN"),
    "no name": (lambda t, m, d: d.update({"class": []}), "does not describe its model"),
    "no model": (lambda t, m, d: d.clear(), "does not describe its model"),
    "one tensor too many": (lambda t, m, d: t.update(extra=torch.zeros(2)), "no place for the tensor 'extra'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_does_not_fit_is_refused_in_one_line(name, file, tmp_path):
    change, message = CHANGES[name]
    with pytest.raises(Refusal, match=message) as refusal:
        npl.load(changed(file, tmp_path, change))
    assert "\n" not in str(refusal.value)


def test_a_model_is_called_by_either_name_and_a_seed_that_is_not_there_is_told(file, tmp_path):
    model = npl.load(file)
    for seed in (4, 7):
        about = {"name": "Krotov-Hopfield, 30 units", "short": "kh_30", "seed": seed}
        model.save(tmp_path / f"{seed}.safetensors", about=about)
    one = tmp_path / "7.safetensors"
    for name in ("krotov hopfield 30 units", "kh_30"):
        assert [header.about["seed"] for header in npl.saved_models(one, name=name)] == [7]
    for call, message in (
        (lambda: npl.saved_models(one, seed=5), "are of seed 7; there is none of seed 5"),
        (lambda: npl.saved_models(one, name="kh_31"), "unknown model 'kh_31'"),
        (lambda: npl.load(one.parent, one), "there is no run in"),
        (lambda: npl.saved_models(one, name=one), "a model is called by a name, got PosixPath"),
        (lambda: npl.load(["a"]), "load needs a path or a name, got list"),
    ):
        with pytest.raises(Refusal, match=message):
            call()


def test_weights_that_lie_in_memory_in_another_order_are_saved(train, tmp_path):
    model = deep(train).fit(train, rng=rng())
    want = model.decision_function(train.x)
    model.network_.to(memory_format=torch.channels_last)
    assert not all(part.is_contiguous() for part in model.network_.state_dict().values())
    back = npl.load(model.save(tmp_path / "model.safetensors"))
    torch.testing.assert_close(back.decision_function(train.x), want)


def test_a_file_that_says_no_name_is_called_as_it_is_and_of_seed_0(file, tmp_path):
    bare = npl.load(file).save(tmp_path / "mine.safetensors")
    (header,) = npl.saved_models(bare)
    assert (header.about["name"], header.about["seed"]) == ("mine", 0)


def test_a_damaged_file_is_refused(file, tmp_path):
    for name, data in {"cut": file.read_bytes()[:-10], "text": b"hello", "empty": b""}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        with pytest.raises(Refusal, match="is damaged"):
            npl.load(path)


def test_what_cannot_be_saved_is_refused(train, tmp_path):
    class Mine(nn.Module):
        def forward(self, x):
            return x

    model = npl.FeatureClassifier(nn.Sequential(nn.Flatten(), Mine()), readout=HEAD)
    with pytest.raises(Refusal, match="has learned nothing to save; call fit first"):
        model.save(tmp_path / "model.safetensors")
    model.fit(train, rng=rng())
    with pytest.raises(Refusal, match=r"cannot hold a Mine; .* register it with neuropil.savable"):
        model.save(tmp_path / "model.safetensors")
    with pytest.raises(Refusal, match=r"is saved as a .safetensors file, got 'model.pt'"):
        model.save(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_a_layer_of_ones_own_is_saved_once_it_is_registered(train, tmp_path):
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return self.factor * x

    npl.savable(Scaled)
    model = npl.FeatureClassifier(nn.Sequential(nn.Flatten(), Scaled(3.0)), readout=HEAD).fit(train, rng=rng())
    back = npl.load(model.save(tmp_path / "model.safetensors"))
    assert torch.equal(back.decision_function(train.x), model.decision_function(train.x))
    del model.network_.body[1].factor  # as of a constructor that keeps its argument under another name
    with pytest.raises(Refusal, match="the settings of a Scaled, and it has no 'factor'; keep each argument as an"):
        model.save(tmp_path / "model.safetensors")


def test_an_augmentation_that_is_code_is_left_out_and_missed_when_it_is_needed(train, tmp_path):
    training = npl.SupervisedTraining(epochs=1, min_steps=2, augment=lambda x, rng: x)
    model = npl.FeatureClassifier(nn.Sequential(nn.Flatten()), readout=training).fit(train, rng=rng())
    back = npl.load(model.save(tmp_path / "model.safetensors"))
    assert torch.equal(back.predict(train.x), model.predict(train.x))
    with pytest.raises(Refusal, match="has no 'readout'"):
        back.refit_readout(Split(train.x, train.y, 10), rng=rng())


def test_a_model_is_whole_or_the_one_before_where_saving_ends_early(train, tmp_path, monkeypatch):
    def full(file):
        raise OSError("no space left on device")

    one, other = (MODELS["linear"](train).fit(part, rng=rng()) for part in (train[:100], train[100:]))
    file = one.save(tmp_path / "model.safetensors")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        other.save(file)
    assert torch.equal(npl.load(file).decision_function(train.x), one.decision_function(train.x))
    assert os.listdir(tmp_path) == [file.name]
