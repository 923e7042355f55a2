"""Backpropagation that goes on learning from whatever comes, alone or with elastic weight consolidation."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.models.contract import as_batch
from neuropil.models.training.readout import featurise


class Consolidation(nn.Module):
    r"""Elastic weight consolidation, online: :math:`\frac{\lambda}{2} \sum_i F_i (\theta_i - \theta_i^*)^2`.

    :math:`\theta^*` are the weights after the last task, F the sum over all tasks so far of the mean squared gradients
    of single examples. Kirkpatrick et al. 2017, PNAS 114; Schwarz et al. 2018, ICML (online).

    The squares are gathered while a task is learned, so that its examples are not needed again. A batch of B examples
    with the mean gradient g gives :math:`B g^2`: the same expectation at an optimum, and exact for B = 1.

    Args:
        weights: what is trained.
        strength: lambda.
    """

    def __init__(self, weights: Sequence[nn.Parameter], strength: float):
        super().__init__()
        self.weights, self.strength = list(weights), strength
        for name in ("anchor", "fisher", "now"):
            for index, weight in enumerate(weights):
                start = weight.detach().clone() if name == "anchor" else torch.zeros_like(weight)
                self.register_buffer(f"{name}{index}", start)
        self.register_buffer("examples", torch.zeros(()))

    def parts(self, name: str) -> list[Tensor]:
        """All tensors "anchor", "fisher" or "now", in the order of the weights."""
        return [self.get_buffer(f"{name}{index}") for index in range(len(self.weights))]

    @torch.no_grad()
    def constrain_(self, batch: int) -> None:
        """Gather the squares of the gradients that are there, then add the gradient of the penalty to them."""
        grads = [weight.grad for weight in self.weights if weight.grad is not None]
        torch._foreach_addcmul_(self.parts("now"), grads, grads, value=batch)
        self.get_buffer("examples").add_(batch)
        for weight, fisher, anchor, grad in zip(self.weights, self.parts("fisher"), self.parts("anchor"), grads):
            grad.addcmul_(fisher, weight - anchor, value=self.strength)

    @torch.no_grad()
    def consolidate_(self) -> None:
        """A task has ended: its weights are the new anchor."""
        examples = self.get_buffer("examples")
        for weight, fisher, anchor, now in zip(self.weights, *map(self.parts, ("fisher", "anchor", "now"))):
            fisher.add_(now / examples.clamp_min(1))
            anchor.copy_(weight)
            now.zero_()
        examples.zero_()


class OnlineBackprop:
    """One step of plain gradient descent on the cross entropy for each batch; all weights learn.

    Args:
        body: maps a batch to features; it is copied.
        lr: learning rate.
        consolidation: strength of elastic weight consolidation; 0 for none.
    """

    def __init__(self, body: nn.Sequential, *, lr: float, consolidation: float = 0.0):
        self.body, self.lr, self.strength = body, lr, consolidation

    def begin(self, x: Tensor, classes: int) -> Self:
        """Make the network; its readout starts at zero."""
        body = deepcopy(self.body).to(x.device).requires_grad_(True)
        features = featurise(body, Split.unlabelled(x[:1], classes)).x.shape[1]
        readout = nn.Linear(features, classes)
        nn.init.zeros_(readout.weight)
        nn.init.zeros_(readout.bias)
        self.network_ = nn.Sequential(body, nn.Flatten(), readout.to(x.device))
        self.weights_ = list(self.network_.parameters())
        self.optimizer_ = torch.optim.SGD(self.weights_, lr=self.lr)
        self.consolidation_ = Consolidation(self.weights_, self.strength)
        self.seen_ = torch.zeros(classes, dtype=torch.bool, device=x.device)
        return self

    def partial_fit(self, x: Tensor, y: Tensor, *, classes: int | None = None) -> Self:
        """Learn from one batch."""
        begun = "network_" in vars(self)
        batch = as_batch(self, x, y, classes, len(self.seen_) if begun else None)
        if not begun:
            self.begin(x, batch.classes)
        self.seen_[batch.y] = True
        self.optimizer_.zero_grad()
        F.cross_entropy(self.network_(batch.x), batch.y).backward()
        if self.strength:
            self.consolidation_.constrain_(len(batch))
        self.optimizer_.step()
        return self

    def end_task_(self) -> None:
        """A task has ended, as it is told; of use only to elastic weight consolidation."""
        if self.strength:
            self.consolidation_.consolidate_()

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels, of classes that have come."""
        labels: Tensor = self.network_(x).masked_fill(~self.seen_, -torch.inf).argmax(1)
        return labels
