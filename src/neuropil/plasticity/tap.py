"""How activity reaches a rule and how a rule's change reaches the optimiser."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import require, unknown
from neuropil.plasticity.geometry import weight_of


class Activity(NamedTuple):
    """What went through a layer in one forward pass, cut from the autograd graph."""

    pre: Tensor  # (batch, *in)
    post: Tensor  # (batch, *out)


@contextmanager
def tap(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Activity]]:
    """Record the activity of the named layers in the latest forward pass of the block; no hook outlives the block.

    A layer that the pass uses several times is recorded as one longer batch. Activity that was changed in place after
    it went through its layer (an activation with ``inplace=True``) is refused when the block ends. What
    ``torch.compile`` made of the model steps aside inside the block, since compiled code calls no new hooks. Under
    autocast, too, activity is recorded in the dtype of the weight.

    Args:
        model: any module tree.
        names: dotted names of layers, as in ``model.named_modules()``; a dict of rules by layer name serves as well.
    """
    layers = _named(model, list(names))
    seen: dict[str, Activity] = {}
    passed: list[tuple[str, Tensor, int]] = []

    def listen(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            new = Activity(_cut(layer, inputs[0]), _cut(layer, output))
            require(not output.is_inference(), "tap cannot watch torch.inference_mode(); use torch.no_grad() instead.")
            seen[name] = _join(seen[name], new) if name in seen else new
            passed.extend((name, side, side._version) for side in (inputs[0], output))

        return hook

    def forget(*_: Any) -> None:
        seen.clear()
        passed.clear()

    hooks = [layer.register_forward_hook(listen(name)) for name, layer in layers.items()]
    hooks.append(model.register_forward_pre_hook(forget))
    try:
        with _uncompiled():
            yield seen
    finally:
        for hook in hooks:
            hook.remove()
    for name, side, version in passed:
        require(
            side._version == version,
            f"what went into or out of layer {name!r} was changed in place before its rule could see it; "
            "use inplace=False in the activation after it, and x = x + y instead of x += y.",
        )


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
    return Activity(torch.cat([old.pre, new.pre]), torch.cat([old.post, new.post]))


def propose_(layer: nn.Module, change: Tensor) -> None:
    """Hand `change` to the optimiser, which descends: the gradient of the weight becomes minus the change.

    A dense gradient that is already there is overwritten in its own memory, as torch's backward pass does.
    """
    shape = tuple(weight_of(layer).shape)
    require(
        change.shape == shape,
        f"a change of shape {tuple(change.shape)} was proposed for a weight of {shape}; "
        "a rule's change is shaped like the weight.",
    )
    weight: Tensor = layer.weight  # type: ignore[assignment]
    if weight.grad is None or weight.grad.is_sparse or change.is_sparse:
        weight.grad = -change.detach().to(weight)
    else:
        torch.neg(change.detach().to(weight), out=weight.grad)
