"""White-box attacks: they follow the gradient of a loss by the pixels. On a surrogate, they are transfer attacks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import Refusal, needs_numbers, require
from neuropil.evaluate.robustness.norms import Norm
from neuropil.evaluate.robustness.victim import Function, Victim, check_asked

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(scores: Tensor, y: Tensor) -> Tensor:
    """(n, classes) scores and (n,) labels to (n,): -log softmax of the label."""
    return F.cross_entropy(scores, y, reduction="none")


def margin(scores: Tensor, y: Tensor) -> Tensor:
    """(n, classes) and (n,) labels to (n,): the best other score minus that of the label; above 0 it is fooled.

    Unlike the cross entropy it has a gradient however sure the network is. Carlini & Wagner 2017, IEEE S&P.
    """
    label = F.one_hot(y, scores.shape[1]).bool()
    return scores.masked_fill(label, -torch.inf).amax(1) - scores.gather(1, y[:, None])[:, 0]


class InputGradient(NamedTuple):
    """What a network says at a point: its scores (n, classes), and the gradient of the loss (n, *shape)."""

    scores: Tensor
    gradient: Tensor


def input_gradient(forward: Function, loss: Loss, x: Tensor, y: Tensor) -> InputGradient:
    """One forward and one backward pass. Infinite scores (a neuron that never fires) have no gradient to give.

    Raises:
        Refusal: the scores have no gradient by `x` at all. This is not the same as a gradient of zero.
    """
    scores, gradient = _differentiate(forward, loss, x, y)
    if gradient is None:
        cure = "pass forward of a learner or of victim_of(network, classes), not its decision_function"
        raise Refusal(f"a white-box attack needs scores with a gradient by the image, got none; {cure}.")
    return InputGradient(scores, gradient)


def with_gradient(victim: Victim, test: Split) -> Victim:
    """`victim`, without its `forward` if that has no gradient by the images: white-box attacks do not apply then."""
    if victim.forward and _differentiate(victim.forward, margin, test[:1].pixels(), test.y[:1])[1] is None:
        return replace(victim, forward=None)
    return victim


def _differentiate(forward: Function, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
    """The scores, and the gradient of their loss by `x` if there is one."""
    if torch.is_inference_mode_enabled():
        raise Refusal("a white-box attack needs gradients, got torch.inference_mode(), which has none; leave it first.")
    with torch.enable_grad():
        at, gradient = x.detach().requires_grad_(), None
        scores = forward(at)
        if scores.requires_grad:
            (gradient,) = torch.autograd.grad(loss(scores, y).sum(), at, allow_unused=True)
    return scores.detach(), gradient


def finite_or_zero(gradient: Tensor) -> Tensor:
    """`gradient` (n, *shape), with no direction for images whose own is not finite: they stay where they are."""
    sound = gradient.flatten(1).isfinite().all(1)
    return gradient if bool(sound.all()) else gradient.masked_fill(~sound.view(-1, *[1] * (gradient.ndim - 1)), 0)


@dataclass(frozen=True)
class FGSM:
    r"""One step of the whole budget: :math:`x + \epsilon\,\mathrm{sign}(g)` in Linf, :math:`x + \epsilon\,g/|g|` in L2.

    Here g is the gradient of the cross entropy by the pixels. Goodfellow et al. 2015, ICLR.

    Attributes:
        forward: the differentiable scores of the network.
        norm: of the budget.
    """

    forward: Function
    norm: Norm
    losses: Sequence[Loss] = (cross_entropy,)

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_asked(self, "forward")
        check_losses(self)

    def __call__(self, batch: Split, size: float) -> Tensor:
        """The adversarial images (n, *shape) of `batch`."""
        gradient = input_gradient(self.forward, self.losses[0], batch.x, batch.y).gradient
        return self.norm.clip(batch.x, batch.x + size * self.norm.steepest(finite_or_zero(gradient)), size)


@dataclass(frozen=True)
class PGD:
    r"""Projected gradient descent: :math:`x \leftarrow \mathrm{clip}(x + \alpha_k\,\mathrm{steepest}(\nabla_x L))`.

    Steps get shorter, :math:`\alpha_k = r \epsilon\,(1 + \cos(\pi k / K)) / 2` in step k of K: the first ones cross the
    ball, the last ones settle. The first ascent starts at the image and climbs the cross entropy. The next starts at
    random and climbs the margin, and so on in turn. An image rests once it is taken for another class. Madry et al.
    2018, ICLR; that steps get shorter follows Croce & Hein 2020, ICML, the cosine is ours.

    Attributes:
        forward: the differentiable scores of the network.
        norm: of the budget.
        rng: of the starting points.
        steps: gradients in an ascent.
        restarts: ascents.
        relative_step: r, length of the first step in budgets.
        stop_when_fooled: whether an image rests once it is fooled; a transfer attack had better go on.
    """

    forward: Function
    norm: Norm
    rng: Generator = field(default_factory=torch.Generator)
    steps: int = 20
    restarts: int = 2
    relative_step: float = 2.0
    stop_when_fooled: bool = True
    losses: Sequence[Loss] = (cross_entropy, margin)

    def __post_init__(self) -> None:
        needs_numbers(self)
        check_asked(self, "forward")
        least = min(self.steps, self.restarts)
        require(least >= 1, f"PGD needs steps and restarts >= 1, got {self.steps} and {self.restarts}.")
        require(0 < self.relative_step < math.inf, f"PGD needs relative_step > 0, got {self.relative_step}.")
        check_losses(self)

    def __call__(self, batch: Split, size: float) -> Tensor:
        """The adversarial images (n, *shape) of `batch`."""
        found, todo = batch.x.clone(), torch.arange(len(batch), device=batch.y.device)
        for k in range(self.restarts):
            x, y = batch.x[todo], batch.y[todo]
            start = x if k == 0 else self.norm.clip(x, x + self.norm.random(x, size, self.rng), size)
            adversarial, fooled = self._ascend(x, y, start, size, self.losses[k % len(self.losses)])
            found[todo] = adversarial
            todo = todo[~fooled] if self.stop_when_fooled else todo
            if len(todo) == 0:
                break
        return found

    def _ascend(self, x: Tensor, y: Tensor, at: Tensor, size: float, loss: Loss) -> tuple[Tensor, Tensor]:
        """Where every image ended, and whether it was taken for another class there."""
        end, fooled = at.clone(), torch.zeros_like(y, dtype=torch.bool)
        live = torch.arange(len(y), device=y.device)
        for k in range(self.steps):
            scores, gradient = input_gradient(self.forward, loss, at, y)
            at_rest = scores.argmax(1) != y
            if self.stop_when_fooled and bool(at_rest.any()):
                end[live[at_rest]], fooled[live[at_rest]] = at[at_rest], True
                live, x, y, at, gradient = (one[~at_rest] for one in (live, x, y, at, gradient))
                if len(live) == 0:
                    return end, fooled
            stride = self.relative_step * size * (1 + math.cos(math.pi * k / self.steps)) / 2
            at = self.norm.clip(x, self.norm.steepest(finite_or_zero(gradient)).mul_(stride).add_(at), size)
        with torch.no_grad():
            fooled[live] = self.forward(at).argmax(1) != y
        end[live] = at
        return end, fooled


def check_losses(attack: FGSM | PGD) -> None:
    """Refuse an attack that has nothing to climb."""
    require(len(attack.losses) > 0, f"{type(attack).__name__} needs a loss to climb, got losses={attack.losses!r}.")


def zero_gradient_fraction(attack: FGSM | PGD, split: Split, *, batch: int = 1000) -> float:
    """Fraction of `split` at which every loss of `attack` has a gradient of zero (or not finite) in every pixel."""
    found = 0
    for chunk in split.batches(min(batch, len(split))):
        gradients = [input_gradient(attack.forward, loss, chunk.x, chunk.y).gradient for loss in attack.losses]
        useless = [(g == 0).all(1) | ~g.isfinite().all(1) for g in (one.flatten(1) for one in gradients)]
        found += int(torch.stack(useless).all(0).sum())
    return found / len(split)
