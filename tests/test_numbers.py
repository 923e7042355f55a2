"""Every setting that has to be a number refuses what is none, in one line that names it."""

import inspect
import math
from fractions import Fraction
from importlib import import_module

import pytest
import torch
from torch import nn

from neuropil.associative import AssociativeTraining
from neuropil.errors import Refusal, _number
from neuropil.models import LocalLearning
from neuropil.plasticity import PairSTDP

ROOMS = [
    f"neuropil.{room}"
    for room in ("associative", "evaluate.robustness", "models", "plasticity", "spiking", "spiking.clock")
]
OTHERWISE = {"Plan", "Split", "SpikeSplit", "Learner", "Consolidation", "FeatureLayer", "Activity"}
SIZES = {
    "inputs",
    "outputs",
    "neurons",
    "features",
    "classes",
    "in_channels",
    "out_channels",
    "kernel_size",
    "padding",
    "sizes",
    "arguments",
}
REQUIRED = {
    "body": nn.Sequential(nn.Flatten()),
    "params": [torch.zeros(1)],
    "rule": PairSTDP(),
    "rules": {},
    "sizes": (2, 2),
    "neurons": 6,
    "classes": 3,
    "k": 1,
}


def numeric():
    """(class, setting, what it has to be) of all that is public in the rooms."""
    found = set()
    for room in ROOMS:
        module = import_module(room)
        for name in getattr(module, "__all__", ()):
            cls = getattr(module, name)
            if not inspect.isclass(cls) or name in OTHERWISE or inspect.isabstract(cls) or issubclass(cls, tuple):
                continue
            for setting, kind in getattr(cls.__init__, "__annotations__", {}).items():
                if _number(kind) and setting not in SIZES:
                    found.add((cls, setting, _number(kind)))
    return sorted(found, key=lambda one: (one[0].__name__, one[1]))


CASES = numeric()


def build(cls, **given):
    needed = {
        name: REQUIRED.get(name, 2)
        for name, how in inspect.signature(cls).parameters.items()
        if how.default is how.empty and how.kind not in (how.VAR_POSITIONAL, how.VAR_KEYWORD)
    }
    return cls(**needed | given)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}.{case[1]}")
def test_what_is_no_number_is_refused(case):
    cls, setting, what = case
    wrong = ["fast", math.nan, True, Fraction(1, 3), 10**400, *([1.5] if "whole" in what else [])]
    wrong += [(1, one) for one in wrong] if what.endswith("s") else []
    for value in wrong:
        with pytest.raises(Refusal, match=rf"^\w+ needs {what} as {setting}, got") as said:
            build(cls, **{setting: value})
        assert "\n" not in str(said.value)


def test_numbers_in_a_mapping_are_numbers():
    with pytest.raises(Refusal, match=r"LocalLearning needs a number as lr, got .*fast"):
        LocalLearning({"hidden": PairSTDP()}, lr={"hidden": "fast"})
    with pytest.raises(Refusal, match="AssociativeTraining needs numbers as learning_rates"):
        AssociativeTraining(learning_rates={"label": 0.1, "pixels": "fast"})


def test_there_are_many_of_them():
    assert len(CASES) > 150
