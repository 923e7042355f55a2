"""Several time steps of a row of layers at once: a layer sees them as one batch, and neurons are compiled."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal
from neuropil.spiking.clock.counter import SpikeCounter
from neuropil.spiking.clock.delays import AxonalDelay
from neuropil.spiking.clock.izhikevich import Izhikevich
from neuropil.spiking.clock.linear import AdaptiveLIF, CurrentLIF, DeltaLIF, propagator, steps_of
from neuropil.spiking.clock.sequential import SpikingSequential
from neuropil.spiking.kernels.cpu.clocked import Constants
from neuropil.spiking.kernels.dispatch import clocked

LAYERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AvgPool3d, nn.ReLU, nn.Identity,
)  # fmt: skip
COMPILED: dict[type, str] = {CurrentLIF: "current", DeltaLIF: "delta", AdaptiveLIF: "adaptive"}
STEPPED = (AxonalDelay, Izhikevich, SpikeCounter)  # step by step, but with all steps of the layers around them at once
NUMBERS = 2**20  # that inputs or what a layer gives may hold at once; a GPU gets eight times as many
LONGEST = 64  # steps
SINGLE = 4  # steps that are taken alone, so that who changes weights between steps is seen
Steps = tuple[Tensor, list[Any], Any]  # what comes out, (time, batch, *out); the state after each step; and the last


def layers_of(network: Any) -> tuple[Any, ...] | None:
    """The layers of a network whose steps can be taken together; None where one is not of this package or torch.

    A class of one's own may see other layers, as neurons that learn do, so it is asked step by step. One with a
    method ``several_steps``, such as `PlasticLayer` of `neuropil.models`, is asked for several.
    """
    layers = network.layers if type(network) is SpikingSequential else (network,)
    return layers if all(map(_known, layers)) else None


def _known(layer: Any) -> bool:
    """Whether the law of a layer is known, and nothing listens to it."""
    if type(layer) in COMPILED or type(layer) in STEPPED or hasattr(layer, "several_steps"):
        return True
    plain = type(layer) in LAYERS or (type(layer) is nn.Flatten and layer.start_dim > 0)
    return plain and not (layer._forward_hooks or layer._forward_pre_hooks)


def versions(layers: tuple[Any, ...]) -> list[tuple[int, int]]:
    """What is another when a weight has been written."""
    parameters = (one for layer in layers if isinstance(layer, nn.Module) for one in layer.parameters())
    return [(id(one), one._version) for one in parameters]


class Chunks:
    """The steps of an input, some at once: up to `most` of them, as far as memory goes.

    Attributes:
        most: steps at once from now on.
        width: the most numbers that a layer gives in a step, as far as is known.
    """

    def __init__(self, spikes: Iterable[Tensor], most: int = 1):
        self.spikes, self.most, self.width, self.taken = spikes, most, 0, 0

    def grow(self) -> None:
        """Some have been taken: after the first ones twice as many may be taken next."""
        self.taken += 1
        self.most *= 1 if self.taken < SINGLE else 2

    def room(self, x: Tensor) -> int:
        """How many steps like this are taken at once."""
        numbers = NUMBERS if x.device.type == "cpu" else 8 * NUMBERS
        return max(1, min(self.most, LONGEST, numbers // max(x.numel(), self.width, 1)))

    def __iter__(self) -> Iterator[Tensor]:
        """(time, batch, *in) of some steps, without a copy if they are in one tensor, or one at a time."""
        if isinstance(self.spikes, Tensor) and self.spikes.ndim > 1:
            t = 0
            while t < len(self.spikes):
                many = self.room(self.spikes[t])
                yield self.spikes[t : t + many]
                t += many
            return
        yield from self._gathered()

    def _gathered(self) -> Iterator[Tensor]:
        held, count = torch.empty(0), 0
        for x in self.spikes:
            if not isinstance(x, Tensor):
                raise Refusal(f"simulate needs a tensor of spikes for each step, got {type(x).__name__}.")
            alike = held.shape[1:] == x.shape and held.dtype == x.dtype and held.device == x.device
            if count and not alike:
                yield held[:count]
                count = 0
            if count == 0 and self.room(x) == 1:
                yield x[None]
                continue
            held = held if count else x.new_empty((self.room(x), *x.shape))
            held[count] = x
            count += 1
            if count == len(held):
                yield held
                count = 0
        if count:
            yield held[:count]


def run(network: Any, layers: tuple[Any, ...], x: Tensor, state: Any, traced: bool) -> tuple[Steps, int]:
    """Some steps of a network from `state`; the second number is the most that a layer gave in a step.

    Args:
        network: whose state it is.
        layers: by `layers_of`.
        x: input, (time, batch, *in).
        state: before the first step.
        traced: whether states after each step are wanted, otherwise that list is empty.
    """
    row = isinstance(network, SpikingSequential)
    width, passed, last = 0, [], []
    for layer, old in zip(layers, state if row else (state,)):
        if hasattr(layer, "step"):
            x, states, new = several(layer, x, old, traced)
        else:
            x, states, new = _seen(layer, x), [None] * (len(x) * traced), None
        width = max(width, x[0].numel())
        passed.append(states)
        last.append(new)
    states = list(zip(*passed)) if row else passed[0]
    return (x, states, tuple(last) if row else last[0]), width


def _seen(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer gives in each step, as of one batch, (time, batch, *out)."""
    axes = 2 + len(layer.kernel_size) if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) else 2
    if x.ndim - 1 < axes:  # no batch
        return torch.stack([layer(now) for now in x])
    together: Tensor = layer(x.flatten(0, 1))
    return together.view(*x.shape[:2], *together.shape[1:])


def several(neuron: Any, drive: Tensor, state: Any, traced: bool) -> Steps:
    """Steps of neurons, compiled where they, their state and the device allow it."""
    if hasattr(neuron, "several_steps"):
        outs, state = neuron.several_steps(drive, state)
        return outs, [], state
    kernel = clocked(drive.device) if type(neuron) in COMPILED and _fits(drive, state) else None
    if kernel is None:
        return _one_by_one(neuron, drive, state, traced)
    *numbers, resting = state
    given = drive, numbers, resting, constants(neuron), traced
    spikes, now, left, trace, rested = kernel.advance(COMPILED[type(neuron)], *given)
    states = [type(state)(*trace[:, t], rested[t]) for t in range(len(rested))]
    return spikes, states, type(state)(*now, left)


def _fits(drive: Tensor, state: Any) -> bool:
    """Whether numbers are of one kind, shape and device; others broadcast, or are refused, in a step."""
    kinds = [drive.dtype] * (len(state) - 1) + [torch.int32]
    alike = all((one.shape, one.dtype) == (drive.shape[1:], kind) for one, kind in zip(state, kinds))
    return alike and drive.dtype in (torch.float32, torch.float64) and all(one.device == drive.device for one in state)


def _one_by_one(neuron: Any, drive: Tensor, state: Any, traced: bool) -> Steps:
    outs, states = [], []
    for now in drive:
        out, state = neuron.step(now, state)
        outs.append(out)
        states.append(state)
    return torch.stack(outs), states if traced else [], state


def constants(neuron: Any) -> Constants:
    """The numbers of a neuron."""
    match neuron:
        case AdaptiveLIF():
            (vv, vi, vw, v1), (_, ii, _, _), (wv, wi, ww, w1), _ = propagator(neuron.rates(), neuron.dt)
            (hold, held), _ = propagator(neuron.rates_held(), neuron.dt)
            ((calm,),) = propagator(((-1 / neuron.tau_theta,),), neuron.dt)
            numbers = [vv, vi, vw, v1, ii, wv, wi, ww, w1, hold, held, calm]
        case CurrentLIF():
            (vv, vi, v1), (_, ii, _), _ = propagator(neuron.rates(), neuron.dt)
            numbers = [vv, vi, 0.0, v1, ii, *[0.0] * 7]
        case _:
            (vv, v1), _ = propagator(neuron.rates(), neuron.dt)
            numbers = [vv, 0.0, 0.0, v1, *[0.0] * 8]
    numbers += [neuron.threshold, neuron.reset, getattr(neuron, "b", 0.0), getattr(neuron, "theta_plus", 0.0)]
    return Constants._make([*map(float, numbers), steps_of(neuron.refractory, neuron.dt)])
