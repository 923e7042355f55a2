"""Examples without a label teach features and nothing else: they are no examples of class 0, nor are they left out."""

import pytest
import torch

from common import rng
from neuropil.associative import AssociativeNetwork, AssociativeTraining, Task
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.models import OnlineBackprop, OnlineClassifier, Prototypes, dense_body
from test_interrupted import LEARNERS, RECIPES, SOME, TRAIN


def associative(*tasks):
    return lambda: AssociativeNetwork((8,), 6, training=AssociativeTraining(tasks, epochs=2, batch=20))


AS_ZERO = Split(SOME.x, SOME.y.clamp(min=0), 10)
TAUGHT = ("competition", "layer by layer", "layers together")
TAKE_THEM = {
    **{name: LEARNERS[name] for name in TAUGHT},
    "classification": associative(Task("label", "all", pseudo_label_margin=0.0)),
    "generation": associative(Task("pixels")),
    "completion": associative(Task("pixels", "partial")),
}
REFUSE_THEM = {
    name: LEARNERS[name]
    for name in LEARNERS.keys() - {*TAUGHT, *RECIPES, "associative", "readout", "reference classifier"}
} | {
    "online": lambda: OnlineClassifier(dense_body(TRAIN, 12, n=1.5), Prototypes),
    "online backprop": lambda: OnlineBackprop(dense_body(TRAIN, 12, n=1.5), lr=0.1),
}


def learned(build, split):
    """All that a learner knows after it has seen `split`."""
    model = build().fit(split, rng=rng(3))
    state = (getattr(model, "net_", None) or model.network_).state_dict()
    return torch.cat([one.double().flatten() for one in state.values()])


@pytest.mark.parametrize("name", TAKE_THEM)
def test_examples_without_a_label_are_seen_and_are_not_of_class_0(name):
    found = learned(TAKE_THEM[name], SOME)
    assert not torch.equal(found, learned(TAKE_THEM[name], SOME.labelled()))
    assert not torch.equal(found, learned(TAKE_THEM[name], AS_ZERO))


@pytest.mark.parametrize("name", sorted(REFUSE_THEM))
def test_who_needs_labels_refuses_examples_without_one(name):
    with pytest.raises(Refusal, match=r"a label for every example, but 14 of 40 have none \(y = -1\)"):
        learned(REFUSE_THEM[name], SOME)


def test_frozen_features_have_nothing_to_learn_from_examples_without_a_label():
    assert torch.equal(*(learned(LEARNERS["readout"], split) for split in (SOME, SOME.labelled())))
