"""The Triton kernels of rules: against the CPU in Triton's interpreter and, where there is one, on a GPU; compiled."""

import pytest
import torch
from torch import nn

from neuropil.errors import Refusal
from neuropil.plasticity import HardWTA, KrotovHopfield, Plan, engine
from neuropil.plasticity.kernels import dispatch
from triton_tools import compile_only, needs_gpu, needs_triton, run_cases

ARCHITECTURES = {80: 163 << 10, 90: 227 << 10}  # and how much memory the threads of a program can share, bytes


@needs_triton
def test_the_kernels_agree_with_the_cpu_in_the_interpreter():
    run_cases("rule_gpu_cases.py", TRITON_INTERPRET="1", NEUROPIL_TEST_DEVICE="cpu")


@needs_triton
@needs_gpu
def test_the_kernels_agree_with_the_cpu_on_the_gpu():
    run_cases("rule_gpu_cases.py", NEUROPIL_TEST_DEVICE="cuda")


@pytest.fixture(params=ARCHITECTURES)
def built(request, monkeypatch, tmp_path):
    """What is compiled for a GPU, checked for what it needs at the end."""
    monkeypatch.setattr(engine, "check_finite", lambda *_, **__: None)  # nothing is run
    kernels = compile_only(monkeypatch, tmp_path, request.param, {"chosen", "finite", "out"})
    yield kernels
    for name, code, shared in kernels:
        assert len(code) > 1000, name
        assert shared <= ARCHITECTURES[request.param], name


@needs_triton
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_kernels_of_dense_layers_compile_for_a_gpu(kind, built):
    for rule, sizes in (KrotovHopfield(), (100, 784, 2000)), (HardWTA(), (1000, 3072, 70)):
        batch, inputs, units = sizes
        rule(nn.Linear(inputs, units, dtype=kind), torch.ones(batch, inputs, dtype=kind), plan=Plan(triton=True))
    assert [name for name, _, _ in built] == ["rank_drives", "change_rows"] * 2


def test_a_plan_that_asks_for_triton_is_refused_without_it(monkeypatch):
    monkeypatch.setattr(dispatch, "_kernels", lambda name: None)
    layer, pre = nn.Linear(4, 5), torch.ones(2, 4)
    with pytest.raises(Refusal, match=r"Plan\(triton=True\) needs triton"):
        HardWTA()(layer, pre, plan=Plan(triton=True))
    assert HardWTA()(layer, pre).any()
