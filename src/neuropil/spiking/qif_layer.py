"""A feed-forward layer of QIF neurons: spike times in, spike times and end states out, gradients exact."""

import math
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from neuropil.errors import require
from neuropil.spiking.kernels.cpu.oscillator import TABLES
from neuropil.spiking.kernels.dispatch import check_parameters, kernels
from neuropil.spiking.qif import QIF
from neuropil.spiking.times import check_times, flatten_events, scatter_events

MOST = 1e12  # largest current: half a million spikes, more than any trial can mean
ROOM = 8  # slots for spikes at first; a layer that needs more is walked again


class Trial(NamedTuple):
    """What a layer did until the end of the trial.

    Attributes:
        times: (batch, neurons, spikes), ascending, inf where there is none.
        angle: (batch, neurons), of the state at the end; V = tan(angle).
        current: (batch, neurons), at the end.
    """

    times: Tensor
    angle: Tensor
    current: Tensor


class QIFLayer(nn.Module):
    r"""QIF neurons with exponentially decaying current, each driven by every input.

    tau dV/dt = V (V - 1) + I, tau dI/dt = -2 I + sum_i w_i tau delta(t - t_i); spike at V = inf, reset to -inf.
    Exact at every weight, state and input time; spike times depend on them continuously, and spikes appear and vanish
    only at `t_end`. Klos & Memmesheimer 2025, Phys. Rev. Lett. 134, 027301.

    Args:
        inputs, outputs: numbers of neurons.
        neuron: the kind of neuron.
        t_end: end of the trial, in the unit of ``neuron.tau``.
        dtype: float32 or float64.

    Attributes:
        weight: (inputs, neurons), 0 at first.
        potential, current: (neurons,), V and I at time 0, 0 at first.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        neuron: QIF | None = None,
        t_end: float,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        check_trial("QIFLayer", t_end, dtype)
        require(inputs >= 1 and outputs >= 1, f"a layer needs neurons on both sides, got {inputs} and {outputs}.")
        self.neuron, self.t_end = neuron or QIF(), t_end
        self.weight = nn.Parameter(torch.zeros(inputs, outputs, dtype=dtype))
        self.potential = nn.Parameter(torch.zeros(outputs, dtype=dtype))
        self.current = nn.Parameter(torch.zeros(outputs, dtype=dtype))

    def draw_(self, rng: torch.Generator, *, mean: float = 0.0, std: float = 1.0) -> Self:
        """Draw the weights from a normal distribution, in place."""
        with torch.no_grad():
            self.weight.normal_(mean, std, generator=rng)
        return self

    def forward(self, times: Tensor) -> Trial:
        """Input spikes, (batch, inputs, spikes) or (batch, inputs), to what the layer does with them."""
        return simulate_qif(times, self.weight, self.potential, self.current, self.neuron, self.t_end)

    def extra_repr(self) -> str:
        """Sizes, neuron, end of the trial."""
        inputs, outputs = self.weight.shape
        return f"{inputs}, {outputs}, neuron={self.neuron}, t_end={self.t_end}"


class QIFNetwork(nn.Module):
    """Stacked layers of QIF neurons, whose pseudospikes make gradients reach the bottom of a silent network.

    The share of the way to its next spike that a neuron has come by the end of the trial acts on the layer above as a
    current that drives pseudospikes, layer by layer; the inputs of the network have none.

    Args:
        sizes: numbers of neurons, from the inputs to the outputs.
        neuron: the kind of neuron.
        t_end: end of the trial, in the unit of ``neuron.tau``.
        dtype: float32 or float64.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        *,
        neuron: QIF | None = None,
        t_end: float,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        require(len(sizes) >= 2, f"a network needs inputs and at least one layer, got sizes={sizes}.")
        self.neuron, self.t_end = neuron or QIF(), t_end
        pairs = pairwise(sizes)
        self.layers = nn.ModuleList(QIFLayer(a, b, neuron=self.neuron, t_end=t_end, dtype=dtype) for a, b in pairs)

    def forward(self, times: Tensor, spikes: int = 1) -> tuple[list[Trial], Tensor]:
        """What every layer did, and the first `spikes` output times, (batch, outputs, spikes), all finite.

        Args:
            times: of the inputs, (batch, inputs, spikes) or (batch, inputs), ascending, inf where there is no spike.
            spikes: output times wanted from every neuron of the last layer, pseudospikes after ordinary ones.
        """
        trials: list[Trial] = []
        drive = share = period = torch.zeros(())
        layers: list[Any] = list(self.layers)
        for depth, layer in enumerate(layers):
            if depth:
                drive = share @ layer.weight
            trials.append(layer(trials[-1].times if depth else times))
            share, period = self.neuron.normalised_phase(trials[-1].angle, trials[-1].current, drive)
        return trials, self.neuron.with_pseudospikes(trials[-1].times, share, period, self.t_end, spikes)


def simulate_qif(times: Tensor, weight: Tensor, potential: Tensor, current: Tensor, neuron: QIF, t_end: float) -> Trial:
    """A layer of QIF neurons as a function; see `QIFLayer`.

    Args:
        times: (batch, inputs, spikes) or (batch, inputs).
        weight: (inputs, neurons).
        potential, current: (neurons,) or (batch, neurons), at time 0; a potential may be -inf.
        neuron: the kind of neuron.
        t_end: end of the trial.
    """
    check_trial("a QIF layer", t_end, weight.dtype)
    kernel, trains = kernels("qif", times.device), check_times(times, t_end)
    require(
        weight.ndim == 2 and trains.shape[1] == weight.shape[0] and trains.dtype == weight.dtype,
        f"a QIF layer needs weights (inputs, neurons) for times {tuple(times.shape)} of their type, "
        f"got {tuple(weight.shape)}, {trains.dtype} and {weight.dtype}.",
    )
    check_parameters(times, MOST, weight=weight, potential=potential, current=current)
    start = [part if part.ndim == 2 else part[None] for part in (potential, current)]
    return Trial(*_Simulation.apply(trains, weight, *start, (neuron.tau, t_end), kernel))


def check_trial(who: str, t_end: float, dtype: torch.dtype) -> None:
    """Refuse a trial without an end, and types that the kernels do not know."""
    require(0 < t_end < math.inf, f"a trial needs a positive, finite end, got t_end={t_end}.")
    require(dtype in TABLES, f"{who} needs float32 or float64, got {dtype}.")


def projective(potential: Tensor, current: Tensor) -> Tensor:
    """V and I to (x, y, I) with V = x / y, x^2 + y^2 = 1 and y >= 0: (3, rows, neurons)."""
    angle = torch.atan(potential.detach())
    y = torch.where(potential.detach().isinf(), 0, torch.cos(angle))
    return torch.stack(torch.broadcast_tensors(torch.sin(angle), y, current.detach())).contiguous()


class _Simulation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        trains: Tensor,
        weight: Tensor,
        potential: Tensor,
        current: Tensor,
        trial: tuple[float, float],
        kernel: ModuleType,
    ) -> tuple[Tensor, Tensor, Tensor]:
        events, start = flatten_events(trains), projective(potential, current)
        walked = events, weight.detach().contiguous(), start, trial
        times, end, tape = kernel.simulate(*walked, ROOM)
        ctx.save_for_backward(trains, times, weight, potential, current)
        ctx.walked, ctx.tape, ctx.kernel = walked, tape, kernel
        return times, torch.atan2(end[0], end[1]), end[2]

    @staticmethod
    def backward(ctx: Any, by_times: Tensor, by_angle: Tensor, by_current: Tensor) -> tuple[Tensor | None, ...]:
        trains, times, _, potential, current = ctx.saved_tensors
        given = by_times.contiguous(), torch.stack((by_angle, by_current))
        by_weight, by_start, by_event = ctx.kernel.adjoint(*ctx.walked, times, ctx.tape, given)
        by_potential = by_start[0] * torch.cos(torch.atan(potential)) ** 2
        return (
            scatter_events(by_event, ctx.walked[0], trains.shape),
            by_weight,
            by_potential.sum_to_size(potential.shape),
            by_start[1].sum_to_size(current.shape),
            None,
            None,
        )
