"""Tensors as safetensors files that carry a checksum of themselves, so that a bit that flips is noticed."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from neuropil.errors import Refusal, require
from neuropil.runs.files import is_plain

EMPTY = "0" * 64  # stands for the checksum while it is computed
BROKEN = (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError)


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of `tensors` with `metadata` and the checksum."""
    data = safetensors.torch.save(dict(tensors), {**(metadata or {}), "sha256": EMPTY})
    return data.replace(_entry(EMPTY), _entry(sha256(data).hexdigest()), 1)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors by name, metadata) of a safetensors file; none of both if there is no file.

    Raises:
        Refusal: it is damaged; a file without a checksum, which another program wrote, is taken as it is.
    """
    if not is_plain(path):
        return {}, {}
    try:
        data = path.read_bytes()
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
        said = metadata.get("sha256")
        whole = said is None or sha256(data.replace(_entry(said), _entry(EMPTY), 1)).hexdigest() == said
        require(whole, "its checksum is wrong")
        return safetensors.torch.load(data), metadata
    except BROKEN as error:
        raise Refusal(f"{path} is damaged ({error}).") from error


def _entry(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()
