"""Backpropagation that goes on learning from whatever comes, alone or with elastic weight consolidation."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import Diverged, needs_numbers, require
from neuropil.models.contract import as_examples, begin_fit, copied
from neuropil.models.description import savable
from neuropil.models.online import OnlineReadoutClassifier
from neuropil.models.training.readout import featurise, network_of
from neuropil.runs.tracker import Tracker


class Consolidation(nn.Module):
    r"""Elastic weight consolidation, online: :math:`\frac{\lambda}{2} \sum_i F_i (\theta_i - \theta_i^*)^2`.

    :math:`\theta^*` are the weights after the last task, F the sum over all tasks so far of the mean squared gradients
    of single examples. Kirkpatrick et al. 2017, PNAS 114; Schwarz et al. 2018, ICML (online).

    The squares are gathered while a task is learned, so that its examples are not needed again. A batch of B examples
    with the mean gradient g gives :math:`B g^2`: the same expectation at an optimum, and exact for B = 1.

    Args:
        shapes: of the weights that are trained.
        strength: lambda.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], strength: float):
        super().__init__()
        self.shapes, self.strength = tuple(tuple(shape) for shape in shapes), strength
        for name in ("anchor", "fisher", "now"):
            for index, shape in enumerate(self.shapes):
                self.register_buffer(f"{name}{index}", torch.zeros(shape))
        self.register_buffer("examples", torch.zeros(()))

    def parts(self, name: str) -> list[Tensor]:
        """All tensors "anchor", "fisher" or "now", in the order of the weights."""
        return [self.get_buffer(f"{name}{index}") for index in range(len(self.shapes))]

    @torch.no_grad()
    def constrain_(self, weights: Sequence[Tensor], batch: int) -> None:
        """Gather the squares of the gradients of `weights`, then add the gradient of the penalty to them."""
        grads = [weight.grad for weight in weights if weight.grad is not None]
        torch._foreach_addcmul_(self.parts("now"), grads, grads, value=batch)
        self.get_buffer("examples").add_(batch)
        for weight, fisher, anchor, grad in zip(weights, self.parts("fisher"), self.parts("anchor"), grads):
            grad.addcmul_(fisher, weight - anchor, value=self.strength)

    @torch.no_grad()
    def consolidate_(self, weights: Sequence[Tensor]) -> None:
        """A task has ended: its weights are the new anchor."""
        examples = self.get_buffer("examples")
        for weight, fisher, anchor, now in zip(weights, *map(self.parts, ("fisher", "anchor", "now"))):
            fisher.add_(now / examples.clamp_min(1))
            anchor.copy_(weight)
            now.zero_()
        examples.zero_()


class SeenClasses(nn.Module):
    """Gives classes that have not come yet the score minus infinity, so that they are never the answer.

    Args:
        classes: number of classes.
    """

    seen: Tensor

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """(n, classes) to the same."""
        return x.masked_fill(~self.seen, -torch.inf)


class OnlineBackprop(OnlineReadoutClassifier):
    """One step of plain gradient descent on the cross entropy for each batch; all weights learn.

    Args:
        body: maps a batch to features; it is copied.
        lr: learning rate.
        consolidation: strength of elastic weight consolidation; 0 for none.
        batch: examples in a step of `fit`.

    After the first `partial_fit`: ``network_``, body and readout, in evaluation mode.

    Examples:
        >>> from neuropil.data import digits
        >>> from neuropil.models import dense_body, init_normal_
        >>> train, test = digits()
        >>> body = dense_body(train, 50, n=1.0)
        >>> init_normal_(body, torch.Generator().manual_seed(0))
        >>> model = OnlineBackprop(body, lr=0.5).fit(train, rng=torch.Generator().manual_seed(1))
        >>> bool((model.predict(test.x) == test.y).float().mean() > 0.8)
        True
    """

    shown = ("body", "lr", "consolidation")

    def __init__(self, body: nn.Sequential, *, lr: float, consolidation: float = 0.0, batch: int = 10):
        needs_numbers(self, lr=lr, consolidation=consolidation, batch=batch)
        fine = 0 < lr < math.inf and 0 <= consolidation < math.inf and batch >= 1
        what = "OnlineBackprop needs finite lr > 0, finite consolidation >= 0 and batch >= 1"
        require(fine, f"{what}, got {lr}, {consolidation} and {batch}.")
        self.body, self.lr, self.consolidation, self.batch = body, lr, consolidation, batch

    def begin(self, x: Tensor, classes: int) -> Self:
        """Make the network for examples like those of `x` (n, *shape); its readout starts at zero."""
        body = copied(self, self.body, x.device)
        linear = nn.Linear(featurise(body, Split.unlabelled(x[:1], classes)).x.shape[1], classes)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        readout = nn.Sequential(OrderedDict[str, nn.Module](linear=linear, seen=SeenClasses(classes))).to(x.device)
        self.network_ = network_of(body, readout).eval().requires_grad_(False)
        self.consolidation_: Consolidation | None = None
        if self.consolidation:
            self._holding(list(self.network_.parameters()))
        return self

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn afresh from every example of `train` once, in random order."""
        begin_fit(self, train, rng)
        train.check_labelled("OnlineBackprop")
        self.begin(train.x, train.classes)
        for part in train.batches(min(self.batch, len(train)), shuffle=rng):
            self.partial_fit(part.x, part.y)
        return self

    def end_task_(self) -> None:
        """A task has ended, as it is told; of use only to elastic weight consolidation."""
        if self.consolidation:
            weights = list(self.network_.parameters())
            self._holding(weights).consolidate_(weights)

    @property
    def _classes(self) -> int:
        """How many classes there are, seen or not."""
        return self._seen.classes

    @property
    def _seen(self) -> SeenClasses:
        return self.network_.get_submodule("readout.seen")  # type: ignore[return-value]

    def _holding(self, weights: list[nn.Parameter]) -> Consolidation:
        """What holds the weights; nothing is held before the first task has ended."""
        if self.consolidation_ is None:
            shapes = [tuple(weight.shape) for weight in weights]
            self.consolidation_ = Consolidation(shapes, self.consolidation).to(weights[0])
        return self.consolidation_

    def _learn(self, x: Tensor, y: Tensor) -> None:
        """One step; all classes take part in the softmax, whether they have come or not."""
        weights = list(self.network_.requires_grad_(True).parameters())
        try:
            scores = self.network_.get_submodule("readout.linear")(self.body_(as_examples(self, x)).flatten(1))
            loss = F.cross_entropy(scores, y)
            if not loss.isfinite():
                raise Diverged(f"OnlineBackprop diverged: its loss is {loss.item()}; lower its learning rate.")
            loss.backward()
            self._seen.seen[y] = True
            if self.consolidation:
                self._holding(weights).constrain_(weights, len(y))
            torch.optim.SGD(weights, lr=self.lr).step()
        finally:
            self.network_.requires_grad_(False).zero_grad(set_to_none=True)


savable(Consolidation, SeenClasses)
savable(OnlineBackprop, learned=("network_",), for_learning=("body",), going_on=("consolidation_",))
