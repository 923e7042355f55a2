"""Damage to the network itself: lost weights, lost units, noise on the weights, few bits per weight."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.errors import require, unknown
from neuropil.evaluate.metrics.accuracy import accuracy
from neuropil.evaluate.robustness.victim import victim_of

Learner = TypeVar("Learner")
GEOMETRIES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


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


def learned_values(learner: Any) -> list[Any]:
    """What a learner has learned: itself if it is a module, else its attributes whose names end in ``_``."""
    if isinstance(learner, nn.Module):
        return [learner]
    return [value for name, value in vars(learner).items() if name.endswith("_") and not name.endswith("__")]


def weights_of(learner: Any) -> list[Tensor]:
    """Every weight with at least two axes among what `learner` has learned, each once; they share its memory.

    They are found in modules, tensors, and lists, tuples and dicts of them, and in the ``coef_`` of scikit-learn.
    """
    found: dict[int, Tensor] = {}
    arrays = [getattr(learner, name) for name in ("coef_", "coefs_") if hasattr(learner, name)]
    for weight in _weights([*learned_values(learner), *(torch.from_numpy(array) for array in _flat(arrays))]):
        if weight.ndim >= 2 and weight.is_floating_point():
            found.setdefault(weight.data_ptr(), weight)
    return list(found.values())


def _flat(arrays: Iterable[Any]) -> Iterator[np.ndarray]:
    for item in arrays:
        yield from _flat(item) if isinstance(item, list) else [item]


def _weights(value: Any) -> Iterator[Tensor]:
    if isinstance(value, nn.Module):
        yield from (weight.data for weight in value.parameters())
    elif isinstance(value, Tensor):
        yield value.detach()
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _weights(item)
    elif isinstance(value, dict):
        yield from _weights(list(value.values()))


def hidden_layers(learner: Any) -> list[nn.Module]:
    """The dense and convolutional layers of what `learner` has learned, without the last, whose units are classes."""
    networks = [value for value in learned_values(learner) if isinstance(value, nn.Module)]
    modules = dict.fromkeys(module for network in networks for module in network.modules())
    layers: list[nn.Module] = [module for module in modules if isinstance(module, GEOMETRIES)]
    return layers[:-1]


def drop_weights_(learner: Any, amount: float, rng: Generator) -> None:
    """A fraction `amount` of all weights becomes 0."""
    for weight in weights_of(learner):
        weight.mul_((torch.rand(weight.shape, generator=rng) >= amount).to(weight))


def drop_units_(learner: Any, amount: float, rng: Generator) -> None:
    """A fraction of the units of every hidden layer gets a drive of 0, whatever the input: weights and bias are 0."""
    for layer in hidden_layers(learner):
        weight = layer.get_parameter("weight").data
        alive = (torch.rand(len(weight), generator=rng) >= amount).to(weight)
        weight.mul_(alive.view(-1, *[1] * (weight.ndim - 1)))
        if getattr(layer, "bias", None) is not None:
            layer.get_parameter("bias").data.mul_(alive)


def add_weight_noise_(learner: Any, amount: float, rng: Generator) -> None:
    """Noise N(0, (amount s)^2) on every weight, s the standard deviation of its layer's weights."""
    for weight in weights_of(learner):
        weight.add_(torch.randn(weight.shape, generator=rng).to(weight), alpha=amount * weight.std().item())


def quantise_(learner: Any, amount: float, rng: Generator) -> None:
    """Every layer's weights rounded to 2^amount - 1 even levels from minus to plus the largest."""
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


def damaged(learner: Learner, kind: str, severity: int, rng: Generator) -> Learner:
    """A damaged copy of `learner`; the original stays as it is.

    Args:
        learner: fitted; a module, or something whose learned attributes have names that end in ``_``.
        kind: one of `DAMAGES`.
        severity: 1 to 5.
        rng: of what is lost.

    Raises:
        Refusal: an unknown kind, another severity, or a learner that has nothing to lose.

    >>> network = nn.Linear(100, 10).eval()
    >>> damaged(network, "few bits", 5, torch.Generator()).weight.unique().numel()
    3
    """
    if kind not in DAMAGES:
        raise unknown("damage", kind, DAMAGES)
    require(severity in range(1, 6), f"damage has the severities 1 to 5, got {severity}.")
    lacks = "hidden units" if weights_of(learner) else "weights"
    require(kind in damages_for(learner), f"{kind} need {lacks}, and {type(learner).__name__} has none.")
    damaged_copy = deepcopy(learner)
    with torch.no_grad():
        DAMAGES[kind].perturb_(damaged_copy, DAMAGES[kind].amounts[severity - 1], rng)
    return damaged_copy


def accuracy_under_damage(learner: Any, test: Split, *, seed: int = 0) -> Iterator[tuple[str, int, float, float]]:
    """(kind, severity, amount, accuracy) for every kind of damage that `learner` can take."""
    for kind in damages_for(learner):
        for severity, amount in enumerate(DAMAGES[kind].amounts, start=1):
            rng = torch.Generator().manual_seed(seed)
            victim = victim_of(damaged(learner, kind, severity, rng), test.classes)
            yield kind, severity, amount, accuracy(victim, test)
