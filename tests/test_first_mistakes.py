"""What a beginner hands to the wrong place is refused in one line that says the cure."""

import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import neuropil as npl
from neuropil.errors import Refusal
from neuropil.evaluate import linear_probe
from neuropil.experiments.diagnose import _probes
from neuropil.models import OnlineBackprop, OnlineClassifier, VotingClassifier
from neuropil.models.contract import NotFitted
from neuropil.plasticity import Chosen, Rule

LAYER, X = nn.Linear(20, 10), torch.rand(8, 20, generator=torch.Generator().manual_seed(0))
SPLIT = npl.Split(torch.rand(40, 1, 4, 5), torch.arange(40) % 4, 4)
IMAGES = SPLIT.pixels()
RNG = torch.Generator().manual_seed(0)
EXPLAIN = {"1": npl.ExplainAway()}


@dataclass(frozen=True)
class Pairs(Rule):
    """Hands over all that topk returns."""

    def post(self, u):
        return Chosen(u.topk(2, dim=1), gains=(1.0, -0.3), decay=u)


@dataclass(frozen=True)
class FewWeights(Rule):
    """Loses units on the way to the drive."""

    def weights(self, weight):
        return weight[:5]

    def post(self, u):
        return Chosen(u.topk(1, dim=1).indices, gains=(1.0,), decay=u)


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(20, 10), nn.ReLU())


class Twice(nn.Module):
    """Uses one layer two times."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(20, 20)

    def forward(self, x):
        return self.layer(self.layer(x.flatten(1)).relu())


class Tokens(nn.Module):
    """Hands rows of an image to its layer as if they were images."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 6)

    def forward(self, x):
        return self.layer(x.reshape(-1, 5)).view(len(x), -1)


def classifier(**how):
    return npl.FeatureClassifier(npl.dense_body(SPLIT, 10, n=1.0), **how)


def propose(*given):
    npl.attach(network(), EXPLAIN, IMAGES).propose_(*given)


def bodies(make):
    """Let every model of a body learn with this one."""
    for model in (
        OnlineClassifier(make()),
        OnlineBackprop(make(), lr=0.1),
        npl.BackpropClassifier(make()),
        npl.FeatureClassifier(make()),
        VotingClassifier(make()),
    ):
        yield lambda model=model: model.fit(SPLIT, rng=torch.Generator().manual_seed(0))


def every(calls):
    """Call all but the last, which are refused, too; then the last."""
    *others, last = calls
    for call in others:
        with pytest.raises(Refusal):
            call()
    last()


def body(layer):
    return nn.Sequential(nn.Flatten(), layer)


def normed(how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old form is deprecated
        return body(how(nn.Linear(20, 10)))


MISTAKES = {
    "a body in float64": (
        lambda: every(bodies(lambda: network().double())),
        r"'1.weight' is float64: give it body\.fl",
    ),
    "statistics in float64": (
        lambda: every(bodies(lambda: body(nn.BatchNorm1d(20, affine=False).double()))),
        r"'1.running_mean' is float64: give it body\.fl",
    ),
    "a lazy body": (lambda: every(bodies(lambda: body(nn.LazyLinear(3)))), "has no size yet: let a batch through"),
    "a body without numbers": (lambda: every(bodies(lambda: body(nn.Linear(20, 3, device="meta")))), "device meta"),
    "an old weight norm": (lambda: every(bodies(lambda: normed(nn.utils.weight_norm))), "cannot be copied"),
    "a weight that is computed": (
        lambda: npl.FeatureClassifier(
            normed(nn.utils.parametrizations.weight_norm), learning=npl.LocalLearning({"1": npl.SoftHebb()})
        ).fit(SPLIT, rng=RNG),
        "computed from other parameters",
    ),
    "a device that holds nothing": (lambda: SPLIT.to("meta"), "'meta' holds no numbers"),
    "a device of no name": (lambda: SPLIT.to("nonsense"), "torch knows none of that name"),
    "rows that are no images": (
        lambda: npl.diagnose(Tokens(), {"layer": npl.ExplainAway()}, IMAGES, SPLIT.y),
        "one row of a layer for each image.*'layer' gave 80 for 20 images",
    ),
    "topk without indices": (lambda: Pairs()(LAYER, X), r"u\.topk\(2, dim=1\)\.indices"),
    "units that weights() lost": (lambda: FewWeights()(LAYER, X), r"weights\(\).*\(10, 20\).*got \(5, 20\)"),
    "no label": (lambda: npl.Association(5)(LAYER, X), r"takes label=\.\.\. beside layer, pre and post, got none"),
    "a label too much": (lambda: npl.HardWTA()(LAYER, X, label=X), "takes no third factor .*got label"),
    "labels in a list": (lambda: npl.Association(5)(LAYER, X, label=[1] * 8), "needs label as a tensor, got list"),
    "one-hot labels": (
        lambda: npl.Association(5)(LAYER, X, label=torch.eye(8)[:, :5]),
        r"one label per sample, \(8,\)",
    ),
    "no rules": (lambda: npl.attach(network(), {}, IMAGES), r"a rule for each layer.*got \{\}"),
    "a bare rule": (lambda: npl.attach(network(), npl.ExplainAway(), IMAGES), "a rule for each layer"),
    "a split": (lambda: npl.attach(network(), EXPLAIN, SPLIT), r"got Split; for example split\.pixels\(\)"),
    "an array": (lambda: npl.attach(network(), EXPLAIN, IMAGES.numpy()), "got ndarray"),
    "stored pixels": (lambda: propose((IMAGES * 255).byte()), r"got uint8; for example split\.pixels\(\)"),
    "labels to propose_": (lambda: propose(IMAGES, SPLIT.y), "local rules need no labels"),
    "one class": (lambda: npl.diagnose(network(), EXPLAIN, IMAGES, SPLIT.y * 0), "two classes or more"),
    "labels as an array": (lambda: npl.diagnose(network(), EXPLAIN, IMAGES, SPLIT.y.numpy()), "labels as a tensor"),
    "a split to diagnose": (lambda: npl.diagnose(network(), EXPLAIN, SPLIT, SPLIT.y), "diagnose needs images"),
    "a seed as rng": (lambda: classifier().fit(SPLIT, rng=0), r"manual_seed\(0\) or another, got 0"),
    "a tensor to fit": (lambda: classifier().fit(IMAGES, rng=RNG), r"as of Split\.from_numpy\(x, y\), got Tensor"),
    "a rule as learning": (lambda: classifier(learning=npl.SoftHebb()), "LocalLearning.*got SoftHebb"),
    "an array to predict": (lambda: classifier().fit(SPLIT, rng=RNG).predict(IMAGES.numpy()), "got ndarray"),
    "a split to predict": (lambda: classifier().fit(SPLIT, rng=RNG).predict(SPLIT), r"got Split; give split\.x"),
    "a split to a network": (lambda: npl.AssociativeNetwork().predict(SPLIT), r"give split\.x"),
    "a network to accuracy": (lambda: npl.accuracy(network(), SPLIT), r"a model with predict\(x\).*got Sequential"),
    "a list of seeds": (lambda: npl.compare({"a": classifier}, "digits", seeds=[0, 1]), r"got seeds=\[0, 1\]"),
    "a folder that is not there": (lambda: npl.load_data("nowhere/"), "there is no file or folder nowhere"),
    "a name of nothing": (lambda: npl.load_data("nowhere"), "Known: .* There is no such file or folder either"),
    "a name in capitals": (lambda: npl.load_data("MNIST"), "Did you mean 'mnist'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_beginners_mistake_is_refused_in_one_line(mistake):
    do, message = MISTAKES[mistake]
    with pytest.raises(Refusal, match=message) as refused:
        do()
    assert "\n" not in str(refused.value)


def test_a_layer_that_a_pass_uses_twice_is_diagnosed_by_both_outputs():
    found = npl.diagnose(Twice(), {"layer": npl.ExplainAway()}, IMAGES, SPLIT.y)
    assert 0 <= found["layer"].learned <= 1
    model, seen = Twice(), []
    model.layer.register_forward_hook(lambda *given: seen.append(given[2].relu()))
    halves = [(IMAGES[:20], SPLIT.y[:20]), (IMAGES[20:], SPLIT.y[20:])]
    probes = _probes(model, ["layer"], halves)
    both = [npl.Split(torch.cat(seen[at : at + 2], 1).detach(), halves[at // 2][1], 4) for at in (0, 2)]
    assert probes["layer"] == linear_probe(*both)


@pytest.mark.parametrize(
    "model", [classifier(), npl.SpikingClassifier(), npl.AssociationClassifier(), npl.AssociativeNetwork()]
)
def test_a_model_that_has_learned_nothing_says_so(model):
    with pytest.raises(NotFitted, match=r"is not fitted; call fit\(train, rng=\.\.\.\) first"):
        model.predict(IMAGES)
    assert not hasattr(model, "network_")
    with pytest.raises(AttributeError, match="has no attribute 'score'"):
        _ = model.score


def test_stored_pixels_are_classified_as_the_pixels_they_stand_for():
    stored = npl.Split((IMAGES * 255).byte(), SPLIT.y, 4)
    readout = npl.SupervisedTraining(epochs=1, min_steps=1)
    for model in (
        classifier(readout=readout),
        npl.BackpropClassifier(nn.Sequential(nn.Flatten()), training=readout),
        npl.AssociativeNetwork((8,), training=npl.AssociativeTraining(epochs=1)),
    ):
        model.fit(stored, rng=torch.Generator().manual_seed(0))
        assert torch.equal(model.decision_function(stored.x), model.decision_function(stored.pixels()))
        assert torch.equal(model.predict(stored.x), model.predict(stored.pixels()))


def test_a_learner_and_a_diagnosis_say_what_they_are():
    model = network()
    learner = npl.attach(model, EXPLAIN, IMAGES)
    assert repr(learner) == "Learner(1: ExplainAway(k=None))"
    found = npl.diagnose(model, learner, IMAGES, SPLIT.y)
    assert repr(found) == str(found)
    assert repr(found).startswith("1: Linear, 10 units. Linear probe: ")
