"""A network over time: memory is that of some steps, unless more is asked for."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropil._subnormals import settled
from neuropil.errors import Diverged, Refusal, require
from neuropil.spiking.clock.contract import Network, check_state, check_step
from neuropil.spiking.clock.together import LONGEST, Chunks, layers_of, run, versions

Record = Callable[[Tensor, Any], dict[str, Tensor]]


class Simulation(NamedTuple):
    """What is left of a simulation by `simulate`."""

    counts: Tensor  # sum of the output over time: spikes of each unit, (batch, *out); int64 for integers and booleans
    state: Any  # after the last step
    recorded: dict[str, Tensor]  # what was asked for, each (time, ...)


@torch.no_grad()
def simulate(
    network: Network, spikes: Iterable[Tensor], state: Any = None, *, record: Record | None = None
) -> Simulation:
    """Run a network over time steps.

    Neurons of this package take up to 64 steps at once, alone or in a `SpikingSequential` with layers of torch.
    `CurrentLIF`, `DeltaLIF` and `AdaptiveLIF` are compiled on the CPU and on CUDA GPUs, where Triton is installed. They
    do bit for bit what their `step` does. A layer sees several steps as one batch, which may round the last digit
    otherwise. On a GPU, counts of outputs that are not 0 or 1 may, too. Any other network is run step by step. What of
    a state has decayed below the smallest normal number ends at 0 there: a CPU is slow with less.

    Args:
        network: has ``init`` and ``step``.
        spikes: input of each step, (time, batch, *in), or anything that yields (batch, *in), such as an encoding that
            makes them one at a time.
        state: to start from; None for ``network.init``.
        record: called with the output and the state of each step, gives what is to be kept by name. Without it the
            memory does not grow with time.

    Raises:
        Refusal: there is no step. A state of another network or batch. Neurons that take several inputs. `record` that
            gives what is no tensor. `record` or `spikes` that begins to change weights when steps are taken together.
        Diverged: weights that were learned meanwhile are NaN or infinite; states on the CPU that are NaN in the end.

    Examples:
        >>> from neuropil.spiking import CurrentLIF
        >>> drive = torch.full((100, 1, 1), 0.4)
        >>> run = simulate(CurrentLIF(), drive, record=lambda spikes, state: {"v": state.v})
        >>> run.counts.item(), run.recorded["v"].shape
        (6.0, torch.Size([100, 1, 1]))
    """
    counts: Tensor | None = None
    shape: torch.Size | None = None
    kept: dict[str, list[Tensor]] = {}
    check_step("simulate", network)
    layers, chunks, seen, before, steps = layers_of(network), Chunks(spikes), None, 1, 0
    if record and layers and any(hasattr(layer, "several_steps") for layer in layers):
        layers = None  # of layers that learn, what is recorded may be the weights of each step
    for x in chunks:
        shape = x.shape[1:] if shape is None else shape
        if x.shape[1:] != shape:
            raise Refusal(f"simulate needs steps of one shape, got {tuple(shape)}, then {tuple(x.shape[1:])}.")
        layers = _unchanged(layers, seen, max(before, len(x)))
        if state is None:
            state = network.init(x[0])
        elif counts is None and layers is not None:
            check_state(network, x[0], state)
        if layers is None:
            out, state = network.step(x[0], state)
            outs, states, chunks.most = out[None], [state], 1
        else:
            (outs, states, state), chunks.width = run(network, layers, x, state, traced=record is not None)
            chunks.grow()
            seen, before = versions(layers), len(x)
        counts, steps = _counted(counts, outs), steps + len(outs)
        if steps >= LONGEST:
            state, steps = settled(state), 0
        for out, state_then in zip(outs, states):
            for name, value in (record(out, state_then) if record else {}).items():
                fine = isinstance(value, Tensor)
                require(fine, f"record gives tensors by name, got {type(value).__name__} as {name!r}.")
                kept.setdefault(name, []).append(value.clone())
        del x  # the next steps are made before they take its place
    require(counts is not None, "simulate needs at least one step of spikes, got none.")
    assert counts is not None
    _unchanged(layers, seen, before)
    for name, layer in network.named_modules() if isinstance(network, nn.Module) else ():
        if hasattr(layer, "several_steps") and hasattr(layer, "check_weights"):  # it learned meanwhile
            layer.check_weights(name)
    _check_numbers(state)
    return Simulation(counts, state, {name: torch.stack(values) for name, values in kept.items()})


def _counted(counts: Tensor | None, outs: Tensor) -> Tensor:
    """The sum over time with some steps more: one after the other on the CPU, as a loop adds, elsewhere at once."""
    if outs.dtype in (torch.float16, torch.bfloat16):  # which count to 2048 and to 256
        outs = outs.float()
    elif not outs.is_floating_point():
        outs = outs.long()
    if outs.device.type != "cpu":
        return outs.sum(0) if counts is None else counts.add_(outs.sum(0))
    for out in outs:
        counts = out.clone() if counts is None else counts.add_(out)
    assert counts is not None
    return counts


def _check_numbers(state: Any) -> None:
    """Refuse a state on the CPU with NaN: what is NaN never spikes. A GPU would have to be waited for."""
    if isinstance(state, tuple | list | dict):
        for part in state.values() if isinstance(state, dict) else state:
            _check_numbers(part)
    elif isinstance(state, Tensor) and state.device.type == "cpu" and bool(state.isnan().any()):
        raise Diverged(
            "simulate ended with neurons that are NaN; look for NaN or infinity in the input and in weights."
        )


def _unchanged(layers: tuple[Any, ...] | None, seen: Any, together: int) -> tuple[Any, ...] | None:
    """The layers, or None if someone changes their weights between steps; `together` is how many were or are one."""
    if layers is None or seen is None or versions(layers) == seen:
        return layers
    what = "simulate takes several steps at once, and weights have changed between them"
    require(together == 1, f"{what}; call network.step in a loop of your own, or change weights from the start.")
    return None
