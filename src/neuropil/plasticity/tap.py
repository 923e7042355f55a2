"""How activity reaches a rule and how a rule's change reaches the optimiser."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import require, unknown
from neuropil.plasticity.geometry import weight_of


class Activity(NamedTuple):
    """What went through a layer in one forward pass, cut from the autograd graph."""

    pre: Tensor  # (batch, *in)
    post: Tensor | None = None  # (batch, *out); None where only inputs were recorded


class _AllReached(BaseException):
    """Ends a forward pass once every tapped layer has got its input."""


@contextmanager
def tap(model: nn.Module, names: Iterable[str], *, pre_only: bool = False) -> Iterator[dict[str, Activity]]:
    """Record the activity of the named layers in the latest forward pass of the block; no hook outlives the block.

    A layer that the pass uses several times is recorded as one longer batch. Activity that was changed in place after
    it went through its layer (an activation with ``inplace=True``) is refused when the block ends. What
    ``torch.compile`` made of the model steps aside inside the block, since compiled code calls no new hooks. Under
    autocast, too, activity is recorded in the dtype of the weight.

    Args:
        model: any module tree.
        names: dotted names of layers, as in ``model.named_modules()``; a dict of rules by layer name serves as well.
        pre_only: record inputs only. The block ends as soon as every named layer has got its input. No product of the
            last of them and nothing after it is computed; no later statement of the block runs.

    Raises:
        Refusal: no layer has such a name; activity was changed in place; the pass runs in inference mode.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import Hebb, propose_, tap
        >>> layer = torch.nn.Linear(3, 2)
        >>> with tap(layer, [""], pre_only=True) as seen:
        ...     _ = layer(torch.ones(4, 3))
        >>> propose_(layer, Hebb()(layer, *seen[""]))
    """
    layers = _named(model, list(names))
    seen: dict[str, Activity] = {}
    passed: list[tuple[str, Tensor, int]] = []

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        sides = [side for side in (inputs[0], output) if side is not None]
        plain = all(isinstance(side, Tensor) for side in sides)
        require(plain, f"tap needs one tensor into and out of a layer; {name!r} is a {type(layer).__name__}.")
        inference = any(side.is_inference() for side in sides)
        require(not inference, "tap cannot watch torch.inference_mode(); use torch.no_grad() instead.")
        new = Activity(*(_cut(layer, side) for side in sides))
        seen[name] = _join(seen[name], new) if name in seen else new
        passed.extend((name, side, side._version) for side in sides)
        if pre_only and len(seen) == len(layers):
            raise ended

    def clear(*_: Any) -> None:
        seen.clear()
        passed.clear()

    ended = _AllReached()
    hooks = [model.register_forward_pre_hook(clear)]
    for name, layer in layers.items():
        register = layer.register_forward_pre_hook if pre_only else layer.register_forward_hook
        hooks.append(register(partial(record, name)))
    try:
        with _uncompiled():
            yield seen
    except _AllReached as reason:
        if reason is not ended:  # another tap around this one waits for it
            raise
    finally:
        for hook in hooks:
            hook.remove()
    _refuse_changed(passed)


def _refuse_changed(passed: list[tuple[str, Tensor, int]]) -> None:
    """Refuse activity that was changed in place since it was recorded with its version."""
    cure = "use inplace=False in the activation after it, and x = x + y instead of x += y."
    for name, side, version in passed:
        fault = f"what went into or out of layer {name!r} was changed in place before its rule could see it"
        require(side._version == version, f"{fault}; {cure}")


def _named(model: nn.Module, names: list[str]) -> dict[str, nn.Module]:
    """The layers of these names. In a compiled model they are those of the model it was made from, or its own."""
    layers = dict(getattr(model, "_orig_mod", model).named_modules()) | dict(model.named_modules())
    for name in names:
        if name not in layers:
            raise unknown("layer", name, [known for known in layers if known])
    return {name: layers[name] for name in names}


def _uncompiled() -> AbstractContextManager[Any]:
    """Inside, compiled models run as they are written; free of charge where nothing was ever compiled."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _cut(layer: nn.Module, activity: Tensor) -> Tensor:
    """`activity` without its graph, in the dtype of the weight: under autocast it passes in fewer bits."""
    weight: Any = getattr(layer, "weight", None)
    return activity.detach().to(weight.dtype if weight is not None and activity.is_floating_point() else activity.dtype)


def _join(old: Activity, new: Activity) -> Activity:
    post = None if old.post is None or new.post is None else torch.cat([old.post, new.post])
    return Activity(torch.cat([old.pre, new.pre]), post)


def propose_(target: nn.Module | nn.Parameter, change: Tensor, bias: Tensor | None = None) -> None:
    """Hand `change` to the optimiser, which descends: the gradient of the weight becomes minus the change.

    The one place where learning without backpropagation writes a gradient. A dense gradient that is already there is
    overwritten in its own memory, as torch's backward pass does.

    Args:
        target: the layer that learns, or a parameter that belongs to no single layer.
        change: what to add to the weight, shaped like it, dense or sparse.
        bias: what to add to the layer's bias, shaped like it; None leaves the gradient of the bias alone.

    Raises:
        Refusal: a change is not shaped like what it changes; the layer has no bias; its weight is computed from others.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import propose_
        >>> layer = torch.nn.Linear(2, 1)
        >>> propose_(layer, torch.ones(1, 2), bias=torch.ones(1))
        >>> layer.weight.grad, layer.bias.grad
        (tensor([[-1., -1.]]), tensor([-1.]))
    """
    if isinstance(target, nn.Parameter):
        require(bias is None, "a parameter by itself has no bias; propose two changes.")
        _descend_(target, change, "parameter")
        return
    weight_of(target)  # refuses what no change can reach
    _descend_(target.weight, change, "weight")  # type: ignore[arg-type]
    if bias is not None:
        own = getattr(target, "bias", None)
        require(isinstance(own, nn.Parameter), f"{type(target).__name__} has no bias that a change could be given to.")
        _descend_(own, bias, "bias")  # type: ignore[arg-type]


def _descend_(param: nn.Parameter, change: Tensor, what: str) -> None:
    """The gradient of `param` becomes minus `change`."""
    got = f"a change of shape {tuple(change.shape)} was proposed for a {what} of {tuple(param.shape)}"
    require(change.shape == param.shape, f"{got}; a rule's change is shaped like the {what}.")
    if param.grad is None or param.grad.is_sparse or change.is_sparse:
        param.grad = -change.detach().to(param)
    else:
        torch.neg(change.detach().to(param), out=param.grad)
