"""A learner on a network that is looked at, converted, copied or sent to another process."""

from copy import deepcopy
from multiprocessing import get_context

import pytest
import torch
from torch import nn

import neuropil as npl
from test_attach import BOTH, IMAGES, network, seed, start


def test_looking_at_wins_changes_nothing():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 4))
    learner = npl.attach(model, {"0": npl.HardWTA(), "3": npl.HardWTA()}, torch.rand(60, 6))
    model[2].eval()
    before, seen = deepcopy(model.state_dict()), torch.random.get_rng_state()
    wins = learner.wins(torch.rand(60, 6, generator=seed(1)))
    assert [int(one.sum()) for one in wins.values()] == [60, 60]
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), seen)
    assert [module.training for module in model.modules()] == [True, True, True, False, True]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_that_is_converted_takes_its_learner_along(dtype):
    learner = npl.attach(network(), BOTH, IMAGES, rng=seed())
    first = learner.model[0].weight.detach().clone()
    learner.model.to(dtype)
    for _ in range(2):
        learner.propose_(IMAGES.to(dtype))
        torch.optim.SGD(learner.model.parameters(), 0.2).step()
        learner.settle_()
    assert all(part.dtype == dtype for state in learner.states.values() for part in state)
    assert (learner.model[0].weight - first).abs().max() > 0.01
    assert learner.wins(IMAGES.to(dtype))["0"].sum() > 0


def change_by(learner):
    """What a step in this process makes of a learner that another process has sent."""
    learner.propose_(IMAGES)
    return learner.model[0].weight.grad, learner.rng.get_state()


def test_a_learner_goes_to_another_process_as_it_is():
    learner = npl.attach(network(), BOTH, IMAGES, rng=seed(4), most=50)
    with get_context("spawn").Pool(1) as other:
        change, state = other.apply(change_by, (learner,))
    for one in learner, deepcopy(learner):
        one.propose_(IMAGES)
        assert torch.equal(one.model[0].weight.grad, change)
    assert torch.equal(learner.rng.get_state(), state)


def test_a_learner_on_a_copy_goes_on_as_the_first_does():
    learner, batch = start("dense", npl.SoftHebb(tau=0.1), threshold=1.3, most=29)
    other = learner.on(deepcopy(learner.model))
    for one in learner, other:
        for _ in range(2):
            one.propose_(batch)
            torch.optim.SGD(one.model.parameters(), 0.2).step()
            one.settle_()
    assert torch.equal(learner.model[0].weight, other.model[0].weight)
    assert torch.equal(learner.model[0].bias, other.model[0].bias)
    assert learner.model[0].bias.abs().min() > 0
