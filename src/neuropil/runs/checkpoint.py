"""The state of live objects as one safetensors file: tensors as tensors, the rest as JSON beside them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from neuropil.errors import Refusal, require
from neuropil.runs.files import write_atomically
from neuropil.runs.tensors import BROKEN, read_tensors, to_bytes


class HasStateDict(Protocol):
    """A module, an optimiser, a schedule: anything whose state comes out and goes in as a dict."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


Stateful = torch.Generator | Tensor | HasStateDict


class Clock:
    """Seconds at work as state of the run, so that they too go on as if the run had never stopped."""

    def __init__(self) -> None:
        self._zero = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._zero

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float], /) -> None:
        self._zero = time.perf_counter() - state["seconds"]


class GlobalRandomness:
    """torch's own generators, which dropout uses, as state of a run."""

    def state_dict(self) -> dict[str, Any]:
        in_use: Callable[[], bool] = torch.cuda.is_initialized
        cuda = torch.cuda.get_rng_state_all() if in_use() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        torch.set_rng_state(state["cpu"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def capture(live: Stateful, name: str) -> Any:
    """A copy of the state of `live`, on the CPU, that no later change of `live` reaches."""
    if isinstance(live, torch.Generator | Tensor):
        return _copy(live.get_state() if isinstance(live, torch.Generator) else live, name)
    kinds = "a generator, a tensor, or something with state_dict and load_state_dict"
    stateful = hasattr(live, "state_dict") and hasattr(live, "load_state_dict")
    require(stateful, f"{name!r} of a loop needs a state ({kinds}), got {type(live).__name__}.")
    return _copy(live.state_dict(), name)


def restore_(live: Stateful, state: Any, name: str) -> None:
    """Put `live` back, in place, into the state that `capture` saw."""
    state = _copy(state, name)  # optimisers keep the tensors they are handed and write into them
    try:
        if isinstance(live, torch.Generator):
            live.set_state(state)
        elif isinstance(live, Tensor):
            then, now = (tuple(state.shape), state.dtype), (tuple(live.shape), live.dtype)
            require(then == now, f"saved {then[0]} {then[1]}, now {now[0]} {now[1]}")
            live.detach().copy_(state)
        else:
            live.load_state_dict(state)
    except Exception as error:  # what a state does to an object that does not expect it is not for us to know
        reason = " ".join(str(error).split())
        raise Refusal(f"{name!r} no longer fits its checkpoint ({reason:.200}); was the recipe changed?") from error


def dump(value: Any, path: Path) -> None:
    """Write nested dicts, lists, tuples, numbers, words, None and tensors, atomically."""
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_pack(value, tensors))
    write_atomically(path, to_bytes(tensors, {"tree": tree}))


def load(path: Path) -> Any:
    """What `dump` was given: same types, same key order, same bits."""
    try:
        tensors, metadata = read_tensors(path)
        require("sha256" in metadata, "it has no checksum")
        return _unpack(json.loads(metadata["tree"]), tensors)
    except BROKEN as error:
        why = str(error).removeprefix(f"{path} is damaged (").removesuffix(").")
        raise Refusal(f"{path} is damaged ({why}); delete it and resume to start this run over.") from error


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
