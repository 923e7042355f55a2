"""Attacks by labels: starts that do not depend on batches, and walks that come as near as the border is."""

import warnings
from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from attack_oracles import linear_task, white
from common import rng
from neuropil.data import Split, digits
from neuropil.evaluate.robustness import (
    L2,
    Boundary,
    HopSkipJump,
    Linf,
    Victim,
    accuracy_under,
    check_curves,
    curve,
    is_invalid,
)
from neuropil.evaluate.robustness.attacks import labels
from neuropil.evaluate.robustness.attacks.labels import no_start_fraction
from neuropil.evaluate.robustness.harness import BLACK, craft
from neuropil.evaluate.robustness.suite import Suite, robustness
from neuropil.runs import NullTracker

ATTACKS = [Boundary, HopSkipJump]


@pytest.fixture(scope="module")
def task():
    """A linear model of real digits, as something that predicts, and digits that it classifies correctly."""
    train, test = digits(seed=0)
    made = LogisticRegression(max_iter=300).fit(train.pixels().flatten(1).numpy(), train.y.numpy())
    weight, bias = torch.as_tensor(made.coef_).float(), torch.as_tensor(made.intercept_).float()
    victim = Victim(lambda x: (x.flatten(1) @ weight.T + bias).argmax(1))
    return victim, test[victim.predict(test.pixels()) == test.y]


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("label", [0, 3, 8])
def test_images_of_one_class_are_moved_to_others_where_the_budget_allows_any_image(task, kind, label):
    victim, test = task
    same = test[test.y == label][:8]
    attack = kind(victim.predict, Linf(), rng())
    assert accuracy_under(attack, victim, same, norm=Linf(), size=1.0) == 0.0
    assert accuracy_under(attack, victim, same[:1], norm=Linf(), size=1.0) == 0.0


@pytest.mark.parametrize("kind", ATTACKS)
def test_neither_order_nor_size_of_the_batches_makes_an_attack_weaker(task, kind):
    victim, test = task
    some = test[:150]
    by_class = some[some.y.argsort()]
    left = [
        accuracy_under(kind(victim.predict, Linf(), rng(k)), victim, split, norm=Linf(), size=0.25, batch=batch)
        for k, (split, batch) in enumerate([(some, 1000), (some, 7), (by_class, 15), (by_class, 1)])
    ]
    assert max(left) - min(left) < 0.1, left
    assert max(left) < 0.6


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_start_is_the_nearest_example_of_another_class_wherever_it_is(task, kind):
    victim, test = task
    some = test[:60]
    attack = kind(victim.predict, L2(), rng()).starting_from(test.pixels())
    has, found = attack.find_starts(some.x, some.y)
    assert has.tolist() == list(range(60))
    for x, y, start in zip(some.x, some.y, found):
        others = test.x[test.y != y]
        assert torch.equal(start, others[(others - x).flatten(1).norm(dim=1).argmin()])


def test_vectors_without_a_range_start_from_noise_that_goes_ever_farther():
    weight, bias, logits, split = linear_task(120)
    victim, norm = white(logits), L2(-torch.inf, torch.inf)
    same = split[split.y == 1]
    radius = (same.x.double() @ weight + bias).abs() / weight.norm()
    attack = Boundary(victim.predict, norm, rng(), queries=600)
    size = 2.5 * radius.max().item()
    assert accuracy_under(attack, victim, same, norm=norm, size=size) == 0.0


def test_images_without_a_start_are_counted_said_and_make_the_curve_invalid(task):
    _, test = task
    stubborn, some = Victim(lambda x: torch.full((len(x),), 3)), test[test.y == 3][:9]
    attack = Boundary(stubborn.predict, Linf(), rng())
    with pytest.warns(UserWarning, match="no start for 9 of 9 images"):
        found = curve(attack, stubborn, some, norm=Linf(), sizes=[0.5], name="boundary", access=BLACK)
    assert found.accuracy == [1.0]
    assert no_start_fraction(attack, some) == 1.0
    dark = Boundary(lambda x: torch.where(x.flatten(1).mean(1) < 0.1, 0, 3), Linf(), rng())
    assert no_start_fraction(dark, Split(some.x, torch.tensor([3] * 6 + [0] * 3), 10), batch=4) == 0.0
    fixed = replace(attack, starts=some.x)
    assert no_start_fraction(fixed, Split(some.x, torch.tensor([3] * 6 + [0] * 3), 10), batch=4) == pytest.approx(6 / 9)
    assert found.no_start_fraction == 1.0
    assert is_invalid(check_curves([found], grey={}, majority_rate=1.0)["boundary"])
    started = found._replace(no_start_fraction=0.0)
    assert not is_invalid(check_curves([started], grey={}, majority_rate=1.0)["boundary"])


def test_the_suite_counts_images_without_a_start(task):
    class Rows(NullTracker):
        def __init__(self):
            self.rows = []

        def log(self, row):
            self.rows.append(row)

    stubborn, tracker = Victim(lambda x: torch.full((len(x),), 3)), Rows()
    suite = Suite(linf=(0.1,), l2=(), attack_queries=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the check tells of it
        robustness({"one": stubborn}, task[1][:40], trackers={"one": tracker}, baselines=[], suite=suite, seed=0)
    failed = [row.attack for row in tracker.rows if row.kind == "check" and row.check == "starts" and not row.passed]
    assert failed == ["boundary"]


@pytest.mark.parametrize(("kind", "near"), [(Boundary, 1.01), (HopSkipJump, 1.05)])
@pytest.mark.parametrize("norm", [L2(-torch.inf, torch.inf), L2()], ids=["vectors", "range"])
def test_a_walk_does_not_stall_on_its_way_to_the_border_of_a_linear_model(kind, near, norm):
    """The distance to the border is known; with a step length that is not adapted a walk ends 3 to 5 % beyond it."""
    weight, bias, logits, split = linear_task(60, pixels=64)
    radius = (split.x.double() @ weight + bias).abs() / weight.norm()
    attack = kind(white(logits).predict, norm, rng(), queries=2500).starting_from(split.x)
    _, start = attack.find_starts(split.x, split.y)
    reached = attack._approach(split.x, attack._bisect(split.x, start, split.y), split.y, 0.0)
    ratio = norm.length(reached - split.x) / radius
    assert ratio.min() > 0.999
    assert ratio.median() < near


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("queries", [11, 30, 60, 200])
def test_an_image_is_asked_about_no_more_often_than_allowed(task, kind, queries):
    """One question more finds which images of other classes may be starts."""
    victim, test = task
    asked = []
    attack = kind(lambda x: asked.append(len(x)) or victim.predict(x), Linf(), rng(), queries)
    craft(attack, test[:50], norm=Linf(), size=1e-6)
    assert 50 * 11 <= sum(asked) <= 50 * (queries + 1)


@pytest.mark.parametrize("kind", ATTACKS)
def test_another_seed_is_another_walk(task, kind):
    victim, test = task
    moved = [kind(victim.predict, Linf(), rng(seed))(test[:20], 0.1) for seed in (0, 0, 1)]
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


def test_what_a_batch_lends_as_starts_is_all_that_a_direct_call_knows(task):
    victim, test = task
    pair = Split(test.x[:2], test.y[:2], 10)
    assert bool(test.y[0] != test.y[1])
    _, found = Boundary(victim.predict, Linf(), rng()).find_starts(pair.x, pair.y)
    assert torch.equal(found, pair.x.flip(0))


def test_a_turn_first_tries_a_step_of_the_distance_over_the_root_of_its_number():
    asked = []
    wrong = lambda x: (asked.append(x), torch.ones(len(x), dtype=torch.int64))[1]
    x = torch.full((2, 9), 0.5)
    at = x + torch.tensor([[0.03], [0.06]])
    HopSkipJump(wrong, L2(), rng())._turn(x, at, torch.zeros(2, dtype=torch.int64), 5, 4)
    assert (asked[5] - at).norm(dim=1).tolist() == pytest.approx([0.09 / 2, 0.18 / 2], rel=1e-4)


def test_the_normal_of_the_border_is_estimated_with_the_mean_answer_as_baseline():
    """On a border of which nine in ten answers are on one side, and one change is on the other."""
    asked = []

    def answer(x):
        asked.append(x)
        return torch.full((len(x),), int(len(asked) == 4))

    at, y, reach = torch.full((1, 9), 0.5).double(), torch.zeros(1, dtype=torch.int64), torch.tensor([0.02]).double()
    found = HopSkipJump(answer, L2(), rng())._normal(at, y, 10, reach)
    moves, signs = torch.cat(asked) - at, torch.tensor([1.0 if k == 3 else -1.0 for k in range(10)]).double()
    want = ((signs - signs.mean())[:, None] * moves).sum(0)
    torch.testing.assert_close(found[0], want / want.norm())


def test_noise_to_start_from_lies_in_the_range_and_is_of_three_brightnesses():
    attack, x = Boundary(torch.sum, Linf(2.0, 6.0), rng()), torch.full((50, 9), 3.0)
    tried = [attack._elsewhere(x, k) for k in range(9)]
    assert [one.unique().tolist() for one in tried[:3]] == [[2.0], [6.0], [5.0]]
    for k, one in enumerate(tried[3:]):
        assert one.min() >= 2
        assert one.max() <= 6
        assert one.mean().item() == pytest.approx(2 + 4 * (1 / 2, 1 / 5, 4 / 5)[k % 3], abs=0.2)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_every_fifth_step_keeps_its_distance_and_noise_is_never_longer_than_it(scale, monkeypatch):
    """An answer that is always wrong takes every step, those of the same distance up to rounding."""
    asked, lengths, column = [], [], labels._column
    look = lambda values, x: lengths.append(values) or column(values, x)
    monkeypatch.setattr(labels, "_column", look)
    wrong, norm = lambda x: (asked.append(x), torch.ones(len(x), dtype=torch.int64))[1], L2(-torch.inf, torch.inf)
    x = scale * torch.rand(40, 16, generator=rng(1))
    start, y = x + scale * torch.rand(40, 16, generator=rng(2)), torch.zeros(40, dtype=torch.int64)
    found = Boundary(wrong, norm, rng(), queries=15)._approach(x, start.clone(), y, 0.0)
    assert torch.equal(found, asked[4])
    away = norm.length(start - x)
    reached = [norm.length(one - x) / away for one in asked]
    assert all(bool((one < 0.995).all()) for one in reached)
    assert (reached[4] / reached[3]).max().item() == pytest.approx(1, abs=1e-5)
    asked.clear()
    lengths.clear()
    fifth = lambda x: wrong(x) * (len(asked) % 5 == 0)
    Boundary(fifth, norm, rng(), queries=110)._approach(x, start.clone(), y, 0.0)
    assert (lengths[0] / away).tolist() == pytest.approx([0.1] * 40)
    assert (lengths[-1] / norm.length(asked[94] - x)).tolist() == pytest.approx([1.0] * 40, rel=1e-4)
