"""The loop that a recipe shows gives the same weights, bit for bit, as the learner that a library user calls."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from common import first_digits
from neuropil.errors import Refusal
from neuropil.models import (
    AssociationClassifier,
    AssociationTraining,
    Beside,
    Distort,
    FeatureClassifier,
    LocalLearning,
    PatchNormConv2d,
    SignedPower,
    Triangle,
    dense_body,
    init_examples_,
    init_patches_,
    stacked,
)
from neuropil.plasticity import KrotovHopfield, SoftHebb
from neuropil.recipes import cifar_softhebb, mnist_association, mnist_conv_krotov, mnist_krotov
from neuropil.runs import NullTracker


def seeded():
    return torch.Generator().manual_seed(3)


train = first_digits(230)


class Book(NullTracker):
    """Keeps what layers log of themselves."""

    def __init__(self):
        self.rows = []

    def log(self, row):
        if getattr(row, "stage", "").startswith("features "):
            self.rows.append((row.stage, row.epoch, row.metrics))


def assert_same(method, learner, train):
    """Both learn what the other learns, tell the same of it, and answer alike."""
    (rng, other), (said, told) = (seeded(), seeded()), (Book(), Book())
    torch.rand(1)  # the global generator is not theirs
    one = method(train, rng).learner.fit(train, rng=rng, tracker=said)
    two = learner(other).fit(train, rng=other, tracker=told)
    assert said.rows == told.rows
    assert all(metrics["relative_change"] > 0 for _, _, metrics in said.rows)
    states = [learned.network_.state_dict() for learned in (one, two)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert torch.equal(torch.rand(3, generator=rng), torch.rand(3, generator=other))


def test_dense_krotov_hopfield(train):
    config = mnist_krotov.Config(units=30, k=3, epochs=3, batch=50, readout_epochs=2)

    def library(rng):
        network = dense_body(train, 30, n=2.0)
        init_examples_(network, train, rng)
        rule = KrotovHopfield(p=2, k=3, delta=0.4, average=True, sparse=True)
        learning = LocalLearning({"hidden": rule}, epochs=3, batch=50, lr=0.3)
        return FeatureClassifier(network, learning=learning, readout=config.readout(0.0))

    assert_same(lambda *some: mnist_krotov.krotov_hopfield(config, *some), library, train)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_convolutional_krotov_hopfield(train, floor):
    settings = {"kernel": 3, "k": 3, "epochs": 2, "batch": 50, "patch_fraction": 0.3, "readout_epochs": 2}
    config = mnist_conv_krotov.Config(kernels=20, whitening_floor=floor, **settings)

    def library(rng):
        network = mnist_conv_krotov.network_for(config, train, 1.0)
        init_patches_(network, train, rng)
        rule = KrotovHopfield(p=2, k=3, delta=0.4, average=True)
        learning = LocalLearning({"conv1": rule}, epochs=2, batch=50, lr=0.3, patch_fraction=0.3)
        return FeatureClassifier(network, learning=learning, readout=config.readout())

    assert_same(lambda *some: mnist_conv_krotov.krotov_hopfield(config, *some), library, train)
    if floor:
        conv = PatchNormConv2d(1, 20, 3).whiten_(train, torch.Generator().manual_seed(config.seed), floor=floor)
        found = mnist_conv_krotov.network_for(config, train, 1.0).conv1
        for name, value in conv.named_buffers():
            assert torch.equal(found.get_buffer(name), value), name


def test_kernels_of_two_sizes_beside_each_other(train):
    """Each size starts and learns by itself; backprop has their architecture, without the root."""
    how = {"kernels": 9, "kernel": 5, "beside": (3,), "pooled_power": 0.5, "k": 3, "epochs": 2, "batch": 50}
    config = mnist_conv_krotov.Config(**how, patch_fraction=0.3, readout_epochs=2)

    class EachSize:
        def fit_(self, body, train, *, rng, tracker):
            for side, column in zip((5, 3), body):
                rules = {f"conv{side}x1": KrotovHopfield(p=2, k=3, delta=0.4, average=True)}
                learning = LocalLearning(rules, epochs=2, batch=50, lr=0.3, patch_fraction=0.3)
                learning.fit_(column, train, rng=rng, tracker=tracker)

    def library(rng):
        columns = {}
        for side in (5, 3):
            stage = {f"conv{side}x": PatchNormConv2d(1, 9, side), "act": Triangle(), "pool": nn.AdaptiveMaxPool2d(4)}
            columns[f"{side}x{side}"] = stacked({**stage, "power": SignedPower(0.5)})
            init_patches_(columns[f"{side}x{side}"], train, rng)
        return FeatureClassifier(Beside(OrderedDict(columns)), learning=EachSize(), readout=config.readout())

    assert_same(lambda *some: mnist_conv_krotov.krotov_hopfield(config, *some), library, train)
    network = mnist_conv_krotov.end_to_end(config, train, seeded()).learner.body
    assert [name for name, _ in network.named_modules() if name.endswith("power1")] == []
    with pytest.raises(Refusal, match="need different sides, got"):
        mnist_conv_krotov.Config(kernel=5, beside=(3, 5))


def test_deep_soft_hebb(train):
    config = cifar_softhebb.Config(channels=(4, 5, 6), epochs=2, max_images=100, n_augmented=0, readout_epochs=2)

    def library(rng):
        network = cifar_softhebb.soft_hebb(config, train, rng).learner.body
        names = ["conv1", "conv2", "conv3"]
        learning = LocalLearning(
            {name: SoftHebb(tau=tau, anti=True, normalise=True) for name, tau in zip(names, config.tau)},
            epochs=2,
            batch=10,
            max_images=100,
            lr=dict(zip(names, config.lr)),
            norm_rate=0.5,
            joint=True,
        )
        return FeatureClassifier(network, learning=learning, readout=config.readout())

    assert_same(lambda *some: cifar_softhebb.soft_hebb(config, *some), library, train)
    config = replace(config, whitening_floor=0.0)
    frozen, rng = cifar_softhebb.random_patches(config, train, seeded()).learner.body, seeded()
    by_hand = cifar_softhebb.network_for(config, train, rng, config.power)
    init_patches_(by_hand, train, rng)
    for name, value in by_hand.named_parameters():
        assert torch.equal(frozen.get_parameter(name), value), name


@pytest.mark.parametrize("receptive_field", [0, 5])
def test_association(train, receptive_field):
    layers = {"hidden": (80, 40), "columns": (4, 2)}
    config = mnist_association.Config(**layers, receptive_field=receptive_field, epochs=3, batch=50)

    def library(rng):
        field = receptive_field or None
        training = AssociationTraining(epochs=3, batch=50, lr=4e-3)
        return AssociationClassifier(**layers, receptive_field=field, k=1, n_send=4, training=training)

    assert_same(lambda *some: mnist_association.association(config, *some), library, train)


def test_augmented_copies_of_a_recipe_are_those_of_the_library(train):
    config = mnist_conv_krotov.Config(kernels=8, kernel=3, epochs=1, batch=50, n_augmented=1, readout_epochs=2)
    distort = Distort(rotation=10, scale=0.1, shear=0.1, shift=1.5)

    def library(rng):
        network = mnist_conv_krotov.network_for(config, train, 1.0)
        init_patches_(network, train, rng)
        readout = config.readout()
        return FeatureClassifier(network, readout=readout, n_augmented=1, augment=distort)

    assert_same(lambda *some: mnist_conv_krotov.random_patches(config, *some), library, train)
