"""The leaky integrate-and-fire neuron with decaying currents, and layers of it: its spikes come and go with a jump."""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from neuropil.errors import needs_numbers, require
from neuropil.spiking.current import CurrentLayer, CurrentNetwork
from neuropil.spiking.kernels.bundles import LIFModel, OutputGrads, Plan
from neuropil.spiking.kernels.dispatch import kernels
from neuropil.spiking.network import check_inputs
from neuropil.spiking.times import Events, scatter_events

__all__ = ["LIF", "LIFLayer", "LIFNetwork", "Membrane", "simulate_lif"]

LARGEST = 1e6  # largest current: half a million spikes, more than any trial can mean


class Membrane(NamedTuple):
    """LIF neurons at the end of a trial of a `LIFNetwork`.

    Attributes:
        potential: V, in units of the threshold, (batch, neurons).
        current: I, in the same unit, (batch, neurons).
    """

    potential: Tensor
    current: Tensor


@dataclass(frozen=True)
class LIF:
    r"""The neuron :math:`\tau \dot V = -V + I`, :math:`\tau \dot I = -2 I`, that fires when V reaches 1.

    V restarts at 0, the current goes on; an input of weight w adds w to I. A weight or a time that lowers the peak of V
    below 1 takes the spike away at once, in the middle of the trial, with an infinite slope just before: dt / dw =
    -(dV / dw) / (dV / dt), and V rests at a peak. Nothing continues the spikes of such a neuron: a silent one has no
    gradient. The closed form for these time constants is that of Goltz et al. 2021, Nat. Mach. Intell. 3.

    Attributes:
        tau: membrane time constant, twice the synaptic one; its unit is the unit of all times.

    Raises:
        Refusal: tau is not positive and finite.

    >>> LIF().time_to_spike(torch.zeros(2), torch.tensor([5.0, 4.0]))  # a current of 4 brings V to 1, and no further
    tensor([0.3235,    inf])
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(0 < self.tau < math.inf, f"a LIF neuron needs finite tau > 0, got tau={self.tau}.")

    def flow(self, potential: Tensor, current: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        r"""State (V, I) after `time` without input and without a threshold.

        With q = exp(-time / tau): V' = (V + I) q - I q^2 and I' = I q^2.
        """
        q = torch.exp(-time / self.tau)
        return (potential + current) * q - current * q * q, current * q * q

    def time_to_spike(self, potential: Tensor, current: Tensor) -> Tensor:
        """Time until V reaches 1 from below without further input, inf if it never does.

        V = 1 is a quadratic equation in D = 1 - exp(-t / tau); the smaller solution is 2 (1 - V) / (I - V + root) with
        root^2 = (I - V)^2 - 4 I (1 - V). Where V only touches 1 (root = 0), it does not fire.
        """
        rise = current - potential
        square = rise * rise - 4 * current * (1 - potential)
        fires = (potential < 1) & (current > 1) & (rise > 0) & (square > 0)
        root = torch.where(fires, square, 1).sqrt()
        d = torch.where(fires, 2 * (1 - potential) / (torch.where(fires, rise, 1) + root), 0)
        fires = fires & (d < 1)
        return torch.where(fires, -self.tau * torch.log1p(-torch.where(fires, d, 0)), math.inf)

    def with_drive(self, state: Membrane, drive: Tensor) -> Membrane:
        """The state itself: what comes after the end does not count."""
        return state

    def rate(self, state: Membrane) -> Tensor:
        """0: a LIF neuron that does not fire says nothing to the layer above."""
        return torch.zeros_like(state.potential)

    def with_pseudospikes(self, spikes: Tensor, state: Membrane, t_end: float, n_spikes: int = 1) -> Tensor:
        """The first `n_spikes` spikes of every neuron; the end of the trial stands for those that it did not bring.

        LIF neurons have no pseudospikes. The end makes losses finite, but it has no gradient: a silent neuron does not
        learn from it.

        Args:
            spikes: ordinary ones, (..., neurons, slots), inf where there is none.
            state: at the end of the trial; not used.
            t_end: end of the trial, T.
            n_spikes: how many are wanted, >= 1.

        Returns:
            (..., neurons, n_spikes), all finite, ascending.
        """
        require(n_spikes >= 1, f"with_pseudospikes needs n_spikes >= 1, got {n_spikes}.")
        wide = pad(spikes, (0, max(0, n_spikes - spikes.shape[-1])), value=math.inf)[..., :n_spikes]
        return torch.where(wide.isfinite(), wide, t_end)


class LIFLayer(CurrentLayer):
    r"""LIF neurons with exponentially decaying current, each driven by every input.

    tau dV/dt = -V + I, tau dI/dt = -2 I + sum_i w_i tau delta(t - t_i); spike at V = 1, reset to 0. Spike times and
    their gradients are exact, wherever a spike neither appears nor vanishes. It runs on the CPU.

    Args:
        inputs, outputs: numbers of neurons.
        neuron: the kind of neuron.
        t_end: end of the trial, in the unit of ``neuron.tau``.
        dtype: float32 or float64.
        plan: how the kernels run.

    Attributes:
        weight: (inputs, neurons), 0 at first.
        potential, current: (neurons,), V and I at time 0, 0 at first.

    Raises:
        Refusal: a size below 1, no end, another dtype, or spike times that do not fit.

    >>> layer = LIFLayer(2, 3, t_end=4.0).init_(torch.Generator().manual_seed(0), mean=5.0)
    >>> layer(torch.tensor([[0.1, 0.5]])).times.shape
    torch.Size([1, 3, 1])
    """

    neuron: LIF
    kind = LIF

    def simulate(self, times: Tensor) -> tuple[Tensor, Membrane]:
        """Ordinary spikes, (batch, neurons, spikes), and the state at the end."""
        start = self.potential, self.current
        return simulate_lif(times, self.weight, *start, self.neuron, self.t_end, plan=self.plan)

    @torch.no_grad()
    def clamp_phases_(self) -> None:
        """Put first potentials that an optimiser drove to the threshold or beyond just below it."""
        self.potential.clamp_(max=1 - 1e-3)


class LIFNetwork(CurrentNetwork):
    """Stacked layers of LIF neurons. They have no pseudospikes: the end of the trial stands for missing output spikes.

    Args:
        sizes: numbers of neurons, from the inputs to the outputs.
        neuron: the kind of neuron.
        t_end: end of the trial, in the unit of ``neuron.tau``.
        dtype: float32 or float64.
        plan: how the kernels run.

    Raises:
        Refusal: fewer than two sizes, a size below 1, no end, or another dtype.

    >>> LIFNetwork((2, 5, 3), t_end=4.0)(torch.tensor([[0.1, 0.5]]), n_spikes=2).times.shape
    torch.Size([1, 3, 2])
    """

    neuron: LIF
    kind = LIFLayer

    def init_(self, rng: torch.Generator) -> None:
        """Initialise the weights so that most neurons fire, in place.

        N(2, 1.2^2) from the inputs of the network, N(0.7, 1.2^2) from other layers.
        """
        for depth, layer in enumerate(self.stack()):
            layer.init_(rng, mean=0.7 if depth else 2.0, std=1.2)


def simulate_lif(
    times: Tensor, weight: Tensor, potential: Tensor, current: Tensor, neuron: LIF, t_end: float, *,
    plan: Plan | None = None,
) -> tuple[Tensor, Membrane]:  # fmt: skip
    """A layer of LIF neurons as a function, see `LIFLayer`: ordinary spikes, and the state at the end.

    Args:
        times: (batch, inputs, spikes) or (batch, inputs).
        weight: (inputs, neurons).
        potential, current: (neurons,) or (batch, neurons), at time 0; potentials below 1.
        neuron: the kind of neuron.
        t_end: end of the trial.
        plan: how the kernels run.
    """
    plan = plan or Plan()
    kernel = kernels("lif", times.device, plan)
    trains, events = check_inputs(times, weight, t_end, most=LARGEST, potential=potential, current=current)
    low = not potential.numel() or float(potential.detach().max()) < 1
    require(low, "LIF neurons need first potentials below 1, the threshold; clamp_phases_() puts them there.")
    flow = neuron.tau, t_end
    given = trains, weight, potential, current, events, flow, kernel, plan
    spikes, *end = _Simulation.apply(*given)  # type: ignore[no-untyped-call]
    return spikes, Membrane(*end)


class _Simulation(torch.autograd.Function):
    """Spike times, potential and current at the end of a layer, see `kernels.cpu.lif`."""

    @staticmethod
    def forward(
        ctx: Any, trains: Tensor, weight: Tensor, potential: Tensor, current: Tensor, events: Events,
        flow: tuple[float, float], kernel: ModuleType, plan: Plan,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        start = torch.stack(torch.broadcast_tensors(*torch.atleast_2d(potential.detach(), current.detach())))
        ctx.simulated = events, LIFModel(weight.detach().contiguous(), start, *flow)
        times, end = kernel.simulate(*ctx.simulated, plan)
        ctx.save_for_backward(trains, times, weight, potential, current)
        ctx.kernel = kernel
        return times, end[0], end[1]

    @staticmethod
    def backward(ctx: Any, by_times: Tensor, by_potential: Tensor, by_current: Tensor) -> tuple[Tensor | None, ...]:
        trains, times, _, potential, current = ctx.saved_tensors
        given = OutputGrads(by_times.contiguous(), torch.stack((by_potential, by_current)))
        by_weight, by_start, by_event = ctx.kernel.adjoint(*ctx.simulated, times, given, ctx.needs_input_grad[0])
        by_trains = scatter_events(by_event, ctx.simulated[0], trains.shape) if ctx.needs_input_grad[0] else None
        parts = [part.sum_to_size(like.shape) for part, like in zip(by_start, (potential, current))]
        return by_trains, by_weight, *parts, None, None, None, None
