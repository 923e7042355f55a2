"""Targets from a unit's own derivative, the control of a nudge, and samples in fewer sweeps."""

from dataclasses import replace

import pytest
import torch

from associative_oracles import drive_of, small_net, small_state
from common import rng
from neuropil.associative import (
    AssociativeNetwork,
    AssociativeTraining,
    Connectivity,
    DerivativeTargets,
    Nudge,
    Sampling,
    Settling,
)
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.models.description import describe, rebuild

TARGETS = DerivativeTargets(first=1.37, least=0.83, most=2.71)


def labelled_net(gain=0.9):
    net = Connectivity({"pixels": 4, "label": 3, "h": 5}, [("pixels", "h"), ("h", "label"), ("label", "h")]).double()
    net.init_(rng(2), gains=dict.fromkeys(net.sizes, gain))
    for bias in net.bias.values():
        bias.copy_(torch.linspace(0.1, 0.4, len(bias)))
    sizes = net.sizes.items()
    return net, {name: torch.rand(6, n, generator=rng(k), dtype=torch.float64) for k, (name, n) in enumerate(sizes)}


# Targets


class Unit:
    """One unit, which is told its own activity and its own pull and nothing else."""

    def __init__(self):
        self.memory, self.moves = None, 0

    def aim(self, s, pull):
        reach = 1.37
        if self.memory:
            old_s, old_pull, old_reach = self.memory
            if s == old_s:
                reach = old_reach
            elif (pull - old_pull) / (s - old_s) >= 0:
                reach = 2.71
            else:
                reach = -(s - old_s) / (pull - old_pull)
            reach = min(max(reach, 1.37 if self.moves == 1 else 0.83), 2.71)
        self.memory, self.moves = (s, pull, reach), self.moves + 1
        return s + reach * pull


@pytest.mark.parametrize("size", [1.0, 0.6])
def test_every_label_unit_sets_its_target_from_what_it_knows_of_itself(size):
    net, state = labelled_net()
    want = {name: s.clone() for name, s in state.items()}
    units = [[Unit() for _ in range(3)] for _ in range(6)]
    for _ in range(7):
        for post in ("label", "h"):
            old = {name: s.clone() for name, s in want.items()}
            for row in range(6):
                for k in range(net.sizes[post]):
                    s = old[post][row, k].item()
                    pull = min(max(drive_of(net, old, post, k, row), 0.0), 1.0) - s
                    aim = units[row][k].aim(s, pull) if post == "label" else s + pull
                    want[post][row, k] = min(max(s + size * (aim - s), 0.0), 1.0)
    free = {"label": None, "h": None}
    Settling(7, size, tolerance=0.0, targets=TARGETS)(net, state, free)
    for name in state:
        torch.testing.assert_close(state[name], want[name], rtol=1e-10, atol=1e-10)


def test_a_reach_depends_on_no_other_unit():
    s, r, old_s, old_r = torch.rand(4, 3, 4, generator=rng(), dtype=torch.float64)
    past = TARGETS(old_s, old_r, None)
    for which in range(2):
        given = [s, r]
        reach = lambda x, which=which, given=given: (
            TARGETS(*(x if k == which else y for k, y in enumerate(given)), past).reach
        )
        jacobian = torch.autograd.functional.jacobian(reach, given[which]).view(12, 12)
        assert jacobian.diagonal().abs().max() > 0.1
        assert jacobian.fill_diagonal_(0).abs().max() == 0


def test_targets_reach_the_same_rest_in_fewer_sweeps_where_units_confirm_themselves():
    net, state = labelled_net(0.1)
    net.between("h", "label").weight.add_(0.7 * torch.eye(3, 5))
    net.between("label", "h").weight.add_(0.9 * torch.eye(5, 3))
    for bias in net.bias.values():
        bias.mul_(0.2)
    free, plain = {"label": None, "h": None}, Settling(500, 1.0, tolerance=1e-9, check_every=1)
    ended = []
    for targets in (None, DerivativeTargets()):
        start = {name: s.clone() for name, s in state.items()}
        ended.append(replace(plain, targets=targets).each(net, start, free))
        assert ended[-1].converged
    for name in state:
        torch.testing.assert_close(ended[1].state[name], ended[0].state[name], rtol=0, atol=2e-8)
    assert ended[1].sweeps.sum() < 0.5 * ended[0].sweeps.sum()


@pytest.mark.parametrize("targets", [None, TARGETS])
def test_each_sample_makes_as_many_sweeps_as_alone(targets):
    net, state = labelled_net(1.3)
    free, settling = {"label": None, "h": None}, Settling(40, 0.9, tolerance=1e-5, check_every=2, targets=targets)
    alone = [settling(net, {k: s[[row]].clone() for k, s in state.items()}, free) for row in range(6)]
    each = settling.each(net, state, free)
    assert each.sweeps.tolist() == [one.iterations for one in alone]
    assert len(set(each.sweeps.tolist())) > 1
    torch.testing.assert_close(each.state["label"], torch.cat([one.state["label"] for one in alone]))
    assert each.iterations == each.sweeps.max() == max(one.sweeps.item() for one in alone)


def test_targets_are_refused_with_momentum_and_out_of_range_and_survive_a_file():
    for make, message in (
        (lambda: Settling(momentum=0.2, targets=TARGETS), "momentum=0 where targets are set"),
        (lambda: DerivativeTargets(first=0.9), "0 < least <= first <= most"),
        (lambda: Sampling(max_iterations=0), "max_iterations >= 1 or None"),
    ):
        with pytest.raises(Refusal, match=message):
            make()
    assert rebuild(describe(Settling(targets=TARGETS))) == Settling(targets=TARGETS)


# The control of a nudge


@pytest.mark.parametrize("nudge", [Nudge(3, 0.7, control=True), Nudge(2, 0.7, 1.9, control=True)])
def test_a_control_is_the_nudged_phase_without_the_nudge(nudge):
    net, state = small_net(), small_state()
    free, settling = {"c": None, "b": None}, Settling(max_iterations=nudge.steps, step_size=0.5, tolerance=0.0)
    kept = {name: s.clone() for name, s in state.items()}
    got = nudge.without(net, state, free, settling)
    assert all(torch.equal(state[name], kept[name]) for name in state)
    want = settling(net, {name: s.clone() for name, s in state.items()}, free).state
    for name in state:
        far = kept[name] + (nudge.extrapolation or 1) * (want[name] - kept[name])
        torch.testing.assert_close(got[name], far.clamp(0, 1) if name in free else kept[name])
    assert replace(nudge, control=False).without(net, state, free, settling) is state
    net, state = labelled_net()
    free = {"label": None, "h": None}  # the nudge itself knows no targets of label units, so its control has none
    plain, aims = (nudge.without(net, state, free, replace(settling, targets=one)) for one in (None, TARGETS))
    assert torch.equal(plain["label"], aims["label"])


def test_synapses_learn_from_what_the_nudge_did_beyond_the_control():
    x, y = torch.rand(20, 1, 3, 3, generator=rng(3)), torch.arange(20) % 4
    training = AssociativeTraining(epochs=1)
    learner = AssociativeNetwork((6, 5), nudge=Nudge(2, control=True), settling=Settling(1, 0.7), training=training)
    learner.initialise_(Split(x, y, 4), rng())
    old = {name: part.clone() for name, part in learner.net_.named_parameters()}
    sgd = torch.optim.SGD(learner.net_.parameters(), lr=0.3)
    (task, *_) = training.tasks
    seen = learner.train_step_(task, x, y, sgd, rng())
    assert not torch.equal(seen.before["label"], seen.settled.state["label"])
    for pre, post in (("pixels", "classification1"), ("classification2", "label"), ("label", "classification2")):
        moved = seen.after[post] - seen.before[post]
        change = torch.einsum("bi,bj->ij", moved, seen.sent[pre]) * 0.3 / (0.5 * 20)
        name = f"synapses.{pre}>{post}.weight"
        torch.testing.assert_close(learner.net_.get_parameter(name) - old[name], change, rtol=1e-3, atol=1e-6)
        assert change.abs().max() > 1e-4


# Samples


def test_rounds_of_sampling_may_have_fewer_sweeps_than_training():
    x, y = torch.rand(30, 1, 3, 3, generator=rng(3)), torch.arange(30) % 4
    learner = AssociativeNetwork((6,), 5, settling=Settling(6, 0.5, tolerance=0.0))
    learner.fit(Split(x, y, 4), rng=rng())
    for layer in learner.net_.synapses.values():
        layer.weight.mul_(4)
    few, many = (learner.generate(torch.arange(4), 2, rng(), sampling=Sampling(3, 1, max_iterations=k)) for k in (2, 6))
    usual = learner.generate(torch.arange(4), 2, rng(), sampling=Sampling(3, 1))
    learner.settling = replace(learner.settling, max_iterations=2)
    want = learner.generate(torch.arange(4), 2, rng(), sampling=Sampling(3, 1))
    assert torch.equal(few.images, want.images)
    assert torch.equal(many.images, usual.images)
    assert not torch.equal(few.images, many.images)
