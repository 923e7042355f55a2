"""Every setting of what learns is heard: with another value of one of them, another model is learned."""

from functools import partial
from inspect import signature

import pytest
import torch

from common import rng
from neuropil.associative import AssociativeNetwork, AssociativeTraining, DerivativeTargets, Nudge, Settling, Task
from neuropil.data import Split, digits
from neuropil.evaluate.robustness import L2, PGD, Boundary, HopSkipJump, Square
from neuropil.evaluate.robustness.attacks.gradient import margin
from neuropil.models import (
    AssociationClassifier,
    AssociationReadout,
    AssociationTraining,
    BackpropClassifier,
    BandedRidge,
    Beside,
    DeltaReadout,
    Distort,
    FeatureClassifier,
    LateralReadout,
    LeastSquares,
    LocalLearning,
    OnlineBackprop,
    OnlineClassifier,
    Prototypes,
    RidgeRegression,
    SpikeTimeTraining,
    SpikingClassifier,
    SupervisedTraining,
    dense_body,
    init_normal_,
)
from neuropil.plasticity import HardWTA, KrotovHopfield
from neuropil.sklearn import AssociationRuleClassifier, HebbianClassifier, STDPNetworkClassifier
from neuropil.spiking import LatencyEncoding

TRAIN = digits(seed=0)[0][:60]
UNLIKE = Split(TRAIN.x, TRAIN.y.where(torch.arange(60) % 3 > 0, -1), 10)  # a third has no label


def weights(model, train=TRAIN):
    """All that a model learns."""
    learned = model.fit(train, rng=rng())
    network = getattr(learned, "net_", None) or learned.network_
    return torch.cat([one.detach().double().flatten() for one in network.state_dict().values()])


def body():
    made = dense_body(TRAIN, 12, n=1.5)
    init_normal_(made, rng(1))
    return made


def associative(training=None, **parts):
    training = training or AssociativeTraining((Task("label", "all"), Task("pixels")), epochs=2, batch=20)
    return weights(AssociativeNetwork((8,), 6, training=training, **parts), UNLIKE)


def one_task(task):
    return associative(AssociativeTraining((task,), epochs=2, batch=20))


def supervised(training):
    return weights(BackpropClassifier(body(), training=training))


def local(learning):
    return weights(FeatureClassifier(body(), learning=learning, readout=SupervisedTraining(1, 60, min_steps=1)))


def spiking(training):
    return weights(SpikingClassifier((6,), encode=LatencyEncoding(), training=training, init_scale=0.5))


def answers(made):
    """Scores of a head on frozen features; a number in the place of its generator is a seed."""
    keywords = {name: rng(value or 0) if name == "rng" else value for name, value in made.keywords.items()}
    model = OnlineClassifier(body(), partial(made.func, **keywords)).fit(TRAIN, rng=rng())
    return model.decision_function(TRAIN.x)


def estimated(estimator):
    """Scores of an estimator of `neuropil.sklearn`."""
    rows = TRAIN.x.flatten(1).numpy()
    return torch.tensor(estimator.fit(rows, TRAIN.y.numpy()).decision_function(rows))


def scores(x):
    """Of a network that knows nothing."""
    return x.flatten(1) @ torch.randn(64, 10, generator=rng(2))


LOCAL = {"hidden": KrotovHopfield(p=2.0, k=3)}

# class: (what is made of an object of it, usual values, other values)
HEARD = {
    "AssociativeTraining": (
        AssociativeTraining,
        associative,
        {"tasks": (Task("label", "all"), Task("pixels")), "epochs": 2, "batch": 20, "learning_rates": {"label": 0.01}},
        {"tasks": (Task("pixels"), Task("label", "all")), "epochs": 3, "batch": 30, "learning_rates": {"label": 0.02},
         "feedback_lr_scale": 0.5, "lr_decay": 0.5, "augment": Distort(), "min_steps": 7},
    ),
    "Task, label": (
        Task,
        one_task,
        {"target": "label", "clamped": "partial", "pseudo_label_margin": 0.0, "occlusion_probability": 0.1},
        {"clamped": "all", "lr_scale": 0.5, "occlusion_probability": 0.9, "pseudo_label_margin": 0.3},
    ),
    "Task, pixels": (
        Task,
        one_task,
        {"target": "pixels"},
        {"label_fraction": 0.5, "lr_scale": 0.5, "occlusion_probability": 0.9},
    ),
    "Settling": (
        Settling,
        lambda settling: associative(settling=settling),
        {"max_iterations": 6, "tolerance": 0.2, "check_every": 1},
        {"max_iterations": 1, "step_size": 0.4, "momentum": 0.3, "tolerance": 0.02, "check_every": 3,
         "free_unit_gain": 0.5, "targets": DerivativeTargets()},
    ),
    "DerivativeTargets": (
        DerivativeTargets,
        lambda targets: associative(settling=Settling(6, tolerance=1e-4, targets=targets)),
        {"first": 1.2, "least": 0.5, "most": 2.0},
        {"first": 1.5, "least": 1.1, "most": 1.3},
    ),
    "Nudge": (
        Nudge,
        lambda nudge: associative(nudge=nudge),
        {"steps": 3, "extrapolation": 2.0},
        {"steps": 5, "beta": 0.3, "extrapolation": 3.0, "control": True},
    ),
    "AssociativeNetwork": (
        AssociativeNetwork,
        lambda model: weights(model, UNLIKE),
        {"classification_units": (8, 7), "generation_units": 6, "completion_units": 5, "training": AssociativeTraining(
            (Task("label", "all"), Task("pixels"), Task("label")), epochs=1, batch=30)},
        {"skip_connections": True, "init_gains": {"classification": 0.7}, "completion_units": 4, "generation_units": 7,
         "classification_units": (8, 6)},
    ),
    "AssociationTraining": (
        AssociationTraining,
        lambda training: weights(AssociationClassifier((40, 20), k=2, n_send=3, training=training)),
        {"epochs": 2, "batch": 20},
        {"epochs": 3, "batch": 30, "lr": 0.02, "adaptive": False, "min_steps": 7},
    ),
    "AssociationClassifier": (
        AssociationClassifier,
        weights,
        {"hidden": (80, 20), "columns": (4, 1), "receptive_field": 5, "k": 2, "n_send": 3,
         "training": AssociationTraining(2, 20)},
        {"hidden": (80, 30), "columns": (1, 1), "receptive_field": 4, "k": 1, "slope": 8.0, "n_send": 2,
         "unit_norm_input": False},
    ),
    "SupervisedTraining": (
        SupervisedTraining,
        supervised,
        {"epochs": 2, "batch": 20, "min_steps": 1},
        {"epochs": 3, "batch": 30, "lr": 0.01, "weight_decay": 0.1, "smoothing": 0.1, "min_steps": 7,
         "augment": Distort()},
    ),
    "LocalLearning": (
        LocalLearning,
        local,
        {"rules": LOCAL, "epochs": 2, "batch": 20, "min_steps": 1},
        {"rules": {"hidden": KrotovHopfield(p=2.0, k=2)}, "epochs": 3, "batch": 30, "lr": 0.05, "norm_rate": 0.5,
         "max_images": 40, "min_steps": 7, "reduction": "sum"},
    ),
    "RidgeRegression": (
        RidgeRegression,
        lambda readout: weights(FeatureClassifier(body(), readout=readout)),
        {"strengths": (1e-3, 1e-2, 1e-1, 1.0, 10.0)},
        {"strengths": (0.5,)},
    ),
    "BandedRidge": (
        BandedRidge,
        lambda readout: weights(FeatureClassifier(Beside(torch.nn.Flatten(), torch.nn.AvgPool2d(2)), readout=readout)),
        {"strengths": (1e-3, 1e-2, 1e-1, 1.0, 10.0)},
        {"strengths": (0.5,), "shares": (0.8, 0.2), "precision": "bfloat16"},
    ),
    "FeatureClassifier": (
        FeatureClassifier,
        weights,
        {"body": body(), "learning": LocalLearning(LOCAL, epochs=1), "augment": Distort(), "n_augmented": 1,
         "readout": SupervisedTraining(2, 20, min_steps=1)},
        {"learning": None, "n_augmented": 2, "augment": Distort(rotation=3.0), "min_examples": 150,
         "readout": RidgeRegression((0.1,))},
    ),
}  # fmt: skip
for model in OnlineClassifier, OnlineBackprop:
    rules = {"rules": LOCAL} if model is OnlineClassifier else {}
    HEARD[model.__name__] = (
        model,
        weights,
        {"body": body(), "lr": 0.1, "batch": 20, **rules},
        {"lr": 0.2, "batch": 15, **({"rules": {}, "head": DeltaReadout} if rules else {})},
    )
for head, other in (
    (Prototypes, {"per_class": 2}),
    (DeltaReadout, {"lr": 0.5}),
    (LateralReadout, {"iterations": 50, "momentum": 0.5}),
    (LeastSquares, {"ridge": 0.1}),
    (AssociationReadout, {"per_class": 10, "k": 2, "slope": 8.0, "lr": 0.2, "rng": None}),
):
    HEARD[head.__name__] = (partial(partial, head), answers, {"rng": 5} if "rng" in other else {}, other)
ELSEWHERE = {  # settings that say nothing in these cases
    "Task, label": {"target", "label_fraction"},
    "Task, pixels": {"target", "clamped", "pseudo_label_margin"},
    "AssociativeNetwork": {"settling", "nudge", "training", "sampling"},
    "AssociationClassifier": {"training"},
    "LocalLearning": {"joint", "patch_fraction"},
    "RidgeRegression": {"held_out"},
    "BandedRidge": {"held_out"},
    "FeatureClassifier": {"body"},
    "OnlineClassifier": {"body"},
    "OnlineBackprop": {"body", "consolidation"},
}
SMALL = {"epochs": 1, "batch_size": 20, "random_state": 0}
OTHERS = {"epochs": 2, "batch_size": 30, "random_state": 1, "learning_rate": 0.1}
for kind, usual, other in (
    (HebbianClassifier, {"n_units": 10},
     {"n_units": 11, "rule": HardWTA(), "C": 0.1, "passthrough": False, "max_iter": 2, "class_weight": {1: 9.0}}),
    (AssociationRuleClassifier, {"n_units": 30, "min_steps": 1}, {"n_units": 33, "k": 2, "slope": 4.0, "min_steps": 9}),
    (STDPNetworkClassifier, {"n_units": 10, "n_generation_units": 6, "min_steps": 1},
     {"n_units": 11, "n_generation_units": 0, "min_steps": 9}),
):  # fmt: skip
    HEARD[kind.__name__] = (kind, estimated, SMALL | usual, OTHERS | other)
    ELSEWHERE[kind.__name__] = {"verbose"}
HEARD["SpikeTimeTraining"] = (
    SpikeTimeTraining,
    spiking,
    {"epochs": 2, "batch": 20, "min_steps": 1, "lr": 0.05, "clip": 1.0, "weight_bump": 0.1, "late_weight": 0.1,
     "max_silent": 0.2},
    {"epochs": 3, "batch": 30, "lr": 0.01, "lr_time_constant": None, "augment": Distort(), "flip_probability": 0.2,
     "inverse_temperature": 3.0, "early_weight": 0.5, "late_weight": 0.5, "margin": 0.6, "clip": 0.01,
     "weight_bump": 0.2, "max_silent": 0.9, "min_steps": 7},
)  # fmt: skip
ATTACKS = {
    PGD: (
        {"forward": lambda x: scores(x), "steps": 3, "restarts": 1},
        {"steps": 4, "restarts": 2, "relative_step": 1.5, "stop_when_fooled": False, "losses": (margin,)},
    ),
    Square: (
        {"decision_function": lambda x: scores(x), "queries": 20},
        {"queries": 30, "initial_fraction": 0.2},
    ),
    Boundary: (
        {"predict": lambda x: scores(x).argmax(1), "queries": 60},
        {"queries": 80, "starts": TRAIN.pixels()[40:]},
    ),
    HopSkipJump: (
        {"predict": lambda x: scores(x).argmax(1), "queries": 60},
        {"queries": 80, "starts": TRAIN.pixels()[40:]},
    ),
}


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("name", HEARD)
def test_another_value_of_a_setting_makes_another_model(name):
    cls, learned, usual, other = HEARD[name]
    known = signature(cls.args[0] if isinstance(cls, partial) else cls).parameters
    assert other.keys() | ELSEWHERE.get(name, {"features", "classes"} & {*known}) == {*known}
    first = learned(cls(**usual))
    assert torch.equal(first, learned(cls(**usual)))
    for setting, value in other.items():
        found = learned(cls(**usual | {setting: value}))
        assert found.shape != first.shape or not torch.equal(found, first), setting


@pytest.mark.parametrize("cls", ATTACKS)
def test_another_value_of_a_setting_makes_another_attack(cls):
    usual, other = ATTACKS[cls]
    known = {"forward", "decision_function", "predict", "norm", "rng"}
    assert other.keys() == set(signature(cls).parameters) - known
    x = TRAIN.pixels()[:20]
    batch = Split(x, scores(x).argmax(1), 10)

    def found(**changed):
        return cls(norm=L2(), rng=rng(), **usual | changed)(batch, 0.05 if cls is PGD else 0.8)

    first = found()
    assert torch.equal(first, found())
    for setting, value in other.items():
        assert not torch.equal(found(**{setting: value}), first), setting
