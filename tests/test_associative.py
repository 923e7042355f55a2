"""How associative networks learn: locality from recorded traces alone, missing labels, and resuming."""

import pytest
import torch
from torch import nn

import neuropil
from common import first_digits, rng
from neuropil.associative import (
    CLASSIFY,
    GENERATE,
    AssociativeNetwork,
    AssociativeTraining,
    Nudge,
    Sampling,
    Settling,
    Task,
)
from neuropil.associative.inference import Filling, initial_state
from neuropil.associative.learning import Traces, pseudo_labels
from neuropil.associative.settling import Settled
from neuropil.associative.training import LEARNING_RATES, EpochStatistics
from neuropil.data import Split, digits
from neuropil.data.masks import halves, random_masks, rectangle_occlusions
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy
from neuropil.plasticity import DifferentialHebb
from neuropil.runs import NullTracker, Run

train = first_digits(400)


# Locality


def test_the_rule_is_presynaptic_activity_times_postsynaptic_change():
    layer = nn.Linear(3, 2, bias=False).double()
    pre, before, after = (torch.rand(4, n, generator=rng(n), dtype=torch.float64) for n in (3, 2, 2))
    after = after.flip(0)
    change = DifferentialHebb(scale=0.5)(layer, pre, before, post_after=after, reduction="sum")
    for i in range(2):
        for j in range(3):
            want = 0.5 * sum(pre[b, j].item() * (after[b, i] - before[b, i]).item() for b in range(4))
            assert change[i, j].item() == pytest.approx(want, rel=1e-12)


def sgd(learner):
    return torch.optim.SGD(learner.training.parameter_groups(learner.net_), lr=0.0)


def traces_of(learner, task, part):
    """One step with SGD; what was sent, and the activity before and after the nudge."""
    traces = learner.train_step_(task, part.x, part.y, sgd(learner), rng(3))
    return traces.sent, traces.settled.state, traces.after


@pytest.mark.parametrize(("generation_units", "completion_units"), [(0, 0), (7, 0), (7, 5)])
@pytest.mark.parametrize("nudge", [Nudge(steps=3), Nudge(steps=2, extrapolation=2.0)], ids=["mSTDP", "aSTDP"])
@pytest.mark.parametrize(
    "task", [CLASSIFY, GENERATE, Task("label", "partial"), Task("pixels", label_fraction=0.5)], ids=str
)
def test_every_synapse_can_compute_its_change_from_the_traces_of_its_two_neurons(
    task, nudge, generation_units, completion_units, train
):
    """A pre trace, a post trace, its learning rate, and whether the nudge is for it: nothing else is read."""
    learning_rates = {"classification": 0.3, "completion": 0.25, "label": 0.2, "generation": 0.15, "pixels": 0.1}
    training = AssociativeTraining(tasks=(CLASSIFY, GENERATE), learning_rates=learning_rates, feedback_lr_scale=0.5)
    learner = AssociativeNetwork((6,), generation_units, completion_units, nudge=nudge, training=training)
    learner.initialise_(train, rng())
    old = {name: part.clone() for name, part in learner.net_.named_parameters()}
    part = train[:20]
    sent, before, after = traces_of(learner, task, part)
    mine = "classification" if generation_units == 0 or task.target == "label" else "generation"
    if completion_units and task.target == "label" and task.clamped == "partial":
        mine = "completion"
    silent = {"completion": "classification1", "classification": "completion"}.get(mine)
    for pre, post in learner.net_.projections:
        weight, name = learner.net_.between(pre, post).weight, f"synapses.{pre}>{post}.weight"
        if pre == silent or (post != task.target and not post.startswith(mine)):
            assert torch.equal(weight, old[name]), "the nudge is not for this synapse"
            continue
        rate = learning_rates[post.rstrip("1")] / (nudge.beta * len(part))
        thresholds = rate * (after[post] - before[post]).sum(0)
        rate *= 0.5 if (pre, post) in (("label", "classification1"), ("label", "completion")) else 1
        for i in range(0, len(weight), 3):
            for j in range(0, weight.shape[1], 3):
                change = sum(sent[pre][b, j] * (after[post][b, i] - before[post][b, i]) for b in range(len(part)))
                assert (weight[i, j] - old[name][i, j]).item() == pytest.approx(rate * change.item(), abs=2e-7)
        bias = learner.net_.bias[post] - old[f"bias.{post}"]
        torch.testing.assert_close(bias, thresholds, rtol=1e-4, atol=1e-7)
    assert any(not torch.equal(part, old[name]) for name, part in learner.net_.named_parameters())


def test_in_a_fit_a_synapse_needs_its_own_traces_and_its_own_past(train):
    """Adam by hand, for single synapses, from the traces of their neurons over a whole fit."""
    training = AssociativeTraining(tasks=(CLASSIFY, GENERATE), epochs=2, batch=100)
    learner = AssociativeNetwork((6,), 7, training=training)
    traces, train_step_ = [], learner.train_step_

    def record(task, *others):
        seen = train_step_(task, *others)
        kept = [{k: s.double() for k, s in state.items()} for state in (seen.sent, seen.settled.state, seen.after)]
        traces.append((task.target, *kept))
        return seen

    learner.train_step_ = record
    learner.fit(train, rng=rng())
    fresh = AssociativeNetwork((6,), 7, training=training).initialise_(train, rng()).net_
    for pre, post, target in (("pixels", "classification1", "label"), ("generation", "pixels", "pixels")):
        mine = [kept for kept in traces if kept[0] == target]
        for i, j in ((0, 2), (3, 5), (5, 1)):
            weight, mean, square = fresh.between(pre, post).weight[i, j].item(), 0.0, 0.0
            for step, (_, sent, before, after) in enumerate(mine, start=1):
                change = (sent[pre][:, j] * (after[post][:, i] - before[post][:, i])).sum().item() / (0.5 * 100)
                mean, square = 0.9 * mean + 0.1 * change, 0.99 * square + 0.01 * change**2
                rate = LEARNING_RATES[post.rstrip("1")] * training.lr_decay ** ((step - 1) // 4)
                weight += rate * (mean / (1 - 0.9**step)) / ((square / (1 - 0.99**step)) ** 0.5 + 1e-8)
            assert learner.net_.between(pre, post).weight[i, j].item() == pytest.approx(weight, abs=1e-5)


# Learning


def test_every_epoch_says_how_it_went(train):
    rows, tracker = [], NullTracker()
    tracker.log = rows.append
    training = AssociativeTraining(tasks=(CLASSIFY,), epochs=2, batch=100)
    AssociativeNetwork((5,), training=training).fit(train, rng=rng(), tracker=tracker)
    assert [(row.stage, row.epoch) for row in rows] == [("STDP", 0), ("STDP", 1)]
    assert all(row.metrics for row in rows)


def test_with_two_hidden_layers_and_no_generation_it_classifies_but_does_not_generate(train):
    learning_rates = {"classification": 3e-3, "label": 3e-3, "generation": 0.0, "pixels": 0.0}
    training = AssociativeTraining(tasks=(CLASSIFY,), epochs=25, batch=20, learning_rates=learning_rates, lr_decay=0.93)
    learner = AssociativeNetwork((40, 30), settling=Settling(10, step_size=0.8), training=training).fit(
        train, rng=rng()
    )
    assert accuracy(learner, digits(seed=0)[1]) > 0.8
    with pytest.raises(Refusal, match="never learned to generate"):
        learner.generate(torch.tensor([1]), 1, rng())


def test_direct_synapses_join_every_classification_layer_with_pixels_and_label_and_learn_by_the_same_rule(
    train, tmp_path
):
    training = AssociativeTraining(
        tasks=(CLASSIFY,), learning_rates={"classification": 0.3, "label": 0.2}, feedback_lr_scale=0.5
    )
    learner = AssociativeNetwork((6, 5, 4), training=training, skip_connections=True)
    learner.initialise_(train, rng())
    layers = ["classification1", "classification2", "classification3"]
    up = {(layers[0], layers[1]), (layers[1], layers[2])}
    down = {(upper, lower) for lower, upper in up}
    chain = up | down
    skips = {pair for layer in layers for pair in (("pixels", layer), (layer, "label"), ("label", layer))}
    assert len(learner.net_.projections) == len(set(learner.net_.projections)) == len(chain | skips)
    assert set(learner.net_.projections) == chain | skips
    old = {name: part.clone() for name, part in learner.net_.named_parameters()}
    part = train[:20]
    sent, before, after = traces_of(learner, CLASSIFY, part)
    for pre, post in learner.net_.projections:
        rate = (0.2 if post == "label" else 0.3) / (learner.nudge.beta * len(part))
        rate *= 0.5 if pre == "label" or (pre, post) in down else 1
        want = rate * (after[post] - before[post]).T @ sent[pre]
        name = f"synapses.{pre}>{post}.weight"
        torch.testing.assert_close(learner.net_.get_parameter(name) - old[name], want, rtol=1e-3, atol=2e-7)
    kept = neuropil.load(learner.save(tmp_path / "network.safetensors"))
    assert torch.equal(kept.decision_function(part.x), learner.decision_function(part.x))


def test_missing_labels_train_generation_and_never_classification(train):
    training = AssociativeTraining(tasks=(CLASSIFY, GENERATE), epochs=2)
    learner = AssociativeNetwork((10,), 12, training=training).fit(Split.unlabelled(train.x, 10), rng=rng())
    fresh = AssociativeNetwork((10,), 12, training=training).initialise_(train, rng()).net_
    for pre, post in learner.net_.projections:
        same = torch.equal(learner.net_.between(pre, post).weight, fresh.between(pre, post).weight)
        assert same == (post in ("classification1", "label")), f"{pre}>{post}"


def test_of_samples_that_are_never_accepted_the_one_with_the_largest_margin_is_kept(monkeypatch):
    tries = iter([[5.0, 0.1], [3.0, 0.4], [4.0, 0.2], [4.5, 0.3]])  # of two images, one of which is accepted at once
    monkeypatch.setattr(Filling, "_once", lambda self, x, mask, labels: torch.tensor(next(tries))[-len(x) :, None])
    monkeypatch.setattr(Filling, "_label_margin", lambda self, x, labels: x[:, 0].clone())
    filling = Filling(None, None, rng(), Sampling(accept_margin=0.9, max_attempts=4))
    made = filling(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))
    assert made.images.flatten().tolist() == pytest.approx([5.0, 0.4])
    assert made.attempts.tolist() == [1, 4]


def test_the_fraction_classified_correctly_is_that_of_the_labelled_images():
    answers = torch.eye(3)[[0, 1, 2, 0]]
    after = {"pixels": answers, "label": answers, "hidden": answers / 2}
    settled = Settled(after, 5, torch.zeros(4), True, torch.full((4,), 5))
    task, statistics = Task("label", "all", pseudo_label_margin=0.1), EpochStatistics()
    traces = Traces(after, settled, after, after, 4, torch.full((4,), -1))  # all have learned from pseudo-labels
    statistics.add(task, traces)
    assert "train_accuracy" not in statistics.row()
    for labels in ([0, 2, 2, -1], [0, 1, 2, 2]):
        statistics.add(task, traces._replace(labels=torch.tensor(labels)))
    assert statistics.row()["train_accuracy"] == 5 / 7


def test_pseudo_labels_are_clear_answers_of_the_network(train):
    learner = AssociativeNetwork((20,), training=AssociativeTraining(tasks=(CLASSIFY,), epochs=20, batch=20)).fit(
        train, rng=rng()
    )
    labels = torch.full((60,), -1)
    labels[:20] = train.y[:20]
    x = train.x[:60]
    state, free, _ = initial_state(learner.net_, x.flatten(1), torch.zeros(60, 10), {"label": None}, "label")
    settled = learner.settling(learner.net_, state, free).state["label"]
    first, second = settled.topk(2, 1).values.T
    least = (first - second).median().item()
    found = pseudo_labels(learner.net_, learner.settling, x, labels, least)
    assert torch.equal(found[:20], train.y[:20])
    clear = (first - second >= least)[20:]
    assert torch.equal(found[20:], torch.where(clear, settled[20:].argmax(1), -1))
    none = torch.full((60,), -1)
    assert learner.train_step_(CLASSIFY, x, none, sgd(learner), rng()) is None
    task = Task("label", "all", pseudo_label_margin=least)
    traces = learner.train_step_(task, x, none, sgd(learner), rng())
    assert len(traces.settled.residual) == (first - second >= least).sum()


def test_images_are_augmented_when_the_label_is_the_target_and_not_when_pixels_are(train):
    learners = [
        AssociativeNetwork((10,), 12, training=AssociativeTraining(epochs=1, augment=augment)).fit(train, rng=rng())
        for augment in (None, lambda x, _: torch.zeros_like(x))
    ]
    first, second = (dict(learner.net_.named_parameters()) for learner in learners)
    for name in first:
        same = torch.equal(first[name], second[name])
        assert same == (
            not name.endswith((">classification1.weight", ">label.weight", ".classification1", ".label"))
        ), name


def test_masks_keep_a_random_fraction_or_a_half():
    masks = random_masks(4000, torch.Size([1, 8, 8]), rng())
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    four = halves(torch.Size([1, 8, 8]))
    assert four.sum(1).tolist() == [32] * 4
    assert torch.equal(four[0] + four[1], torch.ones(64))
    fraction = sum((masks == half).all(1).float().mean().item() for half in four)
    assert fraction == pytest.approx(0.5, abs=0.03)
    assert masks.mean().item() == pytest.approx(0.5 / 3 + 0.5 / 2, abs=0.03)
    assert random_masks(7, torch.Size([5]), rng()).shape == (7, 5)


def test_an_occlusion_hides_one_rectangle_of_a_quarter_to_three_quarters_of_each_side():
    hidden = 1 - rectangle_occlusions(4000, torch.Size([2, 8, 12]), rng()).view(4000, 2, 8, 12)
    assert set(hidden.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    height, width = hidden[:, 0].amax(2).sum(1), hidden[:, 0].amax(1).sum(1)
    assert torch.equal(hidden[:, 0].sum((1, 2)), height * width)  # as large as the box around it: a full rectangle
    assert (height.unique().tolist(), width.unique().tolist()) == ([2, 3, 4, 5, 6], [3, 4, 5, 6, 7, 8, 9])
    assert (hidden[:, 0].mean(0) > 0).all()  # every place is hidden sometimes
    for axis, size in ((1, 8), (2, 12)):
        edge = hidden[:, 0].amax(3 - axis).float()
        assert (edge[:, 0].mean() - edge[:, -1].mean()).abs() < 0.03, size  # as often at one end as at the other


def test_a_fraction_of_the_masks_is_all_but_a_rectangle():
    shape = torch.Size([1, 8, 8])
    assert torch.equal(random_masks(50, shape, rng()), random_masks(50, shape, rng(), occlusion_probability=0.0))
    hidden = 1 - random_masks(4000, shape, rng(), occlusion_probability=0.3).view(-1, 8, 8)
    box = hidden.amax(2).sum(1) * hidden.amax(1).sum(1)
    rectangles = hidden.sum((1, 2)) == box
    half = ((hidden[:, None] == halves(shape).view(4, 8, 8)).all(3).all(2)).any(1)
    all_missing = hidden.amin((1, 2)) == 1
    assert (rectangles & ~half & ~all_missing).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert half.float().mean().item() == pytest.approx(0.35, abs=0.03)


def test_no_rectangle_can_be_hidden_in_a_vector():
    with pytest.raises(Refusal, match=r"only images can be occluded by rectangles, got examples of shape \(4,\)"):
        random_masks(3, torch.Size([4]), rng(), occlusion_probability=0.2)


def test_vectors_out_of_range_are_refused(train):
    with pytest.raises(Refusal, match=r"pixels in \[0, 1\]"):
        AssociativeNetwork((5,)).fit(Split(torch.randn(20, 4, generator=rng()), torch.zeros(20).long(), 2), rng=rng())


def test_a_network_that_runs_away_is_refused_in_words(train):
    learning_rates = {"classification": 30.0, "label": 30.0, "generation": 1.0, "pixels": 1.0}
    training = AssociativeTraining(tasks=(CLASSIFY,), learning_rates=learning_rates, epochs=30)
    with pytest.raises(
        Refusal, match=r"diverged in epoch \d+: \d+% of its hidden activity is at 0 or 1; lower the learning rates"
    ):
        AssociativeNetwork((20,), training=training).fit(train, rng=rng())


# Resume


def test_a_fit_that_was_stopped_goes_on_bit_for_bit(tmp_path, train):
    training = AssociativeTraining(tasks=(CLASSIFY, GENERATE), epochs=4)

    def fit(run):
        return AssociativeNetwork((10,), 10, training=training).fit(train, rng=rng(), tracker=run)

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
