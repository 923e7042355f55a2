"""What attacks take as a victim, and what they refuse: no gradient, training mode, sizes, types. Seeds and restarts."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from attack_oracles import linear_task, white
from common import rng
from neuropil.data import Split
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
    Victim,
    accuracy_under,
    curve,
    ensemble,
    victim_of,
)
from neuropil.evaluate.robustness.attacks.gradient import with_gradient, zero_gradient_fraction
from neuropil.evaluate.robustness.suite import Suite, robustness
from neuropil.models import SpikeTimeTraining, SpikingClassifier
from neuropil.runs import NullTracker
from neuropil.spiking import QIF, ThresholdEncoding

WHITE_BOX = [FGSM, PGD]


class Rows(NullTracker):
    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(row)


# A gradient that is missing is no gradient of zero


@pytest.mark.parametrize("kind", WHITE_BOX)
def test_a_missing_gradient_is_refused_and_a_gradient_finds_what_is_known(kind):
    weight, bias, logits, split = linear_task(200)
    norm, size = Linf(-torch.inf, torch.inf), 0.07
    robust = ((split.x.double() @ weight + bias).abs() / weight.abs().sum() > size).double().mean().item()
    victim = white(logits)
    assert accuracy_under(kind(logits, norm), victim, split, norm=norm, size=size) == pytest.approx(robust, abs=0.011)
    assert 0.2 < robust < 0.8
    functions = [victim.decision_function, lambda x: logits(x.detach()), lambda x: logits((x > 0.5).double())]
    net = nn.Linear(16, 2).eval()  # its weights have a gradient, the examples have none
    functions += [lambda x: net((x > 0.5).float()), lambda x: net(torch.from_numpy(x.detach().numpy()))]
    for function in functions:
        with pytest.raises(Refusal, match="needs scores with a gradient by the image"):
            accuracy_under(kind(function, norm), victim, split, norm=norm, size=size)
        with pytest.raises(Refusal, match="needs scores with a gradient by the image"):
            zero_gradient_fraction(kind(function, norm), split)
    with torch.inference_mode(), pytest.raises(Refusal, match="inference_mode"):
        accuracy_under(kind(logits, norm), victim, split, norm=norm, size=size)
    with torch.no_grad():
        assert accuracy_under(kind(logits, norm), victim, split, norm=norm, size=size) < 1


def test_a_transfer_attack_needs_a_gradient_too():
    _, _, logits, split = linear_task(20)
    blind = Victim(white(logits).predict, None, white(logits).decision_function)
    with pytest.raises(Refusal, match="needs scores with a gradient by the image"):
        PGD(ensemble([blind]), Linf())(split, 0.1)


def test_an_ensemble_is_the_mean_of_log_probabilities_whatever_the_size_of_scores():
    x = torch.rand(7, 5, generator=rng(), dtype=torch.float64)
    weights = [size * torch.randn(5, 3, generator=rng(size), dtype=torch.float64) for size in (1, 50)]
    members = [Victim(None, None, lambda x, w=w: x @ w + 9) for w in weights]
    p = [(x @ w).exp() / (x @ w).exp().sum(1, keepdim=True) for w in weights]
    torch.testing.assert_close(ensemble(members)(x), (p[0].log() + p[1].log()) / 2, rtol=1e-9, atol=1e-9)


def test_the_suite_leaves_white_boxes_out_where_there_is_no_gradient_and_calls_the_rest_an_upper_bound():
    x = torch.rand(60, 1, 4, 4, generator=rng())
    split = Split(x, (x.mean((1, 2, 3)) > 0.5).long(), 2)
    made = SpikingClassifier((6,), encode=ThresholdEncoding(), neuron=QIF(), t_end=4.0,
                             training=SpikeTimeTraining(epochs=1, min_steps=5)).fit(split, rng=rng())  # fmt: skip
    hard = nn.Sequential(Hard(), nn.Flatten(), nn.Linear(16, 2)).eval()
    learners = {"spikes": made, "hard": hard, "soft": nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()}
    trackers, suite = {name: Rows() for name in learners}, Suite(linf=(0.1,), l2=(), attack_queries=12)
    robustness(learners, split, trackers=trackers, baselines=["hard", "soft"], suite=suite, seed=0)
    told = {name: [row for row in one.rows if row.kind == "attack"] for name, one in trackers.items()}
    names = {name: [row.attack for row in rows if row.size == 0] for name, rows in told.items()}
    assert names["soft"][:2] == ["FGSM", "PGD"]
    for name in ("spikes", "hard"):
        assert names[name] == ["transfer from baselines", "square", "boundary", "noise", "all attacks"]
        assert all(row.invalid for row in told[name] if row.attack == "all attacks")
    victim = victim_of(hard, 2)
    assert with_gradient(victim, split).forward is None
    assert with_gradient(victim_of(learners["soft"], 2), split).forward is not None


class Hard(nn.Module):
    def forward(self, x):
        return (x > 0.5).float()


# Victims


def test_a_single_layer_in_training_mode_is_refused_and_named():
    net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)).eval()
    _, _, _, split = linear_task(20)
    accuracy_under(PGD(net, Linf()), net, split, norm=Linf(), size=0.1)
    net[2].train()
    for ask in (lambda: victim_of(net, 2), lambda: FGSM(net, Linf()), lambda: PGD(net, Linf())):
        with pytest.raises(Refusal, match=r"is in training mode \(2\)"):
            ask()


class Answers(nn.Linear):
    """Its methods are those of a network, too."""

    def predict(self, x):
        return self(x.to(self.weight.dtype)).argmax(1)


def test_a_bound_method_does_not_hide_its_network():
    net = Answers(16, 2)
    for ask in (
        lambda: PGD(net.forward, Linf()),
        lambda: FGSM(net.forward, Linf()),
        lambda: Boundary(net.predict, L2()),
    ):
        with pytest.raises(Refusal, match="is in training mode"):
            ask()
    double = Answers(16, 2).eval().double()
    with pytest.raises(Refusal, match="needs a network in float32"):
        PGD(double.forward, Linf())
    Boundary(double.predict, Linf())  # which converts what it gets


def noisy(noise):
    """Scores with noise, new in every call; every 7th example lies on the border of two classes."""
    draws = rng()
    scores = lambda x: x[:, :2] + noise * torch.randn(len(x), 2, generator=draws)
    return Victim(lambda x: scores(x).argmax(1), scores, scores)


@pytest.mark.parametrize("hidden", ["", "scores", "labels"])
def test_a_learner_that_answers_otherwise_each_time_is_refused(hidden):
    _, _, logits, split = linear_task(60)
    loud, calm, shy = noisy(0.5), white(logits), noisy(1e-3)
    victim = {"": loud, "scores": replace(loud, decision_function=None, forward=None),
              "labels": replace(shy, predict=lambda x: x[:, 0].long())}[hidden]  # fmt: skip
    noise, tracker = Noise(Linf()), {"a": Rows()}
    for ask in (
        lambda: accuracy_under(noise, victim, split, norm=Linf(), size=0.1),
        lambda: curve(noise, victim, split, norm=Linf(), sizes=(0.1,), name="noise", access="floor"),
        lambda: robustness({"a": victim}, split, trackers=tracker, baselines=[], suite=Suite(), seed=0),
    ):
        with pytest.raises(Refusal, match=r"needs equal answers to equal questions, got others for \d+ of 60"):
            ask()
    tiny = replace(calm, decision_function=lambda x: logits(x) * (1 + 1e-7 * torch.rand(1)))  # as sums in another order
    assert accuracy_under(noise, tiny, split, norm=Linf(), size=0.0) == 1.0
    silent = replace(calm, decision_function=lambda x: torch.full((len(x), 2), -torch.inf))
    assert accuracy_under(noise, silent, split, norm=Linf(), size=0.0) == 1.0


@pytest.mark.parametrize("access", ["whitebox", "White box", "black"])
def test_a_curve_of_an_unknown_access_or_without_budgets_is_refused(access):
    _, _, logits, split = linear_task(20)
    ask = lambda sizes, access: curve(
        Noise(Linf()), white(logits), split, norm=Linf(), sizes=sizes, name="", access=access
    )
    with pytest.raises(Refusal, match=f"unknown access of an attack '{access}'. Did you mean"):
        ask((0.1,), access)
    with pytest.raises(Refusal, match=r"a budget or more in sizes, got \(\)"):
        ask((), "floor")


@pytest.mark.parametrize("kind", [Linf, L2])
@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (0.3, 0.3)])
def test_a_norm_without_a_range_is_refused(kind, low, high):
    with pytest.raises(Refusal, match=f"low < high, got low={low:g} and high={high:g}"):
        kind(low, high)


def test_the_steps_of_an_ascent_fall_as_half_a_cosine():
    """On a slope that has one direction everywhere, the way between two points is the length of a step, by hand."""
    seen = []
    slope = lambda x: seen.append(x.detach().clone()) or torch.stack([-x.sum(1), x.sum(1) - 50], 1)
    at = Split(torch.zeros(1, 4), torch.tensor([0]), 2)
    PGD(slope, Linf(-9e9, 9e9), steps=5, restarts=1, relative_step=0.17)(at, 3.7)
    ways = [(b - a).abs().amax().item() for a, b in itertools.pairwise(seen)]
    assert ways == pytest.approx([0.17 * 3.7 * math.cos(math.pi * k / 10) ** 2 for k in range(5)], rel=1e-5)


def test_a_module_that_predicts_is_asked_for_its_mode_too():
    class Predicts(nn.Linear):
        def predict(self, x):
            return self(x).argmax(1)

    with pytest.raises(Refusal, match="is in training mode"):
        victim_of(Predicts(4, 2), 2)
    assert victim_of(Predicts(4, 2).eval(), 2).predict(torch.rand(3, 4)).shape == (3,)


@pytest.mark.parametrize("form", [torch.Tensor.tolist, torch.Tensor.numpy])
def test_labels_and_scores_may_be_lists_and_arrays(form):
    _, _, logits, split = linear_task(60)

    class Plain:
        def predict(self, x):
            return form(logits(x).argmax(1))

        def decision_function(self, x):
            return form(logits(x))

    victim = victim_of(Plain(), 2)
    for attack in (Noise(Linf(), rng()), Boundary(victim.predict, Linf(), rng()),
                   Square(victim.decision_function, Linf(), rng())):  # fmt: skip
        same = accuracy_under(attack, white(logits), split, norm=Linf(), size=0.2)
        attack.rng.manual_seed(0)
        assert accuracy_under(attack, Plain(), split, norm=Linf(), size=0.2) == pytest.approx(same, abs=0.1)


def test_a_network_in_float64_is_attacked_as_it_is():
    """The same weights in float32 give the same answer; a bare network in float64 is refused with the cure."""
    weight, _, _, split = linear_task(100)
    net = nn.Linear(16, 2).eval()
    with torch.no_grad():
        net.weight.copy_(torch.stack([-weight, weight]))
        net.bias.zero_()
    wanted = accuracy_under(FGSM(net, Linf()), net, split, norm=Linf(), size=0.05)
    double = nn.Linear(16, 2).eval().double()
    double.load_state_dict(net.state_dict())
    attack = FGSM(victim_of(double, 2).forward, Linf())
    assert accuracy_under(attack, double, split, norm=Linf(), size=0.05) == wanted
    with pytest.raises(Refusal, match=r"needs a network in float32, got \[torch.float64\].*victim_of"):
        FGSM(double, Linf())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (FGSM, "forward"),
        (PGD, "forward"),
        (Square, "decision_function"),
        (Boundary, "predict"),
        (HopSkipJump, "predict"),
    ],
)
def test_attacks_without_what_they_ask_are_refused(kind, name):
    with pytest.raises(Refusal, match=f"{kind.__name__} needs a function as {name}, got None"):
        kind(None, Linf())
    with pytest.raises(Refusal, match=f"{kind.__name__} needs a norm such as Linf"):
        kind(lambda x: x, Linf)


@pytest.mark.parametrize(
    ("norm", "fine", "wrong"),
    [(Linf(), 1.0, 1.01), (Linf(), 1.0, 8.0), (L2(), 4.0, 4.01), (Linf(-1, 1), 2.0, 2.1), (L2(-1, 1), 8.0, 8.1)],
)
def test_a_budget_beyond_the_range_is_refused(norm, fine, wrong):
    _, _, logits, split = linear_task(20)  # 16 pixels
    accuracy_under(Noise(norm), white(logits), split, norm=norm, size=fine)
    with pytest.raises(Refusal, match=rf"needs at most {fine:g} on values in .* got {wrong:g}; if it counts grey"):
        accuracy_under(Noise(norm), white(logits), split, norm=norm, size=wrong)


def test_the_suite_refuses_such_a_budget_before_it_attacks_anybody_and_vectors_know_none():
    split = Split(torch.rand(8, 1, 4, 4, generator=rng()), torch.arange(8) % 2, 2)
    Suite(linf=(1.0,), l2=(4.0,)).check(split)
    for suite in (Suite(linf=(0.1, 8.0)), Suite(l2=(8.0,))):
        with pytest.raises(Refusal, match="a budget in L"):
            suite.check(split)
        with pytest.raises(Refusal, match="a budget in L"):
            robustness({}, split, trackers={}, baselines=[], suite=suite, seed=0)
    Suite(linf=(8.0,), l2=(80.0,)).check(Split(split.x.flatten(1), split.y, 2))


def test_examples_without_labels_are_refused():
    _, _, logits, split = linear_task(20)
    some = Split(split.x, torch.where(torch.arange(20) < 2, -1, split.y), 2)
    with pytest.raises(Refusal, match="an attack"):
        accuracy_under(Square(white(logits).decision_function, Linf()), white(logits), some, norm=Linf(), size=0.1)


# Restarts, seeds and schedules


def test_a_second_start_leaves_where_the_gradient_is_zero():
    """The scores are flat near the example itself: only a start elsewhere has a slope to climb."""
    x = torch.full((30, 6), 0.5)
    logits = lambda at: torch.stack([torch.full((len(at),), 0.3), ((at - 0.5).abs() - 0.02).relu().sum(1)], 1)
    victim, split = white(logits), Split(x, torch.zeros(30).long(), 2)
    left = lambda restarts: accuracy_under(
        PGD(logits, Linf(), rng(), restarts=restarts), victim, split, norm=Linf(), size=0.2
    )
    assert (left(1), left(2)) == (1.0, 0.0)


def test_every_ascent_makes_all_its_steps_from_a_start_of_its_own():
    _, _, logits, split = linear_task(20)
    starts = []

    def asked(x):
        starts.append(x.detach().clone())
        return logits(x)

    PGD(asked, Linf(), rng(), steps=4, restarts=3, stop_when_fooled=False)(split, 0.1)
    assert len(starts) == 3 * (4 + 1)
    first, second, third = starts[0], starts[5], starts[10]
    assert torch.equal(first, split.x)
    assert not torch.equal(second, first)
    assert not torch.equal(third, second)
    assert (third - split.x).abs().max() <= 0.1 * 1.001


@pytest.mark.parametrize("kind", ["noise", "square", "PGD"])
def test_a_seed_is_one_attack_and_another_seed_another(kind):
    _, _, logits, split = linear_task(20)
    far = lambda x: logits(x) + 50 * torch.nn.functional.one_hot(split.y, 2)  # never fooled
    attacks = {
        "noise": lambda rng: Noise(Linf(), rng),
        "square": lambda rng: Square(far, Linf(), rng, queries=5),
        "PGD": lambda rng: PGD(far, Linf(), rng, steps=2, relative_step=0.1),
    }
    made = lambda seed: attacks[kind](rng(seed))(split, 0.1)
    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))


PUBLISHED = {0: 1, 11: 2, 51: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128, 6001: 256, 8001: 512}  # of 10,000


@pytest.mark.parametrize("queries", [100, 200, 10000])
def test_squares_shrink_as_published_whatever_the_number_of_queries(queries):
    """Andriushchenko et al. 2020: 0.8 of the pixels, divided by these numbers from these queries of 10,000 on."""
    attack, x = Square(lambda x: x, Linf(), rng(), queries), torch.zeros(3, 1, 28, 28)
    for query in range(1, queries, max(1, queries // 97)):
        divisor = max(value for first, value in PUBLISHED.items() if first <= int(query / queries * 10000))
        side = max(1, round((0.8 / divisor * 784) ** 0.5))
        assert attack._squares(x, query).ne(0).flatten(1).sum(1).tolist() == [side**2] * 3
        run = max(1, round(0.8 / divisor * 200))  # on vectors that fraction of the entries, side by side
        places = attack._squares(torch.zeros(2, 200), query).nonzero()[:, 1].view(2, run)
        assert bool((places.diff(dim=1) == 1).all())


def test_no_question_of_the_square_search_is_wasted_on_what_it_has():
    """A search that never gets better asks about its start and then about other images alone."""
    x, asked = torch.zeros(20, 1, 10, 10), []
    scores = lambda images: asked.append(images.clone()) or torch.tensor([[1.0, 0.0]]).expand(len(images), 2)
    Square(scores, Linf(), rng(), queries=60)(Split(x, torch.zeros(20).long(), 2), 0.3)
    assert len(asked) == 60
    for other in asked[1:]:
        assert bool((other != asked[0]).flatten(1).any(1).all())
