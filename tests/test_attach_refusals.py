"""What `attach` and its learners refuse: rules without competition, networks, images and settings that cannot be."""

import warnings
from copy import deepcopy

import pytest
import torch
from torch import nn

import neuropil as npl
from neuropil.errors import Diverged, Refusal
from test_attach import BOTH, IMAGES, Silent, learn, network


@pytest.mark.parametrize("rule", [npl.Hebb(), npl.Oja(), npl.Sanger(), Silent()], ids=lambda rule: type(rule).__name__)
def test_rules_whose_units_do_not_compete_say_so_before_they_start(rule):
    model = network()
    before = deepcopy(model.state_dict())
    with pytest.raises(Refusal, match=f"'3' would not compete under {type(rule).__name__}: .*use ExplainAway, HardWTA"):
        npl.attach(model, {"0": npl.HardWTA(), "3": rule}, IMAGES)
    assert all(torch.equal(before[key], model.state_dict()[key]) for key in before if "weight" in key)
    npl.attach(nn.Linear(5, 1), {"": rule}, torch.rand(9, 5))  # one unit has no one to copy


@pytest.mark.parametrize(
    ("model", "rule", "images", "text"),
    [
        (
            nn.Sequential(nn.Linear(4, 3)),
            npl.BCM(),
            torch.rand(9, 4),
            "drives only, but BCM needs theta as well; use Expl",
        ),
        (nn.Sequential(nn.Linear(4, 3)), npl.ExplainAway(k=4), torch.rand(9, 4), "k <= units, got k=4 and 3 units"),
        (nn.Sequential(nn.Linear(1, 3)), npl.HardWTA(), torch.rand(9, 1), "'0' has a single input"),
        (
            nn.Sequential(nn.ConvTranspose1d(2, 3, 2)),
            npl.HardWTA(),
            torch.rand(9, 2, 4),
            "a ConvTranspose1d; attach takes",
        ),
        (
            nn.Sequential(nn.BatchNorm1d(4)),
            npl.HardWTA(),
            torch.rand(9, 4),
            "a BatchNorm1d; attach takes Linear and Conv",
        ),
        (nn.Sequential(nn.Linear(4, 3)), npl.HardWTA(), torch.full((9, 4), torch.nan), "NaN or infinite"),
        (nn.Sequential(nn.Linear(4, 3)), npl.HardWTA(), torch.rand(0, 4), "needs images to start from"),
        (
            nn.Sequential(nn.Linear(4, 3, device="meta")),
            npl.HardWTA(),
            torch.rand(9, 4, device="meta"),
            "images with numbers in them, got some on the device meta",
        ),
        (nn.Sequential(nn.Linear(4, 3, device="meta")), npl.HardWTA(), torch.rand(9, 4), "weights on the device meta"),
    ],
)
def test_what_cannot_learn_is_refused_in_one_line(model, rule, images, text):
    with pytest.raises(Refusal, match=text) as refused:
        npl.attach(model, {"0": rule}, images)
    assert "\n" not in str(refused.value)


def test_infinite_activity_later_on_is_refused_and_leaves_the_weights():
    learner = npl.attach(network(), BOTH, IMAGES)
    before = deepcopy(learner.model[0].weight)
    with pytest.raises(Refusal, match="NaN or infinite"):
        learner.propose_(IMAGES * torch.inf)
    assert torch.equal(before, learner.model[0].weight)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"threshold": float("nan")}, "a finite threshold or None, got nan"),
        ({"most": 0}, "most >= 1 inputs for a step, got 0"),
        ({"rng": 0}, r"rng=torch\.Generator\(\)\.manual_seed\(0\) or another, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, text):
    with pytest.raises(Refusal, match=text):
        npl.attach(network(), BOTH, IMAGES, **settings)


def test_units_without_a_direction_are_refused_at_the_start_and_after_a_step():
    model = nn.Sequential(nn.Linear(4, 3))
    learner = npl.attach(model, {"0": npl.HardWTA()}, torch.rand(9, 4))
    with torch.no_grad():
        model[0].weight[1].fill_(torch.inf).view(-1)[0] = 1
        model[0].weight[1] = 0
    with pytest.raises(Refusal, match="lower the learning rate if the weights have run away"):
        learner.propose_(torch.rand(9, 4))
    with pytest.raises(Refusal, match="1 units of layer '0' have weights of 0"):
        npl.attach(model, {"0": npl.HardWTA()}, torch.rand(9, 4))


def test_a_state_of_other_sizes_is_refused():
    small = npl.attach(nn.Sequential(nn.Linear(4, 3)), {"0": npl.HardWTA()}, torch.rand(9, 4))
    large = npl.attach(nn.Sequential(nn.Linear(5, 3)), {"0": npl.HardWTA()}, torch.rand(9, 5))
    more = npl.attach(nn.Sequential(nn.Linear(4, 5)), {"0": npl.HardWTA()}, torch.rand(9, 4))
    for state in ({}, large.state_dict(), more.state_dict()):
        with pytest.raises(Refusal, match="the state of a learner on layers"):
            small.load_state_dict(state)


def test_a_state_of_another_rule_or_threshold_is_refused():
    attached = lambda rule, **more: npl.attach(nn.Sequential(nn.Linear(4, 3)), {"0": rule}, torch.rand(9, 4), **more)
    state = attached(npl.HardWTA()).state_dict()
    attached(npl.HardWTA()).load_state_dict(state)
    other = attached(npl.ExplainAway(k=1))
    begun = other.begun["0"]["weight"]
    other.load_state_dict({key: state[key] for key in state if key not in ("rules", "begun")})  # an old one
    assert torch.equal(other.begun["0"]["weight"], begun)
    with pytest.raises(Refusal, match=r"with rules .*HardWTA.* was given to one with .*ExplainAway"):
        attached(npl.ExplainAway(k=1)).load_state_dict(state)
    with pytest.raises(Refusal, match=r"with threshold None was given to one with 2.0"):
        attached(npl.HardWTA(), threshold=2.0).load_state_dict(state)


def test_a_step_that_makes_weights_infinite_is_refused_and_a_huge_one_is_settled():
    model = network()
    learner, norms = npl.attach(model, BOTH, IMAGES), model[0].weight.detach().flatten(1).norm(dim=1)
    learn(learner, IMAGES.split(20), optimizer=torch.optim.SGD(model.parameters(), lr=1e25))
    torch.testing.assert_close(model[0].weight.detach().flatten(1).norm(dim=1), norms)
    learner.propose_(IMAGES)
    model[0].weight.data[0, 0, 1, 1] = torch.inf
    with pytest.raises(
        Diverged, match="a step made weights of layer '0' NaN or infinite; attach anew, at a lower rate"
    ):
        learner.settle_()


def test_a_layer_that_no_optimiser_writes_is_named_once():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)), torch.rand(40, 6)
    learner = npl.attach(model, {"0": npl.ExplainAway(), "2": npl.ExplainAway()}, x)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.05)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(30):
            learner.propose_(x)
            optimizer.step()
            learner.settle_()
    assert [str(one.message) for one in told] == [
        "the weight of layer '0' was written by none of 8 steps; is it among the parameters of the optimiser?"
    ]


def test_weights_that_are_written_by_hand_or_now_and_then_are_not_named():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 5)), torch.rand(40, 6)
    learner = npl.attach(model, {"0": npl.ExplainAway()}, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(30):
            learner.propose_(x)
            if step % 7 == 6:  # the others were skipped
                with torch.no_grad():
                    model[0].weight.sub_(0.05 * model[0].weight.grad)
            model.zero_grad()
            learner.settle_()
