"""The theta neuron: a quadratic integrate-and-fire neuron with a constant drive and inputs that act at once."""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, pi, sqrt
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from neuropil.errors import needs_numbers, require
from neuropil.spiking.kernels.bundles import OutputGrads, Plan, ThetaModel
from neuropil.spiking.kernels.dispatch import kernels
from neuropil.spiking.network import SpikingLayer, SpikingNetwork, check_inputs
from neuropil.spiking.times import Events, scatter_events

__all__ = ["Theta", "ThetaLayer", "ThetaNetwork"]


@dataclass(frozen=True)
class Theta:
    r"""The neuron :math:`\tau \dot V = V (V - 1) + I_0 + \tau \sum_i w_i \delta(t - t_i)`, seen as a phase.

    It fires when V diverges and restarts at minus infinity. With :math:`r = \sqrt{I_0 - 1/4}` the phase
    :math:`\phi = (\tau / r) (\arctan((V - 1/2) / r) + \pi / 2)` advances by 1 per unit of time, from 0 to
    :math:`\Theta = \pi \tau / r`, where the neuron fires and starts again from 0. An input of weight w takes it to
    :math:`H(\phi, w) = \Phi(\Phi^{-1}(\phi) + w)`. Klos & Memmesheimer 2025, Phys. Rev. Lett. 134, 027301.

    Attributes:
        tau: membrane time constant; its unit is the unit of all times.
        drive: constant input :math:`I_0`, above 1/4, so that the neuron fires by itself; dimensionless, like V and w.

    Raises:
        Refusal: tau is not positive and finite, or drive is not above 1/4 and finite.

    >>> round(Theta().period, 6)  # from spike to spike without input
    6.0
    """

    tau: float = 6 / pi
    drive: float = 5 / 4

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(0 < self.tau < inf, f"a theta neuron needs finite tau > 0, got tau={self.tau}.")
        require(0.25 < self.drive < inf, f"a theta neuron needs a finite drive above 1/4, got drive={self.drive}.")

    @property
    def r(self) -> float:
        """Half the distance, in V, over which the phase is spread: sqrt(I0 - 1/4)."""
        return sqrt(self.drive - 0.25)

    @property
    def period(self) -> float:
        """Time from spike to spike without input, and the largest phase."""
        return pi * self.tau / self.r

    def phase(self, potential: Tensor) -> Tensor:
        """Phi: the phase (0 to `period`) at a potential V (minus to plus infinity), any shape."""
        return (torch.atan((potential - 0.5) / self.r) + pi / 2) * (self.tau / self.r)

    def potential(self, phase: Tensor) -> Tensor:
        """The inverse of Phi: V at a phase strictly between 0 and `period`, any shape."""
        return 0.5 + self.r * torch.tan(phase * (self.r / self.tau) - pi / 2)

    def flow(self, phase: Tensor, time: Tensor | float) -> Tensor:
        """The phase after `time` without input; the neuron may have fired on the way."""
        return torch.remainder(phase + time, self.period)

    def time_to_spike(self, phase: Tensor) -> Tensor:
        """Time until the next spike without input, any shape."""
        return self.period - phase

    def jump(self, phase: Tensor, weight: Tensor) -> Tensor:
        """H: the phase right after an input of `weight`, both of any shapes that broadcast, with exact gradients.

        The ends stay where they are: a neuron at phase 0 (V = -inf) or `period` (V = inf) feels no input.
        """
        after: Tensor = _Jump.apply(phase, weight, self.r, self.tau / self.r)  # type: ignore[no-untyped-call]
        return after

    def with_drive(self, state: Tensor, drive: Tensor) -> Tensor:
        """The phase at the end after one more input, which stands for later spikes of the layer below: `jump`."""
        return self.jump(state, drive)

    def rate(self, state: Tensor) -> Tensor:
        """The phase at the end in units of the period, 0 to 1."""
        return state / self.period

    def with_pseudospikes(self, spikes: Tensor, state: Tensor, t_end: float, n_spikes: int = 1) -> Tensor:
        r"""The first `n_spikes` spikes, :math:`T + k \Theta - \phi` standing in for the k-th after the end T.

        These pseudospikes are where the neuron would fire without further input. A spike that is pushed out of the
        trial becomes one, and the other way round, without a jump.

        Args:
            spikes: ordinary ones, (batch, neurons, slots), padded with inf.
            state: phases at the end, (batch, neurons), see `with_drive`.
            t_end: end of the trial T.
            n_spikes: how many times to give per neuron, ordinary spikes first.

        Returns:
            (batch, neurons, n_spikes), all finite, ascending.
        """
        fired = spikes.isfinite().sum(-1, keepdim=True)
        missing = torch.arange(1, n_spikes + 1, dtype=spikes.dtype, device=spikes.device) - fired
        pseudospikes = t_end + missing * self.period - state[..., None]
        if spikes.shape[-1] < n_spikes:
            spikes = pad(spikes, (0, n_spikes - spikes.shape[-1]), value=inf)
        return torch.where(missing > 0, pseudospikes, spikes[..., :n_spikes])


class ThetaLayer(SpikingLayer):
    """Theta neurons, each driven by every input, with exact gradients of spike times by weights, phases and inputs.

    Args:
        inputs, outputs: numbers of neurons.
        neuron: the kind of neuron.
        t_end: end of the trial T, in the unit of ``neuron.tau``.
        plan: how the kernels run.

    Attributes:
        weight: (inputs, outputs), dimensionless; starts uniform within +-0.5 / sqrt(inputs).
        phase: at time 0, (outputs,), between 0 and the neuron's period; starts in the middle.

    Raises:
        Refusal: a size below 1, no end, or spike times that do not fit.

    >>> layer = ThetaLayer(2, 3, t_end=4.0)
    >>> layer(torch.tensor([[0.1, 0.5]])).times.shape
    torch.Size([1, 3, 1])
    """

    neuron: Theta

    def __init__(
        self, inputs: int, outputs: int, *, neuron: Theta | None = None, t_end: float = 2.0, plan: Plan | None = None
    ):
        chosen = neuron or Theta()
        super().__init__(chosen, t_end, plan)
        require(inputs >= 1 and outputs >= 1, f"a layer needs neurons on both sides, got {inputs} and {outputs}.")
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-0.5, 0.5) / inputs**0.5)
        self.phase = nn.Parameter(torch.full((outputs,), chosen.period / 2))

    @torch.no_grad()
    def init_(self, rng: torch.Generator) -> None:
        """Initialise the weights uniformly within +-0.5 / sqrt(inputs), in place."""
        first = torch.empty_like(self.weight, device=rng.device).uniform_(-0.5, 0.5, generator=rng)
        self.weight.copy_(first.div_(len(first) ** 0.5))

    def simulate(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Ordinary spikes, (batch, outputs, spikes), and phases at the end of the trial, (batch, outputs)."""
        kernel = kernels("theta", times.device, self.plan)
        trains, events = check_inputs(times, self.weight, self.t_end, phase=self.phase)
        simulated = trains, events, self.weight, self.phase, self.neuron, self.t_end, kernel, self.plan
        spikes, end = _Simulation.apply(*simulated)  # type: ignore[no-untyped-call]
        return spikes, end

    @torch.no_grad()
    def clamp_phases_(self) -> None:
        """Put first phases that an optimiser drove beyond 0 or the period back to that end."""
        self.phase.clamp_(0, self.neuron.period)


class ThetaNetwork(SpikingNetwork):
    """Stacked layers of theta neurons; see `SpikingNetwork` for its pseudospikes.

    Args:
        sizes: numbers of neurons, from the inputs to the outputs.
        neuron: the kind of neuron.
        t_end: end of the trial T.
        plan: how the kernels run.

    Raises:
        Refusal: fewer than two sizes, a size below 1, or no end.

    >>> output = ThetaNetwork((2, 5, 3))(torch.tensor([[0.1, 0.5]]), n_spikes=2)
    >>> output.times.shape, len(output.spikes)
    (torch.Size([1, 3, 2]), 2)
    """

    neuron: Theta

    def __init__(
        self, sizes: tuple[int, ...], *, neuron: Theta | None = None, t_end: float = 2.0, plan: Plan | None = None
    ):
        chosen = neuron or Theta()
        super().__init__([ThetaLayer(a, b, neuron=chosen, t_end=t_end, plan=plan) for a, b in pairwise(sizes)])

    def init_(self, rng: torch.Generator) -> None:
        """Initialise the weights of every layer uniformly within +-0.5 / sqrt(its inputs), in place."""
        for layer in self.stack():
            layer.init_(rng)


class _Jump(torch.autograd.Function):
    """With psi = phase / scale, s = sin psi, c = cos psi - (w / r) s: psi' = atan2(s, c), dpsi' = (dpsi + s^2 dw / r) /
    (s^2 + c^2).
    """

    @staticmethod
    def forward(ctx: Any, phase: Tensor, weight: Tensor, r: float, scale: float) -> Tensor:
        psi = phase / scale
        s = psi.sin().clamp_(min=0)  # psi may be rounded to above pi, where the neuron is at V = +inf
        c = psi.cos() - weight / r * s
        ctx.save_for_backward(s, c)
        ctx.r, ctx.scale, ctx.shapes = r, scale, (phase.shape, weight.shape)
        return torch.atan2(s, c) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        s, c = ctx.saved_tensors
        by_phase = gradient / (s.square() + c.square())
        by_weight = by_phase * s.square() * (ctx.scale / ctx.r)
        return by_phase.sum_to_size(ctx.shapes[0]), by_weight.sum_to_size(ctx.shapes[1]), None, None


class _Simulation(torch.autograd.Function):
    """Spike times (batch, neurons, spikes) and phases at the end (batch, neurons) of a layer."""

    @staticmethod
    def forward(
        ctx: Any, trains: Tensor, events: Events, weight: Tensor, phase: Tensor, neuron: Theta, t_end: float,
        kernel: ModuleType, plan: Plan,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        speed = neuron.r / neuron.tau
        angle = phase * speed
        start = torch.stack([-angle.cos(), angle.sin().clamp_(min=0)])  # pi may be rounded up; V = +inf is not beyond
        model = ThetaModel(weight.detach().contiguous(), start, speed, neuron.r, t_end)
        plan = plan if plan.slots else replace(plan, slots=2 + int(t_end / neuron.period))
        times, spikes, end = kernel.simulate(events, model, plan)
        ctx.save_for_backward(weight)
        ctx.simulated, ctx.spikes, ctx.shape, ctx.kernel = (events, model, plan), spikes, trains.shape, kernel
        return times, torch.atan2(end[1], -end[0]) / speed

    @staticmethod
    def backward(ctx: Any, d_times: Tensor, d_phase: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # refuses a weight that was changed in the meantime
        events, model, _ = ctx.simulated
        given = OutputGrads(d_times.contiguous(), d_phase / model.speed)
        by_time = ctx.needs_input_grad[0]
        d_weight, d_start, d_time = ctx.kernel.adjoint(*ctx.simulated, ctx.spikes, given, by_time)
        d_trains = scatter_events(d_time, events, ctx.shape) if by_time else None
        return d_trains, None, d_weight, d_start * model.speed, None, None, None, None
