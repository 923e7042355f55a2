"""Attacks against models whose worst case is known, and a harness that believes none of them."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import nn

from attack_oracles import linear_task, project_by_bisection, white, worst_of_linear
from common import rng
from neuropil.bench import attack as bench
from neuropil.data import Split, digits
from neuropil.errors import Refusal
from neuropil.evaluate.robustness import (
    FGSM,
    L2,
    PGD,
    Boundary,
    HopSkipJump,
    Linf,
    Noise,
    Square,
    accuracy_under,
    curve,
    ensemble,
    victim_of,
)
from neuropil.evaluate.robustness.attacks.gradient import cross_entropy, input_gradient, margin, zero_gradient_fraction

NORMS = {"Linf": Linf, "L2": L2}
RANGES = [(0.0, 1.0), (-math.inf, math.inf)]


# Norms


@pytest.mark.parametrize("size", [0.0, 0.05, 0.4, 1.5, 9.0])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_l2_clip_is_the_nearest_point_of_ball_and_range(size, low, high):
    x, far = torch.rand(40, 12, generator=rng()).double(), 3 * torch.randn(40, 12, generator=rng(1)).double()
    x[0, :3] = torch.tensor([0.0, 1.0, 0.0])
    got = L2(low, high).clip(x, x + far, size)
    want = torch.stack([project_by_bisection(a, a + b, size, low, high) for a, b in zip(x, far)])
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_linf_clip_is_the_nearest_value_of_every_pixel(low, high):
    x, moved = torch.rand(30, 1, 3, 4, generator=rng()), torch.randn(30, 1, 3, 4, generator=rng(1))
    want = [max(low, a - 0.3, min(high, a + 0.3, b)) for a, b in zip(x.flatten().tolist(), moved.flatten().tolist())]
    assert Linf(low, high).clip(x, moved, 0.3).flatten().tolist() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_every_example_may_have_a_budget_of_its_own(name):
    norm, x, moved = NORMS[name](), torch.rand(3, 8, generator=rng()), torch.randn(3, 8, generator=rng(1))
    sizes = torch.tensor([0.1, 0.5, 0.9])
    alone = torch.cat([norm.clip(x[k : k + 1], moved[k : k + 1], size.item()) for k, size in enumerate(sizes)])
    torch.testing.assert_close(norm.clip(x, moved, sizes), alone)


@pytest.mark.parametrize("name", NORMS)
def test_steepest_and_random_changes_have_their_size(name):
    norm = NORMS[name]()
    gradient = torch.randn(20, 1, 5, 5, generator=rng()) * 1e-30  # its squares underflow
    gradient[3] = 0
    gradient[7] *= 1e25  # beside which the others would underflow, if all had one scale
    lengths = norm.length(norm.steepest(gradient))
    assert lengths.tolist() == pytest.approx([0.0 if k == 3 else 1.0 for k in range(20)], rel=1e-6)
    assert norm.length(norm.random(gradient, 0.7, rng())).amax().item() == pytest.approx(0.7, rel=0.1)
    even = torch.full((1, 25), norm.level(0.7, 25))
    assert norm.length(even).item() == pytest.approx(0.7, rel=1e-6)


# Linear models: closed forms


@pytest.mark.parametrize("size", [0.01, 0.1, 0.5])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_fgsm_on_a_linear_model_is_the_closed_form(size, low, high):
    weight, _, logits, split = linear_task()
    moved = FGSM(logits, Linf(low, high))(split, size)
    away = weight.sign() * torch.where(split.y == 1, -1, 1)[:, None]  # towards the other class
    torch.testing.assert_close(moved.double(), (split.x.double() + size * away).clamp(low, high), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("restarts", [1, 2])
def test_pgd_reaches_the_worst_case_of_a_linear_model(name, low, high, restarts):
    """Every label gets the score that costs it most, by bisection on the multiplier of the ball."""
    weight, _, logits, split = linear_task(60)
    norm, size = NORMS[name](low, high), {"Linf": 0.15, "L2": 0.8}[name]
    attack = PGD(logits, norm, rng(), steps=200, restarts=restarts, relative_step=20.0, stop_when_fooled=False)
    moved = attack(split, size)
    assert norm.length(moved - split.x).max() <= size * (1 + 1e-5)
    assert moved.min() >= low
    assert moved.max() <= high
    sign = torch.where(split.y == 1, 1.0, -1.0).double()
    reached = sign * (moved.double() @ weight)
    want = torch.stack([worst_of_linear(a.double(), b * weight, size, name, low, high) for a, b in zip(split.x, sign)])
    torch.testing.assert_close(reached, want, atol=2e-4, rtol=0)


def radii(weight, bias, split, name):
    """The exact distance of every example to the border of a linear model, in a range without ends."""
    dual = weight.abs().sum() if name == "Linf" else weight.norm()
    return (split.x.double().flatten(1) @ weight + bias).abs() / dual


def attacks_on(victim, norm):
    """Every attack, and up to how many radii it may need for nine of ten examples."""
    return {
        "FGSM": (FGSM(victim.forward, norm), 1.02),
        "PGD": (PGD(victim.forward, norm, rng()), 1.02),
        "transfer": (PGD(ensemble([victim, victim]), norm, rng(), stop_when_fooled=False), 1.02),
        "square": (Square(victim.decision_function, norm, rng(), queries=500), 1.5),
        "boundary": (Boundary(victim.predict, norm, rng(), queries=1500), 1.7),
        "hop skip jump": (HopSkipJump(victim.predict, norm, rng(), queries=1500), 1.7),
        "noise": (Noise(norm, rng()), math.inf),
    }


@pytest.mark.parametrize("side", [0, 4])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("attack", ["FGSM", "PGD", "transfer", "square", "boundary", "hop skip jump", "noise"])
def test_no_attack_succeeds_within_the_robust_radius_and_a_good_one_does_beyond(attack, name, side):
    weight, bias, logits, split = linear_task(300, side=side)
    norm, victim = NORMS[name](-math.inf, math.inf), white(logits)
    radius, (attack, enough) = radii(weight, bias, split, name), attacks_on(victim, norm)[attack]
    size = radius.quantile(0.3).item()
    found = curve(attack, victim, split, norm=norm, sizes=[size], name="", access="").robust[0]
    assert bool(found[radius > size * (1 + 1e-5)].all())  # no attack can
    beyond = radius * enough < size
    assert (~found[beyond]).float().mean() >= 0.9 or math.isinf(enough)


@pytest.mark.parametrize("attack", ["PGD", "square", "boundary", "hop skip jump"])
def test_the_radius_of_a_sphere_is_found_too(attack):
    """Class 1 lies within a sphere: the distance to the border is | |x - c| - r | and its direction turns with x."""
    center = torch.full((8,), 0.5)
    x = (
        center
        + torch.nn.functional.normalize(torch.randn(200, 8, generator=rng()), dim=1)
        * torch.linspace(0.5, 1.5, 200)[:, None]
    )
    logits = lambda inputs: torch.stack([(inputs - center).square().sum(1), torch.ones(len(inputs))], 1)
    victim, norm, size = white(logits), L2(-math.inf, math.inf), 0.2
    split = Split(x, victim.predict(x), 2)
    radius = ((x - center).norm(dim=1) - 1).abs()
    attack, enough = attacks_on(victim, norm)[attack]
    robust = curve(attack, victim, split, norm=norm, sizes=[size], name="", access="").robust[0]
    assert bool(robust[radius > size * (1 + 1e-5)].all())
    assert (~robust[radius * enough < size]).float().mean() >= 0.9


def test_restarts_climb_the_margin_which_has_a_slope_however_sure_the_network_is():
    _, _, logits, split = linear_task()
    sure = lambda x: 1e4 * logits(x)
    x, y = split.x, split.y
    assert bool((input_gradient(lambda x: sure(x).float(), cross_entropy, x, y).gradient == 0).flatten(1).all(1).any())
    assert not bool((input_gradient(lambda x: sure(x).float(), margin, x, y).gradient == 0).flatten(1).all(1).any())
    assert zero_gradient_fraction(PGD(sure, Linf()), split) == 0.0
    assert zero_gradient_fraction(FGSM(lambda x: sure(x).float(), Linf()), split) > 0.5
    left = lambda restarts: accuracy_under(
        PGD(lambda x: sure(x).float(), Linf(), rng(), restarts=restarts), white(sure), split, norm=Linf(), size=0.2
    )
    assert left(1) > 0.5  # the cross entropy has no slope
    assert left(2) < 0.1


@pytest.mark.parametrize("name", NORMS)
def test_an_image_without_a_finite_gradient_stays_and_counts_as_flat(name):
    _, _, logits, split = linear_task()
    sick = torch.arange(200) < 20
    nothing = lambda x: (x[:20, :2] - x[:20, :2]).sqrt()  # 0, with the gradient 0 * inf
    broken = lambda x: logits(x) + nn.functional.pad(nothing(x), (0, 0, 0, len(x) - 20))
    for attack in (FGSM(broken, NORMS[name]()), PGD(broken, NORMS[name](), restarts=1, stop_when_fooled=False)):
        moved = attack(split, 0.3)
        assert torch.equal(moved[sick], split.x[sick])
        assert not torch.equal(moved[~sick], split.x[~sick])
        assert zero_gradient_fraction(attack, split) == 0.1


def test_pgd_that_may_not_stop_moves_on_where_the_surrogate_is_fooled():
    _, _, logits, split = linear_task()
    lazy, eager = (
        PGD(logits, Linf(), rng(), relative_step=0.3, stop_when_fooled=stop)(split, 0.3) for stop in (True, False)
    )
    assert (eager - split.x).abs().mean() > (lazy - split.x).abs().mean() * 1.2


# The harness


@pytest.mark.parametrize("name", NORMS)
def test_an_attack_that_lies_about_its_size_gains_nothing_and_is_found_out(name):
    weight, bias, logits, split = linear_task()
    norm, victim = NORMS[name](), white(logits)
    honest = curve(FGSM(logits, norm), victim, split, norm=norm, sizes=[0.05], name="", access="")
    liar = lambda part, size: FGSM(logits, NORMS[name]())(part, 10 * size)
    caught = curve(liar, victim, split, norm=norm, sizes=[0.05], name="", access="")
    assert honest.overstepped == 0
    once = lambda part, size: part.x if size > 0.05 else 1 - part.x
    assert curve(once, victim, split, norm=norm, sizes=[0.05, 0.1], name="", access="").overstepped > 0.9
    assert caught.overstepped > 0.9
    size, radius = 0.05, radii(weight, bias, split, name)
    assert bool(caught.robust[0][radius > size * 1.0001].all())


def test_an_attack_that_moves_the_image_it_was_given_gains_nothing():
    weight, bias, logits, split = linear_task()
    before = split.x.clone()

    def cheat(part, size):
        part.x.copy_(FGSM(logits, Linf())(part, 10 * size))
        return part.x

    robust = curve(cheat, white(logits), split, norm=Linf(), sizes=[0.02], name="", access="").robust[0]
    assert torch.equal(split.x, before)
    assert bool(robust[radii(weight, bias, split, "Linf") > 0.0201].all())


def test_what_was_wrong_before_is_not_right_after():
    _, _, logits, split = linear_task()
    flip_inputs = Split(split.x, torch.where(torch.arange(len(split)) < 50, 1 - split.y, split.y), 2)
    assert accuracy_under(lambda part, size: part.x, white(logits), flip_inputs, norm=Linf(), size=0.1) == 0.75
    kind = lambda part, size: 2 * part.x - FGSM(logits, Linf(-9, 9))(part, size)  # towards the label
    assert accuracy_under(kind, white(logits), flip_inputs, norm=Linf(), size=1.0) == 0.75
    assert accuracy_under(FGSM(logits, Linf()), white(logits), flip_inputs, norm=Linf(), size=1.0) == 0.0


# The benchmark


def test_the_bench_counts_every_pass_and_compares_with_them():
    rows = {
        row["attack"]: row
        for row in bench.main(bench.Config(sizes=(30, 8, 3), batch=40, attack_steps=3, attack_queries=15, repeats=2))
    }
    assert len(rows) == 10
    passes = {name: (row["forward"], row["backward"]) for name, row in rows.items() if name.endswith("Linf")}
    assert passes["FGSM, Linf"] == (1, 1)
    assert passes["PGD, Linf"] == (4, 3)
    assert passes["square, Linf"] == (15, 0)
    assert passes["boundary, Linf"] == (16, 0)
    assert passes["noise, Linf"] == (0, 0)
    assert all(row["images_per_s"] == pytest.approx(40 / row["ms"] * 1e3) for row in rows.values())
    assert all(row["ratio_to_passes"] > 0 for name, row in rows.items() if "noise" not in name)
    took = {"forward": 2.0, "both": 5.0, ("PGD", "L2"): 40.0}
    assert bench.row(("PGD", "L2"), (4, 3), took, bench.Config())["ratio_to_passes"] == 40 / (2 + 3 * 5)


# Learners of every kind


@pytest.fixture(scope="module")
def real():
    train, test = digits(seed=0)
    flat = train.pixels().flatten(1).numpy()
    return train, test, flat


@pytest.mark.parametrize("kind", ["probabilities", "decisions", "module"])
def test_the_same_linear_model_is_attacked_alike_in_every_guise(real, kind):
    train, test, flat = real
    made = LogisticRegression(max_iter=300).fit(flat, train.y.numpy())
    baseline = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    with torch.no_grad():
        baseline[1].weight.copy_(torch.as_tensor(made.coef_))
        baseline[1].bias.copy_(torch.as_tensor(made.intercept_))
    inside = victim_of(baseline, 10)
    learner = {"probabilities": made, "module": baseline, "decisions": made}[kind]
    if kind == "decisions":
        made = LinearSVC().fit(flat, train.y.numpy())
        learner = made
    victim, norm = victim_of(learner, 10), Linf()
    assert (victim.forward is None) == (kind != "module")
    assert torch.equal(victim.predict(test.pixels()), victim.decision_function(test.pixels()).argmax(1))
    attack = PGD(inside.forward, norm, rng())
    clean, under = (accuracy_under(attack, learner, test, norm=norm, size=size) for size in (0.0, 0.2))
    assert clean == pytest.approx((torch.as_tensor(made.predict(test.pixels().flatten(1))) == test.y).double().mean())
    assert under < 0.15
    assert accuracy_under(Square(victim.decision_function, norm, rng()), learner, test, norm=norm, size=0.2) < 0.2


# Bad input


@pytest.mark.parametrize("size", [-0.1, math.nan, math.inf])
def test_a_budget_below_zero_is_refused(size):
    _, _, logits, split = linear_task(20)
    with pytest.raises(Refusal, match="a finite size of at least 0"):
        accuracy_under(FGSM(logits, Linf()), white(logits), split, norm=Linf(), size=size)


def test_examples_outside_the_range_are_refused_with_the_cure():
    _, _, logits, split = linear_task(20)
    wide = Split(split.x * 255, split.y, 2)
    with pytest.raises(Refusal, match=r"in \[0, 1\], got .* divide by their range, or name it: Linf\(low="):
        accuracy_under(FGSM(logits, Linf()), white(logits), wide, norm=Linf(), size=0.1)


class Odd:
    """Predicts and scores what it was told."""

    def __init__(self, labels=None, scores=None):
        self.labels, self.made = labels, scores

    def predict(self, x):
        return torch.zeros(len(x), dtype=torch.int64) if self.labels is None else self.labels(len(x))

    def decision_function(self, x):
        return self.made(len(x))


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        (Odd(scores=lambda n: torch.full((n, 2), math.nan)), "NaN scores for 20 of 20 examples"),
        (Odd(scores=lambda n: torch.zeros(n, 3)), r"needs scores \(20, 2\), got \(20, 3\)"),
        (Odd(labels=lambda n: torch.full((n,), 2)), "labels from 0 to 1, got 2 to 2"),
        (Odd(labels=lambda n: torch.zeros(n, 2)), r"needs to name 20 examples, got labels \(20, 2\)"),
        (Odd(labels=lambda n: torch.zeros(n)), "whole numbers as labels, got torch.float32"),
    ],
)
def test_a_learner_that_answers_nonsense_is_refused(learner, words):
    _, _, _, split = linear_task(20)
    attack = Square(victim_of(learner, 2).decision_function, Linf()) if learner.made else Noise(Linf())
    with pytest.raises(Refusal, match=words):
        accuracy_under(attack, learner, split, norm=Linf(), size=0.1)


def test_learners_that_cannot_be_asked_are_refused():
    with pytest.raises(Refusal, match="needs something with predict"):
        victim_of(object(), 2)
    with pytest.raises(Refusal, match="is in training mode"):
        victim_of(nn.Linear(2, 2), 2)
    with pytest.raises(Refusal, match=r"needs the classes 0 to 2, got \[0, 1\]"):
        victim_of(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), 3)
    with pytest.raises(Refusal, match="a differentiable member"):
        ensemble([victim_of(Odd(), 2)])


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (lambda x: x * math.nan, "with NaN or infinity"),
        (lambda x: x[:, :3], r"finite examples \(20, 16\), got \(20, 3"),
    ],
)
def test_what_is_no_image_is_refused(offer, words):
    _, _, logits, split = linear_task(20)
    with pytest.raises(Refusal, match=words):
        accuracy_under(lambda part, size: offer(part.x), white(logits), split, norm=Linf(), size=0.1)


@pytest.mark.parametrize(
    ("kind", "setting", "got"),
    [
        (PGD, {"steps": 0}, "0 and 2"),
        (PGD, {"restarts": 0}, "20 and 0"),
        (PGD, {"relative_step": 0.0}, "0.0"),
        (PGD, {"relative_step": -1.0}, "-1.0"),
        (Square, {"queries": 0}, "0 and"),
        (Square, {"initial_fraction": 0.0}, r"\d+ and 0\.0"),
        (Boundary, {"queries": 5}, "5"),
    ],
)
def test_settings_without_sense_are_refused(kind, setting, got):
    with pytest.raises(Refusal, match=rf"{next(iter(setting)).split('_')[0]}.*got {got}"):
        kind(torch.sum, Linf(), **setting)


@pytest.mark.parametrize("kind", [FGSM, PGD])
def test_an_attack_without_a_loss_is_refused(kind):
    with pytest.raises(Refusal, match=rf"{kind.__name__} needs a loss to climb, got losses=\(\)"):
        kind(torch.sum, Linf(), losses=())
