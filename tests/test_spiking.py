"""Classifiers of spiking neurons: they learn, name by spikes alone as well, repeat themselves, and refuse nonsense."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from common import rng
from neuropil.data import digits, load, subset
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy
from neuropil.models import (
    AdaBelief,
    BackpropClassifier,
    Distort,
    SpikeTimeTraining,
    SpikingClassifier,
    SupervisedTraining,
)
from neuropil.models.spiking import flip_inputs
from neuropil.spiking import QIF, LatencyEncoding, LinearTimeEncoding, ThresholdEncoding
from neuropil.spiking.losses import first_spike_loss

INF = math.inf


def qif(units=40, **settings):
    """A classifier of QIF neurons."""
    usual = {
        "batch": 50,
        "lr": 2e-2,
        "lr_time_constant": None,
        "flip_probability": 0.0,
        "inverse_temperature": 10.0,
        "early_weight": 0.02,
        "late_weight": 0.2,
    }
    training = SpikeTimeTraining(**{**usual, "clip": 1.0, **settings})
    return SpikingClassifier((units,), encode=LinearTimeEncoding(2.5), neuron=QIF(), t_end=4.0, training=training)


@pytest.fixture(scope="module")
def fitted():
    train, test = load("yin_yang")
    return qif(epochs=8).fit(subset(train, 1000, 0), rng=rng(0)), test


# Learning


def test_qif_neurons_learn_and_ordinary_spikes_say_the_same(fitted):
    learner, test = fitted
    named, alone = learner.predict(test.x), learner.predict_from_spikes(test.x)
    assert (named == test.y).float().mean() > 0.85
    fired = learner.activity(test.x)[-1].sum(1) > 0
    assert fired.float().mean() > 0.9
    assert torch.equal(alone[fired], named[fired])  # a pseudospike never comes before an ordinary one
    assert (alone[~fired] == -1).all()


def test_the_first_to_fire_has_the_highest_score(fitted):
    learner, test = fitted
    times = learner.network_(learner.encode(test.x[:20])).times[..., 0]
    assert torch.equal(learner.decision_function(test.x[:20]), -times)
    assert torch.equal(learner.predict(test.x[:20]), times.argmin(1))


def test_a_silent_network_learns_digits_and_the_same_seed_learns_the_same():
    train, test = digits(seed=0)
    learner = SpikingClassifier((30,), training=SpikeTimeTraining(epochs=20, batch=100, lr=2e-2, min_steps=1))
    fits = [learner.fit(train, rng=rng(1)).decision_function(test.pixels()) for _ in range(2)]
    assert torch.equal(*fits)
    assert accuracy(learner, test) > 0.9
    ordinary = learner.predict_from_spikes(test.pixels())
    fired = ordinary >= 0
    assert torch.equal(ordinary[fired], learner.predict(test.pixels())[fired])
    assert sum(layer.sum() for layer in learner.activity(test.pixels())) > 0


def test_another_seed_gives_another_network():
    train = subset(load("yin_yang")[0], 100, 0)
    one, two, three = (qif(8, epochs=1, min_steps=4).fit(train, rng=rng(s)) for s in (3, 3, 4))
    for a, b, c in zip(*(learner.network_.parameters() for learner in (one, two, three))):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_training_keeps_the_phases_on_the_circle():
    train = digits(seed=0)[0][:100]
    learner = SpikingClassifier((5,), training=SpikeTimeTraining(epochs=6, batch=10, lr=1.0, min_steps=1))
    learner.fit(train, rng=rng(1))
    phases = torch.cat([layer.phase for layer in learner.network_.layers])
    assert ((phases == 0) | (phases == learner.neuron.period)).any()
    assert phases.min() >= 0
    assert phases.max() <= learner.neuron.period


# The loop against one written out by hand


def by_hand(network, train, encode, generator, *, epochs, rate, loss_of, clip=None, keep=False, flip=0.0):
    """Batches of 50, AdaBelief at 1e-2 times `rate(epoch, step)`, all at the length of the loop that is tested."""
    optimizer, step = AdaBelief(network.parameters(), lr=1e-2), 0
    for epoch in range(epochs):
        for index in torch.randperm(len(train), generator=generator).split(50):
            optimizer.param_groups[0]["lr"] = 1e-2 * rate(epoch, step)
            times = network(flip_inputs(encode(train.x[index]), flip, generator)).times[..., 0]
            optimizer.zero_grad()
            loss_of(times, train.y[index]).backward()
            if clip:
                nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            if keep:
                network.clamp_phases_()
            step += 1
    return network


def test_theta_neurons_follow_the_loop_of_the_paper():
    train, encode = subset(load("yin_yang")[0], 120, 0), LatencyEncoding(levels=10)
    training = SpikeTimeTraining(epochs=4, batch=50, lr=1e-2, flip_probability=0.05, early_weight=0.02, min_steps=1)
    learner = SpikingClassifier((8,), encode=encode, training=training)
    generator = rng(5)
    network = learner.initialised(train, generator)
    loss_of = lambda times, y: first_spike_loss(times, y, 2.0, early_weight=0.02)
    rate = lambda epoch, step: math.exp(-epoch / 4)
    by_hand(network, train, encode, generator, epochs=4, rate=rate, loss_of=loss_of, keep=True, flip=0.05)
    learner.fit(train, rng=rng(5))
    for ours, hand in zip(learner.network_.parameters(), network.parameters()):
        torch.testing.assert_close(ours, hand, rtol=1e-5, atol=1e-6)


def test_qif_neurons_follow_theirs():
    train = subset(load("yin_yang")[0], 120, 0)
    learner = qif(8, epochs=4, lr=1e-2, clip=0.1, min_steps=1)
    generator = rng(5)
    network = learner.initialised(train, generator)

    def loss_of(times, y):
        own = times[torch.arange(len(y)), y]
        called = 0.02 * ((own / 4.0).exp() - 1) + 0.2 * (own - 3.7).clamp(min=0)
        return nn.functional.cross_entropy(-10 * times, y) + called.mean()

    rate = lambda epoch, step: (1 + math.cos(math.pi * step / 12)) / 2
    by_hand(network, train, LinearTimeEncoding(2.5), generator, epochs=4, rate=rate, loss_of=loss_of, clip=0.1)
    learner.fit(train, rng=rng(5))
    for ours, hand in zip(learner.network_.parameters(), network.parameters()):
        torch.testing.assert_close(ours, hand, rtol=1e-4, atol=1e-4)


# From numbers to spikes


def test_encodings():
    assert LinearTimeEncoding(0.5)(torch.tensor([[0.25]])).tolist() == [[0.125, 0.0]]
    with pytest.raises(Refusal, match="needs span > 0, got span=0"):
        LinearTimeEncoding(0.0)
    x = torch.tensor([[[0.0, 127 / 255], [128 / 255, 1.0]]])
    assert ThresholdEncoding(time=0.5)(x).tolist() == [[INF, INF, 0.5, 0.5]]
    grey = torch.tensor([[0.0, 0.25, 1.0, 3.0]])
    assert LatencyEncoding(last=2.0)(grey).tolist() == [[INF, 1.5, 0.0, 0.0]]
    assert LatencyEncoding(last=2.0, levels=4)(torch.tensor([[0.0, 0.01, 0.25, 0.3, 0.99, 1.0, 3.0]])).tolist() == [
        [INF, 1.5, 1.5, 1.0, 0.0, 0.0, 0.0]
    ]
    above = torch.tensor([[0.25, 0.5, 0.75, 1.5]])
    assert LatencyEncoding(last=2.0, low=0.5, high=1.5)(above).tolist() == [[INF, INF, 1.5, 0.0]]
    assert LatencyEncoding(last=2.0, low=0.5, high=1.5, levels=2)(above).tolist() == [[INF, INF, 1.0, 0.0]]
    assert LinearTimeEncoding(2.0)(torch.tensor([[0.0, 0.25, 1.0]])).tolist() == [[0.0, 0.5, 2.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high", "levels"), [(0.0, 1.0, 4), (0.05, 1.0, 15), (0.031, 0.77, 11), (-3.0, 7.0, 9)])
def test_a_value_just_above_the_lowest_has_the_last_level(low, high, levels, dtype):
    x = torch.tensor([[low, low + torch.finfo(dtype).tiny]], dtype=dtype)  # above 0 also where subnormals are 0
    for _ in range(3):
        x[0, 1] = torch.nextafter(x[0, 1], x[0, 1] + 1)
        silent, last = LatencyEncoding(last=1.7, low=low, high=high, levels=levels)(x)[0].tolist()
        assert silent in (INF, last)  # what is next to `low` in float32 may be above it
        assert last == pytest.approx(1.7 * (levels - 1) / levels, rel=1e-6)


@pytest.mark.parametrize("levels", [0, 4])
def test_a_spike_gets_the_gradient_of_its_time_before_it_was_moved_to_a_level(levels):
    x = torch.tensor([[0.0, 0.1, 0.3, 0.95, 2.0]], requires_grad=True)
    times = LatencyEncoding(last=3.0, high=1.5, levels=levels)(x)
    times[times.isfinite()].sum().backward()
    assert x.grad.tolist() == [[0.0, -2.0, -2.0, -2.0, 0.0]]


def test_turned_inputs_are_turned_and_no_others():
    times = torch.full((50, 40), INF)
    times[:, :10] = 0.2
    after = flip_inputs(times.clone(), 0.1, rng(0))
    moved = after != times
    assert 150 < moved.sum() <= 200
    assert after[moved & times.isinf()].unique().tolist() == pytest.approx([0.2])
    assert after[moved & times.isfinite()].isinf().all()
    assert torch.equal(flip_inputs(times.clone(), 0.0, torch.Generator()), times)


def spot(height, width, y, x):
    image = torch.zeros(1, 1, height, width)
    image[0, 0, y, x] = 1
    return image


def centre(image):
    """(row, column) of the centre of mass, pixels."""
    image = image[0, 0] / image.sum()
    rows, columns = (torch.arange(size, dtype=torch.float32) for size in image.shape)
    return (image.sum(1) @ rows).item(), (image.sum(0) @ columns).item()


def test_an_image_that_is_not_distorted_stays_as_it_is():
    x = torch.rand(3, 2, 9, 12, generator=rng(0))
    still = Distort(rotation=0, scale=0, shear=0, shift=0, bend=0)(x, rng(1))
    torch.testing.assert_close(still, x, rtol=0, atol=1e-5)


def test_distortions_move_a_spot_as_far_as_they_say_and_no_farther():
    nothing = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0}
    image = spot(25, 41, 12, 30)  # 10 pixels right of the centre
    moves = [
        ("shift", 3.0, lambda down, right: down, 3.0),
        ("shift", 3.0, lambda down, right: right, 3.0),
        ("rotation", 30.0, lambda down, right: math.degrees(math.asin(down / 10)), 30.0),
        ("scale", 0.3, lambda down, right: math.log(1 + right / 10), 0.3),
    ]
    for name, size, measure, most in moves:
        generator, distort = rng(0), Distort(**{**nothing, name: size})
        found = []
        for _ in range(80):
            row, column = centre(distort(image, generator))
            found.append(measure(row - 12, column - 30))
        for signed in (found, [-one for one in found]):  # either way
            assert 0.8 * most < max(signed) < 1.1 * most, name
    sheared = [centre(Distort(**{**nothing, "shear": 0.5})(spot(41, 41, 30, 20), rng(k)))[1] - 20 for k in range(40)]
    assert 3.5 < max(sheared) < 5.5
    assert -5.5 < min(sheared) < -3.5
    bent = [centre(Distort(**nothing, bend=1.0)(image, rng(k)))[1] - 30 for k in range(60)]
    assert 0.4 < torch.tensor(bent).std() < 1.6


def test_both_baselines_learn_from_distorted_images_afresh_each_time():
    train = digits(seed=0)[0][:100]
    seen = []

    def watching(x, generator):
        seen.append(Distort()(x, generator))
        return seen[-1]

    training = SpikeTimeTraining(epochs=2, batch=100, min_steps=1, flip_probability=0.0, augment=watching)
    SpikingClassifier((5,), training=training).fit(train, rng=rng(0))
    rate = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    BackpropClassifier(rate, training=SupervisedTraining(epochs=2, batch=100, min_steps=1, augment=watching)).fit(
        train, rng=rng(0)
    )
    assert len(seen) == 4
    assert all(not torch.allclose(a.sum(0), b.sum(0)) for a, b in pairwise(seen))


# Refusals


def test_bad_settings_are_refused():
    for make in (
        lambda: SpikeTimeTraining(epochs=0),
        lambda: SpikeTimeTraining(lr=0.0),
        lambda: SpikeTimeTraining(lr_time_constant=0.0),
        lambda: SpikeTimeTraining(flip_probability=1.0),
        lambda: SpikeTimeTraining(margin=-1.0),
        lambda: SpikeTimeTraining(clip=0.0),
        lambda: LinearTimeEncoding(0.0),
        lambda: LatencyEncoding(low=1.0),
        lambda: LatencyEncoding(levels=-1),
        lambda: Distort(bend=-1.0),
        lambda: Distort()(torch.zeros(3, 64), rng(0)),
    ):
        with pytest.raises(Refusal, match="need"):
            make()
