"""How associative networks settle and are nudged, against loops over units and against the differential equation."""

import pytest
import torch
from scipy.integrate import solve_ivp

from associative_oracles import by_hand, drive_of, small_net, small_state
from common import rng
from neuropil.associative import CLASSIFY, Connectivity, Nudge, Settled, Settling
from neuropil.associative.connectivity import bidirectional
from neuropil.associative.inference import Filling, class_scores, masked_scores
from neuropil.associative.learning import Traces
from neuropil.associative.training import GAINS, EpochStatistics

# Settling


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_settling_is_the_sweep_unit_by_unit(momentum):
    net, state = small_net(), small_state()
    free = {"a": torch.tensor([[1.0, 0, 1]] * 5, dtype=torch.float64), "b": None}
    want = by_hand(net, state, free, 7, 0.4, momentum, {}, 0.0)
    settled = Settling(max_iterations=7, step_size=0.4, momentum=momentum, tolerance=0.0)(net, state, free)
    for name in state:
        torch.testing.assert_close(settled.state[name], want[name], rtol=1e-12, atol=1e-12)
    assert settled.iterations == 7
    assert not settled.converged


def test_small_steps_follow_the_differential_equation():
    net, start = small_net(), small_state(1)
    names = list(start)
    cut = lambda flat: dict(zip(names, torch.tensor(flat)[None].split([3, 4, 2], 1)))

    def slope(_, flat):
        state = cut(flat)
        return [
            min(max(drive_of(net, state, name, k, 0), 0), 1) - state[name][0, k].item()
            for name in names
            for k in range(net.sizes[name])
        ]

    path = solve_ivp(slope, [0, 1.5], torch.cat([*start.values()], 1)[0].numpy(), rtol=1e-8, atol=1e-10)
    settled = Settling(max_iterations=1500, step_size=1e-3, tolerance=0.0)(net, start, dict.fromkeys(names))
    reached = torch.cat([*settled.state.values()], 1)[0]
    torch.testing.assert_close(reached, torch.tensor(path.y[:, -1]), rtol=0, atol=2e-3)  # Euler: error of order step


def test_what_has_settled_stops_at_its_first_sweep():
    net, state = small_net(), small_state()
    settled = Settling(tolerance=2.0, check_every=1)(net, state, {"b": None})
    assert (settled.iterations, settled.converged, settled.sweeps.tolist()) == (1, True, [1] * 5)


@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_where_it_stops_every_free_unit_is_where_its_drive_sends_it(momentum):
    net, state = small_net(), small_state()
    for layer in net.synapses.values():
        layer.weight.mul_(0.4)
    free = {"b": None, "c": None}
    settled = Settling(max_iterations=500, step_size=0.5, momentum=momentum, tolerance=1e-10)(net, state, free)
    assert settled.converged
    assert settled.residual.shape == (5,)
    assert settled.residual.max() < 1e-10
    assert settled.iterations < 500
    for name in free:
        for unit in range(net.sizes[name]):
            goal = min(max(drive_of(net, state, name, unit, 2), 0), 1)
            assert state[name][2, unit].item() == pytest.approx(goal, abs=1e-9)


def test_clamped_units_keep_their_activity():
    net, state = small_net(), small_state()
    given = {"a": state["a"].clone(), "c": state["c"].clone()}
    mask = torch.tensor([[1.0, 0, 1]] * 5, dtype=torch.float64)
    Settling(max_iterations=9)(net, state, {"a": mask, "b": None})
    assert torch.equal(state["a"][:, 1], given["a"][:, 1])
    assert not torch.equal(state["a"][:, 0], given["a"][:, 0])
    assert torch.equal(state["c"], given["c"])


def test_only_populations_that_can_matter_are_settled():
    net = Connectivity({"x": 2, "h": 2, "y": 2, "g": 2}, [("x", "h"), ("h", "y"), ("y", "h"), ("y", "g"), ("g", "x")])
    assert net.ancestors(["y"], fixed=["x"]) == ["h", "y"]
    assert net.ancestors(["x"], fixed=["y"]) == ["x", "g"]
    assert net.ancestors(["y"], fixed=[]) == ["x", "h", "y", "g"]


# The nudge


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_the_nudge_pulls_unit_by_unit(momentum):
    net, state = small_net(), small_state()
    truth, free = {"c": torch.rand(5, 2, generator=rng(4), dtype=torch.float64)}, {"c": None, "b": None}
    kept = {name: s.clone() for name, s in state.items()}
    after = Nudge(steps=3, beta=0.7)(net, state, free, truth, Settling(step_size=0.5, momentum=momentum))
    want = by_hand(net, state, free, 3, 0.5, momentum, truth, 0.7)
    for name in state:
        torch.testing.assert_close(after[name], want[name], rtol=1e-12, atol=1e-12)
        assert torch.equal(state[name], kept[name])


def test_with_an_extrapolation_factor_the_numerical_derivative_sets_the_target():
    net, state = small_net(), small_state()
    truth, free = {"c": torch.ones(5, 2, dtype=torch.float64)}, {"c": None, "b": None}
    short = Nudge(steps=2)(net, state, free, truth, Settling())
    after = Nudge(steps=2, extrapolation=3.0)(net, state, free, truth, Settling())
    for name in free:
        target = state[name] + 3.0 * (short[name] - state[name])
        torch.testing.assert_close(after[name], target.clamp(0, 1), rtol=1e-12, atol=1e-12)
    assert (target < 0).any(), "nothing was clipped"


def test_an_epoch_counts_sweeps_and_how_far_nudges_moved_units_in_either_direction():
    found = EpochStatistics()
    for sweeps, settles, label in ((5, True, [[0.2, 0.6], [0.7, 0.1]]), (9, False, [[0.4, 0.3], [0.1, 0.5]])):
        state = {"pixels": torch.zeros(2, 3), "label": torch.tensor(label), "h": torch.zeros(2, 1)}
        after = state | {"label": state["label"] + torch.tensor([[0.1, -0.3], [-0.2, 0.2]])}
        settled = Settled(state, sweeps, torch.zeros(2), settles, torch.full((2,), sweeps))
        found.add(CLASSIFY, Traces(state, settled, after, state, 2, torch.tensor([1, 1])))
    found.add(CLASSIFY, None)  # a step that did not take place
    want = {"iterations": 7, "unsettled_fraction": 0.5, "nudge_moved_label": 0.2, "train_accuracy": 0.5}
    assert found.row() == pytest.approx(want)


def test_scores_of_a_part_are_those_of_the_part_and_half_those_of_the_completed_whole():
    net = bidirectional(6, 3, (5,), 4, 4, generates=True, skip=False)
    net.init_(rng(1), dict.fromkeys(GAINS, 1.0))
    net.bias["label"].copy_(torch.tensor([0.2, 0.4, 0.3]))
    settling, x = Settling(30, 0.5), torch.rand(2, 1, 2, 3, generator=rng(2))
    mask = torch.tensor([[1.0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 1]]).view(2, 1, 2, 3)
    completed = Filling(net, settling)(x, mask, torch.tensor([-1, -1])).images
    part, whole = class_scores(net, settling, x * mask, partial=True), class_scores(net, settling, completed)
    want = part.clamp(0, 1) + 0.5 * whole.clamp(0, 1)
    torch.testing.assert_close(masked_scores(net, settling, x, mask), want)
    assert whole.clamp(0, 1).abs().min() > 0.01


def test_first_weights_have_the_gain_of_the_population_that_they_drive():
    net = bidirectional(400, 300, (200,), 0, 0, generates=False, skip=False)
    net.init_(rng(), {"pixels": 0.1, "label": 0.3, "classification": 0.9})
    for pre, post in net.projections:
        weight, gain = net.between(pre, post).weight, 0.3 if post == "label" else 0.9
        assert weight.std().item() == pytest.approx(gain * (2 / sum(weight.shape)) ** 0.5, rel=0.03)
