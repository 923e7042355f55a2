"""Weights in fewer bytes: float16, or whole numbers with one scale for each row, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from neuropil.errors import require, unknown

SCALE = "|scale"  # after the name of a tensor in int8: the float32 scale of each of its rows
FEW = 1 << 16  # entries of a tensor that int4 leaves in int8
PRECISIONS = ("float16", "int8", "int7", "int6", "int4")


def pack(tensors: Mapping[str, Tensor], precision: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    r"""(`tensors` with all float ones of two axes or more in `precision`, what type each of these had).

    In int8 a row w becomes :math:`q = \mathrm{round}(w / s)` with :math:`s = \max|w| / 127`, so that no weight moves by
    more than s / 2. A row is whatever belongs to one index of the first axis. In int7 and int6 it is 63 and 31 in the
    place of 127. They take as many bytes, of which a later compression leaves fewer. In int4 it is 7, and two numbers
    share a byte (uint8). Tensors of fewer than 65,536 entries, or with an odd last axis, stay in int8 then: a readout
    has few bytes and needs them.

    Raises:
        Refusal: another precision; weights that float16 or int8 cannot hold.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    packed, types = dict(tensors), {}
    for name, value in tensors.items():
        if not value.is_floating_point() or value.ndim < 2 or not value.numel():
            continue
        largest = float(value.abs().max())
        fits = largest <= torch.finfo(torch.float16).max  # not so for NaN
        require(fits, f"{precision} holds weights up to 65504, got {largest:g} in {name!r}; leave precision out.")
        types[name] = str(value.dtype).removeprefix("torch.")
        packed |= {name: value.half()} if precision == "float16" else _rows(name, value, int(precision[3:]))
    return packed, types


def _rows(name: str, value: Tensor, bits: int) -> dict[str, Tensor]:
    bits = 8 if bits == 4 and (value.numel() < FEW or value.shape[-1] % 2) else bits
    rows = value.flatten(1).float()
    scale = rows.abs().amax(1) / (2 ** (bits - 1) - 1)
    whole = (rows / torch.where(scale > 0, scale, 1)[:, None]).round().to(torch.int8).view_as(value)
    return {name: _in_pairs(whole) if bits == 4 else whole, name + SCALE: scale}


def _in_pairs(whole: Tensor) -> Tensor:
    """Whole numbers from -7 to 7, two in a byte: (..., 2 n) in int8 to (..., n) in uint8."""
    low, high = (whole + 8).to(torch.uint8).view(*whole.shape[:-1], -1, 2).unbind(-1)
    return low | high << 4


def _one_by_one(pairs: Tensor) -> Tensor:
    """The inverse of `_in_pairs`."""
    return torch.stack([pairs & 15, pairs >> 4], -1).flatten(-2).to(torch.int8) - 8


def unpack(tensors: Mapping[str, Tensor], types: Mapping[str, str]) -> dict[str, Tensor]:
    """The inverse of `pack`, but for what rounding took.

    Raises:
        KeyError: a tensor or its scale is missing.
    """
    found = dict(tensors)
    for name, dtype in types.items():
        kept = _one_by_one(found[name]) if found[name].dtype == torch.uint8 else found[name]
        value = kept.to(getattr(torch, dtype))
        if kept.dtype == torch.int8:
            scale = found.pop(name + SCALE).to(value)
            value = value * scale.view(-1, *[1] * (value.ndim - 1))
        found[name] = value
    return found
