"""The Triton kernels: against the compiled ones in Triton's interpreter and, where there is one, on a GPU; compiled."""

import pytest
import torch

from neuropil.spiking import QIF, Plan, ThetaLayer, times
from neuropil.spiking.clock.together import several
from neuropil.spiking.kernels.dispatch import gpu_kernels
from other_device import other_device
from qif_oracles import qif, recurrent_qif
from test_together import NEURONS
from triton_tools import compile_only, needs_gpu, needs_triton, run_cases

pytestmark = pytest.mark.kernels


CASES = pytest.mark.parametrize("name", ["gpu_cases.py", "clock_gpu_cases.py"])


@needs_triton
@CASES
def test_the_kernels_agree_with_the_compiled_ones_in_the_interpreter(name):
    run_cases(name, TRITON_INTERPRET="1", NEUROPIL_TEST_DEVICE="cpu")


@needs_triton
@needs_gpu
@CASES
def test_the_kernels_agree_with_the_compiled_ones_on_the_gpu(name):
    run_cases(name, NEUROPIL_TEST_DEVICE="cuda")


@needs_triton
def test_a_step_waits_for_the_kernels_as_often_as_is_said():
    run_cases("waits_gpu_cases.py", TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernels_compile_for_a_gpu(dtype, monkeypatch, tmp_path):
    built = compile_only(monkeypatch, tmp_path, written={"total", "steps"})
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
    assert [one.name for one in built] == ["forward"] * 3 + ["backward"] * 3
    assert min(len(one.code) for one in built) > 1000


@needs_triton
@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", ["delta", "current", "adaptive"])
def test_steps_of_neurons_are_one_launch_that_nobody_waits_for(name, arch, monkeypatch, tmp_path):
    neuron, built = NEURONS[name], compile_only(monkeypatch, tmp_path, arch)
    for dtype in (torch.float32, torch.float64):
        with other_device(clocked=gpu_kernels()["clocked"]) as seen:
            drive = torch.zeros(7, 3, 43, dtype=dtype, device="cuda")
            for traced in (False, True):
                _, states, state = several(neuron, drive, neuron.init(drive[0]), traced)
                assert all(one.is_cuda and one.shape == (3, 43) for one in state)
                assert len(states) == 7 * traced
            assert not seen
    assert [one.name for one in built] == ["advance_block"] * 4
    assert not any("fma" in one.assembly for one in built)  # which would round otherwise than a step


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
    assert times.fine(trains, 2.0)
    for wrong in (torch.nan, -0.1, 2.1):
        bad = trains.clone()
        bad[2, 3, 1] = wrong
        assert not times.fine(bad, 2.0)
    assert not times.fine(torch.tensor([[[0.4, 0.2]]]), 2.0)
