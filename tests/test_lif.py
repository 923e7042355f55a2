"""The LIF neuron of the contrast: spikes against an ODE solver, and the jump that the QIF neuron does not have."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from neuropil.errors import Refusal
from neuropil.spiking.lif import LIF

T = 5.0


def solve(times, weights, tau):
    """First spike of one neuron at rest by an ODE solver."""
    v, i, now = 0.0, 0.0, 0.0
    top = lambda _, z: z[0] - 1
    top.terminal, top.direction = True, 1
    for t, w in [*sorted(zip(times, weights)), (T, 0.0)]:
        slope = lambda _, z: [(z[1] - z[0]) / tau, -2 * z[1] / tau]
        path = solve_ivp(slope, (now, t), [v, i], events=top, rtol=1e-12, atol=1e-13, max_step=0.02, method="DOP853")
        if len(path.t_events[0]):
            return path.t_events[0][0]
        (v, i), now = path.y[:, -1], t
        i += w
    return math.inf


@pytest.mark.parametrize("tau", [1.0, 0.6])
def test_first_spikes_are_those_of_an_ode_solver(tau):
    rng = torch.Generator().manual_seed(0)
    times = torch.rand(30, 4, generator=rng, dtype=torch.float64) * T
    weights = torch.randn(30, 4, generator=rng, dtype=torch.float64) * 3 + 2
    got = LIF(tau).first_spike(times, weights, T).numpy()
    want = np.array([solve(t, w, tau) for t, w in zip(times.tolist(), weights.tolist())])
    assert 5 < np.isfinite(want).sum() < 30
    assert got == pytest.approx(want, rel=1e-9)


def test_a_spike_vanishes_in_the_middle_of_the_trial_with_an_infinite_slope():
    """From rest one input of 4 is the least that makes V reach 1, at t = tau ln 2."""
    late = lambda w: LIF().first_spike(torch.zeros(1, 1).double(), w, T)
    weight = torch.tensor([[4 + 1e-10]], dtype=torch.float64, requires_grad=True)
    late(weight).backward()
    assert late(weight).item() == pytest.approx(math.log(2), abs=1e-4)
    assert weight.grad.item() < -1e4
    assert late(torch.tensor([[4 - 1e-10]]).double()).item() == math.inf


def test_gradients_pass_gradcheck():
    times = torch.tensor([[0.2, 0.5, 0.9]]).double().requires_grad_()
    weights = torch.tensor([[3.0, -1.0, 6.0]]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t, w: LIF(0.8).first_spike(t, w, T), (times, weights))


def test_a_time_constant_of_zero_is_refused():
    with pytest.raises(Refusal, match="tau > 0"):
        LIF(tau=0.0)
