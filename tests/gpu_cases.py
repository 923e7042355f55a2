"""The Triton kernels against the compiled ones, in float64; `test_gpu.py` runs this file in a process of its own.

NEUROPIL_TEST_DEVICE says where: on a GPU, or "cpu" for Triton's interpreter, which TRITON_INTERPRET=1 turns on.
"""

import math
import os

import pytest
import torch
import triton
import triton.language as tl

from neuropil.errors import Refusal
from neuropil.spiking import QIF, Plan, Theta, ThetaLayer, ThetaNetwork
from neuropil.spiking.kernels.cpu.oscillator import series
from neuropil.spiking.kernels.gpu import oscillator
from neuropil.spiking.kernels.gpu.launch import terms
from qif_oracles import qif, recurrent_qif

INF, T = math.inf, 2.0
DEVICE = torch.device(os.environ["NEUROPIL_TEST_DEVICE"])
TRITON = Plan(triton=True)


@pytest.fixture(autouse=True)
def seeded():
    """What is random without a generator is the same in every run."""
    torch.manual_seed(1)


def draw(seed, *, batch=3, inputs=4, neurons=3, spikes=2, strength=2.0):
    """Times with a silent neuron and coincident spikes, weights, potentials and currents (one for every sample)."""
    rng = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64)
    times = torch.rand(batch, inputs, spikes, generator=rng, dtype=torch.float64) * T
    times[0, 1, 0] = times[0, 0, 0]
    times[-1, 2] = INF
    weights = normal(inputs, neurons) * strength, normal(neurons, neurons) * strength
    return times.sort(-1).values, *weights, normal(neurons), normal(batch, neurons) * 3 + 5


def total(outputs):
    """One number that every finite output moves, each in its own measure."""
    sums = []
    for part in outputs:
        part = part.cpu()
        finite = torch.where(part.isfinite(), part, 0)
        sums.append((finite * torch.arange(1, part[0].numel() + 1).view(part[0].shape)).sum())
    return sum(sums)


def both_ways(run, parts, plan=TRITON):
    """Assert that `run` gives the same outputs and gradients by either kind of kernel; the outputs."""
    found = []
    for device, each in ((torch.device("cpu"), Plan()), (DEVICE, plan)):
        mine = [part.detach().to(device).requires_grad_() for part in parts]
        outputs = run(each, *mine)
        grads = torch.autograd.grad(total(outputs), mine)
        found.append([part.detach().cpu() for part in (*outputs, *grads)])
    for want, got in zip(*found):
        largest = torch.where(want.isfinite(), want, 0).abs().max()
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12 + 1e-10 * float(largest))
    return found[0][: len(outputs)]


def theta_layer(neuron):
    def run(plan, times, weight, phase):
        layer = ThetaLayer(*weight.shape, neuron=neuron, t_end=T, plan=plan)
        output = torch.func.functional_call(layer, {"weight": weight, "phase": phase}, (times,))
        return output.spikes[0], output.states[0]

    return run


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("neuron", [Theta(), Theta(tau=0.05, drive=3.0)])
def test_theta(neuron, block):
    times, weight, _, _, _ = draw(block)
    phase = torch.rand(3, dtype=torch.float64) * neuron.period
    out, _ = both_ways(theta_layer(neuron), (times, weight, phase), Plan(triton=True, block=block))
    assert out.isfinite().any()


def test_theta_slots_grow_and_many_coincident_inputs_count_once():
    times = torch.cat([torch.full((2, 9, 1), 0.3), torch.rand(2, 9, 1) * 0 + 0.7], 2).double()
    weight, phase = torch.randn(9, 2, dtype=torch.float64), torch.tensor([1.0, 4.5]).double()
    both_ways(theta_layer(Theta(drive=0.5)), (times, weight, phase))
    pushes = (torch.arange(1, 20, dtype=torch.float64) * 0.1)[None, None]
    strong = torch.tensor([[0.0, 1e6]]).double()
    out, _ = both_ways(theta_layer(Theta(tau=0.5)), (pushes, strong, torch.zeros(2).double()))
    assert out.shape[2] > 8


def test_theta_neurons_that_lose_count_are_refused():
    times = torch.tensor([[0.1, 0.2]], device=DEVICE)
    layer = ThetaLayer(2, 3, plan=TRITON).to(DEVICE)
    layer.weight.data.fill_(1e30)
    with pytest.raises(Refusal, match="lost count"):
        layer(times)


def test_a_theta_network_learns_through_pseudospikes():
    nets = {plan: ThetaNetwork((4, 3, 2), t_end=T, plan=plan).double() for plan in (Plan(), TRITON)}
    net = nets[TRITON]
    times = draw(1)[0]
    values = [torch.randn(part.shape, dtype=torch.float64) if part.ndim == 2 else part for part in net.parameters()]
    names = [name for name, _ in net.named_parameters()]

    def run(plan, times, *values):
        output = torch.func.functional_call(nets[plan], dict(zip(names, values)), (times, 2))
        return output.times, output.states[-1]

    both_ways(run, (times, *values))


@pytest.mark.parametrize("strength", [0.0, 4.0, 60.0])
def test_qif(strength):
    times, weight, _, potential, current = draw(1, strength=strength)
    current[0, 0] = 0.0
    parts = times, weight, potential, current
    run = lambda plan, *parts: qif(*parts, QIF(0.9), T, plan=plan)
    out, _, _ = both_ways(run, parts, Plan(triton=True, block=2))
    assert out.isfinite().any()


def test_qif_slots_grow():
    times, weight, _, potential, current = draw(2, batch=1, inputs=3, neurons=2, spikes=1)
    run = lambda plan, *parts: qif(*parts, QIF(), T, plan=plan)
    out, _, _ = both_ways(run, (times, weight, potential, current + 1500))
    assert out.shape[2] > 8


def test_recurrent():
    parts = draw(1, batch=2, neurons=3, strength=5.0)
    run = lambda plan, *parts: recurrent_qif(*parts, QIF(0.8), T, plan=plan)
    out, _, _ = both_ways(run, parts, Plan(triton=True, events=1 - 8))  # too little, so it has to grow
    assert out.isfinite().sum() > 5


def test_recurrent_neurons_that_are_alike_fire_together():
    moved = torch.full((3, 3), 0.3).double(), torch.full((3,), 20.0).double()

    def run(plan, inner, current):
        nothing = torch.full((1, 1, 1), INF, dtype=inner.dtype, device=inner.device)
        return recurrent_qif(nothing, inner.new_zeros(1, 3), inner, inner.new_zeros(3), current, QIF(), T, plan=plan)

    out, _, _ = both_ways(run, moved)
    assert out[0, :, 0].isfinite().all()


def test_float32_is_float64_rounded():
    times, weight, inner, potential, current = draw(5, batch=2)
    runs = {
        "theta": lambda cast: theta_layer(Theta())(TRITON, cast(times), cast(weight), cast(potential.abs())),
        "qif": lambda cast: qif(*map(cast, (times, weight, potential, current)), QIF(), T, plan=TRITON),
        "recurrent": lambda cast: recurrent_qif(
            *map(cast, (times, weight, inner, potential, current)), QIF(), T, plan=TRITON
        ),
    }
    for run in runs.values():
        wide, narrow = run(lambda part: part.to(DEVICE)), run(lambda part: part.to(DEVICE).float())
        for want, got in zip(wide, narrow):
            torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)


def test_a_float32_gradient_is_near():
    times, weight, _, potential, current = (part.to(DEVICE) for part in draw(6, batch=2))
    grads = []
    for kind in (torch.float64, torch.float32):
        mine = weight.to(kind).requires_grad_()
        trial = qif(times.to(kind), mine, potential.to(kind), current.to(kind), QIF(), T, plan=TRITON)
        grads.append(torch.autograd.grad(total(trial), mine)[0].double())
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-3 * float(grads[0].abs().max()))


@triton.jit
def functions(x_at, y_at, out, N: tl.constexpr, TERMS: tl.constexpr):
    k = tl.arange(0, N)
    x, y = tl.load(x_at + k), tl.load(y_at + k)
    tl.store(out + k, oscillator.arc(y, x))
    tl.store(out + N + k, oscillator.log1p(x))
    tl.store(out + 2 * N + k, oscillator.expm1(y))
    tl.store(out + 3 * N + k, oscillator.cosine(x, TERMS))
    tl.store(out + 4 * N + k, oscillator.sine(x, TERMS))
    tl.store(out + 5 * N + k, oscillator.cube(x, TERMS))


def test_elementary_functions_are_exact_to_the_last_digits():
    x = torch.tensor([0.0, 0.0, -0.5, 1e-18, -1e-9, 3.9, 1.0, -0.999999]).double()
    y = torch.tensor([0.0, -1e-18, -1e-9, -0.3, -0.7, -5.0, -800.0, -1e-3]).double()
    out = torch.empty(6, 8, dtype=torch.float64, device=DEVICE)
    functions[(1,)](x.to(DEVICE), y.to(DEVICE), out, N=8, TERMS=terms(torch.float64))
    powers = [sum(c * x**k for k, c in enumerate(reversed(table))) for table in series(15, float)]
    want = torch.stack([torch.atan2(y, x), torch.log1p(x), torch.expm1(y), *powers])
    torch.testing.assert_close(out.cpu(), want, rtol=1e-14, atol=1e-300)
    up, ahead = torch.rand(2, 64, dtype=torch.float64) * 2 - 1
    wide = torch.empty(6, 64, dtype=torch.float64, device=DEVICE)
    functions[(1,)](ahead.to(DEVICE), up.to(DEVICE), wide, N=64, TERMS=13)
    torch.testing.assert_close(wide[0].cpu(), torch.atan2(up, ahead), rtol=1e-14, atol=1e-15)
