"""What recipes log besides, from made-up spikes, times and answers: each number is worked out here, by other means."""

import ast
import math
from collections import OrderedDict
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import neuropil
from common import rng
from neuropil.associative.settling import Settled
from neuropil.data import Split
from neuropil.evaluate import UnitStatistics
from neuropil.experiments.diagnose import LayerDiagnosis
from neuropil.models import CompetitiveLearning, competition
from neuropil.recipes import balanced, concept, mnist_complete, momentum, precision, recurrent, reward_stdp, stdp_conv
from neuropil.runs import NullTracker


class Book(NullTracker):
    """Keeps every row, and what is saved."""

    def __init__(self):
        self.rows, self.kept = [], {}

    seconds = 12.5

    def log(self, row):
        self.rows.append(row)

    def save(self, **tensors):
        self.kept |= tensors

    def update_metadata(self, **facts):
        pass


@pytest.fixture
def book():
    return Book()


# Spikes


def test_the_state_of_a_balanced_network_is_that_of_its_excitatory_neurons(book, monkeypatch):
    config = balanced.Config(excitatory=3, inhibitory=2, dt=2e-3, block=0.02, measured=2, seed=4)
    raster = torch.zeros(20, 5)  # 40 ms
    fired = {0: [0, 1, 5, 13, 14], 1: [2, 11], 2: [0, 3, 6, 9, 12, 15, 18, 19], 3: [4, 12, 17], 4: [1]}
    for neuron, steps in fired.items():
        raster[steps, neuron] = 1
    monkeypatch.setattr(balanced, "coincidences", lambda raster, net: {"near": 0.7})
    v = torch.arange(10.0).view(5, 2)
    balanced.log_state("after", raster, v, SimpleNamespace(), config, book)
    numbers, trains, potentials = book.rows
    rates = [len(fired[k]) / 0.04 for k in range(3)]
    gaps = [np.diff(fired[k]) for k in range(3)]
    cv = mean(float(one.std() / one.mean()) for one in gaps if len(one) > 1)
    counts = raster[:20, :3].view(10, 2, 3).sum(1).numpy().T  # 5 ms are 2 steps of 2 ms, to the nearest whole number
    synchrony = np.corrcoef(counts)[np.triu_indices(3, 1)].mean()
    want = {"rate": mean(rates), "rate_sd": stdev(rates), "cv": cv, "synchrony": float(synchrony)}
    want |= {"rate_inhibitory": mean([3 / 0.04, 1 / 0.04]), "near": 0.7}
    assert {name: numbers.metrics[name] for name in want} == pytest.approx(want, rel=1e-6)
    assert (numbers.kind, numbers.metrics["state"], numbers.seed) == ("balanced", "after", 4)
    last = [[(step - 10 + 0.5) * 2e-3 for step in fired[k] if step >= 10] for k in range(3)]
    assert trains.trains == [pytest.approx(one) for one in last]
    assert (trains.learner, trains.t_end, trains.title) == ("after", 0.02, "spikes, after")
    assert potentials.v == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    assert (potentials.dt, potentials.t_start) == (2e-3, pytest.approx(0.01))
    assert potentials.trains == [pytest.approx([t for t in one if t >= 0.01]) for one in last[:2]]


def test_the_end_of_the_recurrent_task_counts_hits_within_the_tolerance(book, monkeypatch):
    nan, inf = math.nan, math.inf
    config = recurrent.Config(n_targets=(2, 3), seed=6)
    targets = torch.tensor([[2.0, 5.0, 11.0, nan], [1.0, 4.0, 8.0, 11.0]], dtype=torch.float64)
    one_sided = torch.tensor([[False, False, True, False], [False, False, False, True]])
    off = torch.tensor([[0.3, -0.9, 9.0, 0.0], [0.99, -2.5, 0.1, 7.0]], dtype=torch.float64) * recurrent.TOLERANCE
    late = torch.where(targets.isnan(), 20.0, targets + off)
    fired = torch.tensor([[[2.0, 5.0, inf], [1.0, inf, inf], [3.0, 4.0, 9.0]]])
    monkeypatch.setattr(recurrent, "output_times", lambda *_: late)

    class Network:
        def __call__(self, times):
            return SimpleNamespace(spikes=[fired])

        def state_dict(self):
            return {"weight": targets}

    recurrent.log_result(Network(), None, targets, one_sided, config, book)
    (row,) = book.rows
    found = dict(row.metrics)
    assert (found["targets"], found["hit"], found["spikes"], found["right_numbers"]) == (5, 4, 6, False)
    assert found["largest_miss"] == pytest.approx(2.5 * recurrent.TOLERANCE)
    assert found["seconds"] == 12.5
    assert row.seed == 6
    assert list(book.kept) == ["network.weight"]


def test_the_largest_jump_counts_a_missing_spike_as_one_at_the_end():
    inf = math.inf
    assert concept.jump(torch.tensor([1.0, 1.5, 0.75, inf, inf]), 4.0) == 3.25
    assert concept.jump(torch.tensor([inf, 5.0, 1.0]), 4.0) == 4.0


def test_rewards_are_logged_as_means_since_the_last_look(book):
    config = reward_stdp.Config(trials=3 * reward_stdp.LOOKS, seed=2)
    curve = torch.arange(3.0 * reward_stdp.LOOKS).square()
    for trial in range(7):
        reward_stdp.report_curve("mine", trial, curve, config, book)
    assert [(row.epoch, row.metrics["reward"]) for row in book.rows] == [
        (2, pytest.approx(5 / 3)),
        (5, pytest.approx(50 / 3)),
    ]
    assert (book.rows[0].learner, book.rows[0].seed, book.rows[0].stage) == ("mine", 2, "rewards")
    assert book.rows[0].data == reward_stdp.DATA


@pytest.mark.parametrize("trials", [20, 125])
def test_weights_are_looked_at_when_the_row_says_so(book, monkeypatch, trials):
    """Each trial adds 1 to every weight, so a look shows how many trials were before it."""
    config = reward_stdp.Config(
        patterns=2, actions=2, inputs=3, active=1, trials=trials, batch=4, duration=0.05, delay=0.1, n_test=1
    )

    class Counting(reward_stdp.Actions):
        def __init__(self, config, rng):
            super().__init__(config, rng)
            self.layer.weight.zero_()

        def forward(self, spikes):
            return spikes.new_zeros(1, spikes.shape[1], 2)

        def change(self, spikes, made, reward):
            return torch.ones_like(self.layer.weight) / config.lr

    monkeypatch.setattr(reward_stdp, "Actions", Counting)
    monkeypatch.setattr(reward_stdp, "constrain_", lambda *_, **__: None)
    monkeypatch.setattr(reward_stdp, "report_curve", lambda *_: None)
    looks = torch.zeros(reward_stdp.LOOKS + 1, 6)
    task = reward_stdp.Task(config)
    monkeypatch.setattr(task, "spikes", lambda which, index: torch.zeros(1, len(which), 3))
    reward_stdp.stdp("reward", task, torch.zeros(trials), looks, config, book)
    shown = looks[:, 0].tolist()
    each = 4 * (0.05 + 0.1)  # s of a trial
    times = [trials * each * k / reward_stdp.LOOKS for k in range(reward_stdp.LOOKS + 1)]
    assert shown == pytest.approx([math.floor(time / each + 1e-9) for time in times])
    assert (shown[0], shown[-1]) == (0, trials)


def test_a_part_of_competitive_learning_counts_spikes_and_thresholds_in_millivolts(book, monkeypatch):
    class Units(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 12.0]]), requires_grad=False)
            self.theta = torch.tensor([0.0012, 0.0047])

        def learn_(self, images, epoch):
            self.weight += torch.tensor([[1.3, 0.0], [0.0, 0.0]])
            return torch.tensor([[4.0, 1.0], [0.0, 2.0], [3.0, 3.0]])

    monkeypatch.setattr(competition, "CompetitiveUnits", Units)
    body = torch.nn.Sequential(OrderedDict(hidden=Units()))
    train = Split(torch.rand(3, 2), torch.zeros(3).long(), 2)
    CompetitiveLearning().fit_(body, train, rng=rng(), tracker=book)
    (row,) = book.rows
    assert row.metrics == pytest.approx({"relative_change": 0.1, "spikes": 13 / 3, "threshold_mv": 2.95})


def test_a_round_of_kernels_counts_winners_of_an_image(book, monkeypatch):
    class Conv(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([0.3, 0.9, 0.6]), requires_grad=False)

    def step(self, conv, layer, ages, optimizer):
        conv.weight += torch.tensor([0.1, 0.0, -0.05]) * (layer + 1)
        return len(ages) + layer

    monkeypatch.setattr(stdp_conv.Competition, "step_", step)
    monkeypatch.setattr(stdp_conv, "ROUND", 5)
    monkeypatch.setattr(Conv, "forward", lambda self, x: x, raising=False)
    network = torch.nn.Sequential(OrderedDict((name, Conv()) for name in stdp_conv.LAYERS))
    config = stdp_conv.Config(n_images=(5, 5), batch=3)
    train = Split(torch.rand(8, 1, 2, 2), torch.zeros(8).long(), 2)
    stdp_conv.Competition(config).fit_(network, train, rng=rng(), tracker=book)
    assert [(row.stage, row.epoch) for row in book.rows] == [(f"features {name}", 0) for name in stdp_conv.LAYERS]
    start = math.sqrt(0.3**2 + 0.9**2 + 0.6**2)
    for k, row in enumerate(book.rows, start=1):  # two batches, of three and of two images
        after = (0.3 + 0.2 * k, 0.9, 0.6 - 0.1 * k)
        want = {"relative_change": k * math.hypot(0.2, 0.1) / start, "winners": (5 + 2 * (k - 1)) / 5}
        assert row.metrics == pytest.approx(want | {"undecided": mean(w * (1 - w) for w in after)}, rel=1e-5)


# Associative networks


def test_sweeps_of_settling_are_told_of_the_mean_the_slowest_and_all():
    own = torch.tensor([3, 9, 4, 30, 5, 6, 2])
    each = Settled({}, 30, torch.zeros(7), True, own)
    batch = Settled({}, 31, torch.zeros(7), False, torch.full((7,), 31))
    want = {"iterations": 31, "settled": 0.0, "mean_sweeps": 59 / 7, "p95_sweeps": float(np.quantile(own, 0.95))}
    assert momentum.counts(batch, each) == pytest.approx(want | {"batch_work": 217, "work": 59})


def test_quality_of_settling_is_accuracy_or_error_of_the_lower_half():
    x = torch.rand(3, 1, 4, 2, generator=rng(1))
    test = Split(x, torch.tensor([1, 0, 1]), 2)
    label = torch.tensor([[0.2, 0.7], [0.1, 0.3], [0.0, 0.9]])
    assert momentum.quality("classify", test, {"label": label}) == pytest.approx({"accuracy": 2 / 3})
    made = torch.rand(3, 8, generator=rng(2))
    error = mean(float((made[n, p] - x.flatten(1)[n, p]) ** 2) for n in range(3) for p in range(4, 8))
    assert momentum.quality("complete", test, {"pixels": made}) == pytest.approx({"squared_error": error})
    plain = {"label": label, "h": torch.tensor([[0.1], [0.4], [0.9]])}
    other = {"label": label.flip(1) * torch.tensor([[1.0], [-1.0], [1.0]]), "h": torch.tensor([[0.1], [0.35], [-0.3]])}
    found = momentum.beside(plain, other)
    assert found == pytest.approx({"same_label": 1 / 3, "apart": 1.2})


def test_completion_is_settled_from_the_upper_half_and_the_label():
    test = Split(torch.rand(3, 1, 4, 2, generator=rng(1)), torch.tensor([1, 0, 1]), 2)
    learner = momentum.network(1).initialise_(test, rng())
    state, free, _ = momentum.start(learner, "complete", test)
    assert free["pixels"].tolist() == [[0.0] * 4 + [1.0] * 4] * 3
    assert torch.equal(state["pixels"], test.x.flatten(1) * (1 - free["pixels"]))
    assert state["label"].argmax(1).tolist() == [1, 0, 1]
    assert "label" not in free


def test_errors_of_completion_are_of_missing_pixels_alone():
    train = Split(torch.rand(5, 1, 2, 3, generator=rng(3)), torch.tensor([0, 1, 1, 0, 1]), 2)
    test = Split(torch.rand(4, 1, 2, 3, generator=rng(4)), torch.tensor([1, 0, 0, 1]), 2)
    made, mask = torch.rand(4, 1, 2, 3, generator=rng(5)), torch.tensor([[[1.0, 0, 1], [1, 1, 0]]])
    learner = SimpleNamespace(complete=lambda x, known, labels: made if labels is test.y and known is mask else None)
    missing, x, t = [(0, 1), (1, 2)], test.x[:, 0].double().numpy(), train.x[:, 0].double().numpy()
    classes = {label: t[train.y.numpy() == label].mean(0) for label in (0, 1)}
    guesses = {"squared_error": made[:, 0].numpy(), "class_mean_error": [classes[int(y)] for y in test.y]}
    guesses["mean_error"] = [t.mean(0)] * 4
    want = {name: mean((g[k][p] - x[k][p]) ** 2 for k in range(4) for p in missing) for name, g in guesses.items()}
    assert mnist_complete.errors(learner, train, test, mask) == pytest.approx(want, rel=1e-5)


def test_accuracy_by_bits_stands_beside_that_of_whole_weights(book, monkeypatch):
    about = {"data": "d", "seed": 3}
    header, test = SimpleNamespace(about=about), Split(torch.rand(2, 2), torch.zeros(2).long(), 2)
    tracker = lambda run, data, seed: run
    method = SimpleNamespace(name="mine", family="local", learner=None, tracker=tracker)
    monkeypatch.setattr(precision, "saved_models", lambda of: [header])
    monkeypatch.setattr(precision, "test_of", lambda header, device: test)
    monkeypatch.setattr(precision, "loaded", lambda headers, device: [method])
    monkeypatch.setattr(precision, "victim_of", lambda learner, classes: None)
    monkeypatch.setattr(precision, "accuracy", lambda learner, split: 0.91 if split is test else None)
    given = lambda learner, split, bits, scale: ((few, few / 17) for few in bits)
    monkeypatch.setattr(precision, "accuracy_with_bits", given)
    monkeypatch.setattr(precision, "plot", lambda found, run: None)
    precision.main(precision.Config(of="x", bits=(8, 3), scale="unit"), book)
    found = [(row.metrics["bits"], row.metrics["accuracy"], row.metrics["scale"]) for row in book.rows]
    assert found == [(32, 0.91, "unit"), (8, 8 / 17, "unit"), (3, 3 / 17, "unit")]


# In words


@pytest.mark.parametrize(
    ("learned", "said"),
    [
        (0.9234, "learning adds 6.1 points on top of start and bias"),
        (0.7012, "learning costs 16.1 points on top of start and bias"),
        (0.8777, "learning makes no difference to start and bias beyond the noise of 2.3 points"),
    ],
)
def test_a_diagnosis_says_its_numbers_in_points(learned, said):
    units = UnitStatistics(torch.tensor([3, 0, 0, 5]), torch.tensor([0.25, 4.0, 1.0, 2.25]), 0.5, 0.25, 12.6, 0.4)
    text = str(LayerDiagnosis("Linear", 0.7123, 0.8621, learned, 0.0234, units, 1))
    probe = (
        f"Linear probe: 71.2 % untrained, 86.2 % with start and bias alone, {100 * learned:.1f} % as it is; {said}. "
    )
    assert text == f"Linear, 4 units. {probe}2 dead units, 1 copy; norms 0.5 to 2; effective rank 13."


# Loops


REFILLED = {("balanced", "raster"), ("robustness", "checksums"), ("competition", "hidden"), ("banded", "sums")}
"""Filled anew in every turn, merged by the run, part of what is kept, or computed again (see test_banded.py)."""


def filled(loop):
    """Names whose items a loop sets, or that it changes in place."""
    for node in ast.walk(loop):
        if isinstance(node, ast.Assign):
            yield from (to.value.id for to in node.targets if isinstance(getattr(to, "value", None), ast.Name))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
            yield from [node.func.value.id] if isinstance(node.func.value, ast.Name) else []


@pytest.mark.parametrize("room", ["experiments", "recipes", "models", "associative"])
def test_what_a_loop_fills_is_among_what_it_keeps_for_a_run_that_goes_on(room):
    lost, seen = set(), 0
    for file in (Path(neuropil.__file__).parent / room).rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            loops = [
                node for node in ast.walk(function) if isinstance(node, ast.For) and ".loop(" in ast.unparse(node.iter)
            ]
            if not loops:
                continue
            seen += 1
            given = [node for node in ast.walk(function) if isinstance(node, ast.Assign | ast.AnnAssign)]
            made = {
                ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                for node in given
                if node.lineno < loops[0].lineno
            }
            before = {name for text in made for name in text.strip("()").split(", ")}
            kept = {word.value.id for loop in loops for word in loop.iter.keywords if isinstance(word.value, ast.Name)}
            kept |= {
                node.id
                for one in given
                if ast.unparse(one).startswith(("state", "parts"))
                for node in ast.walk(one)
                if isinstance(node, ast.Name)
            }
            lost |= {(file.stem, name) for loop in loops for name in filled(loop) if name in before - kept}
    assert seen
    assert lost <= REFILLED
