"""STDP of pairs of spikes, also as it balances inhibition, and as it acts at postsynaptic spikes alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neuropil._subnormals import leaky_sum, without_subnormals
from neuropil.errors import check_seconds, needs, needs_numbers
from neuropil.plasticity.stdp.rule import TraceRule
from neuropil.plasticity.stdp.terms import Factor, Term
from neuropil.plasticity.stdp.weight_dependence import WeightDependence

Pairing = Literal["all", "nearest"]


class Traces(NamedTuple):
    """What each neuron remembers of its own spikes."""

    pre: Tensor  # (batch, *in)
    post: Tensor  # (batch, *out)

    @classmethod
    def zeros(cls, pre: Tensor, post: Tensor) -> "Traces":
        """After a long silence."""
        return cls(torch.zeros_like(pre), torch.zeros_like(post))


def decayed(trace: Tensor, dt: float, tau: float) -> Tensor:
    """A trace after a step without a spike, exactly: times exp(-dt / tau)."""
    return without_subnormals(trace * math.exp(-dt / tau))


def spiked(trace: Tensor, spikes: Tensor, pairing: Pairing) -> Tensor:
    """A trace after the spikes of a step: each adds 1, or makes it 1 where only the latest spike counts."""
    return trace + spikes if pairing == "all" else torch.maximum(trace, spikes)


def check_choices(rule: object, pairing: str, dependence: object) -> None:
    """Refuse other pairings, and a dependence that is none."""
    needs(rule, pairing in ("all", "nearest"), "pairing='all' or 'nearest'")
    fits = dependence is None or (hasattr(dependence, "up") and hasattr(dependence, "down"))
    needs(rule, fits, "dependence=SoftBounds(), LogisticBounds(), PowerLaw() or None")


def factors(dependence: WeightDependence | None) -> tuple[Factor | None, Factor | None]:
    """Of potentiation and of depression."""
    return (None, None) if dependence is None else (dependence.up, dependence.down)


@dataclass(frozen=True)
class PairSTDP(TraceRule):
    r"""STDP of pairs: :math:`A_+ f_+(w) e^{-s/\tau_+}` for pre before post, else :math:`-A_- f_-(w) e^{-s/\tau_-}`.

    Two spikes that are s seconds apart change the weight w by this when the later one comes. Spikes of the same step
    do nothing to each other. Exact for spikes on the grid of steps.

    Morrison, Diesmann & Gerstner 2008, Biol. Cybern. 98.

    Attributes:
        tau_plus, tau_minus: widths of the windows, s.
        a_plus, a_minus: changes at zero lag, in units of the weight.
        pairing: "all" pairs of spikes, or each spike with the "nearest" one before it on the other side.
        dependence: on the weight: `SoftBounds`, `LogisticBounds`, `PowerLaw`; None for none (additive).
        dt: length of a step, s.

    Raises:
        Refusal: times that are not positive, below dt, or in ms; an unknown pairing.

    Examples:
        >>> layer, rule = torch.nn.Linear(1, 1, bias=False), PairSTDP(a_plus=0.5)
        >>> fired, silent = torch.ones(1, 1), torch.zeros(1, 1)
        >>> memory = rule.init(layer, fired, silent)
        >>> _, memory = rule.step(layer, fired, silent, memory)
        >>> change, memory = rule.step(layer, silent, fired, memory)  # 0.5 exp(-1 / 20)
        >>> change
        tensor([[0.4756]])
    """

    tau_plus: float = 20e-3
    tau_minus: float = 20e-3
    a_plus: float = 1.0
    a_minus: float = 1.0
    pairing: Pairing = "all"
    dependence: WeightDependence | None = None
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, tau_plus=self.tau_plus, tau_minus=self.tau_minus)
        check_choices(self, self.pairing, self.dependence)

    def memory(self, pre: Tensor, post: Tensor) -> Traces:
        """No trace of a spike."""
        return Traces.zeros(pre, post)

    def terms(self, pre: Tensor, post: Tensor, old: Traces) -> tuple[Sequence[Term], Traces]:  # type: ignore[override]
        """Potentiation by post spikes, depression by pre spikes."""
        q_plus, q_minus = math.exp(-self.dt / self.tau_plus), math.exp(-self.dt / self.tau_minus)
        up, down = factors(self.dependence)
        terms = Term(old.pre, post, self.a_plus * q_plus, up), Term(pre, old.post, -self.a_minus * q_minus, down)
        if self.pairing == "all":  # decay and spike in one pass
            return terms, Traces(leaky_sum(old.pre, q_plus, pre), leaky_sum(old.post, q_minus, post))
        x, y = decayed(old.pre, self.dt, self.tau_plus), decayed(old.post, self.dt, self.tau_minus)
        return terms, Traces(torch.maximum(pre, x), torch.maximum(post, y))


@dataclass(frozen=True)
class PostSTDP(TraceRule):
    r"""STDP at postsynaptic spikes alone: :math:`\Delta w = (x - x_0) f_+(w)`, with x a trace of presynaptic spikes.

    Inputs that were silent before a spike lose, so that a unit finds what makes it fire. f_+ serves either sign.

    Diehl & Cook 2015, Front. Comput. Neurosci. 9: a rule of theirs, with `SoftBounds`. With a trace that stays and
    `LogisticBounds` it is the rule of Kheradpisheh et al. 2018, Neural Networks 99. An input that spiked before gains
    a_+ w (1 - w), any other loses a_- w (1 - w). The offset is a_- / (a_+ + a_-) then, the rate a_+ + a_-.

    Attributes:
        tau: time constant of the trace, s; infinite for a trace that stays.
        offset: x_0, the trace that leaves a weight alone.
        pairing: "nearest" makes the trace 1 at a spike, "all" adds 1.
        dependence: on the weight; None for none (additive).
        dt: length of a step, s.

    Raises:
        Refusal: times that are not positive, below dt, or in ms; an unknown pairing.

    Examples:
        >>> layer, rule = torch.nn.Linear(2, 1, bias=False), PostSTDP(offset=0.5)
        >>> memory = rule.init(layer, torch.zeros(1, 2), torch.zeros(1, 1))
        >>> _, memory = rule.step(layer, torch.tensor([[1.0, 0.0]]), torch.zeros(1, 1), memory)
        >>> rule.step(layer, torch.zeros(1, 2), torch.ones(1, 1), memory)[0]
        tensor([[ 0.4512, -0.5000]])
    """

    tau: float = 20e-3
    offset: float = 0.4
    pairing: Pairing = "nearest"
    dependence: WeightDependence | None = None
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, tau=self.dt if self.tau == math.inf else self.tau)
        check_choices(self, self.pairing, self.dependence)

    def memory(self, pre: Tensor, post: Tensor) -> Tensor:
        """No trace of a spike."""
        return torch.zeros_like(pre)

    def terms(self, pre: Tensor, post: Tensor, old: Tensor) -> tuple[Sequence[Term], Tensor]:  # type: ignore[override]
        """What a postsynaptic spike makes of the traces."""
        x = decayed(old, self.dt, self.tau)
        up, _ = factors(self.dependence)
        return [Term(x, post, factor=up), Term(None, post, -self.offset, up)], spiked(x, pre, self.pairing)


@dataclass(frozen=True)
class InhibitorySTDP(TraceRule):
    r"""Inhibition that balances excitation: a pre spike adds :math:`y - 2 \rho_0 \tau`, a post spike adds x.

    x and y are traces of the pre and post spikes. The window is symmetric, and a presynaptic spike alone weakens. With
    Poisson spikes the change is 0 on average where the postsynaptic rate is rho_0. In steps a pair within one does not
    count, so the balance is at :math:`\rho_0 \tau (e^{dt/\tau} - 1) / dt`, which is 2.5 % higher at 1 ms and 20 ms. The
    weight is the strength of an inhibitory synapse, so it is positive.

    Vogels et al. 2011, Science 334.

    Attributes:
        rate: rho_0, to which the postsynaptic neuron is brought, Hz.
        tau: time constant of both traces, s.
        dt: length of a step, s.

    Raises:
        Refusal: times that are not positive, below dt, or in ms; a negative rate.

    Examples:
        >>> layer, rule = torch.nn.Linear(1, 1, bias=False), InhibitorySTDP(rate=5.0)
        >>> memory = rule.init(layer, torch.zeros(1, 1), torch.zeros(1, 1))
        >>> rule.step(layer, torch.ones(1, 1), torch.zeros(1, 1), memory)[0]
        tensor([[-0.2000]])
    """

    rate: float = 5.0
    tau: float = 20e-3
    dt: float = 1e-3

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_seconds(self, self.dt, tau=self.tau)
        needs(self, self.rate >= 0, "rate >= 0, in Hz")

    def memory(self, pre: Tensor, post: Tensor) -> Traces:
        """No trace of a spike."""
        return Traces.zeros(pre, post)

    def terms(self, pre: Tensor, post: Tensor, old: Traces) -> tuple[Sequence[Term], Traces]:  # type: ignore[override]
        """Both orders of spikes potentiate; each pre spike depresses."""
        x, y = decayed(old.pre, self.dt, self.tau), decayed(old.post, self.dt, self.tau)
        terms = Term(x, post), Term(pre, y - 2 * self.rate * self.tau)
        return terms, Traces(x + pre, y + post)
