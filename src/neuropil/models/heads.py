"""Heads that learn batch by batch, from features and labels that never come back."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from neuropil.errors import needs_numbers, require
from neuropil.models.description import savable
from neuropil.models.nn.columns import PopulationVote
from neuropil.plasticity import Association, gains


class Head(nn.Module, ABC):
    """What classifies features, and learns from a batch of them with their labels.

    A class that has not come yet has the score minus infinity, so that it is never the answer.

    Args:
        features: length of a feature vector.
        classes: number of classes.

    Examples:
        A head of one's own says what a batch changes, and what the scores are. This one counts classes:

        >>> class Commonest(Head):
        ...     def __init__(self, features, classes):
        ...         super().__init__(features, classes)
        ...         self.register_buffer("counts", torch.zeros(classes))
        ...     def _learn(self, x, y):
        ...         self.counts += y.bincount(minlength=self.classes)
        ...     def _scores(self, x):
        ...         return self.counts.expand(len(x), -1)
        >>> head = Commonest(2, 3)
        >>> head.learn_(torch.rand(4, 2), torch.tensor([0, 1, 1, 0]))
        >>> head(torch.rand(1, 2))
        tensor([[2., 2., -inf]])
    """

    seen: Tensor

    def __init__(self, features: int, classes: int):
        super().__init__()
        sizes = f"got {features} features and {classes} classes."
        require(features >= 1 and classes >= 1, f"{type(self).__name__} needs at least one of each, {sizes}")
        self.features, self.classes = features, classes
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    @torch.no_grad()
    def learn_(self, x: Tensor, y: Tensor) -> None:
        """Learn in place from features `x` (batch, features) and labels `y` (batch,), int64."""
        self.seen[y] = True
        self._learn(x, y)

    def forward(self, x: Tensor) -> Tensor:
        """(n, features) to (n, classes) scores."""
        return self._scores(x).masked_fill(~self.seen, -torch.inf)

    @abstractmethod
    def _learn(self, x: Tensor, y: Tensor) -> None:
        """What one batch changes."""

    @abstractmethod
    def _scores(self, x: Tensor) -> Tensor:
        """(n, features) to (n, classes), whether a class has come or not."""

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.features}, {self.classes}"


class Prototypes(Head):
    r"""Every class has units of its own; of those of the label the nearest moves to the mean of what it has won.

    :math:`\Delta w_i = (x - w_i) / n_i` for the winner i among the units of the label's class, where n_i counts its
    wins. A unit that has not won takes the example as it is. MacQueen 1967, Berkeley Symp. 5 (k-means, online). With
    one unit for each class the weights are the class means, whatever the order of the examples.

    Local: a synapse sees its input, its own weight, whether its unit has won, and how often it had. The label decides
    which units compete, so that no other class is ever changed. The threshold :math:`|w_i|^2 / 2` belongs to the unit.
    The examples of a batch compete before any of them is learned.

    Args:
        features, classes: as of `Head`.
        per_class: units of each class.

    Examples:
        >>> head = Prototypes(2, 2)
        >>> head.learn_(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]))
        >>> head.weight[:, 0]
        tensor([[2., 0.],
                [0., 2.]])
    """

    weight: Tensor
    bias: Tensor
    wins: Tensor

    def __init__(self, features: int, classes: int, per_class: int = 1):
        super().__init__(features, classes)
        needs_numbers(self, per_class=per_class)
        require(per_class >= 1, f"Prototypes needs at least one unit for each class, got per_class={per_class}.")
        self.per_class = per_class
        self.register_buffer("weight", torch.zeros(classes, per_class, features))
        self.register_buffer("bias", torch.full((classes, per_class), -torch.inf))  # silent until it wins
        self.register_buffer("wins", torch.zeros(classes, per_class, dtype=torch.int64))

    def _learn(self, x: Tensor, y: Tensor) -> None:
        rows, bias, wins = self.weight.flatten(0, 1), self.bias.flatten(), self.wins.flatten()
        unit = y * self.per_class + self._winners(x, y)
        wins.index_add_(0, unit, torch.ones_like(unit))
        rows.index_add_(0, unit, (x - rows[unit]) / wins[unit, None])
        bias[unit] = -rows[unit].square().sum(1) / 2

    def _winners(self, x: Tensor, y: Tensor) -> Tensor:
        """(batch,) of the units of the class one that has not won yet, otherwise the nearest."""
        if len(y) == 1:  # the weights of one class are enough
            drive = F.linear(x, self.weight[y[0]], self.bias[y[0]])
        else:
            every = F.linear(x, self.weight.flatten(0, 1), self.bias.flatten())
            drive = every.view(len(y), self.classes, self.per_class)[torch.arange(len(y), device=y.device), y]
        before = (y[:, None] == y).tril(-1).sum(1)  # examples of the same class before this one in the batch
        free = (self.wins > 0).sum(1)[y] + before
        winners: Tensor = torch.where(free < self.per_class, free, drive.argmax(1))
        return winners

    def _scores(self, x: Tensor) -> Tensor:
        drive: Tensor = F.linear(x, self.weight.flatten(0, 1), self.bias.flatten())
        scores: Tensor = drive.unflatten(1, (self.classes, self.per_class)).amax(2)
        return scores


class DeltaReadout(Head):
    r"""One softmax unit for each class, which learns by the delta rule.

    :math:`\Delta w_c = \eta \, \overline{(t_c - y_c)\, x}` with t = 1 for the label and 0 otherwise. Widrow & Hoff
    1960, IRE WESCON. It is also what backpropagation does in a single layer.

    Local but for the softmax: a synapse sees its input and the error of its own unit; all units share one sum. Units
    of classes that have not come take part in it. With small steps classes then learn alike, whenever they come.

    Args:
        features, classes: as of `Head`.
        lr: learning rate.

    Examples:
        >>> head = DeltaReadout(1, 2, lr=1.0)
        >>> head.learn_(torch.tensor([[2.0], [0.0]]), torch.tensor([0, 1]))
        >>> head.weight
        tensor([[ 0.5000],
                [-0.5000]])
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, classes: int, lr: float = 1.0):
        super().__init__(features, classes)
        needs_numbers(self, lr=lr)
        require(lr > 0, f"DeltaReadout needs a learning rate lr > 0, got {lr}.")
        self.lr = lr
        self.register_buffer("weight", torch.zeros(classes, features))
        self.register_buffer("bias", torch.zeros(classes))

    def _learn(self, x: Tensor, y: Tensor) -> None:
        error = F.one_hot(y, self.classes).to(x) - self._scores(x).softmax(1)
        self.weight.addmm_(error.T, x, alpha=self.lr / len(x))
        self.bias.add_(error.mean(0), alpha=self.lr)

    def _scores(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class AssociationReadout(Head):
    """Neurons that are associated with a class and learn by `neuropil.plasticity.Association`.

    Local: a synapse sees its two neurons and the label event. Neurons of other classes than the label's are weakened
    where they would have fired. So new classes change the neurons of old ones.

    Args:
        features, classes: as of `Head`.
        per_class: neurons of each class.
        k, slope: as of `neuropil.plasticity.Association`.
        lr: learning rate.
        rng: of the first weights, N(0, 1 / features).

    Examples:
        >>> head = AssociationReadout(2, 2, per_class=3, rng=torch.Generator().manual_seed(0))
        >>> for _ in range(50):
        ...     head.learn_(torch.eye(2), torch.tensor([1, 0]))
        >>> head(torch.eye(2)).argmax(1)
        tensor([1, 0])
    """

    def __init__(
        self, features: int, classes: int, per_class: int = 20, k: int | None = 3, slope: float = 32.0,
        lr: float = 0.1, rng: Generator | None = None,
    ):  # fmt: skip
        super().__init__(features, classes)
        needs_numbers(self, per_class=per_class, k=k, slope=slope, lr=lr)
        require(lr > 0, f"AssociationReadout needs a learning rate lr > 0, got {lr}.")
        self.per_class, self.k, self.slope, self.lr = per_class, k, slope, lr
        self.rule = Association(classes, slope=slope, k=k)
        self.rule.check_units(classes * per_class)
        self.hidden = nn.Linear(features, classes * per_class).requires_grad_(False)
        nn.init.normal_(self.hidden.weight, std=features**-0.5, generator=rng)
        nn.init.zeros_(self.hidden.bias)
        self.vote = PopulationVote(classes * per_class, classes, k=k, slope=slope)

    def _learn(self, x: Tensor, y: Tensor) -> None:
        error = gains(self.rule, self.hidden, x, self.hidden(x), label=y)
        self.hidden.weight.addmm_(error.T, x, alpha=self.lr / len(x))
        self.hidden.bias.add_(error.mean(0), alpha=self.lr)

    def _scores(self, x: Tensor) -> Tensor:
        votes: Tensor = self.vote(self.hidden(x))
        return votes


savable(Prototypes, DeltaReadout)
savable(AssociationReadout, settings=("features", "classes", "per_class", "k", "slope", "lr"))
