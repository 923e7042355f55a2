"""Local learning in depth: statistics that stay, rates that follow norms, and the numbers to watch."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from common import first_digits, rng
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.models import FeatureClassifier, LocalLearning, PatchNormConv2d, Triangle, rate_by_norm
from neuropil.models.training.local import progress, unit_state
from neuropil.plasticity import HardWTA, KrotovHopfield, SoftHebb, propose_
from neuropil.runs import NullTracker

train = first_digits(300)


def deep():
    torch.manual_seed(1)
    layers = OrderedDict(
        norm1=nn.BatchNorm2d(1, affine=False),
        conv1=nn.Conv2d(1, 8, 3, bias=False, padding=1, padding_mode="reflect"),
        act1=Triangle(0.7),
        pool=nn.MaxPool2d(2),
        norm2=nn.BatchNorm2d(8, affine=False),
        conv2=nn.Conv2d(8, 16, 3, bias=False),
    )
    return nn.Sequential(layers)


class Rows(NullTracker):
    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(row.columns())


@pytest.mark.parametrize("together", [False, True])
def test_statistics_of_finished_layers_do_not_move(train, together):
    body = deep()
    rules = {"conv1": SoftHebb(tau=1.0, anti=True, normalise=True), "conv2": SoftHebb(tau=1.0, normalise=True)}
    learning = LocalLearning(rules, epochs=2, batch=50, lr=0.01, joint=together)
    learning.fit_(body, train, rng=rng(), tracker=NullTracker())
    assert body.norm1.num_batches_tracked == 2 * 6
    assert body.norm2.num_batches_tracked == 2 * 6
    assert not body.training


def test_every_layer_may_have_its_own_rate(train):
    body, before = deep(), deep()
    rules = {"conv1": SoftHebb(normalise=True), "conv2": SoftHebb(normalise=True)}
    tracker = Rows()
    learning = LocalLearning(rules, epochs=1, batch=300, lr={"conv1": 0.1, "conv2": 0.01})
    learning.fit_(body, train, rng=rng(), tracker=tracker)
    for name, rate in (("conv1", 0.1), ("conv2", 0.01)):
        moved = body.get_submodule(name).weight - before.get_submodule(name).weight
        assert moved.abs().max().item() == pytest.approx(rate, rel=1e-3)  # the largest entry of the change is 1
        (told,) = [row["relative_change"] for row in tracker.rows if row["stage"] == f"features {name}"]
        assert told == pytest.approx((moved.norm() / before.get_submodule(name).weight.norm()).item(), rel=1e-4)
    assert [row["stage"] for row in tracker.rows] == ["features conv1", "features conv2"]
    with pytest.raises(Refusal, match="for every layer with a rule"):
        LocalLearning(rules, lr={"conv1": 0.1})


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_row_learns_at_the_distance_of_its_norm_from_one(power):
    layer = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.0, 0.5]], dtype=torch.float64))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    handle = rate_by_norm(optimizer, power)
    before = layer.weight.detach().clone()
    propose_(layer, torch.ones(3, 2, dtype=torch.float64))
    optimizer.step()
    want = 0.1 * torch.tensor([[4.0], [0.0], [0.5]], dtype=torch.float64) ** power
    torch.testing.assert_close(layer.weight.detach() - before, want.expand(3, 2), rtol=1e-12, atol=1e-7)
    handle.remove()
    optimizer.step()  # the scaled gradient, once more
    torch.testing.assert_close(layer.weight.detach() - before, 2 * want.expand(3, 2), rtol=1e-12, atol=1e-7)


def test_a_rate_falls_with_the_norm_of_its_own_rule(train):
    rows = torch.tensor([[0.6, 0.8, 0.0], [0.3, -0.4, 0.7], [0.0, 0.9, 0.5]], dtype=torch.float64)
    at_rest = rows / rows.abs().pow(3.3).sum(1, keepdim=True) ** (1 / 3.3)
    first, second = nn.Linear(3, 3, bias=False).double(), nn.Linear(3, 3, bias=False).double()
    first.weight.data, second.weight.data = at_rest.clone(), at_rest.clone()
    optimizer = torch.optim.SGD([{"params": [first.weight]}, {"params": [second.weight]}], lr=0.1)
    rate_by_norm(optimizer, 0.5, p=[3.3, 2.0])
    for layer in first, second:
        propose_(layer, torch.ones(3, 3, dtype=torch.float64))
    optimizer.step()
    assert (first.weight - at_rest).abs().max() < 1e-8
    assert (second.weight - at_rest).abs().min() > 1e-3
    body = nn.Sequential(OrderedDict(flat=nn.Flatten(), one=nn.Linear(64, 3, bias=False)))
    body.one.weight.data = torch.zeros(3, 64).index_fill(1, torch.arange(0, 64, 3), 22 ** (-1 / 3.3))
    before = body.one.weight.detach().clone()
    learning = LocalLearning({"one": KrotovHopfield(p=3.3, k=2)}, epochs=1, norm_rate=0.5)
    learning.fit_(body, train, rng=rng(), tracker=NullTracker())
    assert (body.one.weight - before).abs().max() < 1e-2


def test_rates_by_norm_need_dense_changes(train):
    rule = HardWTA(sparse=True)
    body = nn.Sequential(OrderedDict(flat=nn.Flatten(), one=nn.Linear(64, 9, bias=False)))
    with pytest.raises(Refusal, match="sparse=False"):
        LocalLearning({"one": rule}, norm_rate=0.5).fit_(body, train, rng=rng(), tracker=NullTracker())
    with pytest.raises(Refusal, match="power > 0"):
        rate_by_norm(torch.optim.SGD(body.parameters()), 0.0)


def test_the_numbers_to_watch_are_those_of_the_definition():
    weight = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 2], [0, 0, 0]])
    state = unit_state(weight, torch.tensor([1, 3, 1, 0]), norm=2.0)
    assert state["dead"] == 0.25
    assert state["converged"] == 0.5
    assert state["effective_rank"] == pytest.approx((1 + 1 + 4) ** 2 / (1 + 1 + 16), rel=1e-6)


def test_units_are_judged_on_enough_samples_to_win_some(train):
    body = nn.Sequential(OrderedDict(flat=nn.Flatten(), one=nn.Linear(64, 200, bias=False)))
    with torch.no_grad():
        body.one.weight.copy_(train[torch.arange(200)].pixels().flatten(1))
        body.one.weight.div_(body.one.weight.norm(dim=1, keepdim=True))
    many = Split(train.x.repeat(4, 1, 1, 1), train.y.repeat(4), 10)
    wins = body(many.pixels()[:1000]).argmax(1).bincount(minlength=200)
    assert progress(body, "one", many)["dead"] == (wins == 0).float().mean()


def test_judging_the_units_changes_nothing(train):
    body = deep().train()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    state = progress(body, "conv2", train)
    assert set(state) == {"dead", "converged", "effective_rank"}
    assert all(torch.equal(before[name], value) for name, value in body.state_dict().items())
    assert all(module.training for module in body.modules())


def test_deep_features_on_normalised_patches_learn_more_than_chance(train):
    torch.manual_seed(0)
    layers = OrderedDict(
        conv=PatchNormConv2d(1, 20, 3, padding=1), act=Triangle(), pool=nn.MaxPool2d(2), flat=nn.Flatten()
    )
    rule = KrotovHopfield(p=2, k=2, delta=0.0, average=True)
    learning = LocalLearning({"conv": rule}, epochs=10, batch=50, lr=0.3)
    learner = FeatureClassifier(nn.Sequential(layers), learning=learning).fit(train, rng=rng())
    assert (learner.predict(train.pixels()) == train.y).float().mean() > 0.95
    assert (learner.body_.conv.weight.flatten(1).norm(dim=1) - 1).abs().median() < 0.2


def test_of_all_images_only_the_first_teach(train):
    rule = {"conv1": SoftHebb(tau=0.1, normalise=True)}
    bodies = [deep().requires_grad_(False) for _ in range(2)]
    LocalLearning(rule, epochs=2, batch=10, max_images=50).fit_(bodies[0], train, rng=rng(), tracker=NullTracker())
    LocalLearning(rule, epochs=2, batch=10).fit_(bodies[1], train[:50], rng=rng(), tracker=NullTracker())
    assert torch.equal(bodies[0].conv1.weight, bodies[1].conv1.weight)
    with pytest.raises(Refusal, match="images >= 0"):
        LocalLearning(rule, max_images=-1)
