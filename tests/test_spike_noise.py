"""The noise of Poisson spikes, and what a membrane makes of it: mean, variance and autocovariance by formulas."""

import numpy as np
import pytest
import torch

from neuropil.spiking import BernoulliEncoding, CurrentLIF, PoissonEncoding, simulate

DT, RATE, X, WEIGHT = 1.3e-3, 137.3, 1.37, 0.73
TAU, TAU_SYN, BIAS = 17e-3, 4.3e-3, 0.21
SAMPLES, LINES, STEPS, SKIPPED, LAGS = 40, 25, 700, 200, 12
P = 1 - np.exp(-RATE * X * DT)  # that a Poisson process has a point in a step
ENCODE = PoissonEncoding(rate=RATE, duration=STEPS * DT, dt=DT)
INDEX = torch.arange(SAMPLES) + 1000


@pytest.fixture(scope="module")
def spikes():
    """Of 1000 lines, (time, samples, lines)."""
    return ENCODE.raster(torch.full((SAMPLES, LINES), X).double(), INDEX, seed=11)


def holds(by_line, want, least=0.0):
    """An estimate of each independent line; their mean is within four standard errors of `want`, which are small."""
    by_line = np.asarray(by_line).ravel()
    error = by_line.std(ddof=1) / len(by_line) ** 0.5
    assert abs(by_line.mean() - want) < 4 * error, (by_line.mean(), want, error)
    assert abs(want) >= least * error, (want, error)


def moments_hold(signal, mean, covariance):
    """Mean, variance and autocovariance in time of independent lines, (time, ...), by estimates without bias."""
    signal = signal.flatten(1).numpy()
    off = signal - mean
    holds(signal.mean(0), mean, least=20)
    for lag, want in enumerate(covariance):
        products = off[: len(off) - lag] * off[lag:]
        holds(products.mean(0), want, least=4 if want else 0)


def test_spikes_are_those_of_independent_coins(spikes):
    moments_hold(spikes, P, [P * (1 - P)] + [0] * LAGS)
    off = spikes.numpy() - P
    for shift in ((0, 1), (1, 0), (1, 1)):  # other lines, other samples, both
        other = np.roll(off, shift, (1, 2))
        holds((off * other).mean(0), 0)
        holds((off[1:] * other[:-1]).mean(0), 0)
    again = ENCODE.raster(torch.full((SAMPLES, LINES), X).double(), INDEX, seed=12).numpy() - P
    holds((off * again).mean(0), 0)
    gaps = np.concatenate([np.diff(np.flatnonzero(line)) for line in spikes.flatten(1).numpy().T])
    holds(gaps == 1, P, least=20)  # gaps between spikes are geometric
    holds(gaps == 4, P * (1 - P) ** 3, least=20)


def test_a_membrane_has_the_mean_and_the_covariance_of_shot_noise(spikes):
    """By the answer to one spike, in closed form, and sums over all steps in which it may have come."""
    neuron = CurrentLIF(TAU, TAU_SYN, threshold=1e6, bias=BIAS, dt=DT)
    record = lambda out, state: {"v": state.v, "i": state.current}
    run = simulate(neuron, (WEIGHT * now for now in spikes), record=record)
    assert run.counts.sum() == 0
    since = DT * np.arange(1, SKIPPED)  # of a spike that comes at the start of a step, at the ends of steps
    left = WEIGHT * np.exp(-since / TAU_SYN)
    answer = WEIGHT * TAU_SYN / (TAU_SYN - TAU) * (np.exp(-since / TAU_SYN) - np.exp(-since / TAU))
    for name, one, rest in (("i", left, 0.0), ("v", answer, BIAS)):
        covariance = [P * (1 - P) * (one[: len(one) - lag] * one[lag:]).sum() for lag in range(LAGS)]
        moments_hold(run.recorded[name][SKIPPED:], rest + P * one.sum(), covariance)


SHORT = (PoissonEncoding(RATE, 70 * DT, DT), BernoulliEncoding(probability=0.37, steps=70))


@pytest.mark.parametrize("encode", SHORT, ids=lambda encode: type(encode).__name__)
def test_noise_belongs_to_seed_and_sample_whatever_the_batch_the_order_and_the_threads(encode):
    x, seed = torch.rand(9, 7, generator=torch.Generator().manual_seed(0)).double(), 2**31 + 5
    index = torch.tensor([5, 70001, 2, 99, 17, 123456789, 0, 41, 8])
    whole, threads = encode.raster(x, index, seed), torch.get_num_threads()
    order = torch.tensor([8, 0, 3, 5])
    assert torch.equal(encode.raster(x[order], index[order], seed), whole[:, order])
    assert torch.equal(torch.cat([encode.raster(x[k : k + 1], index[k : k + 1], seed) for k in range(9)], 1), whole)
    try:
        torch.set_num_threads(2)
        torch.rand(3)  # a global generator that moves changes nothing
        assert torch.equal(torch.stack(list(encode(x, index, seed))), whole)
    finally:
        torch.set_num_threads(threads)
    for other in (encode.raster(x, index, seed + 1), encode.raster(x, index + 1, seed)):
        assert 0.2 < (other * whole).mean() / whole.mean() ** 2 < 5
        assert not torch.equal(other, whole)
