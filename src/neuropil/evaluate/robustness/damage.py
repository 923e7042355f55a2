"""Damage to the network itself: lost weights, lost units, noise on the weights, few bits per weight."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from neuropil.data import Split
from neuropil.errors import Refusal, require, unknown
from neuropil.evaluate.metrics.accuracy import accuracy
from neuropil.evaluate.robustness.victim import victim_of

Learner = TypeVar("Learner")
GEOMETRIES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
ARRAYS = ("coef_", "coefs_", "weights_")  # attributes of estimators; their other arrays are no weights


class Damage(NamedTuple):
    """One kind.

    Attributes:
        perturb_: changes a learner in place, by an amount, with a generator.
        amounts: of the five severities.
        meaning: of an amount, in words.
    """

    perturb_: Callable[[Any, float, Generator], None]
    amounts: tuple[float, float, float, float, float]
    meaning: str


def learned_values(learner: Any) -> Iterator[nn.Module | Tensor]:
    """Modules and tensors among what `learner` has learned: itself, or its attributes whose names end in ``_``.

    Lists, tuples and dicts are searched, and so are learners and pipelines within the learner. Of numpy's arrays those
    of `ARRAYS` count where they are attributes: what a property makes anew, as ``coef_`` of ``SVC``, is a copy.
    """
    if isinstance(learner, nn.Module):
        yield learner
        return
    for name, value in vars(learner).items():
        if name == "steps" or (name.endswith("_") and not name.endswith("__")):
            yield from _inside(value, name)


def _inside(value: Any, name: str) -> Iterator[nn.Module | Tensor]:
    if isinstance(value, nn.Module | Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _inside(item, name)
    elif name in ARRAYS and isinstance(value, np.ndarray):
        yield torch.from_numpy(value)
    elif name in ARRAYS and hasattr(value, "tocsr"):
        raise Refusal(f"weights need to be arrays, got {type(value).__name__} as {name}; call densify() first.")
    elif (hasattr(value, "predict") or hasattr(value, "transform")) and hasattr(value, "__dict__"):
        yield from learned_values(value)


def weights_of(learner: Any) -> list[Tensor]:
    """Every weight with at least two axes among what `learner` has learned, each once; they share its memory.

    Gains of layers that normalise are no weights; any other parameter with two axes is one. Where they are looked for:
    `learned_values`.

    Raises:
        Refusal: a layer computes its weight from other parameters, as with ``weight_norm``.
    """
    found: dict[int, Tensor] = {}
    for value in learned_values(learner):
        for weight in _of_module(value) if isinstance(value, nn.Module) else [value.detach()]:
            if weight.ndim >= 2 and weight.is_floating_point():
                found.setdefault(weight.data_ptr(), weight)
    return list(found.values())


def _of_module(network: nn.Module) -> Iterator[Tensor]:
    for name, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        computed = is_parametrized(module) or (isinstance(module, GEOMETRIES) and own.get("weight") is None)
        layer = f"{type(module).__name__} {name!r}"
        cure = 'call remove_parametrizations(layer, "weight"), remove_weight_norm or prune.remove first'
        require(not computed, f"damage needs weights that are parameters, got computed ones in {layer}; {cure}.")
        if not isinstance(module, nn.LayerNorm | nn.RMSNorm):
            yield from (weight.data for weight in own.values())


def copied(learner: Learner) -> Learner:
    """A copy of `learner` to be damaged, in which weights that a mask hides are 0, since they are no synapses.

    Raises:
        Refusal: as `weights_of`.
    """
    weights_of(learner)
    copy = deepcopy(learner)
    with torch.no_grad():
        for layer in _layers(copy):
            weight, mask = layer.get_parameter("weight"), getattr(layer, "mask", None)
            if isinstance(mask, Tensor) and mask.shape == weight.shape:
                weight.mul_(mask.to(weight))
    return copy


def _layers(learner: Any) -> list[nn.Module]:
    networks = [value for value in learned_values(learner) if isinstance(value, nn.Module)]
    modules = dict.fromkeys(module for network in networks for module in network.modules())
    return [module for module in modules if isinstance(module, GEOMETRIES)]


def hidden_layers(learner: Any, test: Split | None = None) -> list[nn.Module]:
    """The dense and convolutional layers of what `learner` has learned, without the last, whose units are classes.

    The last is the one that computes last when it predicts `test`. Without `test`, or where no layer is called as a
    module, it is the one that was registered last.
    """
    layers, called = _layers(learner), []
    hooks = [layer.register_forward_hook(lambda layer, *_: called.append(layer)) for layer in layers if test]
    try:
        if test:
            victim_of(learner, test.classes).predict(test[:1].pixels())
    finally:
        for hook in hooks:
            hook.remove()
    return [layer for layer in layers if layer is not [*layers, *called][-1]]


def drop_weights_(learner: Any, amount: float, rng: Generator) -> None:
    """A fraction `amount` of all weights becomes 0."""
    for weight in weights_of(learner):
        weight.mul_((torch.rand(weight.shape, generator=rng) >= amount).to(weight))


def drop_units_(learner: Any, amount: float, rng: Generator, test: Split | None = None) -> None:
    """A fraction of the units of every hidden layer gets a drive of 0, whatever the input: weights and bias are 0.

    What follows may still make a constant of that 0, as the bias of a layer that normalises does. Units of other layers
    than `GEOMETRIES` stay: of transposed convolutions, recurrent layers, attention, and networks of scikit-learn.
    """
    for layer in hidden_layers(learner, test):
        weight = layer.get_parameter("weight").data
        alive = (torch.rand(len(weight), generator=rng) >= amount).to(weight)
        weight.mul_(alive.view(-1, *[1] * (weight.ndim - 1)))
        if getattr(layer, "bias", None) is not None:
            layer.get_parameter("bias").data.mul_(alive)


def add_weight_noise_(learner: Any, amount: float, rng: Generator) -> None:
    """Noise N(0, (amount s)^2) on every weight that is not 0, s the standard deviation of those of its layer.

    A weight of 0 is no synapse, and stays so. Of a layer with one weight s is its size.
    """
    for weight in weights_of(learner):
        there = weight != 0
        own = weight[there]
        s = own.std().item() if len(own) > 1 else own.abs().sum().item()
        weight.add_(torch.randn(weight.shape, generator=rng).to(weight) * there, alpha=amount * s)


def quantise_(learner: Any, amount: float, rng: Generator) -> None:
    """Every layer's weights rounded to 2^amount - 1 even levels from minus to plus the largest.

    So it is without calibration: one large weight costs all others. With the scale of the least squared error it is
    `neuropil.evaluate.robustness.precision.rounded`.
    """
    for weight in weights_of(learner):
        top, steps = weight.abs().max(), 2 ** (round(amount) - 1) - 1
        if top > 0:
            weight.div_(top).mul_(steps).round_().div_(steps).mul_(top)


DAMAGES = {
    "lost weights": Damage(drop_weights_, (0.1, 0.3, 0.5, 0.7, 0.9), "fraction"),
    "lost units": Damage(drop_units_, (0.1, 0.3, 0.5, 0.7, 0.9), "fraction"),
    "weight noise": Damage(add_weight_noise_, (0.1, 0.25, 0.5, 1.0, 2.0), "standard deviations"),
    "few bits": Damage(quantise_, (8, 6, 4, 3, 2), "bits"),
}


def damages_for(learner: Any) -> list[str]:
    """The kinds of damage that `learner` can take: without hidden units it can lose none, without weights nothing."""
    kinds = DAMAGES if weights_of(learner) else []
    return [kind for kind in kinds if kind != "lost units" or hidden_layers(learner)]


def damaged(learner: Learner, kind: str, severity: int, rng: Generator, test: Split | None = None) -> Learner:
    """A damaged copy of `learner`; the original stays as it is.

    Args:
        learner: fitted; a module, or something whose learned attributes have names that end in ``_``.
        kind: one of `DAMAGES`.
        severity: 1 to 5.
        rng: of what is lost.
        test: examples to predict, which tell the layer of the classes; see `hidden_layers`.

    Raises:
        Refusal: an unknown kind, another severity, a learner that has nothing to lose, or weights that are computed.

    >>> network = nn.Linear(100, 10).eval()
    >>> damaged(network, "few bits", 5, torch.Generator()).weight.unique().numel()
    3
    """
    if kind not in DAMAGES:
        raise unknown("damage", kind, DAMAGES)
    require(severity in range(1, 6), f"damage has the severities 1 to 5, got {severity}.")
    lacks = "hidden units" if weights_of(learner) else "weights"
    require(kind in damages_for(learner), f"{kind} need {lacks}, and {type(learner).__name__} has none.")
    damaged_copy, perturb_ = copied(learner), DAMAGES[kind].perturb_
    perturb_ = partial(drop_units_, test=test) if perturb_ is drop_units_ else perturb_
    with torch.no_grad():
        perturb_(damaged_copy, DAMAGES[kind].amounts[severity - 1], rng)
    return damaged_copy


def check_used(learner: Any, test: Split) -> None:
    """Refuse a learner that answers alike with strong noise on its weights: those that were found are not in use."""
    rng, some = torch.Generator().manual_seed(0), test[:100]
    if not any(bool(weight.any()) for weight in weights_of(learner)):
        return  # nothing that noise could change
    before, after = (victim_of(one, test.classes) for one in (learner, damaged(learner, "weight noise", 5, rng)))
    alike = bool((before.predict(some.pixels()) == after.predict(some.pixels())).all())
    if alike and before.decision_function and after.decision_function:
        alike = torch.equal(*(one(some.pixels()) for one in (before.decision_function, after.decision_function)))
    who = f"{type(learner).__name__} answers alike whatever they are"
    require(not alike, f"damage needs the weights that a learner predicts with, and {who}; does it keep copies?")


def accuracy_under_damage(learner: Any, test: Split, *, seed: int = 0) -> Iterator[tuple[str, int, float, float]]:
    """(kind, severity, amount, accuracy) for every kind of damage that `learner` can take.

    Raises:
        Refusal: as `damaged`, or the weights that were found are not those it predicts with.
    """
    check_used(learner, test)
    for kind in damages_for(learner):
        for severity, amount in enumerate(DAMAGES[kind].amounts, start=1):
            rng = torch.Generator().manual_seed(seed)
            victim = victim_of(damaged(learner, kind, severity, rng, test), test.classes)
            yield kind, severity, amount, accuracy(victim, test)
