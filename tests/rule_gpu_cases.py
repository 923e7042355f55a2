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

import oracles
from neuropil import distributed
from neuropil.errors import Diverged
from neuropil.models import PatchNormConv2d
from neuropil.plasticity import (
    Chosen,
    HardWTA,
    KrotovHopfield,
    Plan,
    Rule,
    SoftHebb,
    convolved,
    first_and_kth,
    propose_,
)
from neuropil.plasticity.kernels.gpu.rows import row_change

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
    "KH delta=0, average": replace(KH, p=2.3, delta=0.0, average=True),
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


def assert_alike(rule, layer, pre, kinds=KINDS, plan=TRITON, **settings):
    """The kernels change `layer` as the CPU does in float64, in every dtype."""
    want = rule(layer, pre, **settings)
    assert want.any()
    for kind, error in kinds.items():
        here = deepcopy(layer).to(DEVICE, kind)
        got = rule(here, pre.to(DEVICE, kind), plan=plan, **settings)
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


@pytest.mark.parametrize("choice", [-1, 5])
def test_a_unit_that_is_not_there_shows_in_the_change(choice):
    (layer, pre), zero = drawn(nn.Linear(4, 5, bias=False), (6, 4)), torch.zeros((), device=DEVICE)
    for chosen, fine in (torch.tensor([0, 1, 2, 3, 4, 4]), True), (torch.tensor([0, 1, 2, 3, 4, choice]), False):
        given = pre.to(DEVICE), chosen.to(DEVICE), (1.0,), layer.weight.detach().to(DEVICE), None, 1.0, None, zero
        assert bool(row_change(*given, 1, False).isfinite().all()) == fine


def test_drives_that_overflow_are_refused():
    class Strong(HardWTA):
        def weights(self, weight):
            return weight * 1e30

    for layer in nn.Linear(4, 5), nn.Conv1d(4, 5, 1):
        layer, pre = drawn(layer, (6, 4) if isinstance(layer, nn.Linear) else (2, 4, 3))
        layer, pre = layer.to(DEVICE, torch.float32), pre.to(DEVICE, torch.float32) * 1e10
        for plan in TRITON, replace(TRITON, fused_units=1):
            assert HardWTA()(layer, pre, plan=plan).isfinite().all()
            with pytest.raises(Diverged):
                Strong()(layer, pre, plan=plan)


def test_low_precision_only_ranks():
    layer, pre = drawn(nn.Linear(8, 8, bias=False), (12, 8))
    layer.weight.data = torch.eye(8).double() + 0.01 * layer.weight.data
    pre = torch.stack([torch.randperm(8) for _ in range(12)]).double().div(4).add(0.2509)
    assert_alike(replace(KH, ranking_dtype=torch.bfloat16), layer, pre)
    assert_alike(KH, layer.bfloat16().double(), pre.bfloat16().double(), {torch.bfloat16: 0.01})


CONVOLUTIONS = {
    **{name: oracles.GEOMETRIES[name] for name in oracles.GEOMETRIES if name.startswith("conv")},
    "conv2d, replicate": (lambda: nn.Conv2d(2, 7, (3, 1), padding=(2, 0), padding_mode="replicate"), (2, 2, 4, 3)),
    "conv2d, all at once": (
        lambda: nn.Conv2d(6, 18, (2, 3), (2, 1), (1, 2), (2, 1), groups=3, padding_mode="reflect"),
        (3, 6, 5, 6),
    ),
    "conv2d, same and even": (lambda: nn.Conv2d(1, 3, (4, 2), padding="same", dilation=(1, 3)), (2, 1, 5, 4)),
    "conv1d, depthwise": (lambda: nn.Conv1d(5, 5, 2, groups=5, bias=False), (2, 5, 9)),
    "conv2d, larger than tiles": (lambda: nn.Conv2d(5, 19, (3, 5)), (3, 5, 9, 11)),
    "conv2d, more units than tiles": (lambda: nn.Conv2d(3, 150, 1), (2, 3, 3, 4)),
}


@pytest.fixture
def by_kernels(monkeypatch):
    """Counts the convolutions that kernels have changed; 0 would mean that a test compares the CPU with itself."""
    changes = []

    def spy(job, pre, post, change=convolved.competition_change):
        changes.append(change(job, pre, post))
        return changes[-1]

    monkeypatch.setattr("neuropil.plasticity.engine.competition_change", spy)
    return lambda: sum(change is not None for change in changes)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(
    "rule", [rule for name, rule in RULES.items() if name != "own"], ids=[name for name in RULES if name != "own"]
)
def test_a_convolution(rule, name, by_kernels):
    factory, shape = CONVOLUTIONS[name]
    layer, pre = drawn(factory(), shape, seed=len(name))
    assert_alike(rule, layer, pre)
    assert by_kernels() == (0 if layer.groups > 1 and isinstance(rule, SoftHebb) else 2)


@pytest.mark.parametrize("name", ["conv2d", "conv2d, groups"])
@pytest.mark.parametrize("rule", [HardWTA(), replace(KH, p=2.0), Rivals()], ids=repr)
def test_a_convolution_of_another_size_or_with_its_output_or_of_an_own_law(rule, name, by_kernels):
    factory, shape = CONVOLUTIONS[name]
    layer, pre = drawn(factory(), shape, seed=5)
    want = rule(layer, pre)
    here, seen, post = deepcopy(layer).to(DEVICE), pre.to(DEVICE), layer(pre).detach().to(DEVICE)
    for given, plan in (None, replace(TRITON, fused_units=1)), (None, replace(TRITON, outputs=1)), (post, TRITON):
        got = rule(here, seen, given, plan=plan)
        torch.testing.assert_close(got.cpu(), want, rtol=1e-12, atol=1e-12)
    assert by_kernels() == (0 if isinstance(rule, Rivals) else 3)


def test_channels_that_lie_last_make_no_difference():
    layer, pre = drawn(nn.Conv2d(3, 5, 2), (2, 3, 4, 5))
    assert_alike(KH, layer, pre.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize(
    "rule", [rule for name, rule in RULES.items() if name != "own"], ids=[name for name in RULES if name != "own"]
)
@pytest.mark.parametrize("whitened", [False, True])
def test_patches_are_normalised_on_the_way_and_flat_ones_left_out(rule, whitened, by_kernels):
    layer, pre = drawn(PatchNormConv2d(2, 9, 3, stride=2, padding=1, padding_mode="reflect"), (3, 2, 7, 9), seed=3)
    pre[0, :, :, :5] = 0.3
    if whitened:
        turn = torch.randn(18, 18, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        layer.whitening = turn @ turn.T / 18
    assert_alike(rule, layer, pre)
    assert by_kernels() == 2


def test_who_preprocesses_patches_otherwise_is_asked(by_kernels):
    class Louder(PatchNormConv2d):
        def preprocess_patches(self, patch):
            return 2 * super().preprocess_patches(patch)

    class Softer(SoftHebb):
        def post(self, u):
            return super().post(u / 2)

    layer, pre = drawn(Louder(2, 9, 3), (3, 2, 7, 9))
    assert_alike(KH, layer, pre)
    assert_alike(Softer(), *drawn(nn.Conv2d(2, 9, 3), (3, 2, 7, 9)))
    assert by_kernels() == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("make", [nn.Conv2d, PatchNormConv2d], ids=["conv", "normalised"])
@pytest.mark.parametrize("rule", [HardWTA(), KH, SoftHebb()], ids=repr)
def test_a_convolution_refuses_nan_and_infinity(rule, make, bad):
    for where in "input", "weight":
        layer, pre = drawn(make(1, 5, 2, padding=1, bias=False), (2, 1, 4, 4))
        (pre if where == "input" else layer.weight.data).view(-1)[3] = bad
        for plan in Plan(), TRITON, replace(TRITON, fused_units=1):
            place = torch.device("cpu") if plan == Plan() else DEVICE
            with pytest.raises(Diverged, match="NaN or infinite"):
                rule(deepcopy(layer).to(place), pre.to(place), plan=plan)


def test_equal_drives_of_patches_rank_as_on_the_cpu():
    layer, pre = drawn(nn.Conv2d(1, 8, 2, bias=False), (2, 1, 5, 5))
    layer.weight.data = layer.weight.data.round()
    for k in 2, 4, 8:
        assert_alike(replace(KH, k=k, p=2.0), layer, (pre * 0.7).round())


@pytest.mark.parametrize("plan", [TRITON, replace(TRITON, tf32=True)], ids=["bfloat16", "tf32"])
def test_low_precision_only_ranks_patches(plan):
    layer, pre = drawn(nn.Conv2d(8, 8, 1, bias=False), (3, 8, 2, 2))
    layer.weight.data = (torch.eye(8) + 0.01 * torch.randn(8, 8)).double().view(8, 8, 1, 1)
    pre = torch.stack([torch.randperm(8) for _ in range(12)]).double().div(4).add(0.2509).view(3, 2, 2, 8)
    rule = replace(KH, ranking_dtype=None if plan.tf32 else torch.bfloat16)
    assert_alike(rule, layer, pre.permute(0, 3, 1, 2), plan=plan)


def test_processes_that_share_a_layer_count_who_won(by_kernels):
    distributed.start("gloo")
    try:
        for layer, shape in (nn.Conv2d(2, 9, 2), (2, 2, 4, 5)), (nn.Linear(4, 9), (6, 4)):
            layer, pre = drawn(layer, shape)
            for rule in replace(KH, average=True), HardWTA(), SoftHebb(normalise=True):
                want, here = rule(layer, pre), distributed.share(deepcopy(layer).to(DEVICE))
                got = rule(here, pre.to(DEVICE), plan=TRITON)
                torch.testing.assert_close(got.cpu(), want, rtol=1e-12, atol=1e-12)
    finally:
        torch.distributed.destroy_process_group()
    assert by_kernels() == 3


def test_the_same_comes_out_every_time_and_nothing_grows_with_units_times_patches():
    layer, pre = drawn(nn.Conv2d(2, 70, 2, bias=False).float(), (4, 2, 9, 9))
    layer, pre = layer.to(DEVICE, torch.float32), pre.to(DEVICE, torch.float32)
    for rule in HardWTA(), KH, SoftHebb(anti=True):
        with Largest() as seen:
            first = rule(layer, pre, plan=TRITON)
        assert torch.equal(rule(layer, pre, plan=TRITON), first)
        assert seen.most <= 4 * max(2 * 256, 8 * layer.weight.numel())  # (2, patches), or the sums of 8 parts


class Waits(TorchDispatchMode):
    """Counts how often the program waits for numbers of the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        self.count += name in ("_local_scalar_dense", "nonzero", "unique_consecutive", "equal", "aminmax")
        return func(*args, **(kwargs or {}))


class Largest(TorchDispatchMode):
    """Remembers how many bytes the largest new tensor has."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.most = max(self.most, out.numel() * out.element_size())
        return out


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_only_number_waited_for_says_whether_a_change_is_finite(rule):
    layer, pre = drawn(nn.Linear(4, 5), (6, 4))
    with Waits() as waits:
        rule(layer.to(DEVICE), pre.to(DEVICE), plan=TRITON)
    checks = 3 if DEVICE.type == "cpu" and rule not in (RULES["SoftHebb"], RULES["SoftHebb anti"]) else 0  # of units
    assert waits.count <= 1 + checks
    layer, pre = drawn(nn.Conv2d(2, 5, 2), (2, 2, 4, 4))
    for plan in (TRITON, replace(TRITON, fused_units=1)) if rule != RULES["own"] else ():
        with Waits() as waits:
            rule(layer.to(DEVICE), pre.to(DEVICE), plan=plan)
        assert waits.count == 1


@pytest.mark.parametrize("rule", [rule for name, rule in RULES.items() if name != "own"], ids=repr)
def test_in_a_graph_nothing_is_waited_for_and_nan_stays_visible(rule, monkeypatch):
    monkeypatch.setattr("neuropil.plasticity.geometry.captured", lambda activity: True)
    for layer, shape in (nn.Linear(4, 5), (6, 4)), (nn.Conv2d(2, 5, 2), (2, 2, 4, 4)):
        layer, pre = drawn(layer, shape)
        layer, pre = layer.to(DEVICE), pre.to(DEVICE)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        on_cpu = DEVICE.type == "cpu" and isinstance(layer, nn.Linear) and not isinstance(rule, SoftHebb)
        for _ in range(2):
            with Waits() as waits:
                propose_(layer, rule(layer, pre, plan=TRITON))
                optimizer.step()
            assert waits.count == (3 if on_cpu else 0)  # of the units' numbers, which a kernel checks on a GPU
        pre.view(-1)[3] = float("nan")
        assert not rule(layer, pre, plan=TRITON).isfinite().all()


@pytest.mark.skipif(DEVICE.type == "cpu", reason="graphs need a GPU")
@pytest.mark.parametrize("rule", [rule for name, rule in RULES.items() if name != "own"], ids=repr)
def test_a_step_is_captured_in_a_graph(rule):
    for layer, shape in (nn.Linear(4, 5), (6, 4)), (nn.Conv2d(2, 5, 2), (2, 2, 4, 4)):
        layer, pre = drawn(layer, shape)
        want, layer, pre = rule(layer, pre), layer.to(DEVICE), pre.to(DEVICE)
        rule(layer, pre)  # compiles
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            got = rule(layer, pre)
        graph.replay()
        torch.testing.assert_close(got.cpu(), want, rtol=1e-12, atol=1e-12)
