"""A recurrent network of QIF neurons with any connectivity: input spikes in, spikes and end states out."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.errors import require
from neuropil.spiking.kernels.dispatch import check_parameters, kernels
from neuropil.spiking.qif import QIF
from neuropil.spiking.qif_layer import MOST, Trial, check_trial, projective
from neuropil.spiking.times import check_times, flatten_events, scatter_events

ROOM = 256  # events of a sample at first; doubled until they fit


class RecurrentQIF(nn.Module):
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

    Attributes:
        weight: (inputs, neurons), 0 at first.
        recurrent: (neurons, neurons), rows are senders, 0 at first.
        potential, current: (neurons,), V and I at time 0, 0 at first.
    """

    mask: Tensor

    def __init__(
        self,
        inputs: int,
        neurons: int,
        *,
        neuron: QIF | None = None,
        t_end: float,
        mask: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        check_trial("RecurrentQIF", t_end, dtype)
        require(inputs >= 0 and neurons >= 1, f"RecurrentQIF needs inputs >= 0, neurons >= 1, got {inputs}, {neurons}.")
        wanted = (neurons, neurons)
        got = wanted if mask is None else tuple(mask.shape)
        require(got == wanted, f"the mask needs one row and one column per neuron, {wanted}, got {got}.")
        self.neuron, self.t_end = neuron or QIF(), t_end
        self.weight = nn.Parameter(torch.zeros(inputs, neurons, dtype=dtype))
        self.recurrent = nn.Parameter(torch.zeros(wanted, dtype=dtype))
        self.potential = nn.Parameter(torch.zeros(neurons, dtype=dtype))
        self.current = nn.Parameter(torch.zeros(neurons, dtype=dtype))
        self.register_buffer("mask", torch.ones(wanted, dtype=torch.bool) if mask is None else mask.bool())

    def forward(self, times: Tensor) -> Trial:
        """Input spikes, (batch, inputs, spikes) or (batch, inputs), to what the network does with them."""
        start = self.potential, self.current
        return simulate_recurrent_qif(times, self.weight, self.recurrent * self.mask, *start, self.neuron, self.t_end)

    def with_pseudospikes(self, trial: Trial, spikes: int) -> Tensor:
        """The first `spikes` spikes of every neuron, pseudospikes after ordinary ones: (batch, neurons, spikes).

        The drive of a pseudospike is the weighted sum of the shares of the way to the next spike that the other
        neurons have come by the end of the trial. These shares are those of neurons without current: a spike at the end
        changes currents at once, and shares that knew of it would make the others' pseudospikes jump.
        """
        share, _ = self.neuron.normalised_phase(trial.angle, torch.zeros_like(trial.current))
        drive = share @ (self.recurrent * self.mask)
        normalised_phase = self.neuron.normalised_phase(trial.angle, trial.current, drive)
        return self.neuron.with_pseudospikes(trial.times, *normalised_phase, self.t_end, spikes)

    def extra_repr(self) -> str:
        """Sizes, neuron, end of the trial."""
        inputs, neurons = self.weight.shape
        return f"{inputs}, {neurons}, neuron={self.neuron}, t_end={self.t_end}"


def simulate_recurrent_qif(
    times: Tensor, outer: Tensor, inner: Tensor, potential: Tensor, current: Tensor, neuron: QIF, t_end: float
) -> Trial:
    """A recurrent network of QIF neurons as a function; see `RecurrentQIF`.

    Args:
        times: (batch, inputs, spikes) or (batch, inputs).
        outer, inner: weights (inputs, neurons) and (neurons, neurons), rows are senders.
        potential, current: (neurons,) or (batch, neurons), at time 0; a potential may be -inf.
        neuron: the kind of neuron.
        t_end: end of the trial.
    """
    check_trial("a recurrent QIF network", t_end, inner.dtype)
    kernel, trains = kernels("recurrent", times.device), check_times(times, t_end)
    neurons = len(inner)
    fits = outer.shape == (trains.shape[1], neurons) and inner.shape == (neurons, neurons)
    require(
        fits and trains.dtype == outer.dtype == inner.dtype,
        f"a recurrent network needs weights (inputs, neurons) and (neurons, neurons) for times {tuple(times.shape)} of "
        f"their type, got {tuple(outer.shape)}, {tuple(inner.shape)}, {trains.dtype}, {outer.dtype}, {inner.dtype}.",
    )
    check_parameters(times, MOST, weight=outer, recurrent=inner, potential=potential, current=current)
    start = [part if part.ndim == 2 else part[None] for part in (potential, current)]
    return Trial(*_Simulation.apply(trains, outer, inner, *start, (neuron.tau, t_end), kernel))


class _Simulation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        trains: Tensor,
        outer: Tensor,
        inner: Tensor,
        potential: Tensor,
        current: Tensor,
        trial: tuple[float, float],
        kernel: ModuleType,
    ) -> tuple[Tensor, Tensor, Tensor]:
        events = flatten_events(trains)
        weights = outer.detach().contiguous(), inner.detach().contiguous(), projective(potential, current)
        walked = events, weights, trial
        times, end, tape = kernel.simulate(*walked, ROOM + events.time.shape[1])
        ctx.save_for_backward(trains, inner, potential, current)
        ctx.walked, ctx.tape, ctx.kernel = walked, tape, kernel
        return times, torch.atan2(end[0], end[1]), end[2]

    @staticmethod
    def backward(ctx: Any, by_times: Tensor, by_angle: Tensor, by_current: Tensor) -> tuple[Tensor | None, ...]:
        trains, _, potential, current = ctx.saved_tensors
        given = by_times.contiguous(), torch.stack((by_angle, by_current))
        by_outer, by_inner, by_start, by_event = ctx.kernel.adjoint(*ctx.walked, ctx.tape, given)
        by_potential = by_start[0] * torch.cos(torch.atan(potential)) ** 2
        return (
            scatter_events(by_event, ctx.walked[0], trains.shape),
            by_outer,
            by_inner,
            by_potential.sum_to_size(potential.shape),
            by_start[1].sum_to_size(current.shape),
            None,
            None,
        )
