"""The state of live objects as one safetensors file: tensors as tensors, the rest as JSON beside them."""

import json
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from neuropil.errors import Refusal, require
from neuropil.runs.files import write_atomically


class Stateful(Protocol):
    """A module, an optimiser, a schedule: anything whose state comes out and goes in as a dict."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


Part = torch.Generator | Tensor | Stateful


class GlobalRandomness:
    """torch's own generators as a part; dropout draws from them."""

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        torch.set_rng_state(state["cpu"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def capture(part: Part, name: str) -> Any:
    """A copy of the state of `part`, on the CPU, that no later change of `part` reaches."""
    if isinstance(part, torch.Generator):
        return _copy(part.get_state(), name)
    if isinstance(part, Tensor):
        return _copy(part, name)
    require(
        hasattr(part, "state_dict") and hasattr(part, "load_state_dict"),
        f"part {name!r} of a loop needs a state (a generator, a tensor, or something with state_dict and "
        f"load_state_dict), got {type(part).__name__}.",
    )
    return _copy(part.state_dict(), name)


def restore_(part: Part, state: Any, name: str) -> None:
    """Put `part` back, in place, into the state that `capture` saw."""
    state = _copy(state, name)  # optimisers keep the tensors they are handed and write into them
    try:
        if isinstance(part, torch.Generator):
            part.set_state(state)
        elif isinstance(part, Tensor):
            _overwrite_(part, state)
        else:
            part.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise Refusal(
            f"part {name!r} no longer fits its checkpoint ({reason:.200}); was the recipe changed?"
        ) from error


def _overwrite_(part: Tensor, state: Tensor) -> None:
    then, now = (tuple(state.shape), state.dtype), (tuple(part.shape), part.dtype)
    require(then == now, f"saved {then[0]} {then[1]}, now {now[0]} {now[1]}")
    with torch.no_grad():
        part.copy_(state)


def dump(value: Any, path: Path) -> None:
    """Write nested dicts, lists, tuples, numbers, words, None and tensors, atomically."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_pack(value, tensors))
    write_atomically(path, safetensors.torch.save(tensors, metadata={"tree": tree}))


def load(path: Path) -> Any:
    """What `dump` was given: same types, same key order, same bits."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return _unpack(json.loads(file.metadata()["tree"]), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{path} is damaged ({error}); delete it and resume to start this run over.") from error


def _copy(value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return torch.clone(value.detach().cpu(), memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: _copy(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_copy(item, f"{where}.{k}") for k, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise Refusal(f"the state of {where!r} holds a {type(value).__name__}, which a checkpoint cannot write.")


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value
        return {"tensor": str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"dict": [[_pack(key, tensors), _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_pack(item, tensors) for item in value]
    return value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unpack(key, tensors): _unpack(item, tensors) for key, item in content}
    return tuple(_unpack(item, tensors) for item in content)
