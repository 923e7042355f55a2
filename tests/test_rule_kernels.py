"""The Triton kernels of rules: against the CPU in Triton's interpreter and, where there is one, on a GPU; compiled."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn

from neuropil.bench._timing import seconds
from neuropil.errors import Refusal
from neuropil.models import PatchNormConv2d
from neuropil.plasticity import HardWTA, KrotovHopfield, Plan, SoftHebb, engine
from neuropil.plasticity.kernels import dispatch
from triton_tools import compile_only, needs_gpu, needs_triton, run_cases

pytestmark = pytest.mark.kernels
SHARED = 99 << 10  # bytes that the threads of a program can share on every card since compute capability 8.0


@needs_triton
def test_the_kernels_agree_with_the_cpu_in_the_interpreter():
    run_cases("rule_gpu_cases.py", TRITON_INTERPRET="1", NEUROPIL_TEST_DEVICE="cpu")


@needs_triton
@needs_gpu
def test_the_kernels_agree_with_the_cpu_on_the_gpu():
    run_cases("rule_gpu_cases.py", NEUROPIL_TEST_DEVICE="cuda")


@pytest.fixture(params=[(80, torch.float64), (90, torch.float32)], ids=["8.0", "9.0"])
def built(request, monkeypatch, tmp_path):
    """What is compiled for a GPU, whose memory must suffice, and the dtype of the layers."""
    arch, kind = request.param
    monkeypatch.setattr(engine, "check_finite", lambda *_, **__: None)  # nothing is run
    kernels = compile_only(monkeypatch, tmp_path, arch, {"chosen", "finite", "out", "sums"})
    yield kernels, kind
    for one in kernels:
        assert len(one.code) > 1000, one.name
        assert one.shared <= SHARED, one.name


@needs_triton
def test_kernels_of_dense_layers_compile_for_a_gpu(built):
    kernels, kind = built
    for rule, sizes in (KrotovHopfield(), (100, 784, 2000)), (HardWTA(), (1000, 3072, 70)):
        batch, inputs, units = sizes
        rule(nn.Linear(inputs, units, dtype=kind), torch.ones(batch, inputs, dtype=kind), plan=Plan(triton=True))
    assert [one.name for one in kernels] == ["rank_drives", "change_rows"] * 2


BENCHMARK = partial(nn.Conv2d, 1, 400, 5, bias=False), (2, 1, 28, 28)
NORMALISED = partial(PatchNormConv2d, 3, 96, 5, padding=2, padding_mode="reflect"), (2, 3, 32, 32)
DEEPEST = partial(nn.Conv2d, 28, 512, 3, stride=2, dilation=2, padding=1), (2, 28, 16, 16)  # that is fused
GROUPED = partial(nn.Conv1d, 96, 384, 3, groups=2, padding=1, padding_mode="circular"), (2, 96, 16)
FUSED, PIECES, SOFT = ["rank_tile", "sum_tile"], ["rank_drives", "sum_tile"], ["soften_tile", "soft_tile"]
LOW = KrotovHopfield(ranking_dtype=torch.bfloat16)


@needs_triton
@pytest.mark.parametrize(
    ("rule", "convolution", "plan", "names"),
    [
        (KrotovHopfield(), BENCHMARK, {}, FUSED),
        (KrotovHopfield(average=True), NORMALISED, {}, FUSED),
        (HardWTA(), DEEPEST, {}, FUSED),
        (HardWTA(), GROUPED, {}, PIECES),
        (LOW, NORMALISED, {}, FUSED),
        (KrotovHopfield(k=3), NORMALISED, {"tf32": True}, FUSED),
        (SoftHebb(), NORMALISED, {}, SOFT),
        (SoftHebb(anti=True), DEEPEST, {}, SOFT),
    ],
)
def test_kernels_of_convolutions_compile_for_a_gpu(rule, convolution, plan, names, built):
    (kernels, kind), (make, shape) = built, convolution
    rule(make(dtype=kind), torch.ones(shape, dtype=kind), plan=Plan(triton=True, **plan))
    assert [one.name for one in kernels] == names


def test_a_plan_that_asks_for_triton_is_refused_without_it(monkeypatch):
    monkeypatch.setattr(dispatch, "_kernels", lambda name: None)
    layer, pre = nn.Linear(4, 5), torch.ones(2, 4)
    with pytest.raises(Refusal, match=r"Plan\(triton=True\) needs triton"):
        HardWTA()(layer, pre, plan=Plan(triton=True))
    assert HardWTA()(layer, pre).any()


def test_a_gpu_is_timed_by_its_own_clock_once_it_has_nothing_else_to_do(monkeypatch):
    happened = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            happened.append("record")

        def synchronize(self):
            happened.append("wait")

        def elapsed_time(self, last):
            happened.append("read")
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: happened.append("idle"))
    assert seconds(lambda: happened.append("run"), "cuda") == 0.25
    assert happened == ["idle", "record", "run", "record", "wait", "read"]
    assert 0 <= seconds(happened.clear, "cpu") < 1
