"""No rule mixes a tensor of the CPU into work elsewhere, shown without a GPU: fake tensors whose device is not the CPU.

Fake tensors have shapes and devices but no numbers, and refuse to meet those of another device. So the two places
where a rule needs numbers are told what to find: no NaN, and that every sample chose units of its own. Layers that
leave out patches by their numbers (`PatchNormConv2d`) cannot be shown so.
"""

from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from neuropil.plasticity import BCM, HardWTA, Hebb, KrotovHopfield, Oja, Sanger, SoftHebb, chosen, engine, propose_

ELSEWHERE = torch.device("meta")
DENSE, CONV = partial(nn.Linear, 5, 20), partial(nn.Conv2d, 2, 20, 3)
LAYERS = {
    "dense": (DENSE, (6, 5)),
    "convolution": (CONV, (1, 2, 4, 5)),
    "reflect": (partial(CONV, padding=1, padding_mode="reflect"), (1, 2, 2, 3)),
    "groups": (partial(CONV, groups=2), (6, 2, 5, 5)),
    "transposed": (partial(nn.ConvTranspose2d, 2, 20, 3), (6, 2, 5, 5)),
}
RULES = [
    Hebb(),
    Oja(),
    Sanger(),
    BCM(),
    HardWTA(),
    SoftHebb(tau=0.5, anti=True, normalise=True),
    KrotovHopfield(k=3),
    KrotovHopfield(k=3, p=2.5, average=True, normalise=True, ranking_dtype=torch.bfloat16),
]


@pytest.fixture
def elsewhere(monkeypatch):
    """Makes fake tensors of that shape that live elsewhere."""
    for room in chosen, engine:
        monkeypatch.setattr(room, "check_finite", lambda layer, *parts, **_: sum(part.sum() for part in parts))
    monkeypatch.setattr(torch.Tensor, "unique_consecutive", lambda self, return_counts: (self, torch.ones_like(self)))
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()) as mode:
        yield lambda *shape: FakeTensor(mode, torch.empty(shape, device="meta"), ELSEWHERE)


def placed(make, elsewhere):
    layer = make(device="meta")
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(elsewhere(*parameter.shape)))
    return layer


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_rule_stays_on_its_device(rule, name, elsewhere):
    make, shape = LAYERS[name]
    layer = placed(make, elsewhere)
    change = rule(layer, elsewhere(*shape))
    assert change.device == ELSEWHERE
    propose_(layer, change)
    propose_(layer, change)
    assert layer.weight.grad.device == ELSEWHERE


@pytest.mark.parametrize("rule", [HardWTA(sparse=True), KrotovHopfield(k=3, sparse=True)], ids=repr)
def test_so_does_a_sparse_change(rule, elsewhere):
    layer = placed(DENSE, elsewhere)
    assert rule(layer, elsewhere(3, 5)).device == ELSEWHERE


def test_fake_tensors_refuse_to_mix(elsewhere):
    with pytest.raises(RuntimeError, match="same device"):
        elsewhere(3) + torch.zeros(3)
