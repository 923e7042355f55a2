"""What decays ends at 0: a CPU takes tens of times as long over numbers that are too small to be normal."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil._threads import compiler

compiled = compiler("contract", "nsz")


def without_subnormals(x: Tensor) -> Tensor:
    """`x` with 0 where its size is at most the smallest normal number of its type. Elsewhere than on a CPU as it is.

    A trace that decays by a factor in every step gets there after 87 time constants in float32. A product of matrices
    with such numbers takes several times as long, and a softmax is full of them where drives are large.

    >>> without_subnormals(torch.tensor([1e-39, -1e-39, 1e-37]))
    tensor([0.0000e+00, 0.0000e+00, 1.0000e-37])
    """
    return F.hardshrink(x, torch.finfo(x.dtype).tiny) if x.is_floating_point() and x.device.type == "cpu" else x


def settled(state: Any) -> Any:
    """The same of all tensors of a state, which may be in tuples, lists and dicts."""
    if isinstance(state, Tensor):
        return without_subnormals(state)
    if isinstance(state, tuple | list):
        parts = map(settled, state)
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    if type(state) is dict:
        return {name: settled(part) for name, part in state.items()}
    return state


def leaky_sum(old: Tensor, keep: float, new: Tensor) -> Tensor:
    """keep old + new without subnormal numbers; on a CPU, where both have one shape, in one pass, compiled."""
    alike = type(old) is type(new) is Tensor and old.shape == new.shape and old.dtype == new.dtype
    known = alike and new.dtype in (torch.float32, torch.float64)
    plain = known and old.device.type == new.device.type == "cpu" and not (old.requires_grad or new.requires_grad)
    if not plain or torch.get_num_threads() > 1 or not (old.is_contiguous() and new.is_contiguous()):
        return without_subnormals(torch.add(new, old, alpha=keep))
    out = torch.empty_like(new)
    _leaky_sum(old.numpy().reshape(-1), new.numpy().reshape(-1), keep, out.numpy().reshape(-1))
    return out


@compiled
def _leaky_sum(old, new, keep, out):  # type: ignore[no-untyped-def]
    kind = out.dtype.type
    zero, factor, tiny = kind(0), kind(keep), kind(np.finfo(out.dtype).tiny)
    for i in range(len(out)):
        total = new[i] + factor * old[i]
        out[i] = zero if abs(total) <= tiny else total
