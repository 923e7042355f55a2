"""Leaky integrate-and-fire neurons with currents, also adapting ones: linear between spikes, so a step is exact."""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropil.errors import check_refractory, check_seconds, needs, needs_numbers, require

Matrix = tuple[tuple[float, ...], ...]


def steps_of(time: float, dt: float) -> int:
    """A time as a number of steps, the nearest."""
    return round(time / dt)


@cache
def propagator(rates: Matrix, dt: float) -> Matrix:
    """What a step of `dt` does to a linear system x' = rates x: the matrix exponential of rates dt."""
    from scipy.linalg import expm  # here, since few commands need it, and all would wait for it

    return tuple(tuple(row) for row in expm(np.array(rates) * dt).tolist())  # torch's is exact to 1e-9 only


def lateral_inhibition(spikes: Tensor, strength: float) -> Tensor:
    """What each unit gets where every spike inhibits all units but its own, (batch, units).

    Args:
        spikes: of a step, (batch, units).
        strength: of one spike, in the unit of what it inhibits.

    Raises:
        Refusal: another shape.

    Examples:
        >>> lateral_inhibition(torch.tensor([[1.0, 0.0, 0.0]]), 2.0)
        tensor([[0., 2., 2.]])
    """
    got = tuple(spikes.shape)
    require(spikes.ndim == 2, f"lateral_inhibition needs spikes shaped (batch, units), got {got}; flatten maps first.")
    return strength * (spikes.sum(-1, keepdim=True) - spikes)


class LIFState(NamedTuple):
    """State of `CurrentLIF`; all (batch, *units)."""

    v: Tensor  # potential, in units of the threshold
    current: Tensor  # synaptic current
    resting: Tensor  # steps that are left of the refractory time, int32


@dataclass(frozen=True)
class CurrentLIF:
    r"""The neuron :math:`\tau \dot v = -v + i + i_0,\ \tau_s \dot i = -i`, which spikes where v >= threshold.

    The input of a step adds to the synaptic current i at the start of the step. Then the step is done exactly. A
    neuron that is at the threshold or above at its end spikes; v becomes `reset` and stays there for `refractory`.

    Rotter & Diesmann 1999, Biol. Cybern. 81.

    Attributes:
        tau: membrane time constant, s.
        tau_syn: time constant of synaptic currents, s.
        threshold, reset: potentials, relative to rest; the unit is yours.
        bias: i_0, a constant current, in the unit of potentials.
        refractory: time for which v is held after a spike, s; the nearest number of steps.
        dt: length of a step, s.

    Raises:
        Refusal: times that are not positive, below dt, or in ms; a reset at the threshold or above it.

    Examples:
        >>> neuron = CurrentLIF(tau=20e-3, tau_syn=5e-3)
        >>> state = neuron.init(torch.zeros(1, 2))
        >>> spikes, state = neuron.step(torch.tensor([[1.0, 30.0]]), state)
        >>> spikes
        tensor([[0., 1.]])
    """

    tau: float = 20e-3
    tau_syn: float = 5e-3
    threshold: float = 1.0
    reset: float = 0.0
    bias: float = 0.0
    refractory: float = 2e-3
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, tau=self.tau, tau_syn=self.tau_syn)
        needs(self, self.reset < self.threshold, "reset < threshold")
        check_refractory(self, self.refractory, self.dt)

    def init(self, like: Tensor) -> LIFState:
        """At rest, for inputs shaped like this, (batch, *units)."""
        zero = torch.zeros_like(like)
        return LIFState(zero, zero, torch.zeros_like(like, dtype=torch.int32))

    def step(self, drive: Tensor, state: LIFState) -> tuple[Tensor, LIFState]:
        """One step: spikes, 0 or 1, and the state after it.

        Args:
            drive: what the spikes of this step add to the synaptic current, (batch, *units).
            state: of these neurons.
        """
        (vv, vi, v1), (_, ii, _), _ = propagator(self.rates(), self.dt)
        current = state.current + drive
        v = torch.where(state.resting > 0, self.reset, vv * state.v + vi * current + v1)
        spikes = v >= self.threshold
        resting = (state.resting - 1).clamp_min(0).masked_fill(spikes, steps_of(self.refractory, self.dt))
        return spikes.to(drive), LIFState(v.masked_fill(spikes, self.reset), ii * current, resting)

    def rates(self) -> Matrix:
        """Of v, i and 1."""
        return ((-1 / self.tau, 1 / self.tau, self.bias / self.tau), (0.0, -1 / self.tau_syn, 0.0), (0.0, 0.0, 0.0))


class DeltaState(NamedTuple):
    """State of `DeltaLIF`; both (batch, *units)."""

    v: Tensor  # potential
    resting: Tensor  # steps that are left of the refractory time, int32


@dataclass(frozen=True)
class DeltaLIF:
    r"""The neuron :math:`\tau \dot v = -v + i_0` without synaptic current: a spike that comes in moves v at once.

    A step lets v decay, then adds the input. A neuron that is then at the threshold or above spikes. v becomes `reset`
    and stays there for `refractory`; input that comes meanwhile is lost. With ``tau=math.inf`` nothing leaks, and the
    neuron integrates and fires.

    Lapicque 1907, J. Physiol. Pathol. Gen. 9.

    Attributes:
        tau, threshold, reset, bias, refractory, dt: as of `CurrentLIF`.

    Raises:
        Refusal: times that are not positive, below dt, or in ms; a reset at the threshold or above it.

    Examples:
        >>> neuron = DeltaLIF(tau=20e-3, threshold=1.0)
        >>> state = neuron.init(torch.zeros(1, 2))
        >>> spikes, state = neuron.step(torch.tensor([[0.4, 1.0]]), state)
        >>> spikes, state.v
        (tensor([[0., 1.]]), tensor([[0.4000, 0.0000]]))
    """

    tau: float = 20e-3
    threshold: float = 1.0
    reset: float = 0.0
    bias: float = 0.0
    refractory: float = 0.0
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        leaks = self.tau != math.inf
        check_seconds(self, self.dt, tau=self.tau if leaks else self.dt)
        needs(self, leaks or self.bias == 0, "bias=0 where tau is infinite: its current would be none")
        needs(self, self.reset < self.threshold, "reset < threshold")
        check_refractory(self, self.refractory, self.dt)

    def init(self, like: Tensor) -> DeltaState:
        """At rest, for inputs shaped like this, (batch, *units)."""
        return DeltaState(torch.zeros_like(like), torch.zeros_like(like, dtype=torch.int32))

    def step(self, drive: Tensor, state: DeltaState) -> tuple[Tensor, DeltaState]:
        """One step: spikes, 0 or 1, and the state after it; `drive` is what the spikes of this step add to v."""
        (kept, gained), _ = propagator(self.rates(), self.dt)
        v = torch.where(state.resting > 0, self.reset, kept * state.v + gained + drive)
        spikes = v >= self.threshold
        resting = (state.resting - 1).clamp_min(0).masked_fill(spikes, steps_of(self.refractory, self.dt))
        return spikes.to(drive), DeltaState(v.masked_fill(spikes, self.reset), resting)

    def rates(self) -> Matrix:
        """Of v and 1."""
        return ((-1 / self.tau, self.bias / self.tau), (0.0, 0.0))


class AdaptiveState(NamedTuple):
    """State of `AdaptiveLIF`; all (batch, *units)."""

    v: Tensor  # potential
    current: Tensor  # synaptic current
    w: Tensor  # adaptation current
    theta: Tensor  # what the threshold is higher by
    resting: Tensor  # steps that are left of the refractory time, int32


@dataclass(frozen=True)
class AdaptiveLIF:
    r"""A LIF neuron that tires: :math:`\tau \dot v = -v + i - w + i_0,\ \tau_w \dot w = -w + a v`, and theta decays.

    A spike adds b to the adaptation current w and `theta_plus` to the threshold, which is `threshold` + theta. Input,
    refractory time and order of events are those of `CurrentLIF`; w goes on while v is held.

    Gerstner & Kistler 2002, *Spiking Neuron Models*; adaptive threshold as in Bellec et al. 2018, NeurIPS 31.

    Attributes:
        tau, tau_syn, threshold, reset, bias, refractory, dt: as of `CurrentLIF`.
        tau_w: time constant of the adaptation current, s.
        a: how strongly the potential drives the adaptation current.
        b: what a spike adds to it.
        tau_theta: time constant of the threshold, s.
        theta_plus: what a spike adds to the threshold.

    Raises:
        Refusal: times that are not positive, below dt, or in ms; a reset at the threshold or above it. A threshold that
            spikes lower, which could fall to the reset.

    Examples:
        >>> neuron = AdaptiveLIF(theta_plus=0.5)
        >>> state = neuron.init(torch.zeros(1, 1))
        >>> spikes, state = neuron.step(torch.tensor([[30.0]]), state)
        >>> spikes.item(), state.theta.item()
        (1.0, 0.5)
    """

    tau: float = 20e-3
    tau_syn: float = 5e-3
    tau_w: float = 0.1
    a: float = 0.0
    b: float = 0.0
    tau_theta: float = 0.1
    theta_plus: float = 0.0
    threshold: float = 1.0
    reset: float = 0.0
    bias: float = 0.0
    refractory: float = 2e-3
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, tau=self.tau, tau_syn=self.tau_syn)
        check_seconds(self, self.dt, slow=("tau_w", "tau_theta"), tau_w=self.tau_w, tau_theta=self.tau_theta)
        needs(self, self.reset < self.threshold, "reset < threshold")
        needs(self, self.theta_plus >= 0, "theta_plus >= 0: the threshold must not fall to the reset")
        check_refractory(self, self.refractory, self.dt)

    def init(self, like: Tensor) -> AdaptiveState:
        """At rest, for inputs shaped like this, (batch, *units)."""
        zero = torch.zeros_like(like)
        return AdaptiveState(zero, zero, zero, zero, torch.zeros_like(like, dtype=torch.int32))

    def step(self, drive: Tensor, state: AdaptiveState) -> tuple[Tensor, AdaptiveState]:
        """One step: spikes, 0 or 1, and the state after it; `drive` as of `CurrentLIF`."""
        (vv, vi, vw, v1), (_, ii, _, _), (wv, wi, ww, w1), _ = propagator(self.rates(), self.dt)
        (hold, held), _ = propagator(self.rates_held(), self.dt)
        ((calm,),), current = propagator(((-1 / self.tau_theta,),), self.dt), state.current + drive
        still = state.resting > 0
        v = torch.where(still, self.reset, vv * state.v + vi * current + vw * state.w + v1)
        free = wv * state.v + wi * current + ww * state.w + w1
        w, theta = torch.where(still, hold * state.w + held, free), calm * state.theta
        spikes = v >= self.threshold + theta
        fired = spikes.to(drive)
        resting = (state.resting - 1).clamp_min(0).masked_fill(spikes, steps_of(self.refractory, self.dt))
        v = v.masked_fill(spikes, self.reset)
        return fired, AdaptiveState(v, ii * current, w + self.b * fired, theta + self.theta_plus * fired, resting)

    def rates_held(self) -> Matrix:
        """Of w and 1 while v is held."""
        return ((-1 / self.tau_w, self.a * self.reset / self.tau_w), (0.0, 0.0))

    def rates(self) -> Matrix:
        """Of v, i, w and 1."""
        v = (-1 / self.tau, 1 / self.tau, -1 / self.tau, self.bias / self.tau)
        i, w = (0.0, -1 / self.tau_syn, 0.0, 0.0), (self.a / self.tau_w, 0.0, -1 / self.tau_w, 0.0)
        return (v, i, w, (0.0, 0.0, 0.0, 0.0))
