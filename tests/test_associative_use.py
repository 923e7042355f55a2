"""What associative networks answer: labels, generated images, completions; and what they refuse."""

import math
from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch

from common import first_digits, rng
from neuropil.associative import (
    CLASSIFY,
    CLASSIFY_PARTIAL,
    GENERATE,
    AssociativeNetwork,
    AssociativeTraining,
    Connectivity,
    Nudge,
    Sampling,
    Settling,
    Task,
)
from neuropil.associative.inference import class_scores
from neuropil.associative.sampling import sample_missing_
from neuropil.associative.tasks import spikes
from neuropil.data import digits
from neuropil.data.masks import image_mask
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy
from neuropil.plasticity import DifferentialHebb

train = first_digits(400)


@pytest.fixture(scope="module")
def learned(train):
    learning_rates = {"classification": 3e-3, "label": 3e-3, "generation": 1e-3, "pixels": 1e-2}
    training = AssociativeTraining(
        tasks=(CLASSIFY, CLASSIFY_PARTIAL, GENERATE), epochs=30, batch=25, learning_rates=learning_rates, lr_decay=0.93
    )
    return AssociativeNetwork((40,), 40, settling=Settling(10, step_size=0.8), training=training).fit(train, rng=rng())


# Learning and use


@pytest.mark.filterwarnings("ignore:.*samples had not settled")
def test_one_network_classifies_generates_and_completes(learned, train):
    test = digits(seed=0)[1]
    assert accuracy(learned, test) > 0.85
    drawn = learned.generate(torch.arange(10), 6, rng()).images
    assert drawn.shape == (60, 1, 8, 8)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    right = learned.predict(drawn) == torch.arange(10).repeat_interleave(6)
    assert right.float().mean() > 0.8
    upper = image_mask("top", (1, 8, 8))
    filled = learned.complete(test.x, upper, labels=test.y)
    assert torch.equal(filled[:, :, :4], test.x[:, :, :4])
    missed = lambda pixels: (pixels - test.x)[:, :, 4:].square().mean()
    assert missed(filled) < missed(train.x.mean(0, keepdim=True).expand_as(test.x))
    assert learned.predict(test.x, upper).eq(test.y).float().mean() > 0.4


def test_the_first_layer_is_there_for_others(learned, train):
    weight, bias = learned.net_.between("pixels", "classification1").weight, learned.net_.bias["classification1"]
    assert bias.abs().max() > 0
    torch.testing.assert_close(learned.network_(train.x), (train.x.flatten(1) @ weight.T + bias).clamp(0, 1))


def test_no_images_get_no_labels(learned):
    none = torch.empty(0, 1, 8, 8)
    assert learned.predict(none).shape == (0,)
    assert learned.predict(none, torch.ones(1, 8, 8)).shape == (0,)
    assert learned.decision_function(none).shape == (0, 10)


def test_the_gradient_of_the_scores_is_that_of_settled_activity(learned):
    """Against central differences of where it settles, in float64, away from the kinks of the activation."""
    exact = deepcopy(learned)
    exact.net_.double()
    exact.settling = Settling(400, step_size=0.8, tolerance=1e-14)
    x = digits(seed=0)[1].x[:6].double().requires_grad_(True)
    exact.forward(x)[:, 4].sum().backward()
    assert torch.allclose(exact.forward(x), exact.decision_function(x.detach()), atol=1e-10)
    for image, row, column in [(0, 2, 3), (1, 4, 4), (3, 5, 2), (5, 3, 5)]:
        move = torch.zeros_like(x[:1])
        move[0, 0, row, column] = 1e-6
        ends = [
            class_scores(exact.net_, exact.settling, x[image : image + 1].detach() + sign * move)[0, 4].item()
            for sign in (1, -1)
        ]
        assert x.grad[image, 0, row, column].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-7)


@pytest.mark.filterwarnings("ignore:.*samples had not settled")
def test_samples_of_what_is_missing_keep_what_is_given(learned, train):
    x, upper = train.x[:8], image_mask("top", (1, 8, 8))
    labels = torch.tensor([0, 1, 2, 3, -1, -1, -1, -1])
    first, second = (learned.complete(x, upper, labels=labels, rng=rng(k)) for k in (1, 2))
    assert torch.equal(first[:, :, :4], x[:, :, :4])
    assert torch.equal(second[:, :, :4], x[:, :, :4])
    assert (first - second).abs().flatten(1).amax(1).gt(0.05).all()


def test_two_samples_differ_and_a_generator_repeats_them(learned):
    first = learned.generate(torch.tensor([3]), 5, rng(1)).images
    assert (first[0] - first[1]).abs().max() > 0.05
    assert torch.equal(first, learned.generate(torch.tensor([3]), 5, rng(1)).images)
    assert not torch.equal(first, learned.generate(torch.tensor([3]), 5, rng(2)).images)


def test_without_a_generator_completion_is_a_settled_state(learned, train):
    x, mask = train.x[:7], torch.zeros(1, 8, 8)
    mask[:, :5] = 1
    a, b = (learned.complete(start, mask, labels=train.y[:7]) for start in (x, x * mask))
    assert torch.equal(a[:, :, 5:], b[:, :, 5:]), "what stands under the mask must not matter"
    net, pixels = learned.net_, a.flatten(1)
    free = (mask == 0).flatten().expand_as(pixels)
    sent = torch.where(free, 0.1 * pixels, pixels)
    hidden = net.bias["generation"] + sent @ net.between("pixels", "generation").weight.T
    hidden = (hidden + net.between("label", "generation").weight.T[train.y[:7]]).clamp(0, 1)
    drive = net.bias["pixels"] + hidden @ net.between("generation", "pixels").weight.T
    drive = (drive + net.between("label", "pixels").weight.T[train.y[:7]]).clamp(0, 1)
    torch.testing.assert_close(drive[free], pixels[free], rtol=0, atol=0.05)  # the tolerance of settling, amplified


def test_scores_are_the_settled_drives_of_the_label(learned, train):
    x, net = train.x[:4].flatten(1), learned.net_
    label = torch.zeros(4, 10)
    for _ in range(300):
        drive = net.bias["classification1"] + x @ net.between("pixels", "classification1").weight.T
        hidden = (drive + label @ net.between("label", "classification1").weight.T).clamp(0, 1)
        goal = net.bias["label"] + hidden @ net.between("classification1", "label").weight.T
        label = label + 0.2 * (goal.clamp(0, 1) - label)
    sharp = deepcopy(learned)
    sharp.settling = Settling(300, step_size=0.2, tolerance=1e-6)
    torch.testing.assert_close(sharp.decision_function(train.x[:4]), goal, rtol=0, atol=1e-4)


def test_in_use_activity_settles_ten_times_as_close_and_as_long(learned, train, monkeypatch):
    asked, each = [], Settling.each
    monkeypatch.setattr(Settling, "each", lambda self, *given: asked.append(self) or each(self, *given))
    class_scores(learned.net_, Settling(7, tolerance=0.02), train.x[:5])
    assert [(one.max_iterations, one.tolerance) for one in asked] == [(70, pytest.approx(0.002))]


def test_spikes_come_with_the_probability_that_is_the_activity(monkeypatch):
    drawn = spikes(torch.tensor([0.0, 0.25, 1.0]).expand(20000, 3), rng())
    torch.testing.assert_close(drawn.mean(0), torch.tensor([0.0, 0.25, 1.0]), atol=0.01, rtol=0)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.zeros(2))
    assert spikes(torch.tensor([0.0, 1e-9]), rng()).tolist() == [0, 1]  # never without activity


# Refusals


def test_an_unsettled_answer_comes_with_a_warning(learned, train):
    hasty = deepcopy(learned)
    hasty.settling = Settling(1, tolerance=1e-9)
    with pytest.warns(UserWarning, match=r"5 of 5 samples had not settled after 10 iterations: .* \(tolerance 1e-09\)"):
        hasty.predict(train.x[:5])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a, x: a.predict(x * 2), r"pixels in \[0, 1\], got 0 to 2; scale them"),
        (lambda a, x: a.predict(x * math.nan), r"pixels in \[0, 1\], got nan"),
        (lambda a, x: a.complete(x, torch.ones(1, 4, 4)), r"the shape of the images \(4, 1, 8, 8\).*got \(1, 4, 4\)"),
        (lambda a, x: a.complete(x, torch.full((1, 8, 8), 0.5)), r"1 \(known\) or 0 \(missing\)"),
        (lambda a, x: a.complete(x, torch.ones(1, 8, 8), labels=torch.full((4,), 10)), r"0 to 9, or -1 .*got 10 to 10"),
        (lambda a, x: a.complete(x, torch.ones(1, 8, 8), labels=torch.ones(3).long()), r"\(4,\), got \(3,\) in int64"),
        (lambda a, x: a.generate(torch.tensor([-2]), 1, rng()), r"got -2 to -2"),
        (lambda a, x: a.generate(torch.tensor([1.5]), 1, rng()), r"int64 .*in float32"),
        (lambda a, x: a.generate(torch.tensor([1]), 0, rng()), r"n >= 1 samples, got 0"),
    ],
)
def test_what_cannot_be_asked(ask, message, learned, train):
    with pytest.raises(Refusal, match=message):
        ask(learned, train.x[:4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AssociativeNetwork(()), "layers of 1 unit or more"),
        (lambda: AssociativeNetwork((5,), -1), "generation_units and completion_units >= 0"),
        (lambda: AssociativeNetwork((5,), 0, 4, training=AssociativeTraining()), "give generation units of their own"),
        (lambda: Sampling(n_rounds=0), "n_rounds and max_attempts >= 1"),
        (lambda: Sampling(n_resamples=-1), "n_resamples >= 0"),
        (lambda: Sampling(contrast=0), "contrast > 0"),
        (lambda: Task("pixels", pseudo_label_margin=0.5), "pseudo-labels need a task with the label as target"),
        (lambda: Task("label", pseudo_label_margin=1.0), r"a margin in \[0, 1\)"),
        (
            lambda: AssociativeNetwork((5,), init_gains={"label": -1.0}),
            "gain >= 0",
        ),
        (lambda: Settling(step_size=0), "0 < step_size <= 1"),
        (lambda: Settling(momentum=1.0), "0 <= momentum < 1"),
        (lambda: Settling(max_iterations=0), "max_iterations and check_every >= 1"),
        (lambda: Settling(tolerance=-1), "tolerance >= 0"),
        (lambda: Settling(free_unit_gain=2), "0 <= free_unit_gain <= 1"),
        (lambda: Nudge(beta=0), "beta > 0"),
        (lambda: Nudge(extrapolation=0), "extrapolation > 0"),
        (lambda: AssociativeTraining(tasks=()), "at least one task"),
        (lambda: AssociativeTraining(learning_rates={"clasification": 1.0}), "Did you mean 'classification'"),
        (lambda: AssociativeTraining(lr_decay=0), "0 < lr_decay <= 1"),
        (lambda: AssociativeTraining(feedback_lr_scale=-1), "feedback_lr_scale >= 0"),
        (lambda: AssociativeTraining(batch=0), "epochs and batch >= 1"),
        (lambda: Task("lable"), "Did you mean 'label'"),  # type: ignore[arg-type]
        (lambda: Task("pixels", "all"), "cannot be a target"),
        (lambda: Task("label", lr_scale=0.0), "lr_scale > 0"),
        (lambda: Task("pixels", label_fraction=2.0), "0 <= label_fraction <= 1"),
        (lambda: Task("pixels", occlusion_probability=1.5), "0 <= occlusion_probability <= 1"),
        (lambda: DifferentialHebb(0), "scale > 0"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(Refusal, match=message):
        make()


# Samples


def pair_of_pixels(n):
    """Two pixels at rest at 1/4; each spike lifts the other to 3/4; nothing is said by free ones."""
    net = Connectivity({"pixels": 2, "generation": 1}, [("pixels", "generation"), ("generation", "pixels")])
    net.between("pixels", "generation").weight.fill_(0.5)
    net.between("generation", "pixels").weight.fill_(1.0)
    net.bias["pixels"].fill_(0.25)
    state = {"pixels": torch.zeros(n, 2), "generation": torch.zeros(n, 1)}
    return net, state, {"pixels": torch.ones(n, 2), "generation": None}


QUIET = Settling(50, step_size=1.0, tolerance=1e-6, check_every=1, free_unit_gain=0.0)


def test_pixels_that_fire_later_know_of_those_that_fired_before():
    """So both fire with probability 3/16, not with 1/16."""
    net, state, free = pair_of_pixels(20000)
    sample_missing_(net, QUIET, state, free, sampling=Sampling(n_rounds=2, n_resamples=0), rng=rng())
    assert shares(state["pixels"][:, 0]) == pytest.approx([9 / 16, 1 / 4, 3 / 16], abs=0.012)


def shares(shown):
    """How often none, one and both of the pixels fired, from what one of them shows in the end."""
    return [shown.sub(grey).abs().lt(1e-5).float().mean().item() for grey in (0.25, 0.75, 1.0)]


def test_resampling_hides_pixels_and_samples_them_again_from_those_that_stay():
    """A Markov chain over none, one or both; each pixel is hidden with 1/4, those hidden together fire together."""
    net, state, free = pair_of_pixels(20000)
    sample_missing_(net, QUIET, state, free, sampling=Sampling(n_rounds=2, n_resamples=3), rng=rng())
    both = torch.tensor([9, 6, 1]) / 16  # hidden together, each fires with 1/4
    one = torch.tensor([[3 / 4, 1 / 4, 0], [3 / 8, 2 / 8, 3 / 8], [0, 1 / 4, 3 / 4]])  # one of the two is hidden
    step = 9 / 16 * torch.eye(3) + 6 / 16 * one + 1 / 16 * both
    want = torch.tensor([9, 4, 3]) / 16 @ torch.linalg.matrix_power(step, 3)
    assert shares(state["pixels"][:, 0]) == pytest.approx(want.tolist(), abs=0.012)


def test_a_pixel_that_is_sampled_again_has_lost_its_value():
    """One sweep leads half the way from where a pixel starts, here from 0 towards 1/2, so each fires with 1/4."""
    net, state, free = pair_of_pixels(20000)
    net.bias["pixels"].fill_(0.5)
    net.between("generation", "pixels").weight.zero_()
    lazy = replace(QUIET, max_iterations=1, step_size=0.5)
    sample_missing_(net, lazy, state, free, sampling=Sampling(n_rounds=1, n_resamples=4), rng=rng())
    fired = 2 * state["generation"]  # how many of the two: the unit above adds up halves
    assert fired.mean().item() / 2 == pytest.approx(1 / 4, abs=0.009)  # four standard errors


def test_contrast_is_the_slope_with_which_pixels_are_shown():
    shown = []
    for contrast in (0.5, 1.5):
        net, state, free = pair_of_pixels(300)
        sample_missing_(net, QUIET, state, free, sampling=Sampling(n_rounds=2, contrast=contrast), rng=rng())
        shown.append(state["pixels"][:, 0])
    pale, strong = (sorted(set(values.mul(1e4).round().div(1e4).tolist())) for values in shown)
    assert pale == pytest.approx([0.375, 0.625, 0.875])  # drives of 1/4, 3/4 and 5/4
    assert strong == pytest.approx([0.125, 0.875, 1.0])


@pytest.mark.filterwarnings("ignore:.*samples had not settled")
def test_a_sample_is_accepted_once_the_network_classifies_it_as_requested(learned):
    asked = torch.arange(10).repeat_interleave(4)
    lead = lambda images: lead_by_hand(learned.decision_function(images), asked)
    first = learned.generate(torch.arange(10), 4, rng(), sampling=Sampling(n_rounds=4, n_resamples=1))
    least = lead(first.images).median().item()
    sampling = Sampling(n_rounds=4, n_resamples=1, accept_margin=least, max_attempts=8)
    made = learned.generate(torch.arange(10), 4, rng(), sampling=sampling)
    assert first.attempts.eq(1).all()
    again = lead(first.images) < least
    assert again.any()
    assert torch.equal(made.attempts > 1, again)
    assert torch.equal(made.images[~again], first.images[~again])
    assert ((lead(made.images) >= least) | (made.attempts == 8)).all()
    assert (made.attempts[again] < 8).any()  # one that is accepted is not sampled again
    assert (lead(made.images) >= lead(first.images)).all()
    assert torch.equal(made.images, learned.generate(torch.arange(10), 4, rng(), sampling=sampling).images)


@pytest.mark.filterwarnings("ignore:.*samples had not settled")
def test_every_setting_of_samples_is_heard(learned):
    usual = {"n_rounds": 4, "n_resamples": 1, "contrast": 1.0, "accept_margin": 0.9, "max_attempts": 2}
    others = {"n_rounds": 5, "n_resamples": 0, "contrast": 0.5, "accept_margin": None, "max_attempts": 3}
    others["max_iterations"] = 1
    assert others.keys() == {item.name for item in fields(Sampling)}
    made = lambda **how: learned.generate(torch.arange(10), 5, rng(), sampling=Sampling(**usual | how)).images
    first = made()
    for name, value in others.items():
        assert not torch.equal(made(**{name: value}), first), name


def lead_by_hand(scores, labels):
    others = [max(row[k] for k in range(10) if k != label) for row, label in zip(scores.tolist(), labels.tolist())]
    return scores[range(len(labels)), labels] - torch.tensor(others)


# Parts


def test_completion_units_classify_what_is_not_whole_and_classification_units_what_is(train):
    training = AssociativeTraining(tasks=(CLASSIFY, CLASSIFY_PARTIAL), epochs=6, batch=50)
    learner = AssociativeNetwork((20,), 0, 30, settling=Settling(60, tolerance=1e-6), training=training).fit(
        train, rng=rng()
    )
    net, x, mask = learner.net_, train.x[:6], torch.ones(6, 1, 8, 8)
    mask[3:, :, :4] = 0
    found = learner.decision_function(x, mask)
    torch.testing.assert_close(found[:3], learner.decision_function(x[:3]), rtol=0, atol=1e-6)
    for rows, name in ((slice(0, 3), "classification1"), (slice(3, 6), "completion")):
        seen, label = (x * mask)[rows].flatten(1), torch.zeros(3, 10)
        for _ in range(200):
            hidden = net.bias[name] + seen @ net.between("pixels", name).weight.T
            hidden = (hidden + label @ net.between("label", name).weight.T).clamp(0, 1)
            drive = net.bias["label"] + hidden @ net.between(name, "label").weight.T
            label = label + 0.3 * (drive.clamp(0, 1) - label)
        torch.testing.assert_close(found[rows], drive, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*samples had not settled")
def test_a_network_that_generates_classifies_the_known_part_and_its_own_completion(train):
    training = AssociativeTraining(tasks=(CLASSIFY, CLASSIFY_PARTIAL, GENERATE), epochs=3)
    learner = AssociativeNetwork((20,), 15, 25, training=training).fit(train, rng=rng())
    blind = AssociativeNetwork((20,), 15, 25, training=AssociativeTraining(tasks=(CLASSIFY, CLASSIFY_PARTIAL)))
    blind.initialise_(train, rng())
    blind.net_.load_state_dict({name: learner.net_.state_dict()[name] for name in blind.net_.state_dict()})
    x, mask = train.x[:6], torch.ones(6, 1, 8, 8)
    mask[2:, :, :4] = 0
    first, imagined = blind.decision_function(x, mask), learner.predict(learner.complete(x, mask))
    found = learner.decision_function(x, mask)
    assert torch.equal(found[:2], first[:2])
    second = found[2:] - first[2:].clamp(0, 1)
    assert torch.equal(second.argmax(1), imagined[2:])
    assert 0 < second.max() <= 0.5


def test_one_half_is_classified_better_by_completion_units_than_by_the_classification_units(train):
    test, upper = digits(seed=0)[1], image_mask("top", (1, 8, 8))
    right = []
    for completion_units, tasks in ((0, (CLASSIFY,)), (40, (CLASSIFY, CLASSIFY_PARTIAL))):
        training = AssociativeTraining(
            tasks=tasks, epochs=25, batch=25, learning_rates={"classification": 3e-3, "completion": 3e-3}
        )
        learner = AssociativeNetwork((40,), 0, completion_units, training=training).fit(train, rng=rng())
        right.append(learner.predict(test.x, upper).eq(test.y).float().mean().item())
    assert right[1] > right[0] + 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.4])
def test_an_image_has_the_same_scores_alone_and_among_others(learned, train, momentum):
    x = train.x[:40]
    upper = image_mask("top", x.shape[1:], rng()).expand(x.shape)
    some = train.y[:40].where(torch.arange(40) % 3 > 0, -1)
    learned = deepcopy(learned)
    learned.settling = replace(learned.settling, momentum=momentum)
    for answer in (
        lambda part: learned.decision_function(x[part]),
        lambda part: learned.decision_function(x[part], upper[part]),
        lambda part: learned.complete(x[part], upper[part]),
        lambda part: learned.complete(x[part], upper[part], labels=some[part]),  # some labels are given
    ):
        alone = torch.cat([answer(slice(k, k + 1)) for k in range(len(x))])
        torch.testing.assert_close(answer(slice(None)), alone, rtol=0, atol=2e-6)


def test_no_images_have_an_empty_answer(learned, train):
    x, mask = train.x[:0], torch.zeros(1, 8, 8)
    assert learned.decision_function(x).shape == learned.decision_function(x, mask).shape == (0, learned.classes_)
    assert learned.predict(x).shape == (0,)
    assert learned.forward(x).shape == (0, learned.classes_)
    assert learned.complete(x, mask).shape == learned.complete(x, mask, rng=rng()).shape == x.shape
    assert learned.generate(torch.zeros(0, dtype=torch.int64), 3, rng()).images.shape == x.shape
