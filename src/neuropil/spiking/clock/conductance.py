"""Integrate-and-fire neurons whose synapses open conductances, with an adaptive threshold."""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuropil.errors import check_refractory, check_seconds, needs, needs_numbers
from neuropil.spiking.clock.linear import steps_of

NODES = 4  # of Gauss-Legendre quadrature in a step
STEEP = 1.0  # from which z of a whole step on it takes more than these to resolve the potential
MANY = 12  # nodes of a steep step, which stand in its end: from where z is below `REACH`
REACH = 20.0


class ConductanceState(NamedTuple):
    """State of `ConductanceLIF`; all (batch, *units)."""

    v: Tensor  # potential, V
    g_e: Tensor  # excitatory conductance, in units of the leak
    g_i: Tensor  # inhibitory conductance
    theta: Tensor  # what the threshold is higher by, V
    resting: Tensor  # steps that are left of the refractory time, int32


class Quadrature(NamedTuple):
    """Constants of a step at the nodes of a quadrature: each is a tuple with one number for each node.

    With z = leak + g_e e + g_i i, exp(-z) is what is left at the end of the step of a change at the node.
    """

    weight: tuple[float, ...]  # of the node, over tau
    leak: tuple[float, ...]
    e: tuple[float, ...]  # integral of the excitatory conductance from the node on, over tau
    i: tuple[float, ...]
    e_now: tuple[float, ...]  # excitatory conductance at the node
    i_now: tuple[float, ...]


@cache
def quadrature(tau: float, tau_e: float, tau_i: float, dt: float) -> Quadrature:
    """The constants, with the start of the step as a first node of weight 0: its z belongs to the potential there."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    at = [0.0, *(dt * (1 + nodes) / 2)]

    def left(s: float, syn: float) -> float:
        return syn / tau * (math.exp(-s / syn) - math.exp(-dt / syn))

    return Quadrature(
        (0.0, *(float(w) * dt / 2 / tau for w in weights)),
        tuple(float(dt - s) / tau for s in at),
        tuple(left(s, tau_e) for s in at),
        tuple(left(s, tau_i) for s in at),
        tuple(math.exp(-s / tau_e) for s in at),
        tuple(math.exp(-s / tau_i) for s in at),
    )


@cache
def unit_nodes() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The nodes of a steep step, as parts of its end, and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(MANY)
    return tuple(map(float, (1 + nodes) / 2)), tuple(map(float, weights / 2))


@cache
def _placed(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The same on a device: a GPU is not waited for in every step."""
    return torch.tensor(unit_nodes(), device=device, dtype=dtype)


@dataclass(frozen=True)
class ConductanceLIF:
    r"""The neuron :math:`\tau \dot v = (E_0 - v) + g_e (E_e - v) + g_i (E_i - v)`, with decaying conductances.

    The inputs of a step add to the conductances at its start, in units of the leak conductance. Conductances decay
    exactly. The potential has the exact exponential in it and one integral, by a quadrature of four nodes. Where
    conductances are so high that a step takes away more than 63 % of v, it has twelve, close to the end of the step. It
    is right to 1e-9 V, in float64, whatever the conductances. Where v is above the threshold plus theta at the end of
    the step, the neuron spikes: v is reset and held for `refractory`, and theta grows by `theta_plus`.

    The defaults are the excitatory neuron of Diehl & Cook 2015, Front. Comput. Neurosci. 9, without its adaptive
    threshold, for which they have ``theta_plus=5e-5``.

    Attributes:
        tau: membrane time constant, s.
        tau_e, tau_i: time constants of the conductances, s.
        rest, threshold, reset: potentials, V.
        e_rev, i_rev: reversal potentials E_e and E_i, V.
        refractory: time for which v is held after a spike, s; the nearest number of steps.
        theta_plus: what a spike adds to the threshold, V.
        tau_theta: time constant in which this is forgotten, s.
        dt: length of a step, s.

    Raises:
        Refusal: times that are not positive, below dt, or in ms; potentials in mV, a reset above the threshold, or a
            threshold that spikes lower.

    Examples:
        >>> neuron = ConductanceLIF()
        >>> state = neuron.init(torch.zeros(1, 1))
        >>> spikes, state = neuron.step(torch.tensor([[5.0]]), torch.zeros(1, 1), state)
        >>> round(1000 * state.v.item(), 2)  # mV
        -62.99
    """

    tau: float = 0.1
    tau_e: float = 1e-3
    tau_i: float = 2e-3
    rest: float = -65e-3
    threshold: float = -52e-3
    reset: float = -65e-3
    e_rev: float = 0.0
    i_rev: float = -0.1
    refractory: float = 5e-3
    theta_plus: float = 0.0
    tau_theta: float = 1e4
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, tau=self.tau, tau_e=self.tau_e, tau_i=self.tau_i)
        check_seconds(self, self.dt, slow=("tau_theta",), tau_theta=self.tau_theta)
        potentials = self.rest, self.threshold, self.reset, self.e_rev, self.i_rev, self.theta_plus
        needs(self, max(map(abs, potentials)) < 1, "potentials in V, as threshold=-52e-3 for -52 mV")
        needs(self, self.reset < self.threshold, "reset < threshold")
        needs(self, self.theta_plus >= 0, "theta_plus >= 0: the threshold must not fall to the reset")
        check_refractory(self, self.refractory, self.dt)

    def init(self, like: Tensor, theta: Tensor | None = None) -> ConductanceState:
        """At rest, for inputs shaped like this, (batch, *units); `theta` goes on from earlier."""
        zero, v = torch.zeros_like(like), torch.full_like(like, self.rest)
        theta = zero if theta is None else theta.expand_as(like)
        return ConductanceState(v, zero, zero, theta, torch.zeros_like(like, dtype=torch.int32))

    def flow(self, excitation: Tensor, inhibition: Tensor, state: ConductanceState) -> ConductanceState:
        """The state at the end of a step, before any spike."""
        g_e, g_i, table = state.g_e + excitation, state.g_i + inhibition, self.table()
        start, v = zip(*table), state.v
        for k, (weight, leak, e, i, e_now, i_now) in enumerate(start):
            kept = torch.exp(-(leak + g_e * e + g_i * i))
            pull = self.rest + g_e * (e_now * self.e_rev) + g_i * (i_now * self.i_rev)
            v = v * kept if k == 0 else v + weight * pull * kept
        v = self._steep(v, g_e, g_i, state.v)
        still = state.resting > 0
        q_e, q_i = math.exp(-self.dt / self.tau_e), math.exp(-self.dt / self.tau_i)
        theta = state.theta * math.exp(-self.dt / self.tau_theta)
        resting = (state.resting - 1).clamp_min(0)
        return ConductanceState(torch.where(still, self.reset, v), g_e * q_e, g_i * q_i, theta, resting)

    def _steep(self, v: Tensor, g_e: Tensor, g_i: Tensor, before: Tensor) -> Tensor:
        """`v` at the end of a step, anew where z of the step is above `STEEP`: a mean of `before` and of potentials.

        With r from the end of the step back, v = exp(-z) before + the integral of (rest + g_e E_e + g_i E_i) exp(-z(r))
        over tau. The same integral of 1 + g_e + g_i is 1 - exp(-z). So the quotient of both sums is a mean of
        potentials at which currents are 0, and no node can take it beyond these.
        """
        _, (leak, *_), (e, *_), (i, *_), *_ = self.table()
        whole = leak + g_e * e + g_i * i
        steep = whole > STEEP
        if v.device.type == "cpu" and not torch.compiler.is_compiling() and not bool(steep.any()):
            return v
        nodes, weights = (one.view(-1, *[1] * v.dim()) for one in _placed(v.device, v.dtype))
        end_e, end_i = g_e * math.exp(-self.dt / self.tau_e), g_i * math.exp(-self.dt / self.tau_i)
        r = nodes * (REACH * self.tau / (1 + end_e + end_i)).clamp(0, self.dt)
        grown_e, grown_i = torch.expm1(r / self.tau_e), torch.expm1(r / self.tau_i)
        z = (r + end_e * self.tau_e * grown_e + end_i * self.tau_i * grown_i) / self.tau
        now_e, now_i, kept = end_e * (1 + grown_e), end_i * (1 + grown_i), weights * torch.exp(-z)
        pull = (kept * (self.rest + now_e * self.e_rev + now_i * self.i_rev)).sum(0)
        rate, left = (kept * (1 + now_e + now_i)).sum(0), torch.exp(-whole)
        return torch.where(steep, before * left + (1 - left) * pull / rate, v)

    def table(self) -> Quadrature:
        """The constants of a step."""
        return quadrature(self.tau, self.tau_e, self.tau_i, self.dt)

    def margin(self, state: ConductanceState) -> Tensor:
        """By how much the potential is above the threshold, V."""
        return state.v - (self.threshold + state.theta)

    def fire(self, spikes: Tensor, state: ConductanceState) -> ConductanceState:
        """The state after these spikes, 0 or 1."""
        fired, resting = spikes > 0, steps_of(self.refractory, self.dt)
        v, theta = state.v.masked_fill(fired, self.reset), state.theta + self.theta_plus * spikes
        return state._replace(v=v, theta=theta, resting=state.resting.masked_fill(fired, resting))

    def step(self, excitation: Tensor, inhibition: Tensor, state: ConductanceState) -> tuple[Tensor, ConductanceState]:
        """One step: spikes, 0 or 1, and the state after it.

        Args:
            excitation, inhibition: what the spikes of this step add to the conductances, (batch, *units).
            state: of these neurons.
        """
        state = self.flow(excitation, inhibition, state)
        spikes = (self.margin(state) > 0).to(excitation)
        return spikes, self.fire(spikes, state)
