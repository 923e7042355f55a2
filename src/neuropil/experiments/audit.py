"""What rules and learners need to know: an audit of the locality of whatever changes the weights of a network."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from neuropil.errors import Refusal, require
from neuropil.evaluate import Locality, locality
from neuropil.plasticity import Learner, Rule, propose_, tap
from neuropil.plasticity.attachable import check_images
from neuropil.plasticity.tap import named_layers

COLUMNS = {  # what a change may depend on, in words
    "other_inputs": "other inputs",
    "neighbours": "activity of neighbours",
    "neighbours_weights": "weights of neighbours",
    "samples": "other samples",
    "labels": "labels",
    "above": "layers above",
    "below": "layers below",
}
READS = {
    "synapse": "its two neurons",
    "open": "its two neurons, as far as was measured",
    "layer": "its layer",
    "network": "other layers",
}


class Audit(dict[str, Locality]):
    """A `Locality` by name of the layer; in words as a string."""

    def __repr__(self) -> str:
        return "\n".join(f"{name or 'the network'}: {in_words(one)}" for name, one in self.items())


def audit(
    rule: Rule | Mapping[str, Rule] | Learner | Callable[..., Any], model: nn.Module, images: Tensor,
    labels: Tensor | None = None, *, layers: tuple[str, ...] = (), seed: int = 0,
) -> Audit:  # fmt: skip
    """What the change of a synapse depends on, by number: the proof that a rule is local, or that it is not.

    Everything that a synapse may not see is altered, one after the other, while the input of its layer is held. See
    `Locality` for what is altered. Numbers are relative differences of the change, in float64; 0 is no dependence.
    The network is left alone.

    Args:
        rule: a rule, which is tried on each layer; or rules by name of the layer; or what `attach` returned for this
            network. Or a function ``step(model, images, labels)`` that leaves gradients, like a backward pass.
        model: the network.
        images: a batch as the network takes it, (n, *shape), n even. With fewer images than a layer has inputs, more
            can be measured.
        labels: (n,) int64, for what needs them and to see whether a change depends on them.
        layers: names of the layers to audit; all with a matrix or kernels as weights if none is named.
        seed: of what is altered.

    Raises:
        Refusal: no such layer; an odd number of images; a change that is zero, missing or random.

    Examples:
        >>> train, _ = npl.load_data("digits")
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Linear(20, 10))
        >>> print(npl.audit(npl.Oja(), model, train[:40].pixels(), layers=("1",)))
        1: reads its two neurons (layers above 0).
        >>> def backprop(model, images, labels):
        ...     torch.nn.functional.cross_entropy(model(images), labels).backward()
        >>> npl.audit(backprop, model, train[:40].pixels(), train[:40].y)["1"].reads
        'network'
    """
    check_images("audit", images)
    labelled = labels is None or (labels.shape == images.shape[:1] and len(labels.unique()) > 1)
    require(labelled, "an audit needs a label for each image, of two classes or more, or no labels.")
    ruled = rule.rules if isinstance(rule, Learner) else rule if isinstance(rule, Mapping) else {}
    names = list(named_layers(model, layers)) or [*ruled] or _trainable(model)
    found = Audit()
    for name in names:
        if not name:
            found[name] = audit(rule, nn.Sequential(model), images, labels, layers=("0",), seed=seed)["0"]
            continue
        law = ruled.get(name, rule if isinstance(rule, Rule) else None)
        bend = law.weights if law is not None else None
        step = _step(rule, name, law)
        found[name] = locality(step, model, name, images, labels, drive_weights=bend, seed=seed)
    return found


def _trainable(model: nn.Module) -> list[str]:
    """Layers whose weights a rule could change."""
    found = [name for name, one in model.named_modules() if isinstance(getattr(one, "weight", None), nn.Parameter)]
    names = [name for name in found if model.get_submodule(name).get_parameter("weight").dim() > 1]
    require(bool(names), "an audit needs a network with a layer that has weights.")
    return names


def _step(rule: Any, name: str, law: Rule | None) -> Callable[[nn.Module, Tensor, Tensor | None], Any]:
    """One change as the audit asks for it."""
    if isinstance(rule, Learner):
        return lambda model, images, labels: _attached_to(rule, model).propose_(images)
    if law is not None:
        return lambda model, images, labels: apply(law, model, name, images, labels)
    if not callable(rule):
        raise Refusal(f"an audit needs a rule or a function step(model, images, labels), got {type(rule).__name__}.")
    step: Callable[[nn.Module, Tensor, Tensor | None], Any] = rule
    return step


def _attached_to(learner: Learner, model: nn.Module) -> Learner:
    """The learner on a copy of its network in float64."""
    copy = learner.on(model)
    wide: Callable[[Any], Any] = lambda one: one.double() if torch.is_tensor(one) and one.is_floating_point() else one
    copy.states = {name: type(state)(*map(wide, state)) for name, state in copy.states.items()}
    return copy


@torch.no_grad()
def apply(rule: Rule, model: nn.Module, name: str, images: Tensor, labels: Tensor | None) -> None:
    """Propose the change of a rule in one layer."""
    with tap(model, [name], pre_only=True) as seen:
        model(images)
    given: dict[str, Any] = {}
    if "label" in signature(rule.post).parameters:
        if labels is None:
            raise Refusal(f"{type(rule).__name__} learns from labels; give audit the labels of the images.")
        given["label"] = labels
    layer = model.get_submodule(name)
    propose_(layer, rule(layer, seen[name].pre, **given))


def in_words(found: Locality) -> str:
    """One line."""
    numbers = {name: getattr(found, name) for name in COLUMNS}
    shown = ", ".join(f"{COLUMNS[name]} {number:.2g}" for name, number in numbers.items() if number)
    none = ", ".join(f"{COLUMNS[name]} 0" for name in ("above",) if numbers[name] is not None and not numbers[name])
    return f"reads {READS[found.reads]} ({', '.join(part for part in (shown, none) if part)})."
