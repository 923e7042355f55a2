"""The QIF neuron with exponentially decaying current: its law, a feed-forward layer of it, and stacked layers."""

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from neuropil.errors import needs_numbers, require
from neuropil.spiking.current import CurrentLayer, CurrentNetwork
from neuropil.spiking.kernels.bundles import OutputGrads, Plan, QIFModel, RecurrentModel
from neuropil.spiking.kernels.dispatch import kernels
from neuropil.spiking.network import check_inputs
from neuropil.spiking.oscillator import NextSpike, entire, projective, start_grads
from neuropil.spiking.times import Events, scatter_events

__all__ = ["QIF", "QIFLayer", "QIFNetwork", "QIFState", "simulate_qif"]

FLOOR = -20.0  # of a current in units of the softness, below which softplus goes on as 1 / |I|
LARGEST = 1e12  # largest current: half a million spikes, more than any trial can mean


class QIFState(NamedTuple):
    """QIF neurons at the end of a trial of a `QIFNetwork`.

    Attributes:
        angle: (batch, neurons); V = tan(angle).
        current: I, (batch, neurons).
        drive: what the layer below will still add to the current, see `SpikingNetwork`; it moves pseudospikes only.
    """

    angle: Tensor
    current: Tensor
    drive: Tensor | float = 0.0


def _positive(z: Tensor) -> Tensor:
    """softplus(z), which never is 0: below `FLOOR` it falls as 1 / |z| only."""
    if z.device.type == "cpu" and not bool((z.detach() < FLOOR).any()):  # a GPU would have to be waited for
        return softplus(z)
    bent = z.clamp(min=FLOOR)
    return softplus(bent) / (bent - z + 1)


@dataclass(frozen=True)
class QIF:
    r"""The neuron :math:`\tau \dot V = V (V - 1) + I`, :math:`\tau \dot I = -2 I`, seen as an angle.

    It fires when V diverges and restarts at minus infinity; an input of weight w adds w to I. Its state is (angle, I)
    with V = tan(angle), -pi/2 <= angle <= pi/2, finite even at a spike; V and I have no unit. Klos & Memmesheimer 2025,
    Phys. Rev. Lett. 134, 027301 (arXiv 2309.14523).

    Attributes:
        tau: membrane time constant, twice the synaptic one; its unit is the unit of all times.
        softness: alpha of the current alpha softplus(I / alpha) that drives pseudospikes, in the unit of I.

    Raises:
        Refusal: tau or softness is not positive and finite.

    >>> QIF().time_to_spike(torch.atan(torch.tensor([2.0, 0.5])), torch.zeros(2))  # log 2, and never
    tensor([0.6931,    inf])
    """

    tau: float = 1.0
    softness: float = 10.0

    def __post_init__(self) -> None:
        needs_numbers(self)
        fine = 0 < self.tau < math.inf and 0 < self.softness < math.inf
        require(fine, f"a QIF neuron needs finite tau > 0 and softness > 0, got {self}.")

    def flow(self, angle: Tensor, current: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        r"""State (angle, current) after `time` without input, through however many spikes.

        With q = exp(-time / tau), D = 1 - q and V = x / y: x' = q (x c + y I S), y' = y c - x S, I' = q^2 I, where
        c = cos(sqrt(I) D) and S = sin(sqrt(I) D) / sqrt(I), for every sign of I.

        Args:
            angle, current: any shape.
            time: >= 0, broadcastable to that shape.
        """
        q, d = torch.exp(-time / self.tau), -torch.expm1(-time / self.tau)
        c, s = entire(current * d * d)
        x, y = torch.sin(angle), torch.cos(angle)
        ahead, up = q * (x * c + y * current * d * s), y * c - x * d * s
        return torch.atan2(torch.where(up < 0, -ahead, ahead), up.abs()), q * q * current

    def time_to_spike(self, angle: Tensor, current: Tensor) -> Tensor:
        r"""Time until the next spike without further input, inf if there is none.

        -tau log(1 - s), where s is the smallest solution of tan(sqrt(I) s) = sqrt(I) y / x with y / x = 1 / V: an arc
        tangent for I > 0, an area tangent for I < 0, 1 / V at I = 0. It spikes if s < 1.

        Args:
            angle, current: any shape.
        """
        s: Tensor = NextSpike.apply(angle, current)  # type: ignore[no-untyped-call]
        fires = s < 1
        return torch.where(fires, -self.tau * torch.log1p(-torch.where(fires, s, 0)), math.inf)

    def normalised_phase(self, state: QIFState) -> tuple[Tensor, Tensor]:
        """How far a neuron has come from one spike (0) to the next (1) at the end of the trial, and how long that is.

        From the end on it follows tau dV/dt = (V - 1/2)^2 + I_p with I_p = alpha softplus((I + drive) / alpha), a theta
        neuron. Below I + drive = -20 alpha, I_p falls as 1 / |I + drive| only, so that it never is 0. The phase is
        tau (atan((V - 1/2) / sqrt(I_p)) + pi / 2) / sqrt(I_p), of tau pi / sqrt(I_p) altogether.

        Returns:
            The phase, in [0, 1], and pi / sqrt(I_p), the interval between pseudospikes in units of tau.
        """
        z = (state.current + state.drive) / self.softness
        root = (self.softness * _positive(z)).sqrt()
        x, y = torch.sin(state.angle), torch.cos(state.angle).clamp(min=0)
        return torch.atan2(root * y, y / 2 - x) / math.pi, math.pi / root

    def with_drive(self, state: QIFState, drive: Tensor) -> QIFState:
        """The state with what the layer below will still send."""
        return state._replace(drive=drive)

    def rate(self, state: QIFState) -> Tensor:
        """The first of `normalised_phase`."""
        return self.normalised_phase(state)[0]

    def with_pseudospikes(self, spikes: Tensor, state: QIFState, t_end: float, n_spikes: int = 1) -> Tensor:
        """The first `n_spikes` spikes of every neuron; pseudospikes stand in for those that the trial did not bring.

        The k-th spike after the end is at T + tau period (k - phase), see `normalised_phase`. When a spike is born at T
        or vanishes there, the ordinary and the pseudospike agree.

        Args:
            spikes: ordinary ones, (..., neurons, slots), inf where there is none.
            state: at the end of the trial.
            t_end: end of the trial, T.
            n_spikes: how many are wanted, >= 1.

        Returns:
            (..., neurons, n_spikes), all finite, ascending.
        """
        require(n_spikes >= 1, f"with_pseudospikes needs n_spikes >= 1, got {n_spikes}.")
        phase, period = self.normalised_phase(state)
        wide = pad(spikes, (0, max(0, n_spikes - spikes.shape[-1])), value=math.inf)[..., :n_spikes]
        ordinary = torch.isfinite(wide)
        number = torch.arange(1, n_spikes + 1, dtype=wide.dtype, device=wide.device) - ordinary.sum(-1, keepdim=True)
        later = t_end + self.tau * period[..., None] * (number - phase[..., None])
        return torch.where(ordinary, wide, later)


class QIFLayer(CurrentLayer):
    r"""QIF neurons with exponentially decaying current, each driven by every input.

    tau dV/dt = V (V - 1) + I, tau dI/dt = -2 I + sum_i w_i tau delta(t - t_i); spike at V = inf, reset to -inf.
    Exact at every weight, state and input time; spike times depend on them continuously, and spikes appear and vanish
    only at `t_end`. Klos & Memmesheimer 2025, Phys. Rev. Lett. 134, 027301.

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

    >>> layer = QIFLayer(2, 3, t_end=4.0).init_(torch.Generator().manual_seed(0), mean=5.0)
    >>> layer(torch.tensor([[0.1, 0.5]])).times.shape
    torch.Size([1, 3, 1])
    """

    neuron: QIF
    kind = QIF

    def simulate(self, times: Tensor) -> tuple[Tensor, QIFState]:
        """Ordinary spikes, (batch, neurons, spikes), and the state at the end."""
        start = self.potential, self.current
        return simulate_qif(times, self.weight, *start, self.neuron, self.t_end, plan=self.plan)


class QIFNetwork(CurrentNetwork):
    """Stacked layers of QIF neurons; see `SpikingNetwork` for its pseudospikes.

    Args:
        sizes: numbers of neurons, from the inputs to the outputs.
        neuron: the kind of neuron.
        t_end: end of the trial, in the unit of ``neuron.tau``.
        dtype: float32 or float64.
        plan: how the kernels run.

    Raises:
        Refusal: fewer than two sizes, a size below 1, no end, or another dtype.

    >>> QIFNetwork((2, 5, 3), t_end=4.0)(torch.tensor([[0.1, 0.5]]), n_spikes=2).times.shape
    torch.Size([1, 3, 2])
    """

    neuron: QIF
    kind = QIFLayer

    def init_(self, rng: torch.Generator) -> None:
        """Initialise the weights so that some neurons fire, in place.

        N(1, 4^2) from the inputs of the network, N(0.5, 4^2) / sqrt(n) from a layer of n neurons.
        """
        for depth, layer in enumerate(self.stack()):
            root = len(layer.weight) ** 0.5 if depth else 1.0
            layer.init_(rng, mean=(0.5 if depth else 1.0) / root, std=4 / root)


def simulate_qif(
    times: Tensor, weight: Tensor, potential: Tensor, current: Tensor, neuron: QIF, t_end: float, *,
    plan: Plan | None = None,
) -> tuple[Tensor, QIFState]:  # fmt: skip
    """A layer of QIF neurons as a function, see `QIFLayer`: ordinary spikes, and the state at the end.

    Args:
        times: (batch, inputs, spikes) or (batch, inputs).
        weight: (inputs, neurons).
        potential, current: (neurons,) or (batch, neurons), at time 0; a potential may be -inf.
        neuron: the kind of neuron.
        t_end: end of the trial.
        plan: how the kernels run.
    """
    plan = plan or Plan()
    kernel = kernels("qif", times.device, plan)
    trains, events = check_inputs(times, weight, t_end, most=LARGEST, potential=potential, current=current)
    given = trains, potential, current, events, (neuron.tau, t_end), kernel, plan, weight
    spikes, angle, end = Simulation.apply(*given)  # type: ignore[no-untyped-call]
    return spikes, QIFState(angle, end)


class Simulation(torch.autograd.Function):
    """Spike times, angle and current at the end of a layer, or of a recurrent network, which has two weights.

    See `kernels.cpu.qif` and `kernels.cpu.recurrent`.
    """

    @staticmethod
    def forward(
        ctx: Any, trains: Tensor, potential: Tensor, current: Tensor, events: Events, flow: tuple[float, float],
        kernel: ModuleType, plan: Plan, *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        make: Any = QIFModel if len(weights) == 1 else RecurrentModel
        model = make(*(part.detach().contiguous() for part in weights), projective(potential, current), *flow)
        simulated = events, model, plan
        times, end, tape = kernel.simulate(*simulated)
        ctx.save_for_backward(trains, times, potential, current, *weights)
        ctx.simulated, ctx.tape, ctx.kernel = simulated, tape, kernel
        return times, torch.atan2(end[0], end[1]), end[2]

    @staticmethod
    def backward(ctx: Any, by_times: Tensor, by_angle: Tensor, by_current: Tensor) -> tuple[Tensor | None, ...]:
        trains, times, potential, current, *_ = ctx.saved_tensors
        given = OutputGrads(by_times.contiguous(), torch.stack((by_angle, by_current)))
        *by_weights, by_start, by_event = ctx.kernel.adjoint(*ctx.simulated, times, ctx.tape, given)
        by_trains = scatter_events(by_event, ctx.simulated[0], trains.shape)
        return by_trains, *start_grads(by_start, potential, current), None, None, None, None, *by_weights
