"""A recurrent network of QIF neurons with any connectivity: input spikes in, spikes and end states out."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.checks import require
from neuropil.events import recurrent_kernel as kernel
from neuropil.events.oscillator import TABLES
from neuropil.events.qif import QIF
from neuropil.events.qif_layer import Trial, check_finite, check_room, check_trial, latest, projective
from neuropil.events.threads import share_out, shares
from neuropil.events.times import Events, check_times, flatten_events, scatter_events

ROOM = 256  # events of a sample at first; doubled until they fit


class RecurrentQIF(nn.Module):
    r"""QIF neurons with exponentially decaying current, driven by inputs and by each other, without delay.

    tau dV/dt = V (V - 1) + I, tau dI/dt = -2 I + sum_k w_k tau delta(t - t_k) over inputs and neurons; spike at
    V = inf, reset to -inf. Exact at every weight, state and input time.
    Klos & Memmesheimer 2025, Phys. Rev. Lett. 134, 027301.

    Args:
        inputs, neurons: sizes.
        neuron: the kind of neuron.
        horizon: end of the trial, in the unit of ``neuron.tau``.
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
        horizon: float,
        mask: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        check_trial("RecurrentQIF", horizon, dtype)
        require(inputs >= 0 and neurons >= 1, f"RecurrentQIF needs inputs >= 0, neurons >= 1, got {inputs}, {neurons}.")
        wanted = (neurons, neurons)
        got = wanted if mask is None else tuple(mask.shape)
        require(got == wanted, f"the mask needs one row and one column per neuron, {wanted}, got {got}.")
        self.neuron, self.horizon = neuron or QIF(), horizon
        self.weight = nn.Parameter(torch.zeros(inputs, neurons, dtype=dtype))
        self.recurrent = nn.Parameter(torch.zeros(wanted, dtype=dtype))
        self.potential = nn.Parameter(torch.zeros(neurons, dtype=dtype))
        self.current = nn.Parameter(torch.zeros(neurons, dtype=dtype))
        self.register_buffer("mask", torch.ones(wanted, dtype=torch.bool) if mask is None else mask.bool())

    def forward(self, times: Tensor) -> Trial:
        """Input spikes, (batch, inputs, spikes) or (batch, inputs), to what the network does with them."""
        start = self.potential, self.current
        return recurrent_trial(times, self.weight, self.recurrent * self.mask, *start, self.neuron, self.horizon)

    def continued(self, trial: Trial, spikes: int) -> Tensor:
        """The first `spikes` spikes of every neuron, pseudospikes after ordinary ones: (batch, neurons, spikes).

        The drive of a pseudospike is the weighted sum of the shares of the way to the next spike that the other
        neurons have come by the end of the trial. These shares are those of neurons without current: a spike at the end
        changes currents at once, and shares that knew of it would make the others' pseudospikes jump.
        """
        share, _ = self.neuron.progress(trial.angle, torch.zeros_like(trial.current))
        drive = share @ (self.recurrent * self.mask)
        progress = self.neuron.progress(trial.angle, trial.current, drive)
        return self.neuron.continued(trial.times, *progress, self.horizon, spikes)

    def extra_repr(self) -> str:
        """Sizes, neuron, end of the trial."""
        inputs, neurons = self.weight.shape
        return f"{inputs}, {neurons}, neuron={self.neuron}, horizon={self.horizon}"


def recurrent_trial(
    times: Tensor, outer: Tensor, inner: Tensor, potential: Tensor, current: Tensor, neuron: QIF, horizon: float
) -> Trial:
    """A recurrent network of QIF neurons as a function; see `RecurrentQIF`.

    Args:
        times: (batch, inputs, spikes) or (batch, inputs).
        outer, inner: weights (inputs, neurons) and (neurons, neurons), rows are senders.
        potential, current: (neurons,) or (batch, neurons), at time 0; a potential may be -inf.
        neuron: the kind of neuron.
        horizon: end of the trial.
    """
    check_trial("a recurrent QIF network", horizon, inner.dtype)
    trains = check_times(times, horizon)
    neurons = len(inner)
    fits = outer.shape == (trains.shape[1], neurons) and inner.shape == (neurons, neurons)
    require(
        fits and trains.dtype == outer.dtype == inner.dtype,
        f"a recurrent network needs weights (inputs, neurons) and (neurons, neurons) for times {tuple(times.shape)} of "
        f"their type, got {tuple(outer.shape)}, {tuple(inner.shape)}, {trains.dtype}, {outer.dtype}, {inner.dtype}.",
    )
    check_finite(weight=outer, recurrent=inner, current=current)
    start = [part if part.ndim == 2 else part[None] for part in (potential, current)]
    return Trial(*_Walk.apply(trains, outer, inner, *start, neuron.tau, horizon))


class _Log:
    """The events of every sample in the order of time, and where the walk ended."""

    def __init__(self, events: Events, weights: list[np.ndarray], tau: float, horizon: float):
        self.inputs = [part.numpy() for part in (events.time, events.source, events.count)]
        kind, neurons = weights[1].dtype, weights[1].shape[1]
        batch, table = len(events.count), TABLES[torch.from_numpy(weights[1]).dtype]
        self.end = np.empty((3, batch, neurons), kind)
        self.steps, self.total = np.empty((2, batch), np.int64)
        room, needed = 0, ROOM + events.time.shape[1]
        while room < needed:
            room = needed
            check_room(batch * room * 16)
            self.when, self.who = np.empty((batch, room)), np.empty((batch, room), np.int64)
            log = self.when, self.who, self.total, self.steps, self.end
            share_out(kernel.forward, batch, *self.inputs, *weights, tau, horizon, table, *log)
            needed = 2 * room if self.total.max(initial=0) > room else room
        self.spikes = np.zeros((batch, neurons), np.int64)
        kernel.count_spikes(self.who, self.total, self.spikes)
        slots = max(int(self.spikes.max(initial=0)), 1)
        check_room(batch * neurons * slots * kind.itemsize)
        self.out = np.full((batch, neurons, slots), np.inf, kind)
        kernel.collect(self.when, self.who, self.total, latest(horizon, kind), self.out)

    def by_input(self, by_event: np.ndarray, like: Tensor) -> Tensor:
        """What belongs to the input events only, in their own order."""
        out = np.zeros(like.shape, self.end.dtype)
        for b, total in enumerate(self.total):
            mine = by_event[b, :total][self.who[b, :total] < 0]
            out[b, : len(mine)] = mine
        return torch.from_numpy(out)


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        trains: Tensor,
        outer: Tensor,
        inner: Tensor,
        potential: Tensor,
        current: Tensor,
        tau: float,
        horizon: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        events = flatten_events(trains)
        weights = [part.detach().contiguous().numpy() for part in (outer, inner)]
        weights.append(projective(potential, current))
        log = _Log(events, weights, tau, horizon)
        ctx.save_for_backward(trains, inner, potential, current)
        ctx.log, ctx.events, ctx.weights, ctx.trial = log, events, weights, (tau, horizon)
        x, y, i = map(torch.from_numpy, log.end)
        return torch.from_numpy(log.out), torch.atan2(x, y), i

    @staticmethod
    def backward(ctx: Any, by_times: Tensor, by_angle: Tensor, by_current: Tensor) -> tuple[Tensor | None, ...]:
        trains, inner, potential, current = ctx.saved_tensors
        log, batch = ctx.log, len(trains)
        by_outer, by_inner = (np.zeros((shares(batch), *part.shape), part.dtype) for part in ctx.weights[:2])
        by_start, by_event = np.empty_like(log.end[:2]), np.zeros(log.when.shape, log.end.dtype)
        events = log.when, log.who, log.total, log.steps
        given = log.spikes.copy(), by_times.contiguous().numpy(), torch.stack((by_angle, by_current)).numpy()
        wanted = by_outer, by_inner, by_event, by_start
        share_out(kernel.backward, batch, *events, *ctx.weights, *ctx.trial, TABLES[inner.dtype], *given, *wanted)
        by_angle0, by_current0 = map(torch.from_numpy, by_start)
        by_potential = by_angle0 * torch.cos(torch.atan(potential)) ** 2
        return (
            scatter_events(log.by_input(by_event, ctx.events.time), ctx.events, trains.shape),
            torch.from_numpy(by_outer.sum(0)),
            torch.from_numpy(by_inner.sum(0)),
            by_potential.sum_to_size(potential.shape),
            by_current0.sum_to_size(current.shape),
            None,
            None,
        )
