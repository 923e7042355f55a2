"""What a file may say of a model: registered classes and their settings as JSON, and back. No code is ever run."""

import math
from collections.abc import Mapping
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, require, unknown

NOT_SAVED = {"not saved": True}
CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
Names = tuple[str, ...]
_known: "dict[str, Known]" = {}


class Known(NamedTuple):
    """A class that may stand in a file.

    Attributes:
        cls: the class; an object of it has an attribute for each of its `settings`.
        settings: names of the arguments that make an equal object.
        learned, for_learning, going_on: see `savable`.
    """

    cls: type
    settings: Names
    learned: Names
    for_learning: Names
    going_on: Names


class NotSaved:
    """Stands where a loaded model lacks a setting that only learning needs; any use of it is refused."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        lacks = f"a model from a file has no {self._name!r}, without which it cannot learn"
        raise Refusal(f"{lacks}; make a new model and fit it.")

    def __repr__(self) -> str:
        return "(not saved)"


def savable(
    *classes: type, settings: Names | None = None, learned: Names = (), for_learning: Names = (), going_on: Names = ()
) -> None:  # fmt: skip
    """Let objects of these classes stand in the file of a model: layers, dataclasses of settings, and models.

    Every argument of a constructor must be kept as an attribute of the same name.

    Args:
        classes: to be registered.
        settings: names of the arguments, where not all of them matter.
        learned: of a model, the attributes that `fit` sets and that predict.
        for_learning: of a model, the settings that only learning needs. What of them a file cannot hold is left out.
        going_on: of a model, the modules that `partial_fit` needs to go on as if there had been no file; each may be
            None. They are left out, and None, where weights are rounded.
    """
    for cls in classes:
        found = signature(cls).parameters.values()
        named = tuple(p.name for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        _known[cls.__name__] = Known(cls, named if settings is None else settings, learned, for_learning, going_on)


savable(nn.Linear, settings=("in_features", "out_features", "bias"))
savable(nn.Conv1d, nn.Conv2d, nn.Conv3d, settings=(*CONVOLUTION, "bias"))
savable(nn.BatchNorm1d, nn.BatchNorm2d, settings=("num_features", "eps", "momentum", "affine", "track_running_stats"))
savable(nn.LayerNorm, settings=("normalized_shape", "eps", "elementwise_affine", "bias"))
savable(nn.GroupNorm, settings=("num_groups", "num_channels", "eps", "affine"))
savable(nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d, nn.GELU, nn.Softplus, nn.Unflatten)
savable(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, settings=("output_size",))
savable(nn.Identity, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Tanh, nn.Sequential, settings=())
savable(nn.Flatten, settings=("start_dim", "end_dim"))
savable(nn.Hardtanh, settings=("min_val", "max_val"))
savable(nn.LeakyReLU, settings=("negative_slope",))
savable(nn.ELU, settings=("alpha",))
savable(nn.Dropout, nn.Dropout2d, settings=("p",))


def describe(value: Any) -> Any:
    """`value` as JSON from which `rebuild` makes an equal one, but for the values of tensors.

    Raises:
        Refusal: an object of a class that is not registered.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, list | tuple):
        items = [describe(item) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {"dict": {key: describe(item) for key, item in value.items()}}
    return _describe_object(value)


def _describe_object(value: Any) -> dict[str, Any]:
    lacks = [name for name in known_of(value).settings if not hasattr(value, name)]
    if lacks:
        who, cure = type(value).__name__, "keep each argument as an attribute of its name, or say settings= in savable"
        raise Refusal(f"a file of a model needs the settings of a {who}, and it has no {lacks[0]!r}; {cure}.")
    settings = {name: getattr(value, name) for name in known_of(value).settings}
    half = getattr(value, "affine", False) and getattr(value, "bias", None) is None
    require(not half, f"a file of a model cannot hold a {type(value).__name__} with bias=False; take one with a bias.")
    if isinstance(value, nn.Module) and "bias" in settings:
        settings["bias"] = settings["bias"] is not None
    tree = {"class": type(value).__name__, "settings": {key: describe(item) for key, item in settings.items()}}
    if isinstance(value, nn.Sequential):
        first: dict[int, str] = {}  # where each layer stands first
        named = [(name, first.setdefault(id(layer), name), layer) for name, layer in layers_of(value).items()]
        tree["layers"] = {name: describe(layer) if at == name else {"same": at} for name, at, layer in named}
    return tree


def layers_of(body: nn.Sequential) -> dict[str, nn.Module]:
    """The layers of `body` in the order of the pass, by name; one that stands in two places is there twice.

    ``named_children`` leaves out the second place, so its numbers are not those of ``body[:k]``.

    >>> act = nn.ReLU()
    >>> list(layers_of(nn.Sequential(nn.Linear(2, 2), act, nn.Linear(2, 2), act)))
    ['0', '1', '2', '3']
    """
    return {name: layer for name, layer in body._modules.items() if layer is not None}


def rebuild(tree: Any) -> Any:
    """The inverse of `describe`; tensors are zero.

    Raises:
        Refusal: a class or a setting that is not known.
    """
    if isinstance(tree, list):
        return [rebuild(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "tuple" in tree:
        return tuple(rebuild(item) for item in tree["tuple"])
    if "dict" in tree:
        return {key: rebuild(item) for key, item in tree["dict"].items()}
    if "float" in tree:
        return float(tree["float"])
    if "dtype" in tree:
        dtype = getattr(torch, tree["dtype"], None)
        require(isinstance(dtype, torch.dtype), f"there is no type of tensors {tree['dtype']!r}.")
        return torch.zeros(tree["shape"], dtype=dtype) if "shape" in tree else dtype
    return build(tree["class"], tree["settings"], tree.get("layers", {}))


def build(name: str, settings: Mapping[str, Any], layers: Mapping[str, Any]) -> Any:
    """An object of the class `name` with these described settings, and layers if it is a sequence of some."""
    known = known_class(name)
    for setting in settings:
        if setting not in known.settings:
            raise unknown(f"setting of {name}", setting, known.settings)
    made = {key: NotSaved(key) if value == NOT_SAVED else rebuild(value) for key, value in settings.items()}
    lost = {key for key, value in made.items() if isinstance(value, NotSaved)} - set(known.for_learning)
    require(not lost, f"{name} cannot do without {', '.join(sorted(lost))}.")
    value = known.cls(**made)
    for key, layer in layers.items():
        again = isinstance(layer, dict) and "same" in layer
        value.add_module(key, value.get_submodule(layer["same"]) if again else rebuild(layer))
    return value


def known_of(value: Any) -> Known:
    """How an object is described, by its class."""
    known = _known.get(type(value).__name__)
    if known is None or known.cls is not type(value):
        cure = "if that is a layer or a dataclass of yours, keep its arguments as attributes and register it with"
        call, name = "neuropil.savable", type(value).__name__
        if type(value).__module__.startswith("torch."):
            cure, call = "register it with", f"{call}(torch.nn.{name}, settings=(...)), the names of its arguments"
        raise Refusal(f"a file of a model cannot hold a {name}; {cure} {call}.")
    return known


def known_class(name: str) -> Known:
    """What was registered under this name."""
    if name not in _known:
        raise Refusal(f"{unknown('class', name, _known)} For one of yours, name its file: --learners ./mine.py.")
    return _known[name]
