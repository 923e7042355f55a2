"""Rules attached to a plain network: one step against loops, what a step keeps, resuming and geometries."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import neuropil as npl
from neuropil.errors import Refusal
from neuropil.plasticity.seen import FLAT
from neuropil.plasticity.turn import LEAK

LAYERS = {
    "dense": (lambda: nn.Linear(7, 5), (40, 7)),
    "dense, tokens": (lambda: nn.Linear(7, 5, bias=False), (10, 4, 7)),
    "conv1d": (lambda: nn.Conv1d(3, 5, 3, padding=1), (6, 3, 9)),
    "conv2d, strided and dilated": (lambda: nn.Conv2d(2, 5, 2, stride=2, dilation=2), (6, 2, 7, 8)),
    "conv3d, reflect": (lambda: nn.Conv3d(1, 5, 2, padding=1, padding_mode="zeros"), (2, 1, 3, 4, 3)),
}
RULES = {
    "HardWTA": npl.HardWTA(),
    "SoftHebb": npl.SoftHebb(tau=0.1),
    "Krotov": npl.KrotovHopfield(p=2, k=3),
    "explain": npl.ExplainAway(k=2),
}


def seed(number=0):
    return torch.Generator().manual_seed(number)


def start(name, rule, **settings):
    """A learner on a one-layer network, and a batch."""
    torch.manual_seed(1)
    factory, shape = LAYERS[name]
    model = nn.Sequential(factory().double())
    images = torch.rand(shape, dtype=torch.float64) ** 3 + 0.2
    learner = npl.attach(model, {"0": rule}, images, rng=seed(), **settings)
    return learner, torch.rand(shape, dtype=torch.float64) ** 2


def patches_of(layer, x):
    """(n, fan-in) by torch's own unfold, or by slices."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)
    if isinstance(layer, nn.Conv2d):
        return F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT.flatten(0, 1)
    pad = [side for side in layer.padding for _ in range(2)]
    x = F.pad(x, pad)
    for axis, size in enumerate(layer.kernel_size, 2):
        x = x.unfold(axis, size, 1)
    dims = len(layer.kernel_size)
    return x.movedim(1, 1 + dims).reshape(-1, layer.weight[0].numel())


def gains(rule, u):
    """y of one sample by the words of the law, and what the winners explain: a function of the directions."""
    order = sorted(range(len(u)), key=lambda j: -u[j])
    match rule:
        case npl.HardWTA():
            return {order[0]: 1.0}, False
        case npl.KrotovHopfield():
            return {order[0]: 1.0, order[rule.k - 1]: -rule.delta}, False
        case npl.SoftHebb():
            total = sum(math.exp(v / rule.tau) for v in u)
            return {j: math.exp(v / rule.tau) / total for j, v in enumerate(u)}, False
        case npl.ExplainAway():
            return {j: max(u[j], 0.0) for j in order[: rule.k]}, True


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_step_is_its_law_in_loops(name, rule):
    learner, batch = start(name, rule)
    layer, old = learner.model[0], learner.states["0"]
    learner.propose_(batch)
    weight, seen, new = layer.weight.detach().flatten(1), patches_of(layer, batch), learner.states["0"]
    mean = (old.mean[0] + seen.mean(0)) / 2  # the second batch of two
    x = [v - mean - (v - mean).mean() for v in seen]
    size = (old.size + sum(v.norm() for v in x) / len(x)) / 2
    x = [v / max(v.norm(), FLAT * size) for v in x]
    rows = [w / w.norm() for w in weight]
    u = torch.tensor([[float(v @ row) for row in rows] for v in x], dtype=torch.float64)
    change, total, answers = torch.zeros_like(weight), [0.0] * 5, [False] * 5
    for sample, drives in zip(x, u.tolist()):
        y, explains = gains(rule, drives)
        rest = sample - sum(y[j] * rows[j] for j in y) if explains else sample
        for j, gain in y.items():
            change[j] += gain * rest
            total[j] += abs(gain)
            answers[j] |= gain > 0
    for j in range(5):
        nearest = x[max(range(len(x)), key=lambda b: float(x[b] @ rows[j]))]
        change[j] = change[j] / total[j] if answers[j] else LEAK * nearest
        change[j] -= (change[j] @ rows[j]) * rows[j]
        change[j] *= weight[j].norm()
    torch.testing.assert_close(-layer.weight.grad.flatten(1), change, rtol=1e-9, atol=1e-12)
    assert change.abs().max() > 1e-3
    drive = seen @ weight.T
    torch.testing.assert_close(new.drive_mean, (old.drive_mean + drive.mean(0)) / 2)
    torch.testing.assert_close(new.drive_sd, (old.drive_sd + drive.std(0, correction=0)) / 2)


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9, weight_decay=0.1),
    lambda p: torch.optim.Adam(p, lr=0.1),
], ids=["SGD", "Adam"])  # fmt: skip
@pytest.mark.parametrize("name", ["dense", "conv1d"])
def test_whatever_the_optimiser_rows_keep_their_norm_and_sum_to_zero_and_biases_follow_drives(name, make):
    torch.manual_seed(1)
    norms = LAYERS[name][0]().weight.detach().flatten(1).norm(dim=1).double()
    learner, batch = start(name, npl.HardWTA())
    layer, optimizer = learner.model[0], make(learner.model.parameters())
    for _ in range(5):
        learner.propose_(batch)
        assert layer.bias.grad is None
        optimizer.step()
        learner.settle_()
        rows, state = layer.weight.detach().flatten(1), learner.states["0"]
        torch.testing.assert_close(rows.norm(dim=1), norms)
        torch.testing.assert_close(rows.sum(1), torch.zeros_like(norms), atol=1e-12, rtol=0)
        threshold = 0.5 * state.drive_sd if name == "dense" else 0
        torch.testing.assert_close(layer.bias.detach(), -(state.drive_mean + threshold))


@pytest.mark.parametrize("threshold", [0.7, 0.0])
@pytest.mark.parametrize("name", ["conv1d", "dense"])
def test_a_given_threshold_is_that_of_the_bias(name, threshold):
    learner, _ = start(name, npl.HardWTA(), threshold=threshold)
    state = learner.states["0"]
    torch.testing.assert_close(learner.model[0].bias.detach(), -(state.drive_mean + threshold * state.drive_sd))


def learn(learner, batches, *, optimizer=None, settle=True):
    optimizer = optimizer or torch.optim.Adam(learner.model.parameters(), lr=1e-2)
    for batch in batches:
        learner.propose_(batch)
        optimizer.step()
        if settle:
            learner.settle_()
    return optimizer


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.ReLU())


IMAGES = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(5))
BOTH = {"3": npl.ExplainAway(), "0": npl.HardWTA()}


def test_a_forgotten_settling_is_made_up_for_by_the_next_step():
    learners = [npl.attach(network(), BOTH, IMAGES, rng=seed()) for _ in range(2)]
    for learner, settle in zip(learners, (True, False)):
        learn(learner, IMAGES.split(20), settle=settle)
        learner.settle_()
    same(*(learner.model.state_dict() for learner in learners))


def same(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("settle", [True, False], ids=["settled", "not settled"])
def test_a_run_goes_on_bit_for_bit_from_its_states(settle):
    whole = npl.attach(network(), BOTH, IMAGES, most=500, rng=seed())
    optimizer = learn(whole, IMAGES.split(20)[:2], settle=settle)
    state = {"model": whole.model.state_dict(), "learner": whole.state_dict(), "optimizer": optimizer.state_dict()}
    state = deepcopy(state)
    learn(whole, IMAGES.split(20), optimizer=optimizer)
    again = npl.attach(network(), BOTH, IMAGES[:9], most=500, rng=seed(9))
    again.model.load_state_dict(state["model"])
    again.load_state_dict(state["learner"])
    optimizer = torch.optim.Adam(again.model.parameters(), lr=1e-2)
    optimizer.load_state_dict(state["optimizer"])
    learn(again, IMAGES.split(20), optimizer=optimizer)
    same(whole.model.state_dict(), again.model.state_dict())
    same(whole.untrained["0"], again.untrained["0"])
    same(dict(network()[0].named_parameters()), again.untrained["0"])
    with pytest.raises(Refusal, match=r"on layers \{'0': .* '3': .*\} was given to one on \{'0': "):
        npl.attach(network(), {"0": npl.HardWTA()}, IMAGES).load_state_dict(state["learner"])


def test_only_attached_layers_change_and_the_architecture_stays():
    model = network()
    before, text = deepcopy(model.state_dict()), repr(model)
    learn(npl.attach(model, {"3": npl.HardWTA()}, IMAGES, rng=seed()), IMAGES.split(20))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"3.weight", "3.bias", "2.running_mean", "2.running_var", "2.num_batches_tracked"}
    assert repr(model) == text
    assert not [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]


def test_layers_learn_in_the_order_of_the_pass_and_rows_start_at_inputs():
    learner = npl.attach(network(), BOTH, IMAGES, rng=seed())
    assert list(learner.states) == ["0", "3"]
    seen = patches_of(learner.model[0], IMAGES)
    seen = F.normalize(seen - learner.states["0"].mean[0] - (seen - learner.states["0"].mean[0]).mean(1, keepdim=True))
    cosine = F.normalize(learner.model[0].weight.detach().flatten(1)) @ seen.T
    assert (cosine.amax(1) > 1 - 1e-5).all()


def test_with_few_inputs_as_many_rows_start_there_as_there_are_and_the_others_stay_where_they_were():
    model = nn.Sequential(nn.Linear(9, 30))
    own, images = model[0].weight.detach().clone(), torch.rand(19, 9)
    with pytest.warns(UserWarning, match="19 of 30 units of layer '0' start at inputs, the others at random"):
        learner = npl.attach(model, {"0": npl.HardWTA()}, images)
    mean, now = learner.states["0"].mean[0], F.normalize(model[0].weight.detach())
    seen = F.normalize((images - mean) - (images - mean).mean(1, keepdim=True))
    near = now[:19] @ seen.T
    torch.testing.assert_close(near.amax(1), torch.ones(19))
    assert near.argmax(1).unique().numel() == 19  # each at another one
    centred = own - own.mean(1, keepdim=True)
    torch.testing.assert_close(now[19:], F.normalize(centred)[19:])
    assert torch.equal(learner.begun["0"]["weight"], model[0].weight)


@pytest.mark.parametrize("units", [501, 700])
def test_a_wide_layer_starts_at_inputs_too(units):
    images = torch.rand(1400, 12, generator=seed(1))
    learner = npl.attach(nn.Sequential(nn.Linear(12, units)), {"0": npl.HardWTA()}, images)
    mean = learner.states["0"].mean[0]
    seen = F.normalize((images - mean) - (images - mean).mean(1, keepdim=True))
    assert ((F.normalize(learner.model[0].weight.detach()) @ seen.T).amax(1) > 1 - 1e-5).all()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_scale_and_shift_of_the_input_do_not_matter(rule):
    learners = [
        npl.attach(network().double()[:2], {"0": rule}, a * IMAGES.double() + b, rng=seed())
        for a, b in ((1, 0), (10, 3))
    ]
    for learner, (a, b) in zip(learners, ((1, 0), (10, 3))):
        learn(
            learner, (a * IMAGES.double() + b).split(20), optimizer=torch.optim.SGD(learner.model.parameters(), lr=0.05)
        )
    torch.testing.assert_close(learners[0].model[0].weight, learners[1].model[0].weight)
    out = [learner.model(a * IMAGES.double() + b) / a for learner, (a, b) in zip(learners, ((1, 0), (10, 3)))]
    torch.testing.assert_close(*out)


def test_a_grouped_convolution_learns_as_its_groups_do_side_by_side():
    torch.manual_seed(3)
    images = torch.rand(20, 4, 6, 6, dtype=torch.float64)
    whole = npl.attach(nn.Sequential(nn.Conv2d(4, 10, 3, groups=2).double()), {"0": npl.ExplainAway(k=2)}, images)
    for group in range(2):
        half = npl.attach(nn.Sequential(nn.Conv2d(2, 5, 3).double()), {"0": npl.ExplainAway(k=2)}, images[:, :2])
        units, channels = slice(5 * group, 5 * group + 5), slice(2 * group, 2 * group + 2)
        half.model[0].weight.data = whole.model[0].weight.data[units].clone()
        old = whole.states["0"]
        half.states["0"] = old._replace(
            mean=old.mean[group : group + 1], norms=old.norms[units], idle=old.idle[units],
            drive_mean=old.drive_mean[units], drive_sd=old.drive_sd[units],
        )  # fmt: skip
        half.propose_(images[:, channels])
        if group == 0:
            whole.propose_(images)
            whole.states["0"] = old
        torch.testing.assert_close(half.model[0].weight.grad, whole.model[0].weight.grad[units], rtol=0.05, atol=1e-3)


def test_large_inputs_are_sampled_with_the_generator():
    changes = []
    for number in (0, 0, 1):
        learner = npl.attach(network(), {"0": npl.HardWTA()}, IMAGES, most=100, rng=seed(3))
        learner.rng = seed(number)
        learner.propose_(IMAGES)
        changes.append(learner.model[0].weight.grad)
    assert torch.equal(changes[0], changes[1])
    assert not torch.equal(changes[0], changes[2])


@pytest.mark.parametrize("batch", [torch.full((5, 1, 8, 8), 0.3), IMAGES[:0]], ids=["flat", "empty"])
def test_flat_and_empty_batches_teach_nothing(batch):
    model = network()
    learner = npl.attach(model, {"0": npl.HardWTA()}, IMAGES, rng=seed())
    learner.propose_(batch)
    assert (model[0].weight.grad.flatten(1).norm(dim=1) < 0.5 * model[0].weight.flatten(1).norm(dim=1)).all()


class Silent(npl.Rule):
    """A rule of one's own with independent units."""

    def post(self, u):
        return npl.Dense(u.relu())


class Rivals(npl.Rule):
    """A rule of one's own that competes: the runner-up moves away."""

    def post(self, u):
        return npl.Chosen(u.topk(2, 1).indices, (1.0, -0.1))


def test_a_rule_of_ones_own_learns():
    learn(npl.attach(network(), {"0": Rivals()}, IMAGES), IMAGES.split(20))


def test_a_unit_that_has_won_nothing_for_long_starts_anew_at_an_input():
    learner, batch = start("dense", npl.HardWTA())
    layer, old = learner.model[0], learner.states["0"]
    again, _ = start("dense", npl.HardWTA())
    idle = torch.tensor([0.0, 50.0, 3.0, 51.0, 7.0], dtype=torch.float64)  # 5 units: from 50 samples on
    learner.states["0"] = old._replace(idle=idle)
    before = layer.weight.detach().clone()
    learner.propose_(batch)
    assert (layer.weight != before).any(1).tolist() == [False, False, False, True, False]
    again.states["0"] = old._replace(idle=idle)
    torch.manual_seed(9)
    again.propose_(batch)
    assert torch.equal(again.model[0].weight, layer.weight)  # the generator of `attach` says which input
    seen = F.normalize((x := batch - old.mean) - x.mean(1, keepdim=True), dim=1)
    assert (seen @ F.normalize(layer.weight[3].detach(), dim=0)).max() > 1 - 1e-12
    torch.testing.assert_close(layer.weight[3].norm(), old.norms[3])
    new, wins = learner.states["0"], learner.wins(batch)["0"]
    torch.testing.assert_close(new.drive_mean[3], (batch @ layer.weight[3]).mean().detach())
    torch.testing.assert_close(new.drive_sd[3], (batch @ layer.weight[3]).std(correction=0).detach())
    assert wins[3] > 0
    assert new.idle.tolist() == [0.0 if won else i + 40 for won, i in zip(wins, [0, 50, 3, 0, 7])]
    learner.states["0"] = new._replace(idle=torch.tensor([0.0, 0.0, 0.0, 51.0, 52.0]).double())
    learner.propose_(batch[:1])  # both start at the one input, and one of them wins it
    assert sorted(learner.states["0"].idle[3:].tolist()) == [0.0, 1.0]


@pytest.mark.parametrize("kernel", [nn.Conv2d(3, 6, 3), nn.Conv2d(4, 6, 2, groups=2)], ids=["one group", "groups"])
def test_channels_that_lie_last_in_memory_learn_the_same(kernel):
    """Rows of such a weight are a copy, so what is written into them would be lost."""
    images, found = torch.rand(30, kernel.in_channels, 6, 6, generator=seed(3)).double() ** 2, []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = nn.Sequential(deepcopy(kernel).double()).to(memory_format=layout)
        learner = npl.attach(model, {"0": npl.HardWTA()}, images, rng=seed())
        start = model[0].weight.detach().clone()
        idle = torch.arange(6.0, dtype=torch.float64) * 50  # some start anew
        learner.states["0"] = learner.states["0"]._replace(idle=idle)
        learn(learner, images.split(10), optimizer=torch.optim.SGD(model.parameters(), lr=0.3))
        torch.testing.assert_close(model[0].weight.flatten(1).norm(dim=1), learner.states["0"].norms)
        found.append([start, *model.state_dict().values()])
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
