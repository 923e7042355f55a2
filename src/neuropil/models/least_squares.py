"""Heads that keep sums over all examples, and are the least-squares readout of all of them at any time."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil.errors import needs_numbers, require
from neuropil.models.description import savable
from neuropil.models.heads import Head
from neuropil.models.training.ridge import solved

CHUNK = 256  # examples whose sums are added at once


class CoActivity(Head):
    r"""Sums of what comes: :math:`\sum x x^T`, :math:`\sum t x^T`, :math:`\sum x` and the count of every class.

    Each entry is Hebbian, a product of two activities, and no order of the examples changes it. The sums are float64.
    Examples wait until there are `CHUNK` of them, or until scores are asked for, so that a stream of single examples
    costs what batches cost.
    """

    gram: Tensor
    cross: Tensor
    total: Tensor
    counts: Tensor
    readout: Tensor

    def __init__(self, features: int, classes: int):
        super().__init__(features, classes)
        for name, shape in {
            "gram": (features, features),
            "cross": (classes, features),
            "total": (features,),
            "counts": (classes,),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("readout", torch.zeros(classes, features + 1, dtype=torch.float64), persistent=False)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._fresh = False
        self.register_state_dict_pre_hook(lambda head, *_: head._add())  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(CoActivity._forget)  # type: ignore[no-untyped-call]

    def _learn(self, x: Tensor, y: Tensor) -> None:
        self._waiting.append((x, y))
        self._fresh = False
        if sum(len(labels) for _, labels in self._waiting) >= CHUNK:
            self._add()

    @torch.no_grad()
    def _add(self) -> None:
        """Add what waits."""
        if self._waiting:
            x, y = (torch.cat(parts) for parts in zip(*self._waiting))
            x, target = x.to(self.gram), F.one_hot(y, self.classes).to(self.gram)
            self.gram.addmm_(x.T, x)
            self.cross.addmm_(target.T, x)
            self.total += x.sum(0)
            self.counts += target.sum(0)
            self._waiting.clear()

    def _forget(self, *_: Any) -> None:
        """After a state was loaded: what waited or was computed belongs to another one."""
        self._waiting.clear()
        self._fresh = False

    @torch.no_grad()
    def _computed(self) -> Tensor:
        """(classes, features + 1) weight and bias of the readout of all examples so far."""
        self._add()
        if not self._fresh:
            n = self.counts.sum().clamp_min(1)
            mean, frequency = self.total / n, self.counts / n
            spread = self.gram - torch.outer(self.total, mean)
            together = self.cross - torch.outer(self.counts, mean)
            weight = self._solve(spread, together, n)
            self.readout.copy_(torch.cat([weight, (frequency - weight @ mean)[:, None]], 1))
            self._fresh = True
        return self.readout

    def _scores(self, x: Tensor) -> Tensor:
        readout = self._computed().to(x.dtype)
        return F.linear(x, readout[:, :-1], readout[:, -1])

    @abstractmethod
    def _solve(self, spread: Tensor, together: Tensor, n: Tensor) -> Tensor:
        """(classes, features) weights from the centred sums over n examples."""


class LeastSquares(CoActivity):
    r"""Recursive least squares: the ridge regression of the one-hot labels on all examples so far, in closed form.

    :math:`W = T^T X (X^T X + \lambda I)^{-1}` with centred features X and labels T, and an intercept without penalty.
    The sums are the information form of recursive least squares (Plackett 1950, Biometrika 37). Nothing is forgotten,
    and the order of the examples does not matter.

    Not local: the inverse mixes all sums. It is the upper bound of what a linear readout of these features can do;
    `LateralReadout` comes near it with local means.

    Args:
        features, classes: as of `Head`.
        ridge: lambda, in the units of a sum of squares of features.

    Examples:
        >>> head = LeastSquares(1, 2, ridge=1e-6)
        >>> head.learn_(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
        >>> head(torch.tensor([[0.25]]))
        tensor([[0.7500, 0.2500]])
    """

    def __init__(self, features: int, classes: int, ridge: float = 1e-2):
        super().__init__(features, classes)
        needs_numbers(self, ridge=ridge)
        require(ridge > 0, f"LeastSquares needs a ridge > 0, got {ridge}.")
        self.ridge = ridge

    def _solve(self, spread: Tensor, together: Tensor, n: Tensor) -> Tensor:
        return solved(spread, together.T, self.ridge, f"ridge={self.ridge:g}").T


class LateralReadout(CoActivity):
    r"""The same readout by local means: neurons that inhibit each other until they settle, and Hebbian synapses.

    Neuron i has the input x_i, and inhibits neuron j by :math:`A_{ij}`, the covariance of their inputs. So neurons that
    are often active together inhibit each other (Földiák 1990, Biol. Cybern. 64). Their activity z follows

    :math:`z_i \leftarrow z_i + s_i (x_i - \bar x_i - \sum_j A_{ij} z_j) + m (z_i - z_i^{old})`,
    :math:`s_i = 1 / \sum_j |A_{ij}|`,

    and rests where :math:`A z = x - \bar x`. The label units read it through the covariance of label and input. At rest
    that is the least-squares readout. It is an orthogonalising filter with an associative memory (Kohonen & Oja 1976,
    Biol. Cybern. 21). Few iterations leave directions out in which features hardly vary, which is a regularisation.

    Local: a lateral synapse sees the inputs of its two neurons, a synapse of a label unit the label and one input. Each
    keeps its running mean; the step of a neuron is set by its own synapses. All learn in the phase in which neurons
    show their input, before they settle. The price is paid in time: every answer takes `iterations` sweeps.

    All this is linear in x. So it is computed once, from the label units back, and not again for every example.

    Args:
        features, classes: as of `Head`.
        iterations: sweeps of settling.
        momentum: m, in [0, 1).
    """

    def __init__(self, features: int, classes: int, iterations: int = 100, momentum: float = 0.9):
        super().__init__(features, classes)
        needs_numbers(self, iterations=iterations, momentum=momentum)
        fine, got = iterations >= 1 and 0 <= momentum < 1, f"got {iterations} and {momentum}."
        require(fine, f"LateralReadout needs iterations >= 1 and 0 <= momentum < 1, {got}")
        self.iterations, self.momentum = iterations, momentum

    def _solve(self, spread: Tensor, together: Tensor, n: Tensor) -> Tensor:
        return settle(spread / n, together / n, self.iterations, self.momentum)


def settle(inhibition: Tensor, drive: Tensor, iterations: int, momentum: float) -> Tensor:
    """The activity (rows, neurons) to which neurons settle under a steady drive (rows, neurons); see `LateralReadout`.

    Args:
        inhibition: (neurons, neurons), symmetric.
        drive: input to each neuron, a row for each case.
        iterations: sweeps.
        momentum: fraction of the last change of a neuron that it repeats.
    """
    sums = inhibition.abs().sum(1)
    step = torch.where(sums > 0, 1 / sums, 0)
    z = old = torch.zeros_like(drive)
    for _ in range(iterations):
        z, old = z + step * (drive - z @ inhibition) + momentum * (z - old), z
    return z


savable(LeastSquares, LateralReadout)
