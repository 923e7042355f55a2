"""The compiled presentations of competing units against the same steps made of neurons, encoding and rule."""

import itertools
from collections import OrderedDict

import pytest
import torch
from torch import nn

from neuropil.data import Split, load
from neuropil.errors import Refusal
from neuropil.loading import load as load_model
from neuropil.models import CompetitiveLearning, CompetitiveUnits, VotingClassifier, Winner
from neuropil.models.competition import content_index
from neuropil.plasticity import PairSTDP, constrain_
from neuropil.spiking import ConductanceLIF, PoissonEncoding, lateral_inhibition

NEURON = ConductanceLIF(tau=0.03, tau_e=2e-3, refractory=3e-3, theta_plus=1e-3, tau_theta=5.0)
RULE = PairSTDP(tau_plus=17e-3, tau_minus=23e-3, a_plus=0.05, a_minus=0.003, pairing="nearest")
ENCODING = PoissonEncoding(rate=150.0, duration=0.06)


def units(**settings):
    layer = CompetitiveUnits(20, 6, NEURON, RULE, ENCODING, total=6.0, inhibition=9.0, **settings).double()
    layer.init_(torch.Generator().manual_seed(0))
    return layer


def by_steps(layer, images, epoch, learns):
    """The same from public parts; returns counts, and leaves weights and thresholds in `layer`."""
    counts = torch.zeros(len(images), layer.units).double()
    dense = nn.Linear(layer.inputs, layer.units, bias=False).double()
    dense.weight = layer.weight
    for n, image in enumerate(images):
        if learns:
            constrain_(dense, total=layer.total)
        for attempt in range(layer.attempts):
            encode = PoissonEncoding(ENCODING.rate * (1 + 0.5 * attempt), ENCODING.duration * (attempt + 1))
            spikes = list(encode(image[None], content_index(image[None]), layer.seed + epoch))[-ENCODING.steps :]
            counts[n] = presented(layer, dense, spikes, learns)
            if counts[n].sum() >= layer.min_spikes:
                break
    return counts


def presented(layer, dense, spikes, learns):
    state = NEURON.init(torch.zeros(1, layer.units).double(), theta=layer.theta)
    memory = RULE.init(dense, spikes[0], torch.zeros(1, layer.units).double())
    out, count = torch.zeros(1, layer.units).double(), 0
    for x in spikes:
        theta = state.theta
        state = NEURON.flow(layer.excitation * dense(x), lateral_inhibition(out, layer.inhibition), state)
        state = state if learns else state._replace(theta=theta)
        margin = NEURON.margin(state)
        out = nn.functional.one_hot(margin.argmax(1), layer.units).double() * (margin.max() > 0)
        after = NEURON.fire(out, state)
        state = after if learns else after._replace(theta=theta)
        if learns:
            change, memory = RULE.step(dense, x, out, memory)
            dense.weight += change
            constrain_(dense, low=0.0, high=1.0)
        count = count + out[0]
    if learns:
        layer.theta.copy_(state.theta[0])
    return count


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 20, generator=torch.Generator().manual_seed(3)).double()


@pytest.mark.parametrize(("min_spikes", "strength"), [(3, 1.0), (25, 1.0), (25, 370.0)], ids=str)
@torch.no_grad()
def test_compiled_presentations_are_steps_of_neurons_encoding_and_rule(images, min_spikes, strength):
    fast, slow = (units(min_spikes=min_spikes, attempts=3, excitation=1.6 * strength) for _ in range(2))
    assert torch.equal(fast.learn_(images, 4), by_steps(slow, images, 4, learns=True))
    torch.testing.assert_close(fast.weight, slow.weight, rtol=0, atol=1e-9)
    torch.testing.assert_close(fast.theta, slow.theta, rtol=0, atol=1e-12)
    counts = fast(images)
    assert torch.equal(counts, by_steps(slow, images, 0, learns=False))
    assert counts.sum() > 20
    assert (fast.weight - units().weight).abs().max() > 0.01


def test_answers_depend_on_neither_batch_nor_threads(images):
    layer, before = units(), torch.get_num_threads()
    whole = layer(images)
    try:
        torch.set_num_threads(2)
        assert torch.equal(layer(images), whole)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(layer(images.flip(0)), whole.flip(0))
    assert torch.equal(torch.cat([layer(one[None]) for one in images]), whole)


def digits_body(train, seed=0):
    rule, encoding = PairSTDP(a_plus=0.03, a_minus=1e-3, pairing="nearest"), PoissonEncoding(rate=128.0, duration=0.1)
    neuron = ConductanceLIF(theta_plus=2e-4, tau_theta=100.0)
    hidden = CompetitiveUnits(64, 40, neuron, rule, encoding, excitation=6.0, total=12.0)
    hidden.init_(torch.Generator().manual_seed(seed))
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), hidden=hidden))


def test_units_learn_digits_and_the_file_predicts_the_same(tmp_path):
    train, test = load("digits")
    model = VotingClassifier(digits_body(train), learning=CompetitiveLearning())
    model.fit(train, rng=torch.Generator().manual_seed(0))
    right = (model.predict(test.x) == test.y).float().mean()
    frozen = VotingClassifier(digits_body(train)).fit(train, rng=torch.Generator().manual_seed(0))
    assert right > 0.6
    assert (frozen.predict(test.x) == test.y).float().mean() < right - 0.2
    again = load_model(model.save(tmp_path / "model.safetensors"))
    assert torch.equal(again.decision_function(test.x), model.decision_function(test.x))
    assert model.feature_layers()[0].weight.shape == (40, 64)
    few = model.refit_readout(train[:50], rng=torch.Generator())
    assert (few.predict(test.x) == test.y).float().mean() < right


def test_a_unit_votes_for_the_class_that_it_answers_most():
    x, y = torch.tensor([[3.0, 0, 0], [3, 1, 0], [0, 2, 0], [0, 1, 0]]), torch.tensor([0, 0, 1, 1])
    model = VotingClassifier(nn.Sequential(nn.Flatten())).fit(Split(x, y, 2), rng=torch.Generator())
    assert model.network_.vote.weight.tolist() == [[1, 0, 0], [0, 1, 0]]  # the third unit is silent
    some = Split(torch.tensor([[3.0, 2, 0], [0, 0, 4]]), torch.tensor([0, 1]), 2)
    model = VotingClassifier(nn.Sequential(nn.Flatten())).fit(some, rng=torch.Generator())
    scores = model.decision_function(torch.tensor([[1.0, 1.5, 2.0]]))
    assert scores.tolist() == [[1.25, 2.0]]  # means: a class does not win by having more units
    many = Split(torch.tensor([[1.0, 1], [1, 1], [1, 1], [0, 2]]), torch.tensor([0, 0, 0, 1]), 2)
    model = VotingClassifier(nn.Sequential(nn.Flatten())).fit(many, rng=torch.Generator())
    assert model.network_.vote.weight.tolist() == [[1, 0], [0, 1]]  # nor does a unit go to the commonest class
    assert Winner()(torch.tensor([[1.0, 2.0, 2.0]])).tolist() == [[0, 1, 0]]


def test_what_cannot_be_is_refused(images):
    x = images.clone().requires_grad_()  # counts are steps
    assert torch.equal(torch.autograd.grad(units()(x).sum(), x)[0], torch.zeros_like(x))
    assert CompetitiveUnits(1, 1, attempts=1).weight.shape == (1, 1)
    for inputs, want in ((784, (1.6, 78.4)), (64, (19.6, 6.4))):
        usual = CompetitiveUnits(inputs, 40)
        assert (usual.excitation, usual.total) == pytest.approx(want, rel=1e-12)
    for name, wrong in {
        "inputs": 0,
        "units": 0,
        "attempts": 0,
        "min_spikes": -1,
        "inhibition": -1.0,
        "total": 0.0,
    }.items():
        with pytest.raises(Refusal, match="needs inputs, units, attempts >= 1, inhibition >= 0, total > 0"):
            CompetitiveUnits(**{"inputs": 2, "units": 2, name: wrong})
    with pytest.raises(Refusal, match=r"total can be 64 at most, got 78\.4; None is a tenth of that"):
        CompetitiveUnits(64, 40, total=78.4)
    with pytest.raises(Refusal, match="needs max_labelled >= 1, got 0"):
        VotingClassifier(nn.Sequential(nn.Flatten()), max_labelled=0)
    with pytest.raises(Refusal, match="need the same dt"):
        CompetitiveUnits(2, 2, neuron=ConductanceLIF(dt=5e-4))
    with pytest.raises(Refusal, match="PairSTDP\\(pairing='nearest'\\)"):
        CompetitiveUnits(2, 2, rule=PairSTDP())
    assert not units().learn_(torch.zeros(1, 20)).any()  # black
    for wrong, call in itertools.product((images[:, :13], images.repeat(1, 3)), (units(), units().learn_)):
        with pytest.raises(Refusal, match="need 20 inputs in each example, got"):
            call(wrong)
    with pytest.raises(Refusal, match="epochs >= 1"):
        CompetitiveLearning(0)


def test_units_without_first_weights_are_refused_before_they_learn(images):
    layer = CompetitiveUnits(20, 6, NEURON, RULE, ENCODING, total=6.0).double()
    with pytest.raises(Refusal, match=r"learn from weights above 0, and 6 units have none; call init_\(rng\) first"):
        layer.learn_(images)
