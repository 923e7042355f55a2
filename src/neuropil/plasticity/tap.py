"""How activity reaches a rule."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, require, unknown
from neuropil.plasticity.law import Law


class Activity(NamedTuple):
    """What went through a layer in one forward pass, cut from the autograd graph; `tap` makes it."""

    pre: Tensor  # (batch, *in)
    post: Tensor | None = None  # (batch, *out); None where only inputs were recorded


class Seen(dict[str, Activity]):
    """Activity by the name of the layer; a layer that no pass has reached is refused."""

    def __missing__(self, name: str) -> Activity:
        """Refuse the name."""
        kind, why = f"no pass of the block has reached layer {name!r}", "its model was not called, or passes it by"
        raise Refusal(f"{kind}: {why} (an attention layer uses the weights of its projections without calling them).")


class _AllReached(BaseException):
    """Ends a forward pass once every tapped layer has got its input."""


@contextmanager
def tap(model: nn.Module, names: Iterable[str], *, pre_only: bool = False) -> Iterator[dict[str, Activity]]:
    """Record the activity of the named layers in the latest forward pass of the block; no hook outlives the block.

    A layer that the pass uses several times is recorded as one longer batch. Activity that was changed in place after
    it went through its layer (an activation with ``inplace=True``) is refused when the block ends. What
    ``torch.compile`` made of the model steps aside inside the block, since compiled code calls no new hooks. Under
    autocast, too, activity is recorded in the dtype of the weight. Passes of other threads are not seen.

    Args:
        model: any module tree; names are those inside ``DataParallel``, ``DistributedDataParallel`` and
            ``torch.compile`` as well.
        names: dotted names of layers, as in ``model.named_modules()``; a single name or a dict of rules by layer name
            serves as well.
        pre_only: record inputs only. The block ends as soon as every named layer has got its input. No product of the
            last of them and nothing after it is computed; no later statement of the block runs.

    Raises:
        Refusal: no layer has such a name. A layer does not take and give one tensor, or was reached a second time
            outside of the model's own call. Activity was changed in place. The pass runs in inference mode. A layer
            is asked for that was never reached.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import Hebb, propose_, tap
        >>> layer = torch.nn.Linear(3, 2)
        >>> with tap(layer, [""], pre_only=True) as seen:
        ...     _ = layer(torch.ones(4, 3))
        >>> propose_(layer, Hebb()(layer, *seen[""]))
    """
    recorder = _Recorder(named_layers(model, names), pre_only)
    hooks = recorder.hooks(bare(model)[-1])
    try:
        with _uncompiled():
            yield recorder.seen
    except _AllReached as reason:
        if reason is not recorder.ended:  # another tap around this one waits for it
            raise
    finally:
        for hook in hooks:
            hook.remove()
    _refuse_changed(recorder.passed)


class _Recorder:
    """What the hooks of one block write into."""

    def __init__(self, layers: dict[str, nn.Module], pre_only: bool):
        self.layers, self.pre_only = layers, pre_only
        self.seen, self.ended, self.depth = Seen(), _AllReached(), 0
        self.thread = threading.get_ident()
        self.passed: list[tuple[str, Tensor, int]] = []

    def hooks(self, model: nn.Module) -> list[Any]:
        """Let `model` tell where a pass begins and ends, and the layers what goes through them."""
        hooks = [model.register_forward_pre_hook(self.here(self.enter))]
        for name, layer in self.layers.items():
            register: Callable[..., Any] = (
                layer.register_forward_pre_hook if self.pre_only else layer.register_forward_hook
            )
            hooks.append(register(self.here(partial(self.record, name)), with_kwargs=True))
        return [*hooks, model.register_forward_hook(self.here(self.leave), always_call=True)]

    def here(self, hook: Callable[..., None]) -> Callable[..., None]:
        """`hook`, but not for passes of other threads through the same model."""
        return lambda *given: hook(*given) if threading.get_ident() == self.thread else None

    def enter(self, *_: Any) -> None:
        """A pass begins; the model may call itself."""
        if not self.depth:
            self.seen.clear()
            self.passed.clear()
        self.depth += 1

    def leave(self, *_: Any) -> None:
        """A pass ends."""
        self.depth -= 1

    def record(
        self, name: str, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any = None
    ) -> None:
        """What went through a layer; `output` is missing where only inputs are recorded."""
        first, *others = [*inputs, *named.values()] or [None]
        sides = [first] if self.pre_only else [first, output]
        one = all(isinstance(side, Tensor) for side in sides) and not any(isinstance(x, Tensor) for x in others)
        what = f"tap needs one tensor into and out of a layer; {name!r} is a {type(layer).__name__}"
        require(one, f"{what}; name a Linear, convolution or embedding layer instead.")
        inference = any(side.is_inference() for side in sides)
        require(not inference, "tap cannot watch torch.inference_mode(); use torch.no_grad() instead.")
        again = "outside of model(...), where one pass cannot be told from the next; open a tap for each pass"
        require(self.depth > 0 or name not in self.seen, f"layer {name!r} was reached a second time {again}.")
        new = Activity(*(_cut(layer, side) for side in sides))
        self.seen[name] = _join(self.seen[name], new) if name in self.seen else new
        self.passed.extend((name, side, side._version) for side in sides)
        if self.pre_only and len(self.seen) == len(self.layers):
            raise self.ended


def _refuse_changed(passed: list[tuple[str, Tensor, int]]) -> None:
    """Refuse activity that was changed in place since it was recorded with its version."""
    cure = "use inplace=False in the activation after it, and x = x + y instead of x += y."
    for name, side, version in passed:
        fault = f"what went into or out of layer {name!r} was changed in place before its rule could see it"
        require(side._version == version, f"{fault}; {cure}")


def bare(model: nn.Module) -> list[nn.Module]:
    """`model`, what it wraps (compiled, on several devices or processes), and so on down to the user's own."""
    require(isinstance(model, nn.Module), f"a model is an nn.Module that was made, got {_what(model)}.")
    inside: Any = getattr(model, "_orig_mod", None)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inside = model.module
    return [model, *bare(inside)] if isinstance(inside, nn.Module) else [model]


def named_layers(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The layers of these names, in the user's own model or in what wraps it; arguments and errors as of `tap`."""
    layers = {name: layer for wrapped in bare(model) for name, layer in wrapped.named_modules()}
    if isinstance(names, Mapping):
        for name, rule in names.items():
            made = not isinstance(rule, type) or not issubclass(rule, Law)
            require(made, f"the rule of layer {name!r} is {_what(rule)}; make one with {_what(rule)[10:]}().")
    listed = [names] if isinstance(names, (str, nn.Module)) else list(names)
    for name in listed:
        if not isinstance(name, str):
            own = [key for key, layer in layers.items() if layer is name]
            cure = f"it is called {own[-1]!r}" if own else "they stand in model.named_modules()"
            raise Refusal(f"layers are given by their names, got {_what(name)}; {cure}.")
        if name not in layers:
            raise unknown("layer", name, [known for known in layers if known])
    return {name: layers[name] for name in listed}


def _what(given: object) -> str:
    """What something is, in a few words."""
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"


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
