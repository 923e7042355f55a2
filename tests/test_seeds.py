"""Every seed draws anew: parts of data, labelled examples, attacks, corruptions, candidates, generated images."""

from functools import partial

import pytest
import torch
from torch import nn

from neuropil.data import Split, digits, hold_out, relabel, subset
from neuropil.evaluate import sample_efficiency, select
from neuropil.evaluate.robustness.corruptions import accuracy_under_corruption, corrupted
from neuropil.evaluate.robustness.damage import accuracy_under_damage
from neuropil.evaluate.robustness.suite import Suite, robustness
from neuropil.experiments import robustness as robust
from neuropil.experiments.comparison import Comparison, Method, data_splits, run_comparison
from neuropil.experiments.generation import log_generation_scores
from neuropil.experiments.own_data import examples
from neuropil.experiments.pairs import pair_comparisons, run_pair_comparisons
from neuropil.experiments.robustness import Attacks, attack_all
from neuropil.experiments.selection import Candidate, score_candidates
from neuropil.recipes import mnist_semi, mnist_unsupervised
from neuropil.runs import NullTracker, Run


class Watching:
    """Names the class by the first value of an example, and remembers what it was shown."""

    generates = True

    def __init__(self):
        self.seen = []

    def fit(self, train, *, rng, tracker):
        self.seen.append(train)
        return self

    def refit_readout(self, labelled, *, rng):
        return self.fit(labelled, rng=rng, tracker=None)

    def predict(self, x):
        self.seen.append(x.clone())
        return (x.flatten(1)[:, 0] > 0.5).long()


def numbered(n, classes=2):
    """Examples that are told apart by their first value."""
    return Split(torch.arange(2.0 * n).view(n, 2) / (2 * n), torch.arange(n) % classes, classes)


def fitting(learner):
    return lambda part: learner.fit(part, rng=None, tracker=None)


@pytest.mark.parametrize("seed", [0, 3])
def test_labelled_and_validation_examples_are_drawn_by_the_seed(seed):
    split, few, chosen = numbered(60), Watching(), Watching()
    list(sample_efficiency(fitting(few), split, split, [8], seed=seed))
    assert torch.equal(few.seen[0].x, subset(split, 8, seed).x)
    select({"one": fitting(chosen)}, split, holdout_fraction=0.25, seed=seed)
    rest, held = hold_out(split, 0.25, seed)
    assert torch.equal(chosen.seen[0].x, rest.x)
    assert torch.equal(chosen.seen[1], held.x)


@pytest.mark.parametrize("seed", [0, 3])
def test_training_examples_and_those_of_a_file_of_code_are_drawn_by_the_seed(seed, tmp_path):
    train, test = digits(seed=seed)
    some, whole = data_splits("digits", 90, seed)
    assert torch.equal(some.x, subset(train, 90, seed).x)
    assert torch.equal(whole.x, test.x)
    text = "import torch\nfrom neuropil.data import Split\n"
    text += "def load():\n    return Split(torch.arange(120.).view(60, 2) / 120, torch.arange(60) % 2, 2)\n"
    (tmp_path / "code.py").write_text(text)
    for part, want in zip(examples(str(tmp_path / "code.py"), seed), hold_out(numbered(60), 0.2, seed)):
        assert torch.equal(part.x, want.x)


def test_attacked_examples_are_drawn_by_the_seed(tmp_path):
    test, learner = numbered(60), Watching()
    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    attacks = Attacks(linf=(), l2=(0.1,), attack_queries=12, n_test=10)
    attack_all([Method("a", "local", learner)], test, attacks, data="d", seed=3, run=run, pictures=False)
    shown = lambda seed: any(torch.equal(x, subset(test, 10, seed).x) for x in learner.seen)
    assert (shown(3), shown(0)) == (True, False)


def test_attacks_draw_by_the_seed():
    test = numbered(10)
    moved = []
    for seed in (3, 3, 4):
        learner = Watching()
        suite = Suite(linf=(), l2=(0.1,), attack_queries=12)
        robustness({"a": learner}, test, trackers={"a": NullTracker()}, baselines=[], suite=suite, seed=seed)
        moved.append(torch.cat(learner.seen))
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


class Counting(nn.Module):
    """Names class 0 for sure, and counts the passes with a gradient."""

    passes = 0

    def forward(self, x):
        self.passes += x.requires_grad
        return torch.stack([x.sum(1) + 1e3, x.sum(1)], 1)


def passes_of(**settings):
    victim, test = Counting().eval(), Split(numbered(10).x, torch.zeros(10).long(), 2)
    suite = Suite(linf=(0.1,), l2=(), attack_queries=12, **settings)
    robustness({"a": victim}, test, trackers={"a": NullTracker()}, baselines=[], suite=suite, seed=0)
    return victim.passes


def test_steps_and_restarts_reach_the_attack():
    few = passes_of(attack_steps=2, attack_restarts=1)
    assert passes_of(attack_steps=2, attack_restarts=4) == few + 3 * 2
    assert passes_of(attack_steps=7, attack_restarts=1) == few + 5


@pytest.mark.parametrize("seed", [0, 3])
def test_training_examples_of_a_pair_of_classes_are_drawn_by_the_seed(seed):
    whole = numbered(60, 3)
    (pair,) = pair_comparisons(Comparison({}, "numbers", [seed], lambda _: (whole, whole)), ["0 2"], 12)
    some, every = pair.splits(seed)
    assert torch.equal(some.x, subset(relabel(whole, [0, -1, 1]), 12, seed).x)
    assert len(every) == 40


@pytest.mark.parametrize("seed", [0, 3])
def test_corruptions_and_damage_are_drawn_by_the_seed(seed):
    images = Split(torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(9)), torch.zeros(40).long(), 2)
    learner = Watching()
    list(accuracy_under_corruption(learner, images, seed=seed))
    want = corrupted(images, "noise", 1, torch.Generator().manual_seed(seed)).x
    assert any(torch.equal(x, want) for x in learner.seen)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    other = [list(accuracy_under_damage(network, images, seed=one)) for one in (seed, seed, 7)]
    assert other[0] == other[1] != other[2]


def test_candidates_are_compared_with_one_seed(tmp_path):
    split, seen = numbered(20), []

    def build(train, rng):
        seen.append(rng.initial_seed())
        return Method("a", "local", Watching())

    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    score_candidates([Candidate("a", {}, build), Candidate("a", {"b": 1}, build)], split, split, seed=3, run=run)
    assert seen == [3, 3]


class Stop(Exception):
    """Raised instead of training."""


class Drawing(NullTracker):
    """Says by which seed the first loop draws."""

    seed = 3

    def loop(self, title, count, **parts):
        raise Stop(parts["rng"].initial_seed())


def test_generated_images_and_their_judge_are_drawn_by_the_seed():
    train, test = digits(seed=0)
    with pytest.raises(Stop, match="3"):
        log_generation_scores(Method("a", "local", Watching()), train[:20], test[:20], Drawing(), each=1)


class Rolling(Watching):
    """Remembers what it drew first."""

    def fit(self, train, *, rng, tracker):
        self.drawn = torch.rand(1, generator=rng).item()
        return self


def rolling(tmp_path, classes):
    """Two methods that are compared with seed 3, what becomes of their learners, and a run."""
    kept, split = [], numbered(60, classes)

    def build(train, rng):
        kept.append(Rolling())
        return Method(f"method {len(kept)}", "local", kept[-1], about="")

    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    return Comparison({"a": build, "b": build}, "d", [3], lambda seed: (split, split)), kept, run


def test_a_method_draws_the_same_whoever_comes_before_it(tmp_path, monkeypatch):
    first = torch.rand(1, generator=torch.Generator().manual_seed(3)).item()
    plan, kept, run = rolling(tmp_path, 2)
    run_comparison(plan, (), run)
    assert [one.drawn for one in kept] == [first] * 2
    plan, kept, run = rolling(tmp_path / "pairs", 3)
    run_pair_comparisons(plan, pair_comparisons(plan, (), 0), run)
    assert [one.drawn for one in kept] == [first] * 6
    drawn, split = [], digits(seed=3)
    for room in (mnist_semi, mnist_unsupervised):
        monkeypatch.setattr(room, "data_splits", lambda *_, **__: split)
        look = lambda build, train, rng, work, **_: drawn.append(torch.rand(1, generator=rng).item())
        monkeypatch.setattr(room, "attempted", look)
        folder = tmp_path / room.__name__
        room.main(room.Config(seed=3), Run.start(folder, recipe="", config={}, command="", quiet=True))
    assert len(drawn) > 10
    assert set(drawn) == {first}


def test_the_models_of_a_seed_are_attacked_on_its_test_examples(tmp_path, monkeypatch):
    said, shown = [], []
    learned = lambda plan, train, test, *, seed, **_: said.append((seed, seed, test.checksum()))
    attacked = lambda models, test, attacks, *, seed, **how: (
        said.append((models, seed, test.checksum())),
        shown.append(how["pictures"]),
    )
    monkeypatch.setattr(robust, "run_methods", learned)
    monkeypatch.setattr(robust, "models_of", lambda folder, seed: seed)
    monkeypatch.setattr(robust, "loaded", lambda headers, device: headers)
    monkeypatch.setattr(robust, "attack_all", attacked)
    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    robust.run_seeds(Comparison({}, "d", [3, 4], partial(data_splits, "digits", 0)), (), run, attacks=Attacks())
    tests = {seed: digits(seed=seed)[1].checksum() for seed in (3, 4)}
    assert said == [(seed, seed, tests[seed]) for seed in (3, 3, 4, 4)]
    assert shown == [True, False]  # of the first seed alone
