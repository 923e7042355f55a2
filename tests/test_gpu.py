"""The Triton kernels: against the compiled ones in Triton's interpreter and, where there is one, on a GPU; compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neuropil.spiking import QIF, Plan, ThetaLayer, times
from neuropil.spiking.kernels.dispatch import GPU
from qif_oracles import qif, recurrent_qif

CASES = Path(__file__).with_name("gpu_cases.py")
needs_triton = pytest.mark.skipif(not GPU, reason="triton is not installed")


def run_cases(**settings):
    """Run the cases in a process of their own, because triton reads its settings when it is imported."""
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


@needs_triton
def test_the_kernels_agree_with_the_compiled_ones_in_the_interpreter():
    run_cases(TRITON_INTERPRET="1", NEUROPIL_EVENTS_DEVICE="cpu")


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_kernels_agree_with_the_compiled_ones_on_the_gpu():
    run_cases(NEUROPIL_EVENTS_DEVICE="cuda")


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernels_compile_for_a_gpu(dtype, monkeypatch, tmp_path):
    """What the interpreter forgives, such as a type that changes in a loop, the compiler does not; it needs no GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile
    from triton.runtime.jit import JITFunction

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kinds = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32"}
    built = []

    def launch(kernel, grid):
        def compiled(*args, **constants):
            given = dict(zip(kernel.arg_names, args)) | constants
            for name in {"total", "steps"} & set(given):  # what a kernel would have written
                given[name].zero_()
            fixed = {name for name, value in given.items() if not isinstance(value, torch.Tensor) and value == 1}
            fixed |= set(constants)
            signature = {
                name: "constexpr" if name in fixed else kinds[value.dtype] if isinstance(value, torch.Tensor) else "i32"
                for name, value in given.items()
            }
            values = {(kernel.arg_names.index(name),): given[name] for name in fixed}
            made = compile(ASTSource(kernel, signature, values), target=GPUTarget("cuda", 90, 32))
            built.append((kernel.__name__, len(made.asm["cubin"])))

        return compiled

    monkeypatch.setattr(JITFunction, "__getitem__", launch)
    plan = Plan(triton=True)
    weight, inner = (torch.zeros(*shape, dtype=dtype, requires_grad=True) for shape in ((2, 3), (3, 3)))
    spikes, start = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=dtype, requires_grad=True), torch.zeros(3, dtype=dtype)
    layer = ThetaLayer(2, 3, plan=plan).to(dtype)
    monkeypatch.setattr(torch.Tensor, "new_empty", torch.Tensor.new_ones)  # no kernel fills what it asks for
    for outputs in (
        layer.simulate(spikes),
        qif(spikes, weight, start, start, QIF(), 2.0, plan=plan),
        recurrent_qif(spikes, weight, inner, start, start, QIF(), 2.0, plan=plan),
    ):
        outputs[1].sum().backward()
    assert [name for name, _ in built] == ["forward"] * 3 + ["backward"] * 3
    assert min(size for _, size in built) > 1000


def test_what_torch_does_on_a_gpu_is_what_the_compiled_functions_do_on_the_cpu():
    rng = torch.Generator().manual_seed(0)
    trains = (torch.rand(5, 7, 3, generator=rng) * 2).sort(-1).values
    trains = torch.where(torch.rand(trains.shape, generator=rng) < 0.6, trains, torch.inf).sort(-1).values
    trains[0, 1], trains[3] = trains[0, 0], torch.inf
    want, got = times.flatten_events(trains), times._flatten(trains)
    for name in ("time", "source", "slot", "total"):
        assert torch.equal(getattr(want, name), getattr(got, name)), name
        assert getattr(want, name).dtype == getattr(got, name).dtype
    values = torch.rand(want.time.shape, generator=rng)
    out = times._spread(values, want, torch.zeros(trains.shape))
    assert torch.equal(out, times.scatter_events(values, want, trains.shape))
    assert out.count_nonzero() == trains.isfinite().sum()
    assert times._fine(trains, 2.0)
    for wrong in (torch.nan, -0.1, 2.1):
        bad = trains.clone()
        bad[2, 3, 1] = wrong
        assert not times._fine(bad, 2.0)
    assert not times._fine(torch.tensor([[[0.4, 0.2]]]), 2.0)
