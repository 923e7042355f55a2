"""Rate networks in plain PyTorch, as exported programs and as ONNX; the activity of their layers."""

import io
import json
import logging
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from neuropil.data import Columns
from neuropil.errors import Refusal, optional, require, unknown
from neuropil.models.contract import Model, as_examples
from neuropil.models.description import layers_of
from neuropil.models.nn.convolution import Stack
from neuropil.runs.files import write_atomically

__all__ = ["export", "extract_features", "to_onnx", "to_pt2", "to_torch"]

ROWS = nn.Sequential, Stack  # one layer after the other; other classes of it may do something else
BATCH = ({0: Dim.DYNAMIC},)  # the first axis of the only input may have any length


def to_torch(model: Model, shape: Sequence[int], *, raw: bool = False) -> nn.Sequential:
    """A copy of the network of `model` that needs PyTorch alone: (n, *shape) to (n, classes), its scores.

    Layers that PyTorch has stay what they are. Each of the others becomes a ``torch.fx.GraphModule`` of the same name,
    a graph of PyTorch's own operations, whose parameters can be trained on. So the network runs, learns, is exported
    and is saved where neuropil is not installed. It takes float examples in [0, 1], as `Split.pixels` gives them.

    Args:
        model: fitted; one whose scores come from layers in a row. Networks that settle or spike are none.
        shape: of one example, such as (1, 28, 28).
        raw: whether it is to take rows of a table as they stand there, and to standardise them. It makes no difference
            to a model that knows of no table.

    Raises:
        Refusal: another kind of model, one that is not fitted, or a shape that does not fit it.

    Examples:
        >>> import neuropil as npl
        >>> network = to_torch(npl.load("mnist-conv-krotov-100"), (1, 28, 28))
        >>> network(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 10])
    """
    who, network = type(model).__name__, getattr(model, "net_", None) or model.network_  # type: ignore[attr-defined]
    if not isinstance(network, nn.Sequential):
        why = "its activity settles or spikes, and no fixed row of layers does that"
        raise Refusal(f"a {who} has no form in plain PyTorch: {why}; bring it back by neuropil.load.")
    example = as_examples(model, torch.rand(2, *shape))
    try:
        with torch.no_grad():
            network(example)  # heads of sums compute their readout here, and not in the graph
            plain, _ = _rows(deepcopy(network), example)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise Refusal(f"this {who} takes no examples of shape {tuple(shape)}: {reason}") from error
    columns = model.columns_ if raw else None
    if columns is not None:
        first, _ = _plain(_Scaled(columns, example.dtype), example)
        plain = nn.Sequential(OrderedDict([("columns", first), *plain.named_children()]))
    return plain.eval()


class _Scaled(nn.Module):
    """What standardises the rows of a table."""

    def __init__(self, columns: Columns, dtype: torch.dtype):
        super().__init__()
        self.register_buffer("mean", torch.tensor(columns.mean, dtype=dtype))
        self.register_buffer("spread", torch.tensor(columns.spread, dtype=dtype))

    def forward(self, rows: Tensor) -> Tensor:
        """(n, columns) to the same."""
        return (rows - self.get_buffer("mean")) / self.get_buffer("spread")


def _rows(network: nn.Sequential, x: Tensor) -> tuple[nn.Sequential, Tensor]:
    """(the layers without neuropil, what they make of x)."""
    rows = nn.Sequential()
    for name, layer in layers_of(network).items():
        made = _rows(layer, x) if isinstance(layer, nn.Sequential) and type(layer) in ROWS else _plain(layer, x)
        plain, x = made
        rows.add_module(name, plain)
    return rows, x


def _plain(layer: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """The same for one layer."""
    if not type(layer).__module__.startswith("torch."):
        try:
            with torch.enable_grad():
                whole = torch.export.export(layer, (x,), dynamic_shapes=BATCH).module(check_guards=False)
        except Exception as error:  # whatever the tracer of torch meets
            layer(x)  # where it is the shape, this says so
            reason = " ".join(str(error).split())[:200]
            raise Refusal(f"a {type(layer).__name__} has no form in plain PyTorch: {reason}") from error
        graph = fx.Graph()
        (out,) = graph.graph_copy(whole.graph, {})  # type: ignore[misc]
        graph.output(out)
        layer = fx.GraphModule(whole, graph, type(layer).__name__)
    return layer, layer(x)


def export(model: Model, shape: Sequence[int], *, raw: bool = False) -> ExportedProgram:
    """`to_torch` as an exported program for any number of examples; ``torch.export.save`` writes it into a .pt2 file.

    Examples:
        >>> import neuropil as npl
        >>> program = export(npl.load("mnist-conv-krotov-100"), (1, 28, 28))
        >>> program.module()(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """
    network = to_torch(model, shape, raw=raw)
    example = as_examples(model, torch.rand(2, *shape))
    return torch.export.export(network, (example,), dynamic_shapes=BATCH)


def to_onnx(model: Model, shape: Sequence[int], file: Path | str, *, raw: bool = False) -> Path:
    """Write `to_torch` as ONNX, opset 20, into `file`: the input "images" (n, *shape) to the output "scores".

    The names of the classes, if the model knows them, are in its metadata as a JSON list, "classes".

    Raises:
        Refusal: as `to_torch`; or the packages onnx and onnxscript are not there.
    """
    file = Path(file)
    require(file.suffix == ".onnx", f"ONNX is written into a .onnx file, got {file.name!r}.")
    for package in ("onnx", "onnxscript"):
        optional(package, "ONNX", extra="onnx")
    program, logger = export(model, shape, raw=raw), logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells of packages that are not needed here
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # of torch's own code
            names: Any = {"input_names": ["images"], "output_names": ["scores"]}
            made = torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False, **names)
    finally:
        logger.setLevel(level)
    assert made is not None
    proto = made.model_proto
    if model.names_:
        proto.metadata_props.add(key="classes", value=json.dumps(model.names_))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, proto.SerializeToString())
    return file


def to_pt2(model: Model, shape: Sequence[int], file: Path | str, *, raw: bool = False) -> Path:
    """Write `export` into the .pt2 file `file`, which ``torch.export.load`` reads.

    The names of the classes, if the model knows them, are in its extra file "classes.json".
    """
    file, content = Path(file), io.BytesIO()
    require(file.suffix == ".pt2", f"an exported program is written into a .pt2 file, got {file.name!r}.")
    extra = {"classes.json": json.dumps(model.names_)} if model.names_ else {}
    torch.export.save(export(model, shape, raw=raw), content, extra_files=extra)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content.getvalue())
    return file


@torch.no_grad()
def extract_features(model: Model, images: Tensor, layer: str | None = None, *, batch: int = 1000) -> Tensor:
    """The activity of one layer of a fitted model for `images` (n, *shape): (n, units), or (n, units, *positions).

    Args:
        model: fitted.
        images: float in [0, 1], or uint8 as stored.
        layer: its name, see `Model.feature_layers`; the highest one without it.
        batch: examples at a time.

    Raises:
        Refusal: a layer that is not there, or a model that has none.

    Examples:
        >>> import neuropil as npl
        >>> train, test = npl.load_data("digits")
        >>> extract_features(npl.load("digits-mstdp"), test.x[:5]).shape
        torch.Size([5, 256])
    """
    layers = {one.name: one.module for one in model.feature_layers()}
    require(bool(layers), f"this {type(model).__name__} has no layer below its readout, so it has no features.")
    if layer is not None and layer not in layers:
        raise unknown("layer", layer, layers)
    module = layers[layer] if layer is not None else list(layers.values())[-1]
    network = "net_" if hasattr(model, "net_") else "network_"
    return torch.cat([module(part) for part in as_examples(model, images, network).split(batch)])
