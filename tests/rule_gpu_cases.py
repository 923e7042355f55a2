"""The Triton kernels of rules against the CPU's; `test_rule_kernels.py` runs this file in a process of its own.

NEUROPIL_TEST_DEVICE says where: on a GPU, or "cpu" for Triton's interpreter, which TRITON_INTERPRET=1 turns on.
"""

import os
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from neuropil.errors import Diverged, Refusal
from neuropil.plasticity import Chosen, HardWTA, KrotovHopfield, Plan, Rule, SoftHebb, first_and_kth

DEVICE = torch.device(os.environ["NEUROPIL_TEST_DEVICE"])
TRITON = Plan(triton=True)
KH = KrotovHopfield(k=3)
KINDS = {torch.float64: 1e-12, torch.float32: 1e-5}  # and how far the largest entry may be off, relative to it


class Rivals(Rule):
    """A rule of one's own: the runner-up unlearns, and the decay knows the bias."""

    def post(self, u):
        """A competition by cosines."""
        units, finite = first_and_kth(u, 2)
        return Chosen(units, gains=(1.0, -0.3), decay=u, finite=finite)


RULES = {
    "HardWTA": HardWTA(),
    "KH": KH,
    "KH p=2, average": replace(KH, p=2.0, k=2, average=True),
    "KH p=4.5, normalise": replace(KH, p=4.5, delta=0.7, normalise=True),
    "SoftHebb": SoftHebb(tau=0.7),
    "SoftHebb anti": SoftHebb(tau=0.3, anti=True, normalise=True),
    "own": Rivals(),
}


def drawn(layer, shape, seed=0):
    """The layer with N(0, 1) weights, and an input."""
    rng = torch.Generator().manual_seed(seed)
    for part in layer.parameters():
        part.data = torch.randn(part.shape, generator=rng, dtype=torch.float64)
    return layer.double(), torch.randn(shape, generator=rng, dtype=torch.float64)


def assert_alike(rule, layer, pre, kinds=KINDS, **settings):
    """The kernels change `layer` as the CPU does in float64, in every dtype."""
    want = rule(layer, pre, **settings)
    assert want.any()
    for kind, error in kinds.items():
        here = deepcopy(layer).to(DEVICE, kind)
        got = rule(here, pre.to(DEVICE, kind), plan=settings.get("plan", TRITON), **settings)
        assert got.dtype == kind
        assert (got.cpu().double() - want).abs().max() <= error * want.abs().max()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 3), (29, 70, 11)])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_dense_layer(rule, sizes, bias):
    batch, inputs, units = sizes
    assert_alike(rule, *drawn(nn.Linear(inputs, units, bias=bias), (batch, inputs), seed=units))


@pytest.mark.parametrize("sizes", [(7, 2050), (530, 5)])
def test_more_inputs_or_samples_of_one_unit_than_a_program_sees_at_a_time(sizes):
    layer, pre = drawn(nn.Linear(sizes[1], 3, bias=False), sizes, seed=1)
    layer.weight.data[1] = pre.mean(0) * 20
    assert_alike(KH, layer, pre + pre.mean(0) * 30)


def test_more_axes_and_the_sum():
    assert_alike(KH, *drawn(nn.Linear(5, 6, bias=False), (2, 3, 2, 5)), reduction="sum")


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1), (9, 5), (70, 33), (2, 9, 3, 5), (3, 1030)])
def test_ranks_are_those_of_the_cpu_and_the_lower_of_equals_comes_first(shape, kind):
    rng = torch.Generator().manual_seed(shape[1])
    for most in 1, 4, 1000:
        drive = torch.randint(-most, most, shape, generator=rng).to(kind) / 4
        for k in {1, min(2, shape[1]), min(7, shape[1]), shape[1]} - {1030}:
            want, _ = first_and_kth(drive.float(), k)
            got, finite = first_and_kth(drive.to(DEVICE), k, TRITON)
            assert torch.equal(got.cpu(), want)
            assert finite.isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_show_whoever_wins(bad):
    for unit in range(3):
        drive = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], device=DEVICE)
        drive[1, unit] = bad
        units, finite = first_and_kth(drive, 2, TRITON)
        assert (units < 3).all()
        assert finite.cpu().isfinite().tolist() == [True, False]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_dense_layer_refuses_nan_and_infinity(rule, bad):
    for where in "input", "weight":
        layer, pre = drawn(nn.Linear(4, 5), (6, 4))
        (pre if where == "input" else layer.weight.data).view(-1)[3] = bad
        with pytest.raises(Diverged, match="NaN or infinite"):
            rule(layer.to(DEVICE), pre.to(DEVICE), plan=TRITON)


def test_an_output_is_the_drive_and_a_bad_input_beside_it_is_refused():
    layer, pre = drawn(nn.Linear(4, 5), (6, 4))
    post = -layer(pre).detach()
    want, layer = HardWTA()(layer, pre, post), layer.to(DEVICE)
    got = HardWTA()(layer, pre.to(DEVICE), post.to(DEVICE), plan=TRITON)
    torch.testing.assert_close(got.cpu(), want, rtol=1e-12, atol=1e-12)
    pre[2, 1] = float("nan")
    with pytest.raises(Diverged):
        HardWTA()(layer, pre.to(DEVICE), post.to(DEVICE), plan=TRITON)


def test_a_unit_that_is_not_there_is_refused():
    class Astray(Rule):
        def post(self, u):
            units = torch.zeros(len(u), 1, dtype=torch.int64, device=u.device)
            units[-1] = u.shape[1]
            return Chosen(units, gains=(1.0,), finite=u.sum())

    layer, pre = drawn(nn.Linear(4, 5), (6, 4))
    with pytest.raises(Refusal):
        Astray()(layer.to(DEVICE), pre.to(DEVICE), plan=TRITON)


def test_low_precision_only_ranks():
    layer, pre = drawn(nn.Linear(8, 8, bias=False), (12, 8))
    layer.weight.data = torch.eye(8).double() + 0.01 * layer.weight.data
    pre = torch.stack([torch.randperm(8) for _ in range(12)]).double().div(4).add(0.2509)
    assert_alike(replace(KH, ranking_dtype=torch.bfloat16), layer, pre)
    assert_alike(KH, layer.bfloat16().double(), pre.bfloat16().double(), {torch.bfloat16: 0.01})


class Waits(TorchDispatchMode):
    """Counts how often the program waits for numbers of the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        self.count += name in ("_local_scalar_dense", "nonzero", "unique_consecutive", "equal", "aminmax")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_only_number_waited_for_says_whether_a_change_is_finite(rule):
    layer, pre = drawn(nn.Linear(4, 5), (6, 4))
    with Waits() as waits:
        rule(layer.to(DEVICE), pre.to(DEVICE), plan=TRITON)
    checks = 3 if DEVICE.type == "cpu" and rule not in (RULES["SoftHebb"], RULES["SoftHebb anti"]) else 0  # of units
    assert waits.count <= 1 + checks
