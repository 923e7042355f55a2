"""Spiking networks that a clock drives, to and from the Neuromorphic Intermediate Representation (NIR)."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, optional, printable, require
from neuropil.runs.files import write_atomically
from neuropil.spiking import AxonalDelay, CurrentLIF, DeltaLIF, SpikeCounter, SpikingSequential
from neuropil.spiking.clock.linear import steps_of

__all__ = ["from_nir", "to_nir"]

CONVOLUTIONS = {"Conv1d": nn.Conv1d, "Conv2d": nn.Conv2d}
KNOWN = """CubaLIF, LIF, IF, Delay, Linear, Affine, Flatten, AvgPool2d, and Conv1d and Conv2d in one group that pad \
with zeros"""
TAUS = {"CubaLIF": ("tau_mem", "tau_syn"), "LIF": ("tau",), "IF": ()}  # time constants of a node
Neuron = CurrentLIF | DeltaLIF


def to_nir(
    network: SpikingSequential, shape: Sequence[int], file: Path | str | None = None, *, spike_area: float = 1.0
) -> Any:
    r"""A network in a row as a ``nir.NIRGraph``, also written into `file`.

    `CurrentLIF` becomes CubaLIF with :math:`R = 1`, :math:`w_{in} = \tau_s / a` and :math:`v_{leak} = i_0`, where a is
    the spike area. `DeltaLIF` becomes LIF with :math:`R = \tau / a`, and without a leak IF with :math:`R = 1 / a`.
    Times are in s. NIR has no step: give its length to `from_nir`. In NIR a neuron spikes above its threshold, here at
    the threshold as well. `AxonalDelay` becomes Delay, with a delay for each unit, in whole steps. A `SpikeCounter` is
    left out.

    Pedersen et al. 2024, Nat. Commun. 15.

    Args:
        network: of ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d``, ``nn.AvgPool2d``, ``nn.Flatten``, `CurrentLIF`,
            `DeltaLIF` and `AxonalDelay`.
        shape: of an input, (n,) or (channels, *positions).
        file: a .nir file.
        spike_area: integral of a spike over time. 1 is the impulse of NIR. Give dt for tools where a spike is 1 during
            a step, such as snnTorch.

    Raises:
        Refusal: what NIR cannot express: other neurons and layers, a refractory time, a bias next to impulses. Or the
            package nir is not there.

    Examples:
        >>> from neuropil.spiking import CurrentLIF
        >>> network = SpikingSequential(nn.Linear(3, 2, bias=False), CurrentLIF(refractory=0.0))
        >>> list(to_nir(network, (3,)).nodes)  # doctest: +SKIP
        ['input', '0', '1', 'output']
    """
    if not isinstance(network, SpikingSequential):
        who, give = type(network).__name__, "a SpikingSequential of layers, CurrentLIF and DeltaLIF"
        why = "its neurons have no node there, which are leaky integrators with linear layers"
        raise Refusal(f"{'an' if who[0] in 'AEIO' else 'a'} {who} has no form in NIR: {why}; give {give}.")
    nir: Any = optional("nir", "NIR", extra="nir")
    target = None if file is None else Path(file)
    if target is not None:
        require(target.suffix == ".nir", f"NIR is written into a .nir file, got {target.name!r}.")
        target.parent.mkdir(parents=True, exist_ok=True)
    nodes, x = {"input": nir.Input(np.array(shape))}, torch.zeros(1, *shape)
    for name, layer in enumerate(network.layers):
        if isinstance(layer, SpikeCounter):  # which changes nothing
            continue
        nodes[str(name)] = _node(nir, f"layer {name}", layer, tuple(x.shape[1:]), spike_area)
        if isinstance(layer, nn.Module) and not isinstance(layer, AxonalDelay):
            x = _passed(f"layer {name}", layer, x)
    _check_biases(network.layers, spike_area)
    nodes["output"] = nir.Output(np.array(x.shape[1:]))
    graph = nir.NIRGraph(nodes, list(zip(nodes, [*nodes][1:])))
    if target is not None:
        content = io.BytesIO()
        nir.write(content, graph)
        write_atomically(target, content.getvalue())
    return graph


def from_nir(graph: Any, dt: float, *, spike_area: float = 1.0) -> SpikingSequential:
    """The network of a ``nir.NIRGraph`` or of a .nir file, for `simulate`, in steps of `dt`.

    Between spikes a step is exact, whatever the tool that wrote the graph does. R and w_in other than those of
    `to_nir` are put into threshold, reset and bias of the neuron: its potential is then in another unit. A delay
    becomes the nearest number of steps.

    Args:
        graph: a row of nodes from one input to one output. All neurons of a node have the same parameters.
        dt: length of a step, s.
        spike_area: integral of a spike over time in this graph: 1, or dt where a spike is 1 during a step.

    Raises:
        Refusal: another node, branches, loops, parameters that differ within a node, or times that are not in s. A
            damaged file. The package nir is not there.

    Examples:
        >>> network = from_nir("network.nir", dt=1e-3)  # doctest: +SKIP
    """
    nir: Any = optional("nir", "NIR", extra="nir")
    layers: list[nn.Module | Neuron] = []
    for name, node in _row(_read(nir, graph) if isinstance(graph, str | Path) else graph):
        place = f"node {printable(name)!r}"
        try:
            layers.append(_layer(place, node, dt, spike_area))
        except (TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise error if reason.startswith(place) else Refusal(f"{place}: {reason}") from error
    _check_biases(layers, spike_area)
    return SpikingSequential(*layers)


def _read(nir: Any, file: Path | str) -> Any:
    """The graph of a file."""
    require(Path(file).is_file(), f"there is no file {printable(file)}.")
    try:
        return nir.read(file)
    except Exception as error:  # h5py and nir raise whatever their code meets
        reason = printable(" ".join(str(error).split()))[:200]
        raise Refusal(f"{printable(file)} is no NIR file, or damaged: {reason}") from error


def _row(graph: Any) -> list[tuple[str, Any]]:
    """The nodes between input and output, in order."""
    edges = sorted(set(map(tuple, graph.edges)))
    onward: dict[str, str] = {}
    for source, target in edges:
        branches = source in onward or target in onward.values()
        require(not branches, f"NIR graphs are read in a row, but {source!r} -> {target!r} is a branch or a loop.")
        onward[source] = target
    starts = [name for name, node in graph.nodes.items() if type(node).__name__ == "Input"]
    require(len(starts) == 1, f"a NIR graph needs one input, got {len(starts)}.")
    row, name = [], onward.get(starts[0])
    while name is not None and type(graph.nodes[name]).__name__ != "Output":
        row.append((name, graph.nodes[name]))
        name = onward.get(name)
    left = sorted(set(graph.nodes) - {starts[0], name, *dict(row)})
    require(name is not None and not left, f"a NIR graph needs a row from input to output, got {left or 'no output'}.")
    return row


def _check_biases(layers: Sequence[Any], area: float) -> None:
    """Refuse biases that are no currents."""
    steps = {layer.dt for layer in layers if isinstance(layer, Neuron | AxonalDelay)}
    for name, layer in enumerate(layers):
        bias = getattr(layer, "bias", None)
        if isinstance(bias, Tensor) and bias.any() and area not in steps:
            what = f"layer {name} adds its bias in every step, which has no form beside spikes of area {area:g}"
            raise Refusal(f"{what}; set the bias of the neurons, or spike_area=dt.")


def _node(nir: Any, place: str, layer: Any, shape: tuple[int, ...], area: float) -> Any:
    """The NIR node of one layer whose input has this shape."""
    if isinstance(layer, Neuron):
        return _neuron_node(nir, place, layer, shape, area)
    if isinstance(layer, AxonalDelay):
        layer.init(torch.zeros(1, *shape))  # refuses other units
        return nir.Delay(_array(layer.dt * layer.lags.double().expand(shape)).copy())
    kind, bias = type(layer), getattr(layer, "bias", None)
    if kind is nn.Flatten and layer.start_dim > 0:
        ends = (end - 1 if end > 0 else end for end in (layer.start_dim, layer.end_dim))
        return nir.Flatten({"input": np.array(shape)}, *ends)
    if kind is nn.AvgPool2d and not layer.ceil_mode and layer.divisor_override is None and layer.count_include_pad:
        sizes = [np.array(nn.modules.utils._pair(one)) for one in (layer.kernel_size, layer.stride, layer.padding)]
        return nir.AvgPool2d(*sizes)
    if kind is nn.Linear:
        return nir.Linear(_array(layer.weight)) if bias is None else nir.Affine(_array(layer.weight), _array(bias))
    if kind in CONVOLUTIONS.values() and layer.padding_mode == "zeros" and layer.groups == 1:
        numbers: tuple[Any, ...] = (layer.stride, layer.padding, layer.dilation)
        flat = kind is nn.Conv1d
        sizes = [one[0] if flat and isinstance(one, tuple) else one for one in numbers]
        added = _array(layer.weight.new_zeros(len(layer.weight)) if bias is None else bias)
        inside = shape[1] if flat else shape[1:]
        return getattr(nir, kind.__name__)(inside, _array(layer.weight), *sizes, 1, added)
    raise Refusal(f"{place} has no form in NIR, got {layer}; these have: {KNOWN}.")


def _passed(place: str, layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer makes of no spike; an input of another shape is refused."""
    try:
        with torch.no_grad():
            out: Tensor = layer(x.to(next(layer.parameters(), x)))
        return out
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise Refusal(f"{place} cannot take {tuple(x.shape[1:])}: {reason}; give the shape of an input.") from error


def _neuron_node(nir: Any, place: str, neuron: Neuron, shape: tuple[int, ...], area: float) -> Any:
    """CubaLIF, LIF or IF."""
    held = steps_of(neuron.refractory, neuron.dt)
    cure = "take refractory=0, and see what it changes"
    require(not held, f"{place} has a refractory time of {neuron.refractory} s, which NIR does not know; {cure}.")
    values = {"v_leak": neuron.bias, "v_threshold": neuron.threshold, "v_reset": neuron.reset}
    if isinstance(neuron, CurrentLIF):
        values |= {"tau_mem": neuron.tau, "tau_syn": neuron.tau_syn, "r": 1.0, "w_in": neuron.tau_syn / area}
    elif math.isinf(neuron.tau):
        values = {"r": 1 / area, "v_threshold": neuron.threshold, "v_reset": neuron.reset}
    else:
        values |= {"tau": neuron.tau, "r": neuron.tau / area}
    leaky = nir.IF if math.isinf(neuron.tau) else nir.LIF
    kind = nir.CubaLIF if isinstance(neuron, CurrentLIF) else leaky
    return kind(**{name: np.full(shape, value) for name, value in values.items()})


def _layer(place: str, node: Any, dt: float, area: float) -> nn.Module | Neuron:
    """What a node is here."""
    kind = type(node).__name__
    if kind in TAUS:
        return _neuron(place, kind, vars(node), dt, area)
    if kind == "Flatten":
        start, end = int(node.start_dim), int(node.end_dim)
        return nn.Flatten(start + (start >= 0), end + (end >= 0))
    if kind == "AvgPool2d":
        return nn.AvgPool2d(*(_plain(one) for one in (node.kernel_size, node.stride, node.padding)))
    if kind == "Delay":
        delay = torch.as_tensor(np.asarray(node.delay, np.float64))
        return AxonalDelay(delay.flatten()[0] if delay.unique().numel() == 1 else delay, dt)
    require(kind in ("Linear", "Affine", *CONVOLUTIONS), f"{place} is a {kind}; neuropil reads {KNOWN}.")
    weight, bias = torch.as_tensor(node.weight), torch.as_tensor(getattr(node, "bias", 0.0))
    has, layer = bool(bias.any()), nn.Module()
    if kind in CONVOLUTIONS:
        numbers = [_plain(one) for one in (node.stride, node.padding, node.dilation)]
        groups, (out, inside, *kernel) = int(node.groups), weight.shape
        make: Any = CONVOLUTIONS[kind]
        layer = make(inside * groups, out, tuple(kernel), *numbers, groups, has)
    else:
        require(weight.ndim == 2, f"{place} needs a weight (out, in), got {tuple(weight.shape)}.")
        layer = nn.Linear(weight.shape[1], weight.shape[0], has)
    layer.to(weight.dtype).load_state_dict({"weight": weight} | ({"bias": bias.to(weight)} if has else {}))
    return layer.requires_grad_(False)


def _neuron(place: str, kind: str, values: Mapping[str, Any], dt: float, area: float) -> Neuron:
    """The neuron of a node, in the unit in which a spike of weight 1 adds 1 to its input."""
    taus = TAUS[kind]
    names = (*taus, "r", "v_threshold", "v_reset", *(["v_leak"] if taus else []), *(["w_in"] if taus[1:] else []))
    one = {name: np.unique(values[name]) for name in names}
    for name, found in one.items():
        if len(found) != 1:
            got = f"{len(found)} values from {found[0]:g} to {found[-1]:g}"
            raise Refusal(f"{place} needs one {name} for all its neurons, got {got}.")
    number = {name: float(found[0]) for name, found in one.items()}
    gain = number["r"] * number.get("w_in", 1.0) * area / (number[taus[-1]] if taus else 1.0)
    require(gain > 0, f"{place} needs r and w_in above 0, got r={number['r']} and w_in={number.get('w_in', 1.0)}.")
    scaled = {name: number[f"v_{name}"] / gain for name in ("threshold", "reset")}
    more = {"bias": number.get("v_leak", 0.0) / gain, "refractory": 0.0, "dt": dt, **scaled}
    if kind != "CubaLIF":
        return DeltaLIF(tau=number.get("tau", math.inf), **more)
    return CurrentLIF(tau=number["tau_mem"], tau_syn=number["tau_syn"], **more)


def _plain(number: Any) -> Any:
    """A stride, a padding or a dilation as torch takes it."""
    value = number.decode() if isinstance(number, bytes) else number
    return value if isinstance(value, str) else tuple(np.atleast_1d(value).tolist())


def _array(values: Tensor) -> np.ndarray[Any, Any]:
    return values.detach().cpu().numpy()
