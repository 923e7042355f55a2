"""What layers and networks of spiking neurons share: their output, and how pseudospikes pass through layers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, needs_numbers, require
from neuropil.spiking.kernels.bundles import Plan
from neuropil.spiking.kernels.dispatch import LARGEST, refuse_unsound, sound_parameters
from neuropil.spiking.times import Events, as_trains, check_times, fine, flatten_events, most_events

__all__ = ["Neuron", "SpikingLayer", "SpikingNetwork", "SpikingOutput"]


class SpikingOutput(NamedTuple):
    """What spiking neurons did until the end of the trial, and would do next; `ThetaNetwork` returns it.

    Attributes:
        spikes: ordinary spikes of every layer, from the bottom to the top, each (batch, neurons, spikes), ascending,
            padded with inf.
        times: the first spikes of the last layer, (batch, neurons, n_spikes). Pseudospikes stand in for those that the
            trial did not bring, so all are finite. They change without a jump when a spike comes or goes.
        states: of every layer at the end of the trial: phases (batch, neurons) of theta neurons, a `QIFState` of QIF
            neurons. They include the drive that stands for spikes of the layer below after the end.
    """

    spikes: tuple[Tensor, ...]
    times: Tensor
    states: tuple[Any, ...]


class Neuron(Protocol):
    """What layers and networks need to know of a kind of neuron; `Theta` and `QIF` have it."""

    def with_drive(self, state: Any, drive: Tensor) -> Any:
        """The state at the end, with what the layer below will still send, as one input of size `drive`."""

    def rate(self, state: Any) -> Tensor:
        """How far each neuron has come from its last spike (0) to its next (1), (batch, neurons)."""

    def with_pseudospikes(self, spikes: Tensor, state: Any, t_end: float, n_spikes: int = 1) -> Tensor:
        """The first `n_spikes` spikes of every neuron, pseudospikes after ordinary ones: (batch, neurons, n_spikes)."""


class SpikingLayer(nn.Module, ABC):
    """Neurons of one kind, each driven by every input; `ThetaLayer` and `QIFLayer` are finished ones.

    A finished layer has a parameter ``weight``, (inputs, neurons), and the method `simulate`.
    """

    weight: nn.Parameter

    def __init__(self, neuron: Neuron, t_end: float, plan: Plan | None = None):
        super().__init__()
        needs_numbers(self, t_end=t_end)
        check_end(t_end)
        self.neuron, self.t_end, self.plan = neuron, t_end, plan or Plan()

    @abstractmethod
    def simulate(self, times: Tensor) -> tuple[Tensor, Any]:
        """Ordinary spikes, (batch, neurons, spikes), and the state at the end."""

    def clamp_phases_(self) -> None:
        """Put first states that an optimiser drove out of their range back to its end; not all neurons have one."""

    def forward(self, times: Tensor, n_spikes: int = 1) -> SpikingOutput:
        """Simulate the trials of a batch; the output has one layer.

        Args:
            times: of the inputs, (batch, inputs, spikes) or (batch, inputs), ascending, inf where there is no spike.
            n_spikes: output times wanted from every neuron.
        """
        spikes, state = self.simulate(times)
        return SpikingOutput((spikes,), self.neuron.with_pseudospikes(spikes, state, self.t_end, n_spikes), (state,))

    def extra_repr(self) -> str:
        """Sizes, neuron, end of the trial."""
        inputs, neurons = self.weight.shape
        return f"{inputs}, {neurons}, neuron={self.neuron}, t_end={self.t_end}"


class SpikingNetwork(nn.Module, ABC):
    r"""Stacked layers, whose pseudospikes make gradients reach the bottom of a silent network; see `ThetaNetwork`.

    Rates tell what spikes after the end T would do. The inputs of the network have none. Layer by layer, the rate of a
    neuron is the fraction of the way to its next spike that it has come by T. These rates times the weights act on the
    layer above as one input at T. Klos & Memmesheimer 2025, Phys. Rev. Lett. 134, 027301.

    Args:
        layers: from the bottom to the top, with one `t_end`.
    """

    def __init__(self, layers: Sequence[SpikingLayer]):
        super().__init__()
        require(len(layers) >= 1, "a network needs inputs and at least one layer of neurons, got sizes of one or none.")
        self.neuron, self.t_end = layers[0].neuron, layers[0].t_end
        self.layers = nn.ModuleList(layers)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of neurons, from the inputs to the outputs."""
        layers = self.stack()
        return (len(layers[0].weight), *(layer.weight.shape[1] for layer in layers))

    def stack(self) -> list[Any]:
        """The layers, from the bottom to the top."""
        return list(self.layers)

    def forward(self, times: Tensor, n_spikes: int = 1) -> SpikingOutput:
        """Simulate the trials of a batch.

        Args:
            times: of the inputs, (batch, inputs, spikes) or (batch, inputs), ascending, inf where there is no spike.
            n_spikes: output times wanted from every neuron of the last layer.
        """
        spikes, states = [times], list[Any]()
        for layer in self.stack():
            out, state = layer.simulate(spikes[-1])
            if states:
                state = self.neuron.with_drive(state, self.neuron.rate(states[-1]) @ layer.weight)
            spikes.append(out)
            states.append(state)
        late = self.neuron.with_pseudospikes(spikes[-1], states[-1], self.t_end, n_spikes)
        return SpikingOutput(tuple(spikes[1:]), late, tuple(states))

    @abstractmethod
    def init_(self, rng: torch.Generator) -> None:
        """Initialise the weights of all layers from `rng`, in place."""

    def clamp_phases_(self) -> None:
        """Put first states that an optimiser drove out of their range back to its end."""
        for layer in self.stack():
            layer.clamp_phases_()


def check_end(t_end: float) -> None:
    """Refuse a trial without an end."""
    require(0 < t_end < math.inf, f"a trial needs a positive, finite end, got t_end={t_end}.")


def check_inputs(
    times: Tensor, weight: Tensor, t_end: float, who: str = "spiking neurons need", most: float = LARGEST,
    **parts: Tensor,
) -> tuple[Tensor, Events]:  # fmt: skip
    """`times` as (batch, inputs, spikes), if they fit the end of the trial, the weights (inputs, neurons), and `parts`.

    And the events that they make. A GPU is waited for once.

    Args:
        times, weight, t_end: what is checked.
        who: begins the sentence that refuses weights.
        most: largest size of a value of a parameter.
        parts: other parameters, by name; a potential may be -inf.

    Raises:
        Refusal: no end, no spike times, weights of another shape or dtype; a parameter with NaN, too large values or on
            another device.
    """
    check_end(t_end)
    trains = as_trains(times)
    if weight.ndim != 2 or len(weight) != trains.shape[1] or weight.dtype != trains.dtype:
        got = f"got {tuple(weight.shape)}, {trains.dtype} and {weight.dtype}."
        raise Refusal(f"{who} weights (inputs, neurons) for times {tuple(times.shape)} of their dtype, {got}")
    sound = sound_parameters(times, most, weight=weight, **parts)
    well, events = False, None
    if times.device.type != "cpu":
        fits = torch.stack([fine(trains, t_end), *map(torch.as_tensor, sound.values())]).all()
        well, events = torch.stack([fits.int(), most_events(trains)]).tolist()
    if not well:
        check_times(times, t_end)
        refuse_unsound(sound, most)
    return trains, flatten_events(trains, events)
