"""Weights in fewer bytes: float16, or whole numbers with one scale for each row, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from neuropil.errors import require, unknown

SCALE = "|scale"  # after the name of a tensor in int8: the float32 scale of each of its rows
PRECISIONS = ("float16", "int8", "int7", "int6")


def pack(tensors: Mapping[str, Tensor], precision: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    r"""(`tensors` with all float ones of two axes or more in `precision`, what type each of these had).

    In int8 a row w becomes :math:`q = \mathrm{round}(w / s)` with :math:`s = \max|w| / 127`, so that no weight moves by
    more than s / 2. A row is whatever belongs to one index of the first axis. In int7 and int6 it is 63 and 31 in the
    place of 127. They take as many bytes, of which a later compression leaves fewer.

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
    rows = value.flatten(1).float()
    scale = rows.abs().amax(1) / (2 ** (bits - 1) - 1)
    whole = (rows / torch.where(scale > 0, scale, 1)[:, None]).round().to(torch.int8)
    return {name: whole.view_as(value), name + SCALE: scale}


def unpack(tensors: Mapping[str, Tensor], types: Mapping[str, str]) -> dict[str, Tensor]:
    """The inverse of `pack`, but for what rounding took.

    Raises:
        KeyError: a tensor or its scale is missing.
    """
    found = dict(tensors)
    for name, dtype in types.items():
        value = found[name].to(getattr(torch, dtype))
        if found[name].dtype == torch.int8:
            scale = found.pop(name + SCALE).to(value)
            value = value * scale.view(-1, *[1] * (value.ndim - 1))
        found[name] = value
    return found
