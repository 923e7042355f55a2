"""Layers and networks of theta neurons as modules: spike times in, spike times out, exact gradients."""

from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import require
from neuropil.spiking.kernels.dispatch import bounded, check_parameters, kernels
from neuropil.spiking.theta import Theta
from neuropil.spiking.times import check_times, flatten_events, scatter_events


class _Simulation(torch.autograd.Function):
    """Spike times (batch, neurons, spikes) and phases at the end (batch, neurons) of a layer; see `theta_kernel`."""

    @staticmethod
    def forward(
        ctx: Any, trains: Tensor, weight: Tensor, phase: Tensor, neuron: Theta, t_end: float, kernel: ModuleType
    ) -> tuple[Tensor, Tensor]:
        events = flatten_events(trains)
        speed = neuron.r / neuron.tau
        angle = phase * speed
        start = torch.stack([-angle.cos(), angle.sin().clamp_(min=0)])  # pi may be rounded up; V = +inf is not beyond
        trial = speed, neuron.r, t_end
        times, spikes, end = kernel.simulate(events, weight.detach(), start, trial, 2 + int(t_end / neuron.period))
        require(
            bounded(end),
            f"theta neurons lost count: weights up to {float(weight.abs().max()):.3g} are too large for "
            f"{str(weight.dtype).removeprefix('torch.')}; scale them down.",
        )
        ctx.save_for_backward(weight)
        ctx.kept, ctx.shape, ctx.kernel = (events, start, trial, spikes), trains.shape, kernel
        return times, torch.atan2(end[1], -end[0]) / speed

    @staticmethod
    def backward(ctx: Any, d_times: Tensor, d_phase: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors  # refuses a weight that was changed in the meantime
        events, start, trial, spikes = ctx.kept
        given = d_times.contiguous(), d_phase / trial[0]
        by_time = ctx.needs_input_grad[0]
        d_weight, d_start, d_time = ctx.kernel.adjoint(events, weight, start, trial, spikes, given, by_time)
        d_trains = scatter_events(d_time, events, ctx.shape) if by_time else None
        return d_trains, d_weight, d_start * trial[0], None, None, None


class ThetaLayer(nn.Module):
    """Theta neurons that receive spikes from below and send spikes up, with exact gradients for all that moves them.

    Args:
        inputs, outputs: numbers of neurons.
        neuron: the kind of neuron.
        t_end: end of the trial T, in the unit of ``neuron.tau``.

    Attributes:
        weight: (inputs, outputs), dimensionless; starts uniform within +-0.5 / sqrt(inputs).
        phase: at time 0, (outputs,), between 0 and the neuron's period; starts in the middle.
    """

    def __init__(self, inputs: int, outputs: int, *, neuron: Theta | None = None, t_end: float = 2.0):
        super().__init__()
        require(inputs >= 1 and outputs >= 1, f"a layer needs neurons on both sides, got {inputs} and {outputs}.")
        require(0 < t_end < torch.inf, f"a trial needs a positive, finite end, got t_end={t_end}.")
        self.neuron, self.t_end = neuron or Theta(), t_end
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-0.5, 0.5) / inputs**0.5)
        self.phase = nn.Parameter(torch.full((outputs,), self.neuron.period / 2))

    def forward(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """The spikes of the layer and how far it got.

        Args:
            times: (batch, inputs, spikes) or (batch, inputs), ascending, inf where there is no spike.

        Returns:
            spike times, (batch, outputs, spikes), ascending, padded with inf to the busiest neuron, and
            phases at the end of the trial, (batch, outputs).
        """
        kernel, trains = kernels("theta", times.device), check_times(times, self.t_end)
        weight, phase = self.weight, self.phase
        check_parameters(times, weight=weight, phase=phase)
        require(
            trains.shape[1] == len(weight) and trains.dtype == weight.dtype,
            f"the layer needs times of {len(weight)} neurons in {weight.dtype}, "
            f"got {trains.shape[1]} in {trains.dtype}.",
        )
        return _Simulation.apply(trains, weight, phase, self.neuron, self.t_end, kernel)

    def extra_repr(self) -> str:
        """Sizes, neuron, end of the trial."""
        inputs, outputs = self.weight.shape
        return f"{inputs}, {outputs}, neuron={self.neuron}, t_end={self.t_end}"


class Answer(NamedTuple):
    """What a network of theta neurons did in a trial.

    Attributes:
        trains: ordinary spikes of every layer, each (batch, neurons, spikes), padded with inf.
        phases: of every layer at the end, (batch, neurons), with the input that stands for the spikes that would reach
            it after the end: from a silent network to a firing one they change without a jump.
        times: first output times of the last layer, (batch, outputs, spikes), all finite: pseudospikes after ordinary
            ones.
    """

    trains: tuple[Tensor, ...]
    phases: tuple[Tensor, ...]
    times: Tensor


class ThetaNetwork(nn.Module):
    r"""Stacked layers of theta neurons, whose pseudospikes make gradients reach the bottom of a silent network.

    What the spikes after the end T would do is told by rates: with :math:`\rho` = 0 for the inputs of the network,
    layer by layer :math:`\phi = H(\phi(T), W^T \rho)` and :math:`\rho = \phi / \Theta`, and the k-th output time that
    no ordinary spike provides is :math:`T + k \Theta - \phi`. Klos & Memmesheimer 2025.

    Args:
        sizes: numbers of neurons, from the inputs to the outputs.
        neuron: the kind of neuron.
        t_end: end of the trial T.
    """

    def __init__(self, sizes: tuple[int, ...], *, neuron: Theta | None = None, t_end: float = 2.0):
        super().__init__()
        require(len(sizes) >= 2, f"a network needs inputs and at least one layer, got sizes={sizes}.")
        self.neuron, self.t_end = neuron or Theta(), t_end
        pairs = pairwise(sizes)
        self.layers = nn.ModuleList(ThetaLayer(a, b, neuron=self.neuron, t_end=t_end) for a, b in pairs)

    def stack(self) -> list["ThetaLayer"]:
        """The layers, from the bottom to the top."""
        return [layer for layer in self.layers if isinstance(layer, ThetaLayer)]

    def forward(self, times: Tensor, spikes: int = 1) -> Answer:
        """Run the trials of a batch.

        Args:
            times: of the inputs, (batch, inputs, spikes) or (batch, inputs), ascending, inf where there is no spike.
            spikes: output times wanted from every neuron of the last layer.
        """
        trains, phases = [times], list[Tensor]()
        for depth, layer in enumerate(self.stack()):
            out, phase = layer(trains[-1])
            if depth:
                phase = self.neuron.jump(phase, phases[-1] / self.neuron.period @ layer.weight)
            trains.append(out)
            phases.append(phase)
        return Answer(tuple(trains[1:]), tuple(phases), self.neuron.with_pseudospikes(out, phase, self.t_end, spikes))

    @torch.no_grad()
    def clamp_phases_(self) -> None:
        """Put first phases that an optimiser drove beyond 0 or the period back to that end."""
        for layer in self.stack():
            layer.phase.clamp_(0, self.neuron.period)
