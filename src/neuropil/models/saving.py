"""A fitted model as one safetensors file: tensors under readable names, and JSON that says how to rebuild it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import neuropil
from neuropil.data import Columns
from neuropil.errors import Refusal, require
from neuropil.models.description import NOT_SAVED, build, describe, known_class, known_of, rebuild
from neuropil.models.packing import pack, unpack
from neuropil.runs.files import write_atomically

FORMAT, VERSION, PACKED = "neuropil model", "1", "2"  # the second version has weights in fewer bytes


class Header(NamedTuple):
    """What a file says of its model.

    Attributes:
        path: the file.
        cls: class of the model.
        about: facts that were saved with it, such as "name" and "seed".
    """

    path: Path
    cls: type
    about: dict[str, Any]


def write_model(
    model: Any, path: Path | str, about: Mapping[str, Any] | None = None, *, precision: str | None = None
) -> Path:
    """Write a fitted model into the file `path`, whole or not at all; `about` are facts to travel with it.

    So does what it knows of its data, names of classes and columns of a table. With `precision` weights are rounded,
    see `pack`.

    Raises:
        Refusal: the model is not fitted, or has a layer or a setting that a file cannot hold.
    """
    path, known = Path(path), known_of(model)
    require(path.suffix == ".safetensors", f"a model is saved as a .safetensors file, got {path.name!r}.")
    fitted = all(hasattr(model, attribute) for attribute in known.learned)
    require(fitted, f"this {type(model).__name__} has learned nothing to save; call fit first.")
    tensors: dict[str, Tensor] = {}
    learned = {}
    for attribute in known.learned + (known.going_on if precision is None else ()):
        value = getattr(model, attribute)
        learned[attribute] = describe(value)
        if isinstance(value, nn.Module):
            tensors |= {_prefix(attribute) + key: _copy(part) for key, part in value.state_dict().items()}
    settings = {key: _setting(getattr(model, key), key in known.for_learning) for key in known.settings}
    tree = {"class": type(model).__name__, "settings": settings, "learned": learned}
    metadata = {"format": FORMAT, "version": VERSION, "neuropil": neuropil.__version__}
    metadata |= {"model": json.dumps(tree), "about": _facts(_data_of(model) | dict(about or {}))}
    if precision is not None:
        tensors, types = pack(tensors, precision)
        metadata |= {"version": PACKED, "packed": json.dumps(types)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.torch.save(tensors, metadata))
    return path


def read_header(path: Path | str) -> Header:
    """What the file `path` says of its model, without its tensors."""
    tree, about, _ = _metadata(Path(path))
    return Header(Path(path), known_class(tree["class"]).cls, about)


def read_model(path: Path | str, device: torch.device | str = "cpu") -> Any:
    """The model in the file `path`, on `device`; it predicts bit for bit as it did.

    Raises:
        Refusal: no such file, or a damaged one, or one of another format version. A class, a setting or a tensor is
            unknown, lacks or does not fit.
    """
    path = Path(path)
    tree, about, packed = _metadata(path)
    tensors = safetensors.torch.load_file(path)
    try:
        tensors = unpack(tensors, packed)
        model = build(tree["class"], tree["settings"], {})
        known = known_class(tree["class"])
        for attribute in known.going_on + known.learned:  # ``network_`` is last, and has the tensors that are left
            described = tree["learned"][attribute] if attribute in known.learned else tree["learned"].get(attribute)
            value = rebuild(described)
            if isinstance(value, nn.Module):
                _fill(value, _prefix(attribute), tensors)
                value.eval().requires_grad_(False).to(device)
            setattr(model, attribute, value)
        model.names_ = tuple(map(str, about.get("class_names", ())))
        model.columns_ = Columns.from_json(about.get("columns"))
        if hasattr(model, "loaded_"):
            model.loaded_()
    except (Refusal, TypeError, KeyError, AttributeError, ValueError) as error:
        raise Refusal(f"the model in {path} cannot be rebuilt: {error}") from error
    require(not tensors, f"the model in {path} has no place for the tensors {', '.join(map(repr, tensors))}.")
    return model


def _data_of(model: Any) -> dict[str, Any]:
    """What a model knows of the data that it learned from, as facts."""
    names, columns = getattr(model, "names_", ()), getattr(model, "columns_", None)
    return ({"class_names": list(names)} if names else {}) | ({"columns": columns._asdict()} if columns else {})


def _facts(about: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(about), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Refusal(f"facts about a model need to be what JSON can hold: {error}.") from error


def _setting(value: Any, for_learning: bool) -> Any:
    """A setting of a model as JSON. The tensors of a module among the settings, a body, are not in the file."""
    try:
        require(not isinstance(value, nn.Module), "a module among the settings is not saved.")
        return describe(value)
    except Refusal:
        if not for_learning:
            raise
        return NOT_SAVED


def _prefix(attribute: str) -> str:
    """Before the names of the tensors of a learned attribute; those of ``network_`` stand as they are."""
    return "" if attribute == "network_" else attribute.removesuffix("_") + "."


def _copy(tensor: Tensor) -> Tensor:
    return torch.clone(tensor.detach().cpu(), memory_format=torch.contiguous_format)


def _fill(module: nn.Module, prefix: str, tensors: dict[str, Tensor]) -> None:
    """Put the tensors that belong to `module` into it, and take them off the table."""
    mine = [name for name in tensors if name.startswith(prefix)] if prefix else list(tensors)
    found = {name.removeprefix(prefix): tensors.pop(name).clone() for name in mine}  # into memory that torch aligns
    wanted = module.state_dict()
    for name, like in wanted.items():
        require(name in found, f"the tensor {prefix + name!r} is missing.")
        got, shape = tuple(found[name].shape), tuple(like.shape)
        require(got == shape, f"the tensor {prefix + name!r} has the shape {got}, its layer needs {shape}.")
        _check_numbers(prefix + name, found[name], like)
    floats = {found[name].dtype: prefix + name for name, like in wanted.items() if like.dtype == torch.float32}
    require(len(floats) < 2, f"tensors need one dtype, got {' and '.join(f'{v!r} in {k}' for k, v in floats.items())}.")
    left = module.load_state_dict(found, strict=False, assign=True).unexpected_keys
    require(not left, f"there is no place for the tensor {prefix + left[0]!r}." if left else "")


def _check_numbers(name: str, found: Tensor, like: Tensor) -> None:
    """Refuse whole numbers for real ones and the reverse, and what is no number at all."""
    alike = found.is_floating_point() == like.is_floating_point() and (
        found.is_floating_point() or found.dtype == like.dtype
    )
    require(alike, f"the tensor {name!r} is in {found.dtype}, its layer needs {like.dtype}.")
    require(not found.isnan().any(), f"the tensor {name!r} has numbers that are NaN.")


def _metadata(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """(description of the model, facts about it, types of the tensors that are in fewer bytes)."""
    require(path.is_file(), f"there is no model in {path}: no such file.")
    try:
        with safe_open(path, "pt") as file:
            found = file.metadata() or {}
        require(found.get("format") == FORMAT, f"{path} is a safetensors file, but not of a neuropil model.")
        version, writer = found.get("version"), found.get("neuropil")
        other = f"{path} has format version {version}, this neuropil reads {VERSION} and {PACKED}"
        require(version in (VERSION, PACKED), f"{other}; load it with neuropil {writer}.")
        tree, about, packed = (json.loads(found.get(key, "{}")) for key in ("model", "about", "packed"))
        whole = (
            isinstance(tree, dict) and {"class", "settings", "learned"} <= set(tree) and isinstance(tree["class"], str)
        )
        require(whole and isinstance(about, dict), f"{path} does not describe its model; save the model again.")
        return tree, about, packed
    except Refusal:
        raise
    except (SafetensorError, ValueError, KeyError) as error:
        raise Refusal(f"{path} is damaged or no safetensors file ({error}); save the model again.") from error
