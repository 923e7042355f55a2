"""What all models do alike: bodies stay as they are, fits forget, labels that lack are no class, modes are of use."""

from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from torch import nn

import neuropil as npl
from common import rng
from neuropil.associative import CLASSIFY, AssociativeNetwork, AssociativeTraining, SpikingAssociativeNetwork
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.models import OnlineBackprop, OnlineClassifier, RidgeRegression, VotingClassifier
from neuropil.spiking import ThresholdEncoding

ALL = Split(torch.rand(36, 1, 4, 4, generator=rng(7)), torch.arange(36) % 3, 3)
SOME = Split(ALL.x, torch.where(torch.arange(36) % 4 == 1, -1, ALL.y), 3)  # a quarter has no label
READOUT = npl.SupervisedTraining(2, 10, min_steps=1)
RULE = {"dense": npl.KrotovHopfield(p=2, k=2, average=True)}


def body():
    """Normalisation with statistics that no batch has, dropout, and a layer that may learn."""
    torch.manual_seed(4)
    layers = OrderedDict(norm=nn.BatchNorm2d(1), flat=nn.Flatten(), drop=nn.Dropout(0.5), dense=nn.Linear(16, 7))
    return nn.Sequential(layers | {"act": nn.ReLU()})


LEARNING = npl.LocalLearning(RULE, epochs=1, batch=10, lr=0.1)
WITH_BODY = {
    "features": lambda own: npl.FeatureClassifier(own, learning=LEARNING, readout=READOUT),
    "random features": lambda own: npl.FeatureClassifier(own, readout=RidgeRegression((0.1,))),
    "votes": lambda own: VotingClassifier(own),
    "online": lambda own: OnlineClassifier(own),
    "online, with a rule": lambda own: OnlineClassifier(own, rules=RULE, lr=0.05),
    "online backprop": lambda own: OnlineBackprop(own, lr=0.1),
    "backprop": lambda own: npl.BackpropClassifier(own, training=READOUT),
}
EVENTS, STEPS = npl.AssociationTraining(2, 10), npl.SpikeTimeTraining(epochs=1, batch=10, min_steps=1)
OTHERS = {
    "association": lambda _: npl.AssociationClassifier((8, 6), k=2, n_send=4, training=EVENTS),
    "spike times": lambda _: npl.SpikingClassifier((6,), encode=ThresholdEncoding(0.5), training=STEPS),
    "associative": lambda _: AssociativeNetwork((9,), 7, training=AssociativeTraining(epochs=1, batch=10)),
    "spiking associative": lambda _: SpikingAssociativeNetwork(8, training=AssociativeTraining((CLASSIFY,), 1, 10)),
}
MODELS = WITH_BODY | OTHERS
FROZEN = "random features", "votes", "online"


def state_of(model):
    network = model.net_ if isinstance(model, AssociativeNetwork) else model.network_
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", MODELS)
def test_a_second_fit_forgets_the_first_and_a_body_stays_as_it_was(name):
    own, found = body(), []
    before, model = deepcopy(own.state_dict()), MODELS[name](own)
    model.fit(ALL[:20], rng=rng(8))
    for one in model, MODELS[name](own):
        torch.manual_seed(2)  # of dropout
        found.append(state_of(one.fit(ALL, rng=rng(3))))
    assert same(*found)
    assert same(own.state_dict(), before)
    assert all(module.training for module in own.modules())


@pytest.mark.parametrize("name", MODELS)
def test_a_fitted_model_is_in_evaluation_mode_and_frozen(name):
    model = MODELS[name](body()).fit(ALL, rng=rng(3))
    layers = [module for module in model.network_.modules() if isinstance(module, nn.BatchNorm2d | nn.Dropout)]
    assert len(layers) == 2 * (name in WITH_BODY)
    assert not any(layer.training for layer in layers)
    assert not any(weight.requires_grad for weight in model.network_.parameters())
    assert torch.equal(model.decision_function(ALL.x), model.decision_function(ALL.x))


@pytest.mark.parametrize("name", FROZEN)
def test_a_body_that_does_not_learn_is_used_in_evaluation_mode(name):
    own = body()
    own.norm.running_mean.fill_(0.3)
    model = WITH_BODY[name](own).fit(ALL, rng=rng(3))
    mine, given = model.network_.state_dict(), own.state_dict()
    kept = {key: next(value for other, value in mine.items() if other.endswith(key)) for key in given}
    assert same(kept, given)
    features = own.eval()(ALL.x).flatten(1)
    whole = WITH_BODY[name](nn.Sequential(nn.Flatten())).fit(Split(features, ALL.y, 3), rng=rng(3))
    torch.testing.assert_close(model.decision_function(ALL.x), whole.decision_function(features))


@pytest.mark.parametrize("name", MODELS)
def test_examples_without_a_label_are_refused_or_of_no_class(name):
    noise = Split(SOME.x.where(SOME.y.view(-1, 1, 1, 1) >= 0, torch.rand(ALL.x.shape, generator=rng(1))), SOME.y, 3)
    made = [MODELS[name](body()) for _ in range(3)]
    if name in {"features", "random features", "votes", "associative"}:
        found = []
        for model, data in zip(made, (SOME, noise, SOME.labelled())):
            torch.manual_seed(2)
            found.append(state_of(model.fit(data, rng=rng(3))))
        one, other, less = found
        learns = name in ("features", "associative")
        assert same(one, other) == same(one, less) == (not learns)  # from all images, or from those with a label
        return
    with pytest.raises(Refusal, match="label"):
        made[0].fit(SOME, rng=rng(3))
