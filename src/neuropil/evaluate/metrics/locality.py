"""What the change of a synapse depends on, found by changing everything else: an audit of locality.

A change is made twice in float64, the second time with something in the network altered that a synapse may not see.
The relative difference between the two says how much the change depends on it; 0 says: not at all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from neuropil.errors import Refusal, require

NOTHING = 1e-9  # relative differences below this are rounding
UNITS = 4  # units whose neighbours are altered, one after the other

Step = Callable[[nn.Module, Tensor, Tensor | None], Any]
"""Leaves the change that a batch of images and labels asks for in the gradients of a network, with either sign."""


class Locality(NamedTuple):
    """How far the change of a layer's weights depends on things, each 0 or more; None where not measured. See `audit`.

    The input of the layer is held fixed throughout.

    Attributes:
        other_inputs: inputs of other synapses, altered so that no drive of the layer moves (dense layers only).
        neighbours: activity of the other units of the layer, whose weights are altered (dense and convolutions).
        neighbours_weights: weights of the other units, altered so that no drive moves (dense layers only).
        samples: other samples of the batch: by how much the change is not the sum of the changes of two halves.
        labels: the labels of the samples.
        above: weights of the layers that come after this one.
        below: weights of the layers that come before this one.
    """

    other_inputs: float | None
    neighbours: float | None
    neighbours_weights: float | None
    samples: float
    labels: float | None
    above: float | None
    below: float | None

    @property
    def reads(self) -> str:
        """What a synapse needs to know: its two neurons ("synapse"), its layer, or other layers ("network").

        "open" where nothing but its two neurons was seen, and something was not measured.
        """
        if any((self.above, self.below)):
            return "network"
        beside = self.other_inputs, self.neighbours, self.neighbours_weights, self.samples
        return "layer" if any(beside) else "open" if None in beside else "synapse"


def locality(
    step: Step, model: nn.Module, name: str, images: Tensor, labels: Tensor | None = None, *,
    drive_weights: Callable[[Tensor], Tensor] | None = None, seed: int = 0,
) -> Locality:  # fmt: skip
    """What the change that `step` makes of one layer depends on. The model is left alone.

    Args:
        step: makes the change; the same for the same network and batch.
        model: the network, in which the layer is called once for a batch, with one tensor.
        name: of the layer, as in ``model.named_modules()``; it has a ``weight``.
        images: (n, \\*shape), an even number.
        labels: (n,) int64 with two values or more; None where there are none.
        drive_weights: what weights the drives of the layer are taken with, (units, fan-in); None for the weights.
        seed: of what is altered.

    Raises:
        Refusal: the layer is not called once; the step leaves no change, or another one each time.

    >>> from torch.nn import functional as F
    >>> def step(model, images, labels):
    ...     F.cross_entropy(model(images), labels).backward()
    >>> network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    >>> locality(step, network, "0", torch.rand(8, 6), torch.arange(8) % 3).reads
    'network'
    """
    require(len(images) >= 2 and len(images) % 2 == 0, f"an audit needs an even number of images, got {len(images)}.")
    trial = _Trial(step, deepcopy(model).double(), name, images.double(), labels, drive_weights)
    trial.observe()
    rng = Generator().manual_seed(seed)
    base = trial.change()
    require(bool(base.any()), f"the step leaves no change in layer {name!r}, so there is nothing to audit.")
    if not torch.equal(base, trial.change()):
        raise Refusal("the step makes another change each time for the same batch; give what is random in it a seed.")
    other = None if labels is None else (labels + 1) % (int(labels.max()) + 1)
    return Locality(
        other_inputs=_other_inputs(trial, base, rng),
        neighbours=_neighbours(trial, base, rng, held=False),
        neighbours_weights=_neighbours(trial, base, rng, held=True),
        samples=_samples(trial, base),
        labels=None if other is None else _apart(trial.change(labels=other), base),
        above=_elsewhere(trial, base, trial.above, rng),
        below=_elsewhere(trial, base, trial.below, rng),
    )


@dataclass
class _Trial:
    """A network, a batch, and the change that a layer gets when its input is held."""

    step: Step
    model: nn.Module
    name: str
    images: Tensor
    labels: Tensor | None
    drive_weights: Callable[[Tensor], Tensor] | None
    held: Tensor = field(default_factory=lambda: torch.empty(0))
    above: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)

    @property
    def weight(self) -> Tensor:
        """Of the layer."""
        return self.model.get_submodule(self.name).get_parameter("weight").detach()

    @property
    def dense(self) -> bool:
        """Whether rows of the weight are units and columns inputs, and the input is one row per sample."""
        return isinstance(self.model.get_submodule(self.name), nn.Linear) and self.held.dim() == 2

    def observe(self) -> None:
        """Note the input of the layer, and which layers are called before it and which are not."""
        model, inputs, before = deepcopy(self.model), list[Tensor](), dict[str, None]()
        layers = {name: one for name, one in model.named_modules() if any(True for _ in one.parameters(recurse=False))}
        target = model.get_submodule(self.name)
        require(any(one is target for one in layers.values()), f"layer {self.name!r} has no weights of its own.")

        def note(name: str, inside: Callable[[], bool]) -> Callable[..., None]:
            def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
                if not inside():
                    return
                if name == self.name:
                    inputs.append(given[0].detach().clone())
                elif not inputs:
                    before[name] = None

            return hook

        with _passes(model) as inside:
            for name, layer in layers.items():
                layer.register_forward_pre_hook(note(name, inside))
            self.step(model, self.images, self.labels)
        times = f"the network called it {len(inputs)} times"
        require(len(inputs) == 1, f"an audit needs a step in which layer {self.name!r} is called once; {times}.")
        (self.held,) = inputs
        require(len(self.held) == len(self.images), f"layer {self.name!r} needs one input for each image.")
        self.below = list(before)
        self.above = [name for name in layers if name not in before and layers[name] is not target]

    def change(
        self, part: slice = slice(None), *, held: Tensor | None = None, labels: Tensor | None = None,
        altered: Callable[[nn.Module], Any] | None = None,
    ) -> Tensor:  # fmt: skip
        """The gradient that a part of the batch leaves in the weight, the layer's input held, the network `altered`."""
        model = deepcopy(self.model)
        if altered is not None:
            with torch.no_grad():
                altered(model)
        labels = self.labels if labels is None else labels
        layer = model.get_submodule(self.name)
        model.zero_grad(set_to_none=True)
        with _clamped(model, layer, (self.held if held is None else held)[part]):
            self.step(model, self.images[part], None if labels is None else labels[part])
        grad = layer.get_parameter("weight").grad
        if grad is None:
            raise Refusal(f"the step leaves nothing in the gradient of layer {self.name!r}; use propose_ or backward.")
        return grad.to_dense().detach().clone()


@contextmanager
def _passes(model: nn.Module) -> Iterator[Callable[[], bool]]:
    """Inside, what is given says whether the network is in a pass: a rule may call its layer once more by itself."""
    depth, forward = [0], model.forward

    def counted(*given: Any, **named: Any) -> Any:
        depth[0] += 1
        try:  # `tap` may end a pass early
            return forward(*given, **named)
        finally:
            depth[0] -= 1

    model.forward = counted
    try:
        yield lambda: depth[0] > 0
    finally:
        model.forward = forward


@contextmanager
def _clamped(model: nn.Module, layer: nn.Module, held: Tensor) -> Iterator[None]:
    """Inside, the layer gets `held` in a pass of the network, whatever reaches it."""
    with _passes(model) as inside:
        hook = layer.register_forward_pre_hook(lambda _, given: (held, *given[1:]) if inside() else None)
        try:
            yield
        finally:
            hook.remove()


def _apart(new: Tensor, old: Tensor) -> float:
    """The relative difference of two changes; 0 for rounding."""
    found = float((new - old).norm() / old.norm())
    return found if found > NOTHING else 0.0


def _noise(like: Tensor, rng: Generator) -> Tensor:
    """Noise of the size of a tensor's entries."""
    size = like.square().mean().sqrt().item() or 1.0
    return size * torch.randn(like.shape, generator=rng, dtype=torch.float64).to(like)


def _elsewhere(trial: _Trial, base: Tensor, names: list[str], rng: Generator) -> float | None:
    """With other weights in the layers of these names."""
    if not names:
        return None

    def alter(model: nn.Module) -> None:
        for name in names:
            for param in model.get_submodule(name).parameters(recurse=False):
                param.add_(_noise(param, rng))

    return _apart(trial.change(altered=alter), base)


def _samples(trial: _Trial, base: Tensor) -> float:
    """Halves of the batch apart, for changes that are means and for changes that are sums."""
    half = len(trial.images) // 2
    both = trial.change(slice(half)) + trial.change(slice(half, None))
    return min(_apart(both / 2, base), _apart(both, base))


def _neighbours(trial: _Trial, base: Tensor, rng: Generator, *, held: bool) -> float | None:
    """With other weights in all units but one, seen by that one; `held` if no drive may move."""
    weight, axis = trial.weight, _unit_axis(trial.model.get_submodule(trial.name))
    if axis is None or (held and not trial.dense) or weight.shape[axis] < 2:
        return None
    base = base.movedim(axis, 0)
    free = _null(trial.held) if held else None
    if free is not None and not free.shape[1]:
        return None
    found = []
    for unit in base.flatten(1).norm(dim=1).topk(min(UNITS, len(base))).indices.tolist():
        shift = _noise(weight, rng)
        shift = shift if free is None else shift @ free @ free.T
        shift.select(axis, unit).zero_()
        if held and not _still(trial, weight + shift):
            return None

        def shifted(model: nn.Module, by: Tensor = shift) -> None:
            model.get_submodule(trial.name).get_parameter("weight").add_(by)

        new = trial.change(altered=shifted)
        if base[unit].any():
            found.append(_apart(new.select(axis, unit), base[unit]))
    return max(found)


def _unit_axis(layer: nn.Module) -> int | None:
    """The axis of the weight that counts units; None where it is not known."""
    if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return 0
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    return 1 if transposed and layer.groups == 1 else None


def _still(trial: _Trial, weight: Tensor) -> bool:
    """Whether the drives are what they were; a law that bends its weights moves them."""
    bend = trial.drive_weights or (lambda w: w)
    old, new = trial.held @ bend(trial.weight).T, trial.held @ bend(weight).T
    return bool((new - old).norm() <= 1e-10 * old.norm())


def _other_inputs(trial: _Trial, base: Tensor, rng: Generator) -> float | None:
    """With half of the inputs altered in directions that no drive sees; seen by the synapses of the other half."""
    if not trial.dense:
        return None
    weight, half = trial.weight, trial.weight.shape[1] // 2
    some, rest = torch.randperm(weight.shape[1], generator=rng).tensor_split([half])
    bent = [] if trial.drive_weights is None else [trial.drive_weights(weight)]
    free = _null(torch.cat([weight, *bent])[:, some])
    if not free.shape[1] or not base[:, rest].any():
        return None
    held = trial.held.clone()
    held[:, some] += _noise(held[:, some], rng) @ free @ free.T
    return _apart(trial.change(held=held)[:, rest], base[:, rest])


def _null(matrix: Tensor) -> Tensor:
    """An orthonormal basis of what the rows of a matrix do not see, (columns, dimensions)."""
    _, sizes, basis = torch.linalg.svd(matrix, full_matrices=True)
    rank = int((sizes > 1e-10 * sizes.max()).sum()) if len(sizes) else 0
    return basis[rank:].T
