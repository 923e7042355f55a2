"""Recurrent networks of QIF or LIF neurons with any connectivity: input spikes in, spikes and end states out."""

from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, require
from neuropil.spiking.current import check_dtype
from neuropil.spiking.kernels.bundles import OutputGrads, Plan, RecurrentModel
from neuropil.spiking.kernels.dispatch import kernels
from neuropil.spiking.lif import LIF, Membrane
from neuropil.spiking.network import Neuron, SpikingLayer, check_inputs
from neuropil.spiking.qif import LARGEST, QIF, QIFState, Simulation
from neuropil.spiking.times import Events, scatter_events

__all__ = ["RecurrentLIF", "RecurrentQIF", "simulate_recurrent_lif", "simulate_recurrent_qif"]


class RecurrentLayer(SpikingLayer):
    """Neurons with decaying currents that are connected; `RecurrentQIF` and `RecurrentLIF` are finished ones."""

    mask: Tensor
    kind: ClassVar[type[Any]]  # of neuron

    def __init__(
        self, inputs: int, neurons: int, *, neuron: Neuron | None = None, t_end: float, mask: Tensor | None = None,
        dtype: torch.dtype = torch.float32, plan: Plan | None = None,
    ):  # fmt: skip
        super().__init__(neuron or self.kind(), t_end, plan)
        check_dtype(dtype)
        name = type(self).__name__
        require(inputs >= 0 and neurons >= 1, f"{name} needs inputs >= 0, neurons >= 1, got {inputs}, {neurons}.")
        wanted = (neurons, neurons)
        got = wanted if mask is None else tuple(mask.shape)
        require(got == wanted, f"the mask needs one row and one column per neuron, {wanted}, got {got}.")
        self.weight = nn.Parameter(torch.zeros(inputs, neurons, dtype=dtype))
        self.recurrent = nn.Parameter(torch.zeros(wanted, dtype=dtype))
        self.potential = nn.Parameter(torch.zeros(neurons, dtype=dtype))
        self.current = nn.Parameter(torch.zeros(neurons, dtype=dtype))
        self.register_buffer("mask", torch.ones(wanted, dtype=torch.bool) if mask is None else mask.bool())


class RecurrentQIF(RecurrentLayer):
    r"""QIF neurons with exponentially decaying current, driven by inputs and by each other, without delay.

    tau dV/dt = V (V - 1) + I, tau dI/dt = -2 I + sum_k w_k tau delta(t - t_k) over inputs and neurons; spike at
    V = inf, reset to -inf. Exact at every weight, state and input time.
    Klos & Memmesheimer 2025, Phys. Rev. Lett. 134, 027301.

    Args:
        inputs, neurons: sizes.
        neuron: the kind of neuron.
        t_end: end of the trial, in the unit of ``neuron.tau``.
        mask: (neurons, neurons), True where a synapse may be; from every neuron to every neuron if left out.
        dtype: float32 or float64.
        plan: how the kernels run.

    Attributes:
        weight: (inputs, neurons), 0 at first.
        recurrent: (neurons, neurons), rows are senders, 0 at first.
        potential, current: (neurons,), V and I at time 0, 0 at first.

    Raises:
        Refusal: sizes, end, mask or dtype that cannot be, or spike times that do not fit.

    >>> RecurrentQIF(2, 5, t_end=4.0)(torch.tensor([[0.1, 0.5]]), n_spikes=2).times.shape
    torch.Size([1, 5, 2])
    """

    neuron: QIF
    kind = QIF

    def simulate(self, times: Tensor) -> tuple[Tensor, QIFState]:
        """Ordinary spikes, (batch, neurons, spikes), and the state at the end.

        The drive of a pseudospike is the weighted sum of the phases of the other neurons at the end of the trial. These
        phases are those of neurons without current. A spike at the end changes currents at once, and phases that knew
        of it would make the others' pseudospikes jump.
        """
        recurrent = self.recurrent * self.mask
        weights = self.weight, recurrent, self.potential, self.current
        spikes, state = simulate_recurrent_qif(times, *weights, self.neuron, self.t_end, plan=self.plan)
        rate = self.neuron.rate(QIFState(state.angle, torch.zeros_like(state.current)))
        return spikes, self.neuron.with_drive(state, rate @ recurrent)


class RecurrentLIF(RecurrentLayer):
    r"""LIF neurons with exponentially decaying current, driven by inputs and by each other, without delay.

    tau dV/dt = I - V, tau dI/dt = -2 I + sum_k w_k tau delta(t - t_k) over inputs and neurons; spike at V = 1, reset to
    0. Exact at every weight, state and input time where no spike appears or vanishes; there spikes jump. On the CPU
    only. Neurons that excite each other too much fire without end in no time, and are refused.

    Args:
        inputs, neurons, neuron, t_end, mask, dtype, plan: as of `RecurrentQIF`; the neuron is a `LIF`.

    Attributes:
        weight, recurrent, potential, current: as of `RecurrentQIF`; potentials below 1.

    Raises:
        Refusal: sizes, end, mask or dtype that cannot be, or spike times that do not fit.

    >>> RecurrentLIF(2, 5, t_end=4.0)(torch.tensor([[0.1, 0.5]]), n_spikes=2).times.shape
    torch.Size([1, 5, 2])
    """

    neuron: LIF
    kind = LIF

    def simulate(self, times: Tensor) -> tuple[Tensor, Membrane]:
        """Ordinary spikes, (batch, neurons, spikes), and the state at the end."""
        weights = self.weight, self.recurrent * self.mask, self.potential, self.current
        return simulate_recurrent_lif(times, *weights, self.neuron, self.t_end, plan=self.plan)

    @torch.no_grad()
    def clamp_phases_(self) -> None:
        """Put first potentials that an optimiser drove to the threshold or beyond just below it."""
        self.potential.clamp_(max=1 - 1e-3)


def simulate_recurrent_qif(
    times: Tensor, weight: Tensor, recurrent: Tensor, potential: Tensor, current: Tensor, neuron: QIF, t_end: float, *,
    plan: Plan | None = None,
) -> tuple[Tensor, QIFState]:  # fmt: skip
    """A recurrent network of QIF neurons as a function, see `RecurrentQIF`: ordinary spikes, and the state at the end.

    Args:
        times: (batch, inputs, spikes) or (batch, inputs).
        weight, recurrent: weights (inputs, neurons) and (neurons, neurons), rows are senders.
        potential, current: (neurons,) or (batch, neurons), at time 0; a potential may be -inf.
        neuron: the kind of neuron.
        t_end: end of the trial.
        plan: how the kernels run.
    """
    plan = plan or Plan()
    kernel, trains, events = _checked("recurrent", times, weight, recurrent, potential, current, t_end, plan)
    given = trains, potential, current, events, (neuron.tau, t_end), kernel, plan, weight, recurrent
    spikes, angle, end = Simulation.apply(*given)  # type: ignore[no-untyped-call]
    return spikes, QIFState(angle, end)


def simulate_recurrent_lif(
    times: Tensor, weight: Tensor, recurrent: Tensor, potential: Tensor, current: Tensor, neuron: LIF, t_end: float, *,
    plan: Plan | None = None,
) -> tuple[Tensor, Membrane]:  # fmt: skip
    """A recurrent network of LIF neurons as a function, see `RecurrentLIF`: ordinary spikes, and the state at the end.

    Args:
        times, weight, recurrent, current, t_end, plan: as of `simulate_recurrent_qif`.
        potential: (neurons,) or (batch, neurons), at time 0, below 1.
        neuron: the kind of neuron.
    """
    plan = plan or Plan()
    kernel, trains, events = _checked("recurrent_lif", times, weight, recurrent, potential, current, t_end, plan)
    low = not potential.numel() or float(potential.detach().max()) < 1
    require(low, "LIF neurons need first potentials below 1, the threshold; clamp_phases_() puts them there.")
    given = trains, potential, current, events, (neuron.tau, t_end), kernel, plan, weight, recurrent
    spikes, *end = _LIFSimulation.apply(*given)  # type: ignore[no-untyped-call]
    return spikes, Membrane(*end)


def _checked(
    kind: str, times: Tensor, weight: Tensor, recurrent: Tensor, potential: Tensor, current: Tensor, t_end: float,
    plan: Plan,
) -> tuple[ModuleType, Tensor, Events]:  # fmt: skip
    """The kernels, the input spikes as (batch, inputs, spikes), and their events; refuses what does not fit."""
    kernel, parts = kernels(kind, times.device, plan), {"recurrent": recurrent, "potential": potential}
    trains, events = check_inputs(times, weight, t_end, "spiking neurons need", LARGEST, **parts, current=current)
    neurons = weight.shape[1]
    if recurrent.shape != (neurons, neurons) or recurrent.dtype != weight.dtype:
        needed = f"recurrent weights ({neurons}, {neurons}) in {weight.dtype}"
        got = f"{tuple(recurrent.shape)} in {recurrent.dtype}"
        raise Refusal(f"a recurrent network of {neurons} neurons needs {needed}, got {got}.")
    return kernel, trains, events


class _LIFSimulation(torch.autograd.Function):
    """Spike times, potential and current at the end, see `kernels.cpu.recurrent_lif`."""

    @staticmethod
    def forward(
        ctx: Any, trains: Tensor, potential: Tensor, current: Tensor, events: Events, flow: tuple[float, float],
        kernel: ModuleType, plan: Plan, weight: Tensor, recurrent: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        start = torch.stack(torch.broadcast_tensors(*torch.atleast_2d(potential.detach(), current.detach())))
        outer, inner = (part.detach().contiguous() for part in (weight, recurrent))
        ctx.simulated = events, RecurrentModel(outer, inner, start, *flow), plan
        times, end, ctx.log = kernel.simulate(*ctx.simulated)
        ctx.save_for_backward(trains, times, potential, current)
        ctx.kernel = kernel
        return times, end[0], end[1]

    @staticmethod
    def backward(ctx: Any, by_times: Tensor, by_potential: Tensor, by_current: Tensor) -> tuple[Tensor | None, ...]:
        trains, times, potential, current = ctx.saved_tensors
        given = OutputGrads(by_times.contiguous(), torch.stack((by_potential, by_current)))
        *by_weights, by_start, by_event = ctx.kernel.adjoint(*ctx.simulated, times, ctx.log, given)
        by_trains = scatter_events(by_event, ctx.simulated[0], trains.shape)
        parts = [part.sum_to_size(like.shape) for part, like in zip(by_start, (potential, current))]
        return by_trains, *parts, None, None, None, None, *by_weights
