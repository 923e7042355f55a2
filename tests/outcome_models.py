"""Outcomes of learners on awkward examples: unequal classes, an uneven last batch, missing labels, oblong images."""

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import nn

from common import rng
from neuropil.associative import (
    CLASSIFY,
    CLASSIFY_PARTIAL,
    GENERATE,
    AssociativeNetwork,
    AssociativeTraining,
    DerivativeTargets,
    Nudge,
    Sampling,
    Settling,
    Task,
)
from neuropil.data import Split, digits
from neuropil.data.masks import image_mask
from neuropil.models import (
    AssociationClassifier,
    AssociationReadout,
    AssociationTraining,
    BackpropClassifier,
    BandedRidge,
    Beside,
    CompetitiveLearning,
    CompetitiveUnits,
    DeltaReadout,
    Distort,
    FeatureClassifier,
    LateralReadout,
    LeastSquares,
    LocalLearning,
    Mirror,
    OnlineBackprop,
    OnlineClassifier,
    PatchNormConv2d,
    Prototypes,
    RidgeRegression,
    SpikeTimeTraining,
    SpikingClassifier,
    SupervisedTraining,
    Triangle,
    VotingClassifier,
    Winner,
    dense_body,
    init_examples_,
    init_patches_,
    stacked,
)
from neuropil.plasticity import HardWTA, KrotovHopfield, SoftHebb
from neuropil.spiking import LIF, QIF, LatencyEncoding, LinearTimeEncoding

SHORT = SupervisedTraining(epochs=2, batch=17, min_steps=9, smoothing=0.07)
SPIKES = SpikeTimeTraining(epochs=2, batch=17, min_steps=9, augment=Mirror(), clip=0.9, late_weight=0.01)


def oblong(part, n, missing=0):
    """(n, 1, 8, 7) digits, many of the low classes and few of the high; the first `missing` lack their labels."""
    split = digits(seed=0)[part]
    order = (split.y + torch.arange(len(split)) % 560).argsort(stable=True)[:n]
    order = order[torch.randperm(n, generator=rng(5))]
    y = split.y[order].clone()
    y[:missing] = -1
    return Split(split.x[order][..., :7].clone(), y, 10)


TRAIN, TEST, PARTLY = oblong(0, 61), oblong(1, 23), oblong(0, 61, missing=11)


def named(**layers):
    return nn.Sequential(OrderedDict(layers))


def dense(power=2.0):
    body = dense_body(TRAIN, 13, n=power)
    init_examples_(body, TRAIN, rng(2))
    return body


def kernels():
    torch.manual_seed(3)
    below = PatchNormConv2d(1, 6, 3, padding=1)
    body = nn.Sequential(below, Triangle(), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, stride=2, bias=False), nn.ReLU())
    init_patches_(body, TRAIN, rng(2))
    return body


def beside():
    torch.manual_seed(3)
    sizes = [stacked({"conv": nn.Conv2d(1, 3, side, padding=1), "pool": nn.MaxPool2d(2)}) for side in (3, 4)]
    return nn.Sequential(Beside(*sizes))


def local(*names, **how):
    rules = dict(zip(names, (KrotovHopfield(k=3, delta=0.3), SoftHebb(tau=0.3))))
    return LocalLearning(rules, **{"epochs": 2, "batch": 17, "lr": 0.03, "min_steps": 9, **how})


def features(body, learning, **more):
    return FeatureClassifier(body, learning=learning, readout=more.pop("readout", SHORT), **more)


FEATURES = {
    "dense": lambda: features(dense(), local("hidden")),
    "dense, sums, norms": lambda: features(dense(1.0), local("hidden", reduction="sum", norm_rate=0.5, lr=1e-3)),
    "dense, few images": lambda: features(dense(), local("hidden", max_images=31)),
    "kernels, one by one": lambda: features(kernels(), local("0", "3"), n_augmented=1, augment=Distort(bend=1.0)),
    "kernels, together": lambda: features(kernels(), local("0", "3", joint=True, reduction="sum", lr=1e-4)),
    "kernels, few patches": lambda: features(kernels(), local("0", patch_fraction=0.37), readout=RidgeRegression()),
    "kernels, rates": lambda: features(kernels(), local("0", "3", lr={"0": 0.01, "3": 0.1}), min_examples=100,
                                       augment=Mirror()),
    "two bands": lambda: features(beside(), None, readout=BandedRidge((0.3, 0.7), (0.03, 0.3), held_out=0.3)),
    "two sizes": lambda: features(beside(), None, readout=RidgeRegression(strengths=(0.03, 0.3), held_out=0.3)),
}  # fmt: skip
SUPERVISED = {
    "backprop": lambda: BackpropClassifier(kernels(), training=replace(SHORT, augment=Mirror())),
    "backprop, as they are": lambda: BackpropClassifier(dense(1.0), training=SHORT, standardise=False),
    "association": lambda: AssociationClassifier((40, 20), columns=(4, 1), receptive_field=5, k=1, n_send=3,
                                                 training=AssociationTraining(2, 17, min_steps=9)),
    "association, plain": lambda: AssociationClassifier((20,), k=2, unit_norm_input=False,
                                                        training=AssociationTraining(2, 17, adaptive=False)),
    "theta": lambda: SpikingClassifier((6,), training=SPIKES, init_scale=1.3),
    "qif": lambda: SpikingClassifier((6, 5), neuron=QIF(), encode=LatencyEncoding(levels=4), training=SPIKES),
    "lif": lambda: SpikingClassifier((6,), neuron=LIF(), encode=LinearTimeEncoding(), training=SPIKES),
}  # fmt: skip
ASKED = {
    "plain": AssociativeNetwork((9,), 6, 5, training=AssociativeTraining((CLASSIFY, GENERATE), epochs=2, batch=17)),
    "momentum": AssociativeNetwork(
        (9, 7), 6, settling=Settling(momentum=0.2, max_iterations=40, free_unit_gain=0.2), skip_connections=True,
        nudge=Nudge(control=True, steps=4, beta=0.3),
        training=AssociativeTraining((CLASSIFY, GENERATE, CLASSIFY_PARTIAL), epochs=2, batch=17, min_steps=9),
    ),
    "pseudo-labels": AssociativeNetwork(
        (9,), 6, settling=Settling(step_size=0.1, max_iterations=9),
        training=AssociativeTraining(
            (Task("label", "all", pseudo_label_margin=0.01),
             Task("pixels", label_fraction=0.6, lr_scale=0.5, occlusion_probability=0.3)),
            epochs=2, batch=17, lr_decay=0.7, feedback_lr_scale=0.2, learning_rates={"label": 0.005},
        ),
    ),
    "targets": AssociativeNetwork(
        (9,), settling=Settling(targets=DerivativeTargets(), max_iterations=40), init_gains={"classification": 0.7},
        training=AssociativeTraining((CLASSIFY,), epochs=1, batch=17, augment=Mirror()),
    ),
}  # fmt: skip
HEADS = {
    "prototypes": lambda i, k: Prototypes(i, k, per_class=3),
    "delta": lambda i, k: DeltaReadout(i, k, lr=0.3),
    "association": lambda i, k: AssociationReadout(i, k, per_class=4, k=2, rng=rng(1)),
    "least squares": lambda i, k: LeastSquares(i, k, ridge=0.03),
    "lateral": lambda i, k: LateralReadout(i, k, iterations=23),
}


def answers(model):
    """What a fitted model is and says, and says again with other labels."""
    yield [value for value in model.network_.state_dict().values() if value.is_floating_point()]
    yield model.decision_function(TEST.x)
    yield model.refit_readout(TRAIN[:31], rng=rng(6)).decision_function(TEST.x)


def fitted(models, *splits):
    for name, make in models.items():
        for k, split in enumerate(splits):
            yield f"{name}, {k}", answers(make().fit(split, rng=rng(4)))


def voting():
    bodies = {
        "units": (
            named(flat=nn.Flatten(), hidden=CompetitiveUnits(56, 11, excitation=1.6, total=23.0)),
            CompetitiveLearning(epochs=2),
        ),
        "winner": (named(**dict(dense(1.0).named_children()), winner=Winner()), None),
    }
    bodies["units"][0].hidden.init_(rng(7))
    for name, (body, learning) in bodies.items():
        for most in 10_000, 29:
            yield (
                f"{name}, {most}",
                answers(VotingClassifier(body, learning=learning, max_labelled=most).fit(PARTLY, rng=rng(4))),
            )


def online():
    def stream(model):
        for label in range(10):
            part = TRAIN[TRAIN.y == label]
            for batch in part.batches(min(4, len(part))):
                model = model.partial_fit(batch.x, batch.y, classes=10)
        return model.decision_function(TEST.x), list(model.network_.state_dict().values())

    for name, head in HEADS.items():
        frozen = nn.Sequential(*dense(1.0), nn.BatchNorm1d(13), nn.Dropout(0.5))
        yield f"{name}, frozen", stream(OnlineClassifier(frozen, head))
        yield (
            f"{name}, in one go",
            OnlineClassifier(dense(), head, batch=7).fit(TRAIN, rng=rng(4)).decision_function(TEST.x),
        )
        yield f"{name}, learns on", stream(OnlineClassifier(dense(), head, rules={"hidden": HardWTA()}, lr=0.01))
    for strength in 0.0, 7.0:
        model = OnlineBackprop(dense(1.0), lr=0.03, consolidation=strength)
        yield f"backprop, {strength}", model.fit(TRAIN, rng=rng(4)).decision_function(TEST.x)


def associative():
    for name, model in ASKED.items():
        for k, split in enumerate((TRAIN, PARTLY)):
            fit = model.fit(split, rng=rng(4))
            yield f"{name}, {k}", dict(fit.net_.state_dict())
            yield f"{name}, {k}, scores", fit.decision_function(TEST.x)
            mask = image_mask("top", (1, 8, 7))
            yield f"{name}, {k}, partly seen", fit.decision_function(TEST.pixels(), mask)
            if fit.generates:
                fit.sampling = Sampling(n_rounds=3, n_resamples=2, accept_margin=0.4, max_attempts=2, max_iterations=37)
                yield f"{name}, {k}, made", fit.generate(torch.arange(7), 2, rng(8)).images
                yield f"{name}, {k}, completed", fit.complete(TEST.pixels()[:5], mask, labels=TEST.y[:5], rng=rng(9))


CASES = {
    "features": lambda: fitted(FEATURES, PARTLY),
    "supervised": lambda: fitted(SUPERVISED, TRAIN),
    "votes": voting,
    "online": online,
    "associative": associative,
}
