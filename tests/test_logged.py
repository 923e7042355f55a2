"""Numbers that runs log, from made-up answers, spikes and weights: each is worked out here, by other means."""

import math
from collections import OrderedDict
from statistics import mean
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common import rng
from neuropil.associative import CLASSIFY, CLASSIFY_PARTIAL
from neuropil.associative.settling import Settled
from neuropil.associative.training import EpochStatistics
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.evaluate import evaluate_samples, log_units
from neuropil.experiments import generation, selection, spikes
from neuropil.experiments.comparison import Comparison, Method, log_label_curve, run_methods
from neuropil.experiments.continual.protocol import Outcome, log_order
from neuropil.models import (
    RidgeRegression,
    SpikingClassifier,
    SupervisedTraining,
)
from neuropil.models.association import log_likeness
from neuropil.models.training.local import log_progress
from neuropil.plasticity import Association
from neuropil.recipes import lif_qif, yin_yang
from neuropil.runs import NullTracker, Run, TaggedTracker, read


class Book(NullTracker):
    """Keeps every row; its clock goes on by itself."""

    def __init__(self):
        self.rows, self.kept, self.folder, self.clock = [], {}, None, 5.0

    seconds = property(lambda self: self.clock)

    def log(self, row):
        self.rows.append(row)

    def save(self, **tensors):
        self.kept |= tensors


class Says:
    """Answers what it was told, by the number in the first feature of an example; its fit takes two seconds."""

    def __init__(self, answers):
        self.answers = torch.tensor(answers)

    def predict(self, x):
        return self.answers[x.flatten(1)[:, 0].long()]

    def fit(self, train, *, rng, tracker):
        return self


def numbered(labels, classes):
    return Split(torch.arange(len(labels), dtype=torch.float32)[:, None], torch.tensor(labels), classes)


def shares(numbers):
    return [number / sum(numbers) for number in numbers]


def test_a_comparison_logs_the_score_with_all_labels_as_well(tmp_path, monkeypatch):
    train, test = numbered([0, 1] * 6, 2), numbered([0, 1, 1, 0, 1, 1, 1], 2)
    plan = Comparison({"a": lambda train, rng: Method("mine", "local", Says([0, 1, 1, 1, 0, 0, 1]))}, "d", [3], None)
    run = Run.start(tmp_path / "run", recipe="", config={}, command="", quiet=True)
    monkeypatch.setattr("neuropil.experiments.comparison.save_pictures", lambda *_: None)
    run_methods(plan, train, test, seed=3, labels=(), run=run)
    rows = {row["kind"]: row for row in read(run.folder).rows}
    assert (rows["labels"]["n_labels"], rows["result"]["n_train"]) == (12, 12)
    assert rows["labels"]["accuracy"] == rows["result"]["accuracy"] == pytest.approx(4 / 7)
    assert rows["result"]["majority_rate"] == pytest.approx(5 / 7)
    assert rows["confusion"]["matrix"] == [[1, 1], [2, 3]]


@pytest.fixture
def book():
    return Book()


# Rows about units and training


def test_the_row_on_units_has_the_numbers_of_its_definition(book):
    weight = torch.tensor([[0.9, 0.3, 0.0, -0.6], [0.1, -0.2, 0.05, 0.0], [0.0, 0.0, 1.0, 0.1], [2.0, 0.5, 0.5, 0.5]])
    wins = [5, 0, 2, 1]
    x = torch.eye(4)[[k for k, count in enumerate(wins) for _ in range(count)]]
    split = Split(x, torch.zeros(8, dtype=torch.int64), 1)
    log_units(lambda part: part, weight, split, norm=3.0, layer="second", batch=3, tracker=book)
    (row, *warnings) = book.rows
    norms = (np.abs(weight.numpy().astype(float)) ** 3).sum(1)
    assert (row.layer, row.wins) == ("second", wins)
    assert row.norms == pytest.approx(norms.tolist(), rel=1e-6)
    assert (row.dead, row.converged) == (0.25, 0.5)  # 0.972 and 1.001 are near 1
    squares = np.linalg.eigvalsh(weight.double().numpy() @ weight.double().numpy().T)
    assert row.effective_rank == pytest.approx(squares.sum() ** 2 / (squares**2).sum(), rel=1e-6)
    entropy = -sum(share * math.log(share) for share in shares(wins) if share) / math.log(4)
    assert row.win_entropy == pytest.approx(entropy, rel=1e-6)
    assert [one.message for one in warnings] == [
        "only 50% of the rows are within 0.1 of norm 1: they have not converged."
    ]


def test_progress_of_a_layer_is_its_change_over_what_it_was(book):
    body = nn.Sequential(OrderedDict(flat=nn.Flatten(), one=nn.Linear(3, 4, bias=False)))
    after = torch.tensor([[0.6, 0.0, 0.8], [0.0, 2.0, 0.0], [0.0, 0.0, 1.02], [0.1, 0.1, 0.1]])
    body.one.weight.data, before = after.clone(), after + torch.tensor([0.3, -0.1, 0.2])
    x = torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]).repeat(30, 1)
    train = Split(x, torch.zeros(150, dtype=torch.int64), 1)
    log_progress(book, body, "one", train, epoch=7, before=before)
    (row,) = book.rows
    assert (row.stage, row.epoch) == ("features one", 7)
    change = np.linalg.norm((after - before).numpy()) / np.linalg.norm(before.numpy())
    squares = np.linalg.eigvalsh((after @ after.T).double().numpy())
    rank = squares.sum() ** 2 / (squares**2).sum()
    want = {"relative_change": change, "dead": 0.25, "converged": 0.5, "effective_rank": rank}
    assert row.metrics == pytest.approx(want, rel=1e-5)


def test_likeness_stands_under_its_name(book):
    weight = torch.randn(8, 6, generator=rng(3), dtype=torch.float64)
    network = nn.Sequential(OrderedDict(hidden=nn.Linear(6, 8, dtype=torch.float64)))
    network.hidden.weight.data = weight.clone()
    log_likeness(book, network, {"hidden": Association(2, columns=2)}, epoch=3, accuracy=0.37)
    table = np.abs(np.corrcoef(weight.numpy()))
    of = lambda group: mean(table[i, j] for i in group for j in group if i < j)
    whole, column = mean(map(of, ([0, 2, 4, 6], [1, 3, 5, 7]))), mean(map(of, ([0, 2], [1, 3], [4, 6], [5, 7])))
    (row,) = book.rows
    assert (row.stage, row.epoch) == ("association", 3)
    assert row.metrics == pytest.approx({"train_accuracy": 0.37, "alike": whole, "alike_column": column})


def test_an_epoch_of_supervised_training_is_a_mean_over_examples_not_batches(book):
    """With a rate near 0 the network stays, so both numbers are those of the whole set; the last batch is small."""
    x, y = torch.randn(23, 4, generator=rng(1)), torch.arange(23) % 3
    network = nn.Linear(4, 3)
    network.weight.data, network.bias.data = torch.randn(3, 4, generator=rng(2)), torch.tensor([0.1, -0.4, 0.2])
    scores = network(x).detach()
    right, loss = (scores.argmax(1) == y).double().mean().item(), F.cross_entropy(scores.double(), y).item()
    training = SupervisedTraining(2, batch=10, lr=1e-12, weight_decay=0.0, min_steps=1)
    training.fit_(network, Split(x, y, 3), stage="head", rng=rng(), tracker=book)
    assert [(row.stage, row.epoch) for row in book.rows] == [("head", 0), ("head", 1)]
    for row in book.rows:
        assert row.metrics == pytest.approx({"loss": loss, "train_accuracy": right}, rel=1e-5)


def test_ridge_regression_logs_the_strength_and_what_it_gets_right(book):
    train = Split(torch.randn(40, 3, generator=rng(4)), torch.arange(40) % 3, 3)
    network = nn.Sequential(OrderedDict(standardise=nn.Identity(), linear=nn.Linear(3, 3)))
    RidgeRegression(strengths=(0.03,)).fit_(network, train, stage="head", rng=rng(), tracker=book)
    (row,) = book.rows
    right = (network(train.x).argmax(1) == train.y).double().mean().item()
    assert (row.epoch, row.metrics) == (0, {"strength": 0.03, "train_accuracy": pytest.approx(right)})
    assert 0.3 < right < 0.8


def test_an_epoch_of_spikes_is_a_mean_over_examples_and_hidden_neurons(book):
    train = Split(torch.rand(23, 5, generator=rng(5)), torch.arange(23) % 2, 2)
    learner = SpikingClassifier((7, 4), init_scale=8.0)
    network = learner.initialised(train, rng(6))
    for layer in network.stack()[1:]:
        layer.weight.data = layer.weight.abs() * 30  # so that outputs spike as well
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    settings = learner.training.__class__(batch=10, flip_probability=0.0)
    learner.training = settings
    found = learner._epoch(network, train, optimizer, schedule, rng(7))
    output = network(settings.times_of(train.x, learner.encode, rng(8)))
    times = output.times[..., 0]
    count = sum(int(layer.isfinite().sum()) for layer in output.spikes[:-1])
    loss = mean(settings.loss(times[k : k + 1], train.y[k : k + 1], learner.t_end).item() for k in range(23))
    right = (times.argmin(1) == train.y).double().mean().item()
    assert found == pytest.approx({"loss": loss, "train_accuracy": right, "spikes": count / 11 / 23}, rel=1e-4)
    assert output.spikes[-1].isfinite().any()


def test_the_accuracy_of_an_epoch_counts_every_example_once():
    found = EpochStatistics()
    for answers, labels in (([0, 1, 1, 0, 1], [0, 1, 1, 1, 1]), ([1], [0])):
        state = {"pixels": torch.zeros(len(labels), 2), "label": F.one_hot(torch.tensor(answers), 2).float()}
        settled = Settled(state, 4, torch.zeros(len(labels)), True, torch.full((len(labels),), 4))
        after, known = state | {"h": torch.zeros(1)}, torch.tensor(labels)
        traces = SimpleNamespace(settled=settled, after=after, samples=len(labels), labels=known)
        found.add(CLASSIFY, traces)
        traces.labels = 1 - torch.tensor(answers)
        found.add(CLASSIFY_PARTIAL, traces)  # of images with missing pixels, none counts
    assert found.row()["train_accuracy"] == pytest.approx(4 / 6)


# Rows about methods


class Reached(SpikingClassifier):
    """A fitted network whose answers and spikes are made up: a third layer is the output, and it began more silent."""

    before = [torch.tensor([[0, 0, 3], [0, 0, 0]]), torch.tensor([[0], [2]]), torch.tensor([[0, 7], [0, 0]])]
    after = [torch.tensor([[1, 0, 3], [2, 0, 4], [0, 0, 1]]), torch.tensor([[5], [1], [2]]),
             torch.tensor([[1, 0], [2, 1], [0, 0]])]  # fmt: skip

    def __init__(self):
        self.start_ = "start"

    def activity(self, x, network=None):
        return self.before if network == "start" else self.after

    def predict_from_spikes(self, x):
        return torch.tensor([1, 0, -1])


TEST = Split(torch.rand(3, 4), torch.tensor([1, 1, 0]), 2)
TRAIN = Split(torch.rand(5, 4), torch.zeros(5, dtype=torch.int64), 2)


def test_spikes_are_counted_before_and_after_by_layer(book, monkeypatch):
    method = Method("mine", "spiking", Reached())
    spikes.log_spikes(method, TRAIN, TEST, book)
    want = {"ordinary_accuracy": 1 / 3, "hidden_activity": 19 / 12, "output_activity": 4 / 6}
    want |= {"silent_before": 9 / 12, "never_firing_before": 3 / 6}
    assert (book.rows[0].kind, book.rows[0].metrics) == ("spikes", pytest.approx(want))
    tracker = TaggedTracker(book, learner="mine", family="spiking", data="d", seed=4)
    monkeypatch.setattr(yin_yang, "plot_times", lambda *_: None)
    numbers = {"hidden_spikes": 11 / 9, "output_spikes": 8 / 3}
    for log, more in ((yin_yang.log_ordinary_spikes, {}), (lif_qif.log_spikes, {"never_firing": 1 / 3})):
        log(method, TRAIN, TEST, tracker)
        row = book.rows[-1]
        assert (row.learner, row.data, row.seed, row.n_train)[1:] == ("d", 4, 5)
        assert row.learner.endswith(", ordinary only")
        assert row.accuracy == pytest.approx(1 / 3)
        assert row.metrics == pytest.approx(numbers | more)
        log(Method("other", "baseline", None), TRAIN, TEST, tracker)
        assert book.rows[-1] is row


def test_generated_images_have_as_many_attempts_as_they_took(book, monkeypatch):
    train, test = (
        Split(torch.rand(6, 1, 4, 4), torch.arange(6) % 2, 2),
        Split(torch.rand(5, 1, 4, 4), torch.ones(5).long(), 2),
    )
    judge = SimpleNamespace(fit=lambda *_, **__: judge)
    monkeypatch.setattr(generation, "ReferenceClassifier", lambda: judge)
    monkeypatch.setattr(generation, "accuracy", lambda one, split: {id(test): 0.83}[id(split)])
    monkeypatch.setattr(generation, "pca_samples", lambda *_: torch.zeros(6, 1, 4, 4))
    scores = iter(SimpleNamespace(_asdict=lambda k=k: dict.fromkeys(SCORES, k / 7)) for k in range(4))
    monkeypatch.setattr(generation, "evaluate_samples", lambda *_: next(scores))
    made = SimpleNamespace(images=torch.zeros(6, 1, 4, 4), attempts=torch.tensor([1, 1, 7, 2, 1, 1]))
    learner = SimpleNamespace(generates=True, generate=lambda *_: made)
    tracker = TaggedTracker(book, learner="mine", data="d", seed=0)
    generation.log_generation_scores(Method("mine", "local", learner), train, test, tracker, each=3)
    assert [row.n for row in book.rows] == [6, 6, 6, 5]
    assert [row.attempts for row in book.rows] == pytest.approx([13 / 6, 1, 1, 1])
    assert {row.reference_accuracy for row in book.rows} == {0.83}
    assert [row.frechet for row in book.rows] == [0, 1 / 7, 2 / 7, 3 / 7]
    generation.log_generation_scores(Method("none", "local", None), train, test, tracker, each=3)
    assert len(book.rows) == 4


SCORES = ("class_accuracy", "pixel_variance", "feature_variance", "frechet", "nearest")


def test_scores_of_generated_images_are_relative_to_real_ones():
    """The reference classifier is made up: its features are the first pixels, its answer the larger of two."""
    reference = SimpleNamespace(features=lambda x: x.flatten(1)[:, :3], predict=lambda x: x.flatten(1)[:, :2].argmax(1))
    real, train = (Split(torch.rand(n, 1, 2, 3, generator=rng(n)), torch.arange(n) % 2, 2) for n in (9, 14))
    images, classes = torch.rand(7, 1, 2, 3, generator=rng(1)), torch.tensor([0, 1, 1, 0, 0, 1, 1])
    found = evaluate_samples(reference, images, classes, real, train)
    x, r, t = (one.flatten(1).double().numpy() for one in (images, real.x, train.x))

    def spread(values, labels):
        return mean(values[labels.numpy() == label].var(0, ddof=1).sum() for label in (0, 1))

    assert found.class_accuracy == pytest.approx(
        mean(int(row[0] < row[1]) == label for row, label in zip(x, classes.tolist()))
    )
    assert found.pixel_variance == pytest.approx(spread(x, classes) / spread(r, real.y))
    assert found.feature_variance == pytest.approx(spread(x[:, :3], classes) / spread(r[:, :3], real.y))
    assert found.nearest == pytest.approx(mean(min(math.dist(one, other) for other in t) for one in x), rel=1e-5)


def test_a_curve_over_labels_has_the_test_accuracy_of_each_number(book):
    test, train = numbered([0, 1, 1, 0, 1, 1, 1], 2), numbered([0, 1] * 20, 2)
    asked = []

    def refit(part, *, rng):
        asked.append(len(part))
        if len(part) == 6:
            raise Refusal("too few.")
        return Says([0, 1, 0, 0, 0, 1, 1] if len(part) == 4 else [0, 0, 0, 0, 0, 0, 1])

    method = Method("mine", "local", SimpleNamespace(refit_readout=refit))
    log_label_curve(method, [4, 6, 10], train, test, seed=3, rng=rng(), tracker=book)
    first, lost, last = book.rows
    assert asked == [4, 6, 10]
    assert (first.n_labels, first.accuracy) == (4, pytest.approx(5 / 7))
    assert (last.n_labels, last.accuracy) == (10, pytest.approx(3 / 7))
    assert lost.message == "no accuracy with 6 labels: too few."


def test_what_the_order_of_tasks_costs_is_joint_training_minus_the_stream(book):
    log_order(book, Outcome(0.61, 0.23), 0.74)
    log_order(book, Outcome(0.61, 0.23), None)
    want = {"accuracy": 0.61, "forgetting": 0.23}
    assert book.rows[0].metrics == pytest.approx(want | {"in_random_order": 0.74, "lost_by_order": 0.13})
    assert book.rows[1].metrics == want
    assert {row.kind for row in book.rows} == {"continual"}


def test_candidates_are_scored_on_what_was_held_out(book, capsys, tmp_path):
    rest, held = numbered([0, 1] * 6, 2), numbered([0, 1, 1, 0, 1, 1, 1], 2)

    def build(answers, few):
        learner = Says(answers)
        learner.refit_readout = lambda part, *, rng: Says(few if len(part) == 4 else [1 - one for one in few])
        return lambda train, rng: Method("a", "local", learner)

    some = [([0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0], [0] * 7), ([0] * 12, [1] * 7)]
    candidates = [selection.Candidate("t", {"lr": k / 8}, build(*one)) for k, one in enumerate(some)]
    selection.score_candidates(candidates, rest, held, seed=3, labels=(4, 6), run=book)
    for row, want in zip(book.rows, ((4 / 7, 2 / 7), (2 / 7, 5 / 7)), strict=True):
        assert row.metrics["accuracy"] == pytest.approx(want[0], abs=1e-6)
        few = [row.metrics[f"accuracy_{count}_labels"] for count in (4, 6)]
        assert few == pytest.approx([want[1], 1 - want[1]], abs=1e-6)
    lines = lambda: [line.split() for line in capsys.readouterr().out.splitlines()][-2:]
    shown = [["t", "lr", "0.0", "57.14", "28.57", "71.43"], ["t", "lr", "0.125", "28.57", "71.43", "28.57"]]
    assert lines() == shown
    cut = [candidates[0], candidates[1]._replace(build=None)]  # the run is stopped at the second one, then goes on
    run = Run.start(tmp_path / "run", recipe="x", config={}, command="x")
    run.every = 0
    with pytest.raises(TypeError):
        selection.score_candidates(cut, rest, held, seed=3, labels=(4, 6), run=run)
    run.close()
    selection.score_candidates(candidates, rest, held, seed=3, labels=(4, 6), run=Run.resume(tmp_path / "run"))
    assert lines() == shown
