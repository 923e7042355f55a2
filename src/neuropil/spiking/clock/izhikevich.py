"""Izhikevich's neuron, which spikes, bursts and chatters by four parameters."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neuropil.errors import check_seconds, needs, needs_numbers

LONGEST = 2e-3  # step, s


class IzhikevichState(NamedTuple):
    """State of `Izhikevich`; both (batch, *units)."""

    v: Tensor  # potential, mV
    u: Tensor  # recovery, mV/ms


@dataclass(frozen=True)
class Izhikevich:
    r"""The neuron :math:`\dot v = 0.04 v^2 + 5 v + 140 - u + I,\ \dot u = a (b v - u)`; at 30 mV v := c and u += d.

    Potentials are in mV and the equation's time in ms, as published; dt is in s. The input I is constant in a step. A
    step is made of `substeps` steps of the classical Runge-Kutta method, after each of which v is compared with 30 mV.

    A neuron may be reset several times in a step, which is one spike. So a step has at most 2 ms, and of more
    than 1 / dt resets in a second some are not counted. Take a shorter step where neurons are that fast.

    Izhikevich 2003, IEEE Trans. Neural Netw. 14.

    Attributes:
        a, b, c, d: 0.02, 0.2, -65, 8 for regular spiking; 0.1, 0.2, -65, 2 fast; 0.02, 0.2, -50, 2 chattering.
        substeps: in a step.
        dt: length of a step, s.

    Raises:
        Refusal: a step in ms, one of more than 2 ms, or none.

    Examples:
        >>> neuron = Izhikevich()
        >>> state, spikes = neuron.init(torch.zeros(1, 1)), 0.0
        >>> for _ in range(100):
        ...     fired, state = neuron.step(torch.full((1, 1), 10.0), state)
        ...     spikes += fired.item()
        >>> spikes
        3.0
    """

    a: float = 0.02
    b: float = 0.2
    c: float = -65.0
    d: float = 8.0
    substeps: int = 10
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt)
        needs(self, self.dt <= LONGEST, f"dt <= {LONGEST:g} s: more resets in a step are one spike")
        needs(self, self.substeps >= 1 and self.c < 30, "substeps >= 1 and c < 30")

    def init(self, like: Tensor) -> IzhikevichState:
        """At v = c and u = b v, for inputs shaped like this, (batch, *units)."""
        v = torch.full_like(like, self.c)
        return IzhikevichState(v, self.b * v)

    def step(self, current: Tensor, state: IzhikevichState) -> tuple[Tensor, IzhikevichState]:
        """One step: spikes, 0 or 1, and the state after it; `current` is I, (batch, *units)."""
        h, (v, u), spikes = 1000 * self.dt / self.substeps, state, torch.zeros_like(current)
        for _ in range(self.substeps):
            k_1 = self._slope(v, u, current)
            k_2 = self._slope(v + h / 2 * k_1[0], u + h / 2 * k_1[1], current)
            k_3 = self._slope(v + h / 2 * k_2[0], u + h / 2 * k_2[1], current)
            k_4 = self._slope(v + h * k_3[0], u + h * k_3[1], current)
            v, u = (x + h / 6 * (p + 2 * q + 2 * r + s) for x, p, q, r, s in zip((v, u), k_1, k_2, k_3, k_4))
            fired = v >= 30
            v, u = v.masked_fill(fired, self.c), torch.where(fired, u + self.d, u)
            spikes = torch.maximum(spikes, fired.to(spikes))
        return spikes, IzhikevichState(v, u)

    def _slope(self, v: Tensor, u: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
        """dv/dt and du/dt, per ms."""
        return 0.04 * v * v + 5 * v + 140 - u + current, self.a * (self.b * v - u)
