"""Planted gradient masking must be caught, and an honest network must not be blamed."""

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from attack_oracles import white
from neuropil.data import digits
from neuropil.errors import Refusal
from neuropil.evaluate.robustness import FGSM, L2, PGD, Boundary, Linf, Square, check_curves, curve, is_invalid
from neuropil.evaluate.robustness.harness import BLACK, WHITE, Curve
from neuropil.evaluate.robustness.masking import (
    at_most_majority_rate,
    gradients,
    larger_hurts,
    more_often,
    starts,
    within_budget,
)

SIZES = {"Linf": (0.05, 0.2), "L2": (0.3, 1.2)}


@pytest.fixture(scope="module")
def task():
    """A linear model of real digits, and 120 of them."""
    train, test = digits(seed=0)
    made = LogisticRegression(max_iter=300).fit(train.pixels().flatten(1).numpy(), train.y.numpy())
    weight, bias = torch.as_tensor(made.coef_).float(), torch.as_tensor(made.intercept_).float()
    return lambda x: x.flatten(1) @ weight.T + bias, test[:120]


def honest(logits):
    return logits


def saturated(logits):
    """So steep a last layer that every output is 0 or 1 to the last bit."""
    return lambda x: torch.sigmoid(1e4 * logits(x)) + 1e-9 * logits(x).detach()


def rounding(logits):
    """Pixels are rounded to nine levels, and so have no slope."""
    return lambda x: logits((x * 8).round() / 8)


def shattered(logits):
    """Right answers, and a slope that points anywhere."""

    def made(x):
        astray = torch.sin(1e3 * x.flatten(1)).sum(1, keepdim=True) * torch.tensor([1.0, -1] * 5)
        return logits(x).detach() + astray - astray.detach()

    return made


def judged(logits, test, norm):
    """The checks of all curves of one model."""
    victim, rng = white(logits), torch.Generator().manual_seed(0)
    attacks = {
        "FGSM": (FGSM(victim.forward, norm), WHITE),
        "PGD": (PGD(victim.forward, norm, rng, steps=10), WHITE),
        "square": (Square(victim.decision_function, norm, rng, queries=100), BLACK),
        "boundary": (Boundary(victim.predict, norm, rng, queries=200), BLACK),
    }
    sizes = SIZES[norm.name]
    ask = lambda attack, name, access, at: curve(attack, victim, test, norm=norm, sizes=at, name=name, access=access)
    curves = [ask(attack, name, access, sizes) for name, (attack, access) in attacks.items()]
    grey = 0.5 if norm.name == "Linf" else 4.0
    far = {name: ask(attacks[name][0], name, "", [grey]).robust[0] for name in ("PGD", "square")}
    return check_curves(curves, grey=far, majority_rate=0.11)


@pytest.mark.parametrize("norm", [Linf(), L2()], ids=lambda norm: norm.name)
@pytest.mark.parametrize(
    ("mask", "failing"),
    [
        (honest, set()),
        (saturated, {"gradients"}),
        (rounding, {"gradients", "black box does not beat it", "falls to the majority rate"}),
        (shattered, {"black box does not beat it"}),
    ],
)
def test_planted_masking_is_caught_and_an_honest_model_is_not_blamed(task, mask, failing, norm):
    found = judged(mask(task[0]), task[1], norm)
    failed = {check.check for check in found["PGD"] if not check.passed}
    assert failed >= failing
    assert is_invalid(found["PGD"]) == is_invalid(found["FGSM"]) == bool(failing)
    assert not is_invalid(found["square"])
    assert not is_invalid(found["boundary"])


def test_a_curve_measures_what_its_checks_ask(task):
    """The documented way, no number given by hand: where a network rounds its scores, no image has a slope."""
    logits, test = task
    flat = white(lambda x: (2 * logits(x)).round() / 2)
    attacks = {"FGSM": FGSM(flat.forward, Linf()), "PGD": PGD(flat.forward, Linf()), "mine": lambda part, size: part.x}
    made = lambda victim, attack, name: curve(attack, victim, test, norm=Linf(), sizes=(0.05,), name=name, access=WHITE)
    found = {name: made(flat, attack, name) for name, attack in attacks.items()}
    assert {one.zero_gradient_fraction for one in found.values()} == {1.0}
    assert made(white(logits), attacks["mine"], "mine").zero_gradient_fraction == 0.0
    hidden = made(replace(flat, forward=None), attacks["mine"], "mine")
    assert hidden.zero_gradient_fraction is None
    for one in (*found.values(), hidden):
        (check,) = [check for check in check_curves([one], grey={}, majority_rate=0.1)[one.attack] if not check.passed]
        want = "not measured" if one is hidden else "100.0% of the gradients are zero"
        assert (check.check, check.finding) == ("gradients", want)
    black = Boundary(lambda x: torch.full((len(x),), 3), Linf())
    with pytest.warns(UserWarning, match="no start"):
        one = curve(black, flat, test, norm=Linf(), sizes=(0.05,), name="boundary", access=BLACK)
    assert one.no_start_fraction == pytest.approx((test.y == 3).double().mean().item())
    assert one.zero_gradient_fraction is None


def test_a_check_says_the_smallest_gap_that_it_sees_and_fails_where_it_sees_none():
    """By hand: ten images that all differ one way are the fewest that the sign test of 1/1000 sees."""
    one = Curve("square", BLACK, (0.1, 0.2), torch.stack([bits(300, 400), bits(309, 400)]))
    assert larger_hurts(one) == ("a larger budget hurts", True, "at every size; a gap below 2.5% is not seen")
    assert not larger_hurts(one._replace(robust=torch.stack([bits(300, 400), bits(310, 400)]))).passed
    few = one._replace(robust=torch.stack([bits(0, 9), bits(9, 9)]))
    assert larger_hurts(few) == ("a larger budget hurts", False, "too few images to tell: 9, 10 are needed")
    assert larger_hurts(few._replace(sizes=(0.1,), robust=few.robust[:1])).passed  # nothing is compared
    assert not at_most_majority_rate(bits(0, 3), 0.1).passed  # three right of three have probability 1/1000
    assert at_most_majority_rate(bits(0, 4), 0.1).passed
    assert not at_most_majority_rate(bits(4, 4), 0.1).passed


ONE = Curve("PGD", WHITE, (0.1,), torch.ones(1, 30, dtype=torch.bool), zero_gradient_fraction=0.0)


@pytest.mark.parametrize(
    ("curves", "grey", "words"),
    [
        ([ONE._replace(access="whitebox")], {}, "Did you mean 'white box'"),
        ([ONE], {"pgd": ONE.robust[0]}, "unknown curve 'pgd'. Did you mean 'PGD'"),
        ([ONE, ONE], {}, "a name of its own, got PGD, PGD"),
        ([ONE, ONE._replace(attack="FGSM", sizes=(0.2,))], {}, r"same sizes .* got \(0.1,\) and \(0.2,\)"),
        ([ONE, ONE._replace(attack="FGSM", robust=ONE.robust[:, :20])], {}, "on 30 and 20 examples"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(curves, grey, words):
    with pytest.raises(Refusal, match=words):
        check_curves(curves, grey=grey, majority_rate=0.1)


def bits(right, n=1000):
    return torch.arange(n) < right


def test_a_difference_counts_only_beyond_luck():
    """Against the sign test by hand: nine to nothing has probability 1/512, ten 1/1024."""
    assert not more_often(bits(509), bits(500))
    assert more_often(bits(510), bits(500))
    assert not more_often(bits(500), bits(510))
    assert not more_often(bits(500), bits(500))
    a, b = bits(520), bits(500)
    b[700:715] = True  # 20 against 15
    assert not more_often(a, b)


def test_an_attack_that_gets_weaker_with_a_larger_budget_is_invalid():
    falling = Curve("x", WHITE, (0.1, 0.2, 0.3), torch.stack([bits(900), bits(500), bits(100)]))
    rising = falling._replace(robust=torch.stack([bits(900), bits(100), bits(300)]))
    assert larger_hurts(falling).passed
    check = larger_hurts(rising)
    assert not check.passed
    assert check.finding == "10.0% right at 0.2, 30.0% at 0.3"


def test_pgd_that_fgsm_beats_is_invalid_and_fgsm_is_not():
    weak = Curve("FGSM", WHITE, (0.1, 0.2), torch.stack([bits(900), bits(500)]), zero_gradient_fraction=0.0)
    strong = weak._replace(attack="PGD", robust=torch.stack([bits(900), bits(560)]))
    found = check_curves([weak, strong], grey={}, majority_rate=0.1)
    assert [check.check for check in found["PGD"] if not check.passed] == ["beats FGSM"]
    assert not is_invalid(found["FGSM"])


def test_black_box_that_beats_pgd_makes_all_white_boxes_invalid():
    white_box = [Curve(name, WHITE, (0.1,), bits(500)[None]) for name in ("FGSM", "PGD")]
    found_by = Curve("square", BLACK, (0.1,), bits(450)[None])
    found = check_curves([*white_box, found_by], grey={}, majority_rate=0.1)
    assert {name: is_invalid(checks) for name, checks in found.items()} == {"FGSM": True, "PGD": True, "square": False}
    weak = Curve("transfer", BLACK, (0.1,), bits(900)[None])
    for others in ([weak, found_by], [found_by, weak]):
        both = check_curves([*white_box, *others], grey={}, majority_rate=0.1)
        assert both["PGD"][-1] == found["PGD"][-1]  # the one that fails counts, wherever it stands
    assert "square leaves 45.0% right at 0.1, this one 50.0%" in {check.finding for check in found["PGD"]}


def test_what_is_left_where_all_images_can_be_grey_is_at_most_the_majority_rate():
    assert at_most_majority_rate(bits(0), 0.1).passed
    assert at_most_majority_rate(bits(125), 0.1).passed
    assert not at_most_majority_rate(bits(140), 0.1).passed


def test_a_clipped_attack_is_invalid():
    liar = Curve("liar", BLACK, (0.1,), bits(0)[None], overstepped=0.3)
    assert within_budget(liar).finding == "30.0% of the examples were clipped"
    assert is_invalid(check_curves([liar], grey={}, majority_rate=0.1)["liar"])


def test_one_image_in_a_hundred_may_lack_a_gradient_or_a_start_and_no_more():
    for check, name in ((gradients, "zero_gradient_fraction"), (starts, "no_start_fraction")):
        given = [Curve("PGD", WHITE, (0.1,), torch.ones(1, 9), **{name: share}) for share in (0.0, 0.01, 0.0101)]
        assert [check(one).passed for one in given] == [True, True, False]
