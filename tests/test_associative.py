"""Associative networks: settling against loops and an ODE, locality from recorded traces alone, refusals, resume."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

from neuropil.checks import Refusal
from neuropil.data import Split, digits
from neuropil.evaluate import accuracy
from neuropil.learners.associative import DRAW, NAME, NAME_PART, Associative, Practice, Settling, Teacher, Trial, Wiring
from neuropil.learners.associative.completing import fire_missing_
from neuropil.learners.associative.trials import half_images, random_part, shifted, spikes
from neuropil.plasticity import ChangeSTDP
from neuropil.runs import Run


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def train():
    return digits(seed=0)[0][:400]


@pytest.fixture(scope="module")
def learned(train):
    rates = {"naming": 3e-3, "label": 3e-3, "drawing": 1e-3, "pixels": 1e-2}
    practice = Practice(trials=(NAME, NAME_PART, DRAW), epochs=30, batch=25, rates=rates, decay=0.93)
    return Associative((40,), 40, settling=Settling(10, step=0.8), practice=practice).fit(train, rng=rng())


def small_net():
    """Three groups in a ring with feedback, in float64, weights large enough that some units are cut off at 0 and 1."""
    net = Wiring({"a": 3, "b": 4, "c": 2}, [("a", "b"), ("b", "c"), ("c", "b"), ("b", "a")]).double()
    net.draw_(rng(), gains=dict.fromkeys("abc", 1.5))
    for rest in net.rest.values():
        rest.copy_(torch.linspace(0.2, 0.5, len(rest)))
    return net


def small_state(batch=5):
    r = torch.rand(batch, 9, generator=rng(1), dtype=torch.float64)
    return {"a": r[:, :3].clone(), "b": r[:, 3:7].clone(), "c": r[:, 7:].clone()}


def drive_of(net, state, post, unit, row, free=None, whisper=1.0):
    """u of one unit in one sample, synapse by synapse."""
    u = net.rest[post][unit].item()
    for pre, target in net.routes:
        if target == post:
            weight, mask = net.between(pre, post).weight, (free or {}).get(pre)
            for j in range(net.sizes[pre]):
                share = whisper if mask is not None and mask[row, j] == 1 else 1.0
                u += weight[unit, j].item() * share * state[pre][row, j].item()
    return u


def by_hand(net, state, free, steps, eps, mu, truth, beta, whisper=0.1):
    """The sweeps of `Settling` and `Teacher`, unit by unit; within a group all units see the same moment."""
    state = {name: s.clone() for name, s in state.items()}
    speed = {name: torch.zeros_like(s) for name, s in state.items()}
    for _ in range(steps):
        for post, mask in free.items():
            old = {name: s.clone() for name, s in state.items()}
            for row in range(len(state[post])):
                for unit in range(net.sizes[post]):
                    s = old[post][row, unit].item()
                    u = drive_of(net, old, post, unit, row, free, whisper)
                    force = min(max(u, 0.0), 1.0) - s
                    if post in truth:
                        force += beta * (truth[post][row, unit].item() - s)
                    if mask is not None and mask[row, unit] == 0:
                        continue
                    speed[post][row, unit] = mu * speed[post][row, unit] + eps * force
                    state[post][row, unit] = min(max(s + speed[post][row, unit].item(), 0.0), 1.0)
    return state


# Settling


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_settling_is_the_sweep_unit_by_unit(momentum):
    net, state = small_net(), small_state()
    free = {"a": torch.tensor([[1.0, 0, 1]] * 5, dtype=torch.float64), "b": None}
    want = by_hand(net, state, free, 7, 0.4, momentum, {}, 0.0)
    settled = Settling(steps=7, step=0.4, momentum=momentum, tolerance=0.0)(net, state, free)
    for name in state:
        torch.testing.assert_close(settled.state[name], want[name], rtol=1e-12, atol=1e-12)
    assert settled.steps == 7
    assert not settled.done


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
    settled = Settling(steps=1500, step=1e-3, tolerance=0.0)(net, start, dict.fromkeys(names))
    reached = torch.cat([*settled.state.values()], 1)[0]
    torch.testing.assert_close(reached, torch.tensor(path.y[:, -1]), rtol=0, atol=2e-3)  # Euler: error of order step


@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_where_it_stops_every_free_unit_is_where_its_drive_sends_it(momentum):
    net, state = small_net(), small_state()
    for layer in net.synapses.values():
        layer.weight.mul_(0.4)
    free = {"b": None, "c": None}
    settled = Settling(steps=500, step=0.5, momentum=momentum, tolerance=1e-10)(net, state, free)
    assert settled.done
    assert settled.residual.shape == (5,)
    assert settled.residual.max() < 1e-10
    assert settled.steps < 500
    for name in free:
        for unit in range(net.sizes[name]):
            goal = min(max(drive_of(net, state, name, unit, 2), 0), 1)
            assert state[name][2, unit].item() == pytest.approx(goal, abs=1e-9)


def test_given_units_keep_their_activity():
    net, state = small_net(), small_state()
    given = {"a": state["a"].clone(), "c": state["c"].clone()}
    mask = torch.tensor([[1.0, 0, 1]] * 5, dtype=torch.float64)
    Settling(steps=9)(net, state, {"a": mask, "b": None})
    assert torch.equal(state["a"][:, 1], given["a"][:, 1])
    assert not torch.equal(state["a"][:, 0], given["a"][:, 0])
    assert torch.equal(state["c"], given["c"])


def test_only_groups_that_can_matter_are_settled():
    net = Wiring({"x": 2, "h": 2, "y": 2, "g": 2}, [("x", "h"), ("h", "y"), ("y", "h"), ("y", "g"), ("g", "x")])
    assert net.around(["y"], fixed=["x"]) == ["h", "y"]
    assert net.around(["x"], fixed=["y"]) == ["x", "g"]
    assert net.around(["y"], fixed=[]) == ["x", "h", "y", "g"]


# The teacher


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_the_teacher_pulls_unit_by_unit(momentum):
    net, state = small_net(), small_state()
    truth, free = {"c": torch.rand(5, 2, generator=rng(4), dtype=torch.float64)}, {"c": None, "b": None}
    kept = {name: s.clone() for name, s in state.items()}
    after = Teacher(steps=3, strength=0.7)(net, state, free, truth, Settling(step=0.5, momentum=momentum))
    want = by_hand(net, state, free, 3, 0.5, momentum, truth, 0.7)
    for name in state:
        torch.testing.assert_close(after[name], want[name], rtol=1e-12, atol=1e-12)
        assert torch.equal(state[name], kept[name])


def test_with_a_reach_the_numerical_derivative_sets_the_target():
    net, state = small_net(), small_state()
    truth, free = {"c": torch.ones(5, 2, dtype=torch.float64)}, {"c": None, "b": None}
    short = Teacher(steps=2)(net, state, free, truth, Settling())
    after = Teacher(steps=2, reach=3.0)(net, state, free, truth, Settling())
    for name in free:
        target = state[name] + 3.0 * (short[name] - state[name])
        torch.testing.assert_close(after[name], target.clamp(0, 1), rtol=1e-12, atol=1e-12)
    assert (target < 0).any(), "nothing was clipped"


# Locality


def test_the_rule_is_presynaptic_activity_times_postsynaptic_change():
    layer = nn.Linear(3, 2, bias=False).double()
    pre, before, after = (torch.rand(4, n, generator=rng(n), dtype=torch.float64) for n in (3, 2, 2))
    after = after.flip(0)
    change = ChangeSTDP(scale=0.5)(layer, pre, before, after)
    for i in range(2):
        for j in range(3):
            want = 0.5 * sum(pre[b, j].item() * (after[b, i] - before[b, i]).item() for b in range(4))
            assert change[i, j].item() == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("drawing", [0, 7])
@pytest.mark.parametrize("teacher", [Teacher(steps=3), Teacher(steps=2, reach=2.0)], ids=["mSTDP", "aSTDP"])
@pytest.mark.parametrize("trial", [NAME, DRAW, Trial("label", "part"), Trial("pixels", labels=0.5)], ids=str)
def test_every_synapse_can_compute_its_change_from_the_traces_of_its_two_neurons(trial, teacher, drawing, train):
    """A pre trace, a post trace, the rate of its place, and whether the event is for it: nothing else is read."""
    rates = {"naming": 0.3, "label": 0.2, "drawing": 0.15, "pixels": 0.1}
    practice = Practice(trials=(NAME, DRAW), rates=rates, feedback=0.5)
    learner = Associative((6,), drawing, teacher=teacher, practice=practice)
    learner.net_, learner.shape_, learner.classes_ = learner.fresh(train, rng()), train.x.shape[1:], 10
    old = {name: part.clone() for name, part in learner.net_.named_parameters()}
    traces, hold = [], learner.propose_

    def record(trial, sent, before, after):
        traces.append([{k: s.clone() for k, s in state.items()} for state in (sent, before, after)])
        hold(trial, sent, before, after)

    learner.propose_ = record
    part = train[:20]
    learner.practise_(trial, part.x, part.y, torch.optim.SGD(learner.groups_(), lr=0.0), rng(3))
    ((sent, before, after),) = traces
    mine = "naming" if drawing == 0 or trial.taught == "label" else "drawing"
    for pre, post in learner.net_.routes:
        weight, name = learner.net_.between(pre, post).weight, f"synapses.{pre}>{post}.weight"
        if post != trial.taught and not post.startswith(mine):
            assert torch.equal(weight, old[name]), "the event is not for this synapse"
            continue
        rate = rates[post.rstrip("1")] / (teacher.strength * len(part))
        thresholds = rate * (after[post] - before[post]).sum(0)
        rate *= 0.5 if (pre, post) == ("label", "naming1") else 1
        for i in range(0, len(weight), 3):
            for j in range(0, weight.shape[1], 3):
                change = sum(sent[pre][b, j] * (after[post][b, i] - before[post][b, i]) for b in range(len(part)))
                assert (weight[i, j] - old[name][i, j]).item() == pytest.approx(rate * change.item(), abs=2e-7)
        rest = learner.net_.rest[post] - old[f"rest.{post}"]
        torch.testing.assert_close(rest, thresholds, rtol=1e-4, atol=1e-7)
    assert any(not torch.equal(part, old[name]) for name, part in learner.net_.named_parameters())


def test_in_a_fit_a_synapse_needs_its_own_traces_and_its_own_past(train):
    """Adam by hand, for single synapses, from the traces of their neurons over a whole fit."""
    practice = Practice(trials=(NAME, DRAW), epochs=2, batch=100)
    learner = Associative((6,), 7, practice=practice)
    traces, hold = [], learner.propose_

    def record(trial, sent, before, after):
        kept = [{k: s.clone().double() for k, s in state.items()} for state in (sent, before, after)]
        traces.append((trial.taught, *kept))
        hold(trial, sent, before, after)

    learner.propose_ = record
    learner.fit(train, rng=rng())
    fresh = learner.fresh(train, rng())
    for pre, post, taught in (("pixels", "naming1", "label"), ("drawing", "pixels", "pixels")):
        mine = [kept for kept in traces if kept[0] == taught]
        for i, j in ((0, 2), (3, 5), (5, 1)):
            weight, mean, square = fresh.between(pre, post).weight[i, j].item(), 0.0, 0.0
            for step, (_, sent, before, after) in enumerate(mine, start=1):
                change = (sent[pre][:, j] * (after[post][:, i] - before[post][:, i])).sum().item() / (0.5 * 100)
                mean, square = 0.9 * mean + 0.1 * change, 0.99 * square + 0.01 * change**2
                rate = practice.rates[post.rstrip("1")] * practice.decay ** ((step - 1) // 4)
                weight += rate * (mean / (1 - 0.9**step)) / ((square / (1 - 0.99**step)) ** 0.5 + 1e-8)
            assert learner.net_.between(pre, post).weight[i, j].item() == pytest.approx(weight, abs=1e-5)


# Learning and use


@pytest.mark.filterwarnings("ignore:.*samples had not settled")
def test_one_network_names_draws_and_completes(learned, train):
    test = digits(seed=0)[1]
    assert accuracy(learned, test) > 0.85
    drawn = learned.generate(torch.arange(10), 6, rng())
    assert drawn.shape == (60, 1, 8, 8)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    right = learned.predict(drawn) == torch.arange(10).repeat_interleave(6)
    assert right.float().mean() > 0.8
    upper = half_images(train.x.shape[1:])[0].view(1, 8, 8)
    filled = learned.complete(test.x, upper, labels=test.y)
    assert torch.equal(filled[:, :, :4], test.x[:, :, :4])
    missed = lambda pixels: (pixels - test.x)[:, :, 4:].square().mean()
    assert missed(filled) < missed(train.x.mean(0, keepdim=True).expand_as(test.x))
    assert learned.scores_from_part(test.x, upper).argmax(1).eq(test.y).float().mean() > 0.4


def test_two_drawings_differ_and_a_generator_repeats_them(learned):
    first = learned.generate(torch.tensor([3]), 5, rng(1))
    assert (first[0] - first[1]).abs().max() > 0.05
    assert torch.equal(first, learned.generate(torch.tensor([3]), 5, rng(1)))
    assert not torch.equal(first, learned.generate(torch.tensor([3]), 5, rng(2)))


def test_without_a_generator_completion_is_a_settled_state(learned, train):
    x, mask = train.x[:7], torch.zeros(1, 8, 8)
    mask[:, :5] = 1
    a, b = (learned.complete(start, mask, labels=train.y[:7]) for start in (x, x * mask))
    assert torch.equal(a[:, :, 5:], b[:, :, 5:]), "what stands under the mask must not matter"
    net, pixels = learned.net_, a.flatten(1)
    free = (mask == 0).flatten().expand_as(pixels)
    sent = torch.where(free, 0.1 * pixels, pixels)
    hidden = net.rest["drawing"] + sent @ net.between("pixels", "drawing").weight.T
    hidden = (hidden + net.between("label", "drawing").weight.T[train.y[:7]]).clamp(0, 1)
    drive = net.rest["pixels"] + hidden @ net.between("drawing", "pixels").weight.T
    drive = (drive + net.between("label", "pixels").weight.T[train.y[:7]]).clamp(0, 1)
    torch.testing.assert_close(drive[free], pixels[free], rtol=0, atol=0.05)  # the tolerance of settling, amplified


def test_scores_are_the_settled_drives_of_the_label(learned, train):
    x, net = train.x[:4].flatten(1), learned.net_
    label = torch.zeros(4, 10)
    for _ in range(300):
        drive = net.rest["naming1"] + x @ net.between("pixels", "naming1").weight.T
        hidden = (drive + label @ net.between("label", "naming1").weight.T).clamp(0, 1)
        goal = net.rest["label"] + hidden @ net.between("naming1", "label").weight.T
        label = label + 0.2 * (goal.clamp(0, 1) - label)
    sharp = Associative((40,), 40, settling=Settling(300, step=0.2, tolerance=1e-6), practice=learned.practice)
    sharp.net_, sharp.shape_, sharp.classes_ = net, learned.shape_, 10
    torch.testing.assert_close(sharp.scores(train.x[:4]), goal, rtol=0, atol=1e-4)


def test_with_two_hidden_layers_and_no_drawing_it_names_but_does_not_draw(train):
    rates = {"naming": 3e-3, "label": 3e-3, "drawing": 0.0, "pixels": 0.0}
    practice = Practice(trials=(NAME,), epochs=25, batch=20, rates=rates, decay=0.93)
    learner = Associative((40, 30), settling=Settling(10, step=0.8), practice=practice).fit(train, rng=rng())
    assert accuracy(learner, digits(seed=0)[1]) > 0.8
    with pytest.raises(Refusal, match="never learned to draw"):
        learner.generate(torch.tensor([1]), 1, rng())


def test_missing_labels_teach_drawing_and_never_naming(train):
    labels = torch.full((400,), -1)
    practice = Practice(trials=(NAME, DRAW), epochs=2)
    learner = Associative((10,), 12, practice=practice).fit(train, rng=rng(), labels=labels)
    fresh = learner.fresh(train, rng())
    for pre, post in learner.net_.routes:
        same = torch.equal(learner.net_.between(pre, post).weight, fresh.between(pre, post).weight)
        assert same == (post in ("naming1", "label")), f"{pre}>{post}"


def test_a_few_labels_are_those_that_count(train):
    labels = train.y.clone()
    labels[100:] = -1
    wrong = Split(train.x, torch.where(labels >= 0, train.y, (train.y + 1) % 10), 10)
    learners = [
        Associative((10,), 12, practice=Practice(epochs=1)).fit(split, rng=rng(), labels=labels)
        for split in (train, wrong)
    ]
    first, second = (dict(learner.net_.named_parameters()) for learner in learners)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_masks_give_a_random_share_or_a_half():
    masks = random_part(4000, torch.Size([1, 8, 8]), rng())
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    halves = half_images(torch.Size([1, 8, 8]))
    assert halves.sum(1).tolist() == [32] * 4
    assert torch.equal(halves[0] + halves[1], torch.ones(64))
    share = sum((masks == half).all(1).float().mean().item() for half in halves)
    assert share == pytest.approx(0.25, abs=0.03)
    assert masks.mean().item() == pytest.approx(0.75 / 3 + 0.25 / 2, abs=0.03)
    assert random_part(7, torch.Size([5]), rng()).shape == (7, 5)


def test_shifted_images_are_windows_of_a_padded_one():
    x = torch.rand(50, 1, 6, 5, generator=rng())
    moved = shifted(x, 1, rng(1))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    windows = [padded[:, :, a : a + 6, b : b + 5] for a in range(3) for b in range(3)]
    which = [next(k for k, w in enumerate(windows) if torch.equal(w[i], moved[i])) for i in range(50)]
    assert len(set(which)) == 9
    assert shifted(x, 0, rng()) is x


def test_spikes_come_with_the_probability_that_is_the_activity():
    drawn = spikes(torch.tensor([0.0, 0.25, 1.0]).expand(20000, 3), rng())
    torch.testing.assert_close(drawn.mean(0), torch.tensor([0.0, 0.25, 1.0]), atol=0.01, rtol=0)


def test_pixels_that_fire_later_know_of_those_that_fired_before():
    """Two pixels at rest at 1/4; each spike lifts the other to 3/4. So both fire with 3/16, not with 1/16."""
    net = Wiring({"pixels": 2, "drawing": 1}, [("pixels", "drawing"), ("drawing", "pixels")])
    net.between("pixels", "drawing").weight.fill_(0.5)
    net.between("drawing", "pixels").weight.fill_(1.0)
    net.rest["pixels"].fill_(0.25)
    net.rest["drawing"].zero_()
    n = 20000
    state = {"pixels": torch.zeros(n, 2), "drawing": torch.zeros(n, 1)}
    free = {"pixels": torch.ones(n, 2), "drawing": None}
    settling = Settling(50, step=1.0, tolerance=1e-6, check=1, whisper=0.0)
    fire_missing_(net, settling, state, free, rounds=2, rng=rng())
    shares = [state["pixels"][:, 0].sub(grey).abs().lt(1e-5).float().mean().item() for grey in (0.25, 0.75, 1.0)]
    assert shares == pytest.approx([9 / 16, 1 / 4, 3 / 16], abs=0.012)


# Refusals


def test_an_unsettled_answer_comes_with_a_warning(learned, train):
    hasty = Associative((40,), 40, settling=Settling(1, tolerance=1e-9), practice=learned.practice)
    hasty.net_, hasty.shape_, hasty.classes_ = learned.net_, learned.shape_, 10
    with pytest.warns(UserWarning, match=r"5 of 5 samples had not settled after 10 steps: .* \(tolerance 1e-09\)"):
        hasty.predict(train.x[:5])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a, x: a.predict(x * 2), r"pixels in \[0, 1\], got 0 to 2; scale them"),
        (lambda a, x: a.predict(x * math.nan), r"pixels in \[0, 1\], got nan"),
        (lambda a, x: a.complete(x, torch.ones(1, 4, 4)), r"the shape of the images \(4, 1, 8, 8\).*got \(1, 4, 4\)"),
        (lambda a, x: a.complete(x, torch.full((1, 8, 8), 0.5)), r"1 \(given\) or 0 \(missing\)"),
        (lambda a, x: a.complete(x, torch.ones(1, 8, 8), labels=torch.full((4,), 10)), r"0 to 9, or -1 .*got 10 to 10"),
        (lambda a, x: a.complete(x, torch.ones(1, 8, 8), labels=torch.ones(3).long()), r"\(4,\), got \(3,\) in int64"),
        (lambda a, x: a.generate(torch.tensor([-2]), 1, rng()), r"got -2 to -2"),
        (lambda a, x: a.generate(torch.tensor([1.5]), 1, rng()), r"int64 .*in float32"),
        (lambda a, x: a.generate(torch.tensor([1]), 0, rng()), r"n >= 1 drawings, got 0"),
    ],
)
def test_what_cannot_be_asked(ask, message, learned, train):
    with pytest.raises(Refusal, match=message):
        ask(learned, train.x[:4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Associative(()), "layers of 1 unit or more"),
        (lambda: Associative((5,), -1), "drawing >= 0"),
        (lambda: Associative((5,), gains=dict.fromkeys(["naming", "label", "drawing", "pixels"], -1.0)), "gain >= 0"),
        (lambda: Settling(step=0), "0 < step <= 1"),
        (lambda: Settling(momentum=1.0), "0 <= momentum < 1"),
        (lambda: Settling(steps=0), "steps and check >= 1"),
        (lambda: Settling(tolerance=-1), "tolerance >= 0"),
        (lambda: Settling(whisper=2), "0 <= whisper <= 1"),
        (lambda: Teacher(strength=0), "strength > 0"),
        (lambda: Teacher(reach=0), "reach > 0"),
        (lambda: Practice(trials=()), "at least one kind of trial"),
        (lambda: Practice(rates={"naming": 1.0}), "a rate for each of"),
        (lambda: Practice(decay=0), "0 < decay <= 1"),
        (lambda: Practice(feedback=-1), "feedback >= 0"),
        (lambda: Practice(batch=0), "epochs and batch >= 1"),
        (lambda: Trial("lable"), "Did you mean 'label'"),  # type: ignore[arg-type]
        (lambda: Trial("pixels", "all"), "cannot be taught"),
        (lambda: Trial("pixels", labels=2.0), "0 <= labels <= 1"),
        (lambda: ChangeSTDP(0), "scale > 0"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(Refusal, match=message):
        make()


def test_labels_out_of_range_and_vectors_out_of_range_are_refused(train):
    with pytest.raises(Refusal, match=r"labels need 0 to 9, or -1 if unknown, got -1 to 11"):
        Associative((5,)).fit(train, rng=rng(), labels=torch.cat([torch.full((399,), -1), torch.tensor([11])]))
    with pytest.raises(Refusal, match=r"one int64 per image, \(400,\), got \(3,\)"):
        Associative((5,)).fit(train, rng=rng(), labels=torch.zeros(3).long())
    with pytest.raises(Refusal, match=r"pixels in \[0, 1\]"):
        Associative((5,)).fit(Split(torch.randn(20, 4, generator=rng()), torch.zeros(20).long(), 2), rng=rng())


def test_a_network_that_runs_away_is_refused_in_words(train):
    rates = {"naming": 30.0, "label": 30.0, "drawing": 1.0, "pixels": 1.0}
    with pytest.raises(
        Refusal, match=r"diverged in epoch \d+: \d+% of its hidden activity is stuck .* lower the rates"
    ):
        Associative((20,), practice=Practice(trials=(NAME,), rates=rates, epochs=30)).fit(train, rng=rng())


# Resume


def test_a_fit_that_was_stopped_goes_on_bit_for_bit(tmp_path, train):
    practice = Practice(trials=(NAME, DRAW), epochs=4)

    def fit(run):
        return Associative((10,), 10, practice=practice).fit(train, rng=rng(), watch=run)

    whole = fit(Run.start(tmp_path / "whole", recipe="x", config={}, command="x"))
    run = Run.start(tmp_path / "stopped", recipe="x", config={}, command="x")
    run.every = 0.0
    log, seen = run.log, []

    def stop(kind, **row):
        seen.append(row)
        if len(seen) == 3:
            raise KeyboardInterrupt
        log(kind, **row)

    run.log = stop
    with pytest.raises(KeyboardInterrupt):
        fit(run)
    run.close()
    again = fit(Run.resume(tmp_path / "stopped"))
    for name, part in whole.net_.named_parameters():
        assert torch.equal(part, again.net_.get_parameter(name)), name
