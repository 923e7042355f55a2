"""Spikes that need time on their way."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, check_seconds, needs_numbers, require

LONGEST = 1.0  # s


class DelayState(NamedTuple):
    """State of `AxonalDelay`: what is on its way."""

    past: tuple[Tensor, ...]  # spikes of the last steps, the latest first, each (batch, *units)


class AxonalDelay(nn.Module):
    r"""Spikes that arrive later: :math:`y_j(t) = x_j(t - d_j)`, with a delay :math:`d_j` for each neuron's axon.

    All synapses of an axon see its spikes at the same time. It stands above neurons and below the layer that their
    spikes reach, as in ``SpikingSequential(nn.Linear(9, 5), CurrentLIF(), AxonalDelay(5e-3), nn.Linear(5, 2), ...)``.
    A rule with traces takes what arrives as its `pre`. Nothing arrives before the first step. Exact on the grid of
    steps; a delay is the nearest number of them, and the state holds as many steps as the longest.

    Morrison, Mehring, Geisel, Aertsen & Diesmann 2005, Neural Comput. 17.

    Args:
        delay: s; a number for all, or a tensor that broadcasts to the units, as (units,) or (channels, 1, 1).
        dt: length of a step, s.

    Raises:
        Refusal: a delay that is negative, no number, in ms or for other units; a step that is not positive or in ms.

    Examples:
        >>> axon = AxonalDelay(torch.tensor([0.0, 2e-3]))
        >>> state = axon.init(torch.zeros(1, 2))
        >>> for spikes in torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]], [[0.0, 0.0]]]):
        ...     arrived, state = axon.step(spikes, state)
        ...     print(arrived.tolist())
        [[1.0, 0.0]]
        [[0.0, 0.0]]
        [[0.0, 1.0]]
    """

    lags: Tensor

    def __init__(self, delay: float | Tensor, dt: float = 1e-3):
        super().__init__()
        needs_numbers(self, dt=dt, **({} if isinstance(delay, Tensor) else {"delay": delay}))
        check_seconds(self, dt)
        seconds = torch.as_tensor(delay, dtype=torch.float64)
        bad = seconds[~((seconds >= 0) & (seconds <= LONGEST))]
        if bad.numel():
            cure = f"; if this is in ms give {float(bad[0]) / 1000:g}" if bad[0] > LONGEST else ""
            raise Refusal(f"AxonalDelay needs delays from 0 to {LONGEST:g}, in s, got {float(bad[0]):g}{cure}.")
        require(seconds.numel() > 0, "AxonalDelay needs at least one delay, got none.")
        self.dt = dt
        self.register_buffer("lags", (seconds / dt).round().long())

    def init(self, like: Tensor) -> DelayState:
        """Nothing is on its way, for spikes shaped like this, (batch, *units)."""
        units, given = tuple(like.shape[1:]), tuple(self.lags.shape)
        fits = len(given) <= len(units) and all(a in (1, b) for a, b in zip(given[::-1], units[::-1]))
        require(fits, f"AxonalDelay has delays shaped {given}, got spikes of units shaped {units}.")
        return DelayState((torch.zeros_like(like),) * int(self.lags.max()))

    def step(self, spikes: Tensor, state: DelayState) -> tuple[Tensor, DelayState]:
        """One step: the spikes that arrive, (batch, *units), and the state after it.

        Args:
            spikes: that leave the neurons in this step, (batch, *units).
            state: of this axon.
        """
        known = (spikes.clone(), *state.past)  # a copy, since callers may write the next spikes into the same tensor
        if self.lags.numel() == 1:
            return known[-1], DelayState(known[:-1])
        arrived = torch.stack(known).gather(0, self.lags.expand_as(spikes)[None])[0]
        return arrived, DelayState(known[:-1])

    def extra_repr(self) -> str:
        """The delays, in s."""
        low, high = (self.dt * int(lag) for lag in self.lags.aminmax())
        return f"delay={low:g}{f' to {high:g}' if high > low else ''}, dt={self.dt:g}"
