"""What the units of a convolution see: its patches, a few thousand at a time, never all at once."""

import math
from collections.abc import Callable, Iterator
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from neuropil._threads import compiler, share_out
from neuropil.errors import require
from neuropil.plasticity.geometry import Conv, Transposed, check_input, from_rows, padded, rows, units, weight_of
from neuropil.plasticity.kernels.rows import compilable
from neuropil.plasticity.plan import PLAN, Plan
from neuropil.plasticity.processes import place
from neuropil.plasticity.sharing import share_alike, sharing

compiled = compiler()
PatchRule = Callable[[nn.Module, Tensor], Tensor]  # a dense layer and the samples it sees to the change of its weight


class PatchNorm(NamedTuple):
    """What a layer's `preprocess_patches` does, in closed form, as its method `patch_norm` gives it to kernels.

    Every patch loses its mean and is divided by its norm; a flat one is left out.

    Attributes:
        flat: fraction of its mean square below which the variance of a patch counts as none.
        whitening: what patches are multiplied with then, (fan-in, fan-in), or None.
    """

    flat: float
    whitening: Tensor | None = None


def has_patches(layer: nn.Module) -> bool:
    """Whether every unit of `layer` sees the same patches: a plain convolution with one group.

    A subclass of a convolution counts if it has a method ``preprocess_patches``: patches (n, fan-in) to what meets the
    weights, (m, fan-in). It may leave out patches that no unit answers to.
    """
    known = type(layer) in Conv or hasattr(layer, "preprocess_patches")
    return known and isinstance(layer, Conv) and layer.groups == 1


def patches(layer: nn.Module, pre: Tensor, *, plan: Plan = PLAN) -> Iterator[Tensor]:
    """What every position of the output sees, as (n, fan-in), in the order of batch and positions.

    Stride, padding of every mode and dilation are the layer's. Beyond one copy of `pre` with its padding, the only
    memory is that of the patches handed out.

    Args:
        layer: a convolution for which `has_patches` holds.
        pre: its input, (batch, channels, *positions).
        plan: how many at a time, but at least one row of positions.
    """
    check_input(layer, pre)
    seen = windows(layer, pre.detach())
    preprocess = _preprocess(layer)
    dims = (seen.dim() - 2) // 2
    fan_in = math.prod(seen.shape[1 + dims :])
    for block in blocks(seen, dims, max(1, plan.patch_entries // max(fan_in, units(layer)))):
        patch = preprocess(unfolded(block, 1 + dims, plan))
        if len(patch):
            yield patch


def _preprocess(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """What becomes of patches before they meet the weights."""
    own: Callable[[Tensor], Tensor] | None = getattr(layer, "preprocess_patches", None)
    return own or (lambda patch: patch)


def pieces(layer: nn.Module, pre: Tensor, plan: Plan = PLAN) -> Iterator[Tensor]:
    """`pre`, for a convolution in pieces of a few examples: what it makes of each stays near the cache."""
    if not isinstance(layer, Conv):
        yield pre
        return
    check_input(layer, pre)
    each = units(layer) * sample_count(layer, pre[:1])
    limit = plan.outputs if pre.device.type == "cpu" else 4 * plan.outputs
    yield from pre.split(max(1, limit // each))


def sample_count(layer: nn.Module, pre: Tensor) -> int:
    """How many samples `layer` sees in `pre`: every position of the output of a convolution is one."""
    if isinstance(layer, Transposed):
        names = ("stride", "padding", "dilation", "kernel_size", "output_padding")
        sizes = zip(pre.shape[2:], *(getattr(layer, name) for name in names))
        return len(pre) * math.prod(
            int((n - 1) * s - 2 * p + d * (k - 1) + extra + 1) for n, s, p, d, k, extra in sizes
        )
    if not isinstance(layer, Conv):
        return pre.shape[:-1].numel()
    return len(pre) * windows(layer, pre.new_empty(1, *pre.shape[1:])).shape[1 : pre.dim() - 1].numel()


def sample_patches(
    layer: nn.Module, pre: Tensor, count: int, rng: Generator, place: tuple[int, int] | None = None
) -> Tensor:
    """Patches from random examples and positions, (n, fan-in); n < `count` where ``preprocess_patches`` drops some.

    Where others have the rest of the examples, each process gets those patches that are of its own.

    Args:
        layer: a convolution for which `has_patches` holds.
        pre: its input, (batch, channels, *positions).
        count: how many to take, with replacement.
        rng: of examples and positions.
        place: how many examples stand before these and how many there are in all, where others have the rest.
    """
    return some_patches(layer, pre, count, rng, place)[0]


def some_patches(
    layer: nn.Module, pre: Tensor, count: int, rng: Generator, place: tuple[int, int] | None = None
) -> tuple[Tensor, int]:
    """What `sample_patches` gives, and how many of the patches others have before these, before any are dropped."""
    check_input(layer, pre)
    seen = windows(layer, pre.detach())
    before, total = place or (0, len(seen))
    sizes = (total, *seen.shape[1 : seen.dim() // 2])
    where = [torch.randint(size, (count,), generator=rng) for size in sizes]
    lower = 0
    if place is not None:
        lower = int((where[0] < before).sum())
        own = (where[0] >= before) & (where[0] < before + len(seen))
        where = [where[0][own] - before, *(index[own] for index in where[1:])]
    return _preprocess(layer)(seen[tuple(index.to(pre.device) for index in where)].flatten(1)), lower


def in_sample(rule: PatchRule, layer: nn.Module, pre: Tensor, fraction: float, rng: Generator) -> Tensor:
    """The change of a convolution from a random fraction of its patches, as the rule gives it for those alone.

    Where processes share the layer, these are patches from the examples of all of them.
    """
    processes, dense = sharing(layer.get_parameter("weight")), as_dense(layer)
    where = None if processes is None else place(pre, processes)
    count = (where[1] if where else len(pre)) * sample_count(layer, pre.new_empty(1, *pre.shape[1:]))
    patch = sample_patches(layer, pre, max(1, round(fraction * count)), rng, where)
    if processes is not None:
        share_alike(dense.get_parameter("weight"), processes)
    elif not len(patch):
        return torch.zeros_like(layer.get_parameter("weight"))
    return from_rows(layer, rule(dense, patch))


def as_dense(layer: nn.Module) -> nn.Linear:
    """The dense layer with the same weights, which sees patches (n, fan-in)."""
    weight = rows(layer, weight_of(layer))
    dense = nn.Linear.__new__(nn.Linear)  # its own __init__ would initialise weights first
    nn.Module.__init__(dense)
    dense.out_features, dense.in_features = weight.shape
    dense.weight, dense.bias = nn.Parameter(weight, requires_grad=False), layer.bias  # type: ignore[assignment]
    return dense


def windows(layer: nn.Module, pre: Tensor) -> Tensor:
    """The patches as a view of the padded input: (batch, *positions, channels, *kernel)."""
    pre = padded(layer, pre)
    size, kernel = pre.shape[2:], layer.kernel_size
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, layer.dilation)]  # type: ignore[arg-type]
    fits = all(0 < span <= room for span, room in zip(spans, size))
    got = f"a kernel that spans {tuple(spans)} was given positions {tuple(size)}, padding included"
    require(fits, f"{type(layer).__name__} with {got}; use a smaller kernel, less dilation or more padding.")
    steps = pre.stride()[2:]
    positions = [(room - span) // s + 1 for room, span, s in zip(size, spans, layer.stride)]  # type: ignore[arg-type]
    hop = [step * s for step, s in zip(steps, layer.stride)]  # type: ignore[arg-type]
    reach = [step * d for step, d in zip(steps, layer.dilation)]  # type: ignore[arg-type]
    shape = (len(pre), *positions, pre.shape[1], *kernel)  # type: ignore[misc]
    return pre.as_strided(shape, (pre.stride(0), *hop, pre.stride(1), *reach))


def unfolded(block: Tensor, dims: int, plan: Plan = PLAN) -> Tensor:
    """A copy of the view `block` as (n, fan-in): its first `dims` axes count patches, the others what is in them."""
    if not (plan.compiled and compilable(block, block)) or not block.numel():
        return block.reshape(block.shape[:dims].numel(), block.shape[dims:].numel())
    shape, hop = block.shape, block.stride()
    places, reach = (_offsets(shape[axes], hop[axes]) for axes in (slice(dims), slice(dims, None)))
    room = block.as_strided((int(places[-1] + reach[-1]) + 1,), (1,))
    out = block.new_empty(len(places), len(reach))
    worth = out.numel() // plan.patches_per_thread
    share_out(_unfold, len(places), room.numpy(), places, reach, out.numpy(), worth=worth)
    return out


def _offsets(shape: tuple[int, ...], hop: tuple[int, ...]) -> np.ndarray:
    """How far every entry of an array of that shape and stride lies from its first."""
    return reduce(np.add.outer, [np.arange(size) * step for size, step in zip(shape, hop)]).ravel()


@compiled
def _unfold(thread, start, stop, room, places, reach, out):  # type: ignore[no-untyped-def]
    """The patches `start` to `stop`."""
    for patch in range(start, stop):
        seen, row = room[places[patch] :], out[patch]
        for i in range(len(reach)):
            row[i] = seen[reach[i]]


def blocks(seen: Tensor, dims: int, limit: int) -> Iterator[Tensor]:
    """`seen` in pieces of whole examples, or, where one example has more than `limit` positions, of rows of it."""
    each = seen.shape[1 : 1 + dims].numel()
    if each <= limit:
        yield from seen.split(max(1, limit // max(1, each)))
        return
    rows = max(1, limit * seen.shape[1] // each)
    for example in seen.split(1):
        yield from example.split(rows, 1)
