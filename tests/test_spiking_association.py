"""The compiled presentations of the spiking associative network against steps of neurons and `PairSTDP`."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neuropil.associative import (
    CLASSIFY,
    GENERATE,
    AssociativeTraining,
    SpikingAssociation,
    SpikingAssociativeNetwork,
    SpikingPhases,
    balanced,
)
from neuropil.associative.connectivity import LABEL, PIXELS
from neuropil.associative.spiking import HIDDEN
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.loading import load
from neuropil.models.competition import content_index
from neuropil.plasticity import DifferentialHebb, PairSTDP, SoftBounds
from neuropil.spiking.clock.encodings import GOLDEN, M32, mix, sample_keys, thresholds

PHASES = SpikingPhases(rate=130.0, tau=0.023, free=0.17, nudged=0.06, control=0.05, in_use=0.21, beta=0.7, dt=3.1e-3)
RULE = PairSTDP(tau_plus=0.013, tau_minus=0.037, a_plus=1.3, a_minus=0.7, dt=3.1e-3)


def tiny(phases=PHASES, rule=RULE, pixels=7, hidden=5, classes=3, gain=1.0):
    body = SpikingAssociation(pixels, hidden, classes, phases, rule, seed=4).double().requires_grad_(False)
    rng = torch.Generator().manual_seed(1)
    for part in body.parameters():
        part.copy_(gain * torch.randn(part.shape, generator=rng, dtype=torch.float64) / 2)
    return body


def rasters(body, x, label, keys, steps, free):
    """Spikes of every population, (time, batch, units), and the drives of the label, by definition."""
    net, phases = body.net, body.phases
    likely, keep = phases.rate * phases.dt, math.exp(-phases.dt / phases.tau)
    sizes = {PIXELS: body.pixels, LABEL: body.classes, "always": 1, HIDDEN: body.hidden}
    line = (torch.arange(sum(sizes.values())) * GOLDEN) & M32
    u = {name: torch.zeros(len(x), sizes[name]).double() for name in (HIDDEN, LABEL)}
    made, drives = {name: [] for name in sizes}, []
    for t in range(steps):
        s = {name: one.clamp(0, 1) for name, one in u.items()}
        if t >= free:
            s[LABEL] = (s[LABEL] + phases.beta * label) / (1 + phases.beta)
        activity = torch.cat([x, s[LABEL], torch.ones(len(x), 1).double(), s[HIDDEN]], 1)
        spikes = (mix(mix((keys + t) & M32)[:, None] ^ line) < thresholds(likely * activity)).double()
        z = dict(zip(sizes, spikes.split(list(sizes.values()), 1)))
        for name, one in z.items():
            made[name].append(one)
        arrived = {
            HIDDEN: net.between(PIXELS, HIDDEN)(z[PIXELS]) + net.between(LABEL, HIDDEN)(z[LABEL]),
            LABEL: net.between(HIDDEN, LABEL)(z[HIDDEN]),
        }
        for name in u:
            u[name] = keep * u[name] + (1 - keep) / likely * (arrived[name] + z["always"] * net.bias[name])
        drives.append(u[LABEL])
    return made, torch.stack(drives)


def by_rule(body, made, pre, post, free, control):
    """What the rule says step by step, with its sign, over beta."""
    layer = nn.Linear(made[pre][0].shape[1], made[post][0].shape[1], bias=False).double()
    memory, total = body.rule.init(layer, made[pre][0], made[post][0]), 0
    for t, (x, y) in enumerate(zip(made[pre], made[post])):
        change, memory = body.rule.step(layer, x, y, memory)
        total = total + (change if t >= free else -change if t >= free - control else 0 * change)
    return total / body.phases.beta


@pytest.fixture(scope="module")
def seen():
    rng = torch.Generator().manual_seed(2)
    return torch.rand(4, 7, generator=rng).double(), F.one_hot(torch.tensor([0, 2, 1, 2]), 3).double()


@torch.no_grad()
@pytest.mark.parametrize("control", [0.0, 0.05])
def test_a_compiled_presentation_is_steps_of_units_and_rule(seen, control):
    x, label = seen
    body = tiny(replace(PHASES, control=control))
    drive = body.learn_(x, label, torch.Generator().manual_seed(3))
    keys = torch.randint(2**32, (4,), generator=torch.Generator().manual_seed(3))
    free, nudged, before = 55, 19, round(control / PHASES.dt)
    made, drives = rasters(body, x, label, keys, free + nudged, free)
    for pre, post in body.net.projections:
        found = -body.net.between(pre, post).weight.grad
        torch.testing.assert_close(found, by_rule(body, made, pre, post, free, before), rtol=0, atol=1e-11)
        assert found.abs().max() > 0.1
    for post in (HIDDEN, LABEL):
        wanted = by_rule(body, made, "always", post, free, before)[:, 0]
        torch.testing.assert_close(-body.net.bias[post].grad, wanted, rtol=0, atol=1e-11)
    torch.testing.assert_close(drive, drives[free - (before or free) : free].mean(0), rtol=0, atol=1e-11)


@torch.no_grad()
def test_in_use_the_label_is_read_and_an_image_has_its_own_spikes(seen):
    x, label = seen
    body, keys = tiny(), sample_keys(content_index(seen[0]), 4)
    _, drives = rasters(body, x, label, keys, 68, 68)
    torch.testing.assert_close(body(x), drives[17:].mean(0), rtol=0, atol=1e-11)
    assert torch.equal(body(x[2:3]), body(x)[2:3])


@torch.no_grad()
def test_on_average_it_is_the_rate_rule_and_a_control_takes_away_what_spikes_cause():
    phases = SpikingPhases(rate=180.0, tau=0.03, free=2.5, nudged=1.0, control=1.0, dt=5e-3)
    body = tiny(phases, balanced(0.03, 0.3, 5e-3), pixels=4, hidden=6, classes=2, gain=0.1)
    body.net.bias[HIDDEN].add_(0.4)
    layer = body.net.between(HIDDEN, LABEL)
    layer.weight.add_(0.3)
    body.net.bias[LABEL].sub_(0.4)
    x = torch.tensor([0.9, 0.2, 0.5, 0.7]).double().expand(1500, 4).contiguous()
    label = torch.tensor([1.0, 0.0]).double().expand(1500, 2).contiguous()
    before, after = (settled(body.net, x[:1], pull * label[:1], pull) for pull in (0.0, 0.5))
    scale = (180.0 * 0.3) ** 2 / phases.beta
    wanted = DifferentialHebb(scale)(layer, before[HIDDEN], before[LABEL], post_after=after[LABEL])
    body.learn_(x, label, torch.Generator().manual_seed(0))
    assert (-layer.weight.grad - wanted).norm() < 0.2 * wanted.norm()
    caused = []  # by spikes that make their targets spike, where nothing pulls
    for control in (1.0, 0.0):
        body.phases = replace(phases, control=control, beta=1e-9)
        body.learn_(x, label, torch.Generator().manual_seed(0))
        caused.append(float(-layer.weight.grad.mean() * 1e-9 / (wanted.abs().mean() * phases.beta)))
    assert abs(caused[0]) < 0.1 < caused[1] / 2


def settled(net, x, pull, beta):
    """Where rates settle, if label units are pulled."""
    y = torch.zeros(1, 2).double()
    for _ in range(200):
        h = (net.between(PIXELS, HIDDEN)(x) + net.between(LABEL, HIDDEN)(y) + net.bias[HIDDEN]).clamp(0, 1)
        y = ((net.between(HIDDEN, LABEL)(h) + net.bias[LABEL]).clamp(0, 1) + pull) / (1 + beta)
    return {HIDDEN: h, LABEL: y}


@pytest.fixture
def bars():
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = 0.8 * torch.eye(3)[y] + 0.2 * torch.rand(60, 3, generator=rng)
    return Split(x[:, None, :, None].expand(-1, 1, 3, 3), y, 3)


def learner(**settings):
    phases = SpikingPhases(rate=200.0, tau=0.05, free=0.6, nudged=0.2, control=0.2, in_use=0.4, dt=5e-3)
    training = AssociativeTraining((CLASSIFY,), 20, 10, {"classification": 1e-2, "label": 3e-2})
    return SpikingAssociativeNetwork(8, phases=phases, rule=balanced(0.03, 0.06, 5e-3), training=training, **settings)


def test_it_learns_alike_on_any_number_of_threads_and_is_back_from_a_file(bars, tmp_path):
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(learner().fit(bars, rng=torch.Generator().manual_seed(1)))
    finally:
        torch.set_num_threads(threads)
    scores = found[0].decision_function(bars.x)
    assert torch.equal(scores, found[1].decision_function(bars.x))
    assert (scores.argmax(1) == bars.y).float().mean() > 0.9
    assert learner(seed=3).fit(bars[:9], rng=torch.Generator()).network_[1].seed == 3
    found[0].save(tmp_path / "model.safetensors")
    assert torch.equal(load(tmp_path / "model.safetensors").decision_function(bars.x), scores)


def test_balanced_windows_have_the_same_area():
    rule = balanced(7e-3, 31e-3, 1.7e-3)
    left, right = (math.exp(-rule.dt / tau) for tau in (rule.tau_plus, rule.tau_minus))
    assert rule.a_plus * left / (1 - left) == pytest.approx(right / (1 - right), rel=1e-12)


def test_what_cannot_be_is_refused():
    for make, why in (
        (lambda: SpikingPhases(dt=5), "in ms"),
        (lambda: SpikingPhases(nudged=0.0), "nudged > 0"),
        (lambda: SpikingPhases(tau=1e-3), "dt <= tau"),
        (lambda: SpikingPhases(rate=300.0), "at most one spike"),
        (lambda: SpikingPhases(control=3.0), "control <= free"),
        (lambda: SpikingAssociation(2, 2, 2, rule=PairSTDP()), "same dt"),
        (lambda: SpikingAssociation(2, 2, 2, PHASES, replace(RULE, dependence=SoftBounds())), "all pairs"),
        (lambda: SpikingAssociativeNetwork(0), "hidden >= 1"),
        (lambda: SpikingAssociativeNetwork(training=AssociativeTraining((CLASSIFY, GENERATE))), "CLASSIFY alone"),
        (lambda: balanced(20.0, 20.0, 1.0), "in ms"),
    ):
        with pytest.raises(Refusal, match=why):
            make()


@pytest.mark.parametrize(
    ("pixels", "labels"), [((4, 5), (4, 3)), ((4, 21), (4, 3)), ((4, 7), (4, 9)), ((4, 7), (2, 3))]
)
def test_activities_that_have_no_unit_are_refused(pixels, labels):
    body, rng = tiny(), torch.Generator().manual_seed(0)
    need = "needs 7 pixels and 3 classes in each example"
    with pytest.raises(Refusal, match=need):
        body.learn_(torch.rand(pixels).double(), torch.rand(labels).double(), rng)
    if pixels[1] != body.pixels:
        with pytest.raises(Refusal, match=need):
            body(torch.rand(pixels).double())
