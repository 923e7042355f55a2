"""The association rule: a label event makes neurons fire or keeps them silent; a synapse sees its two neurons."""

from dataclasses import dataclass

import torch
from torch import Tensor

from neuropil.errors import needs_numbers, require
from neuropil.plasticity.engine import Rule
from neuropil.plasticity.law import Dense, along_units


def associations(units: int, classes: int, device: torch.device | None = None) -> Tensor:
    """(units,) the class that neuron j is associated with, j modulo `classes`: as many for each, give or take one.

    It is made on the `device`, by default the CPU.

    Raises:
        Refusal: fewer neurons than classes, so that a class would have none.

    >>> associations(5, 2)
    tensor([0, 1, 0, 1, 0])
    """
    require(classes >= 2, f"an association needs at least 2 classes, got {classes}.")
    got = f"got {units} neurons for {classes} classes; use more neurons."
    require(units >= classes, f"every class needs a neuron that is associated with it, {got}")
    return torch.arange(units, device=device) % classes


@dataclass(frozen=True)
class Association(Rule):
    r"""The label tells neurons to fire or to be silent: :math:`\Delta W_j = \sum_b (t_{bj} - s_{bj})\, x_b`.

    Call it as ``rule(layer, pre, post, label=...)``. The answer of a neuron to its input is
    :math:`s = 1 / (1 + e^{-\beta u})` with u = W x. Then comes the label event: neurons associated with the label are
    made to fire (t = 1), the others are kept silent (t = 0). A synapse is strengthened if its neuron fires after the
    input because of the event. It is weakened if the neuron would have fired without it. No error comes from another
    layer: a synapse sees its two neurons and an event that all neurons see alike.

    With `k` the neurons compete at the event. Of those associated with the label only the k with the largest drives
    are made to fire. Of all others only the k with the largest drives are kept silent, and the rest do not learn.
    Without it all neurons of a layer become copies of one another.

    Our reconstruction from the abstract of Gupta 2020 (arXiv 2011.12012); the text and code of that paper are not to
    be had. Competition and columns are ours.

    Attributes:
        classes: number of classes; neuron j is associated with class j modulo `classes`, see `associations`.
        slope: beta, 1 / units of u.
        k: how many neurons win among the associated, and among the others; None for all of them.
        columns: the layer is cut into that many columns of equal size (the first units, the next, ...). Neurons
            compete with those of their own column only.

    Examples:
        >>> import torch
        >>> from neuropil.plasticity import Association
        >>> layer = torch.nn.Linear(1, 2, bias=False)
        >>> _ = torch.nn.init.zeros_(layer.weight)
        >>> Association(classes=2)(layer, torch.tensor([[1.0]]), label=torch.tensor([1]))
        tensor([[-0.5000],
                [ 0.5000]])
    """

    classes: int
    slope: float = 1.0
    k: int | None = None
    columns: int = 1

    def __post_init__(self) -> None:
        needs_numbers(self)
        require(self.classes >= 2, f"Association needs at least 2 classes, got {self.classes}.")
        require(self.slope > 0, f"Association needs a slope > 0, got {self.slope}.")
        require(self.k is None or self.k >= 1, f"Association needs k >= 1, or None for all neurons, got k={self.k}.")
        require(self.columns >= 1, f"Association needs columns >= 1, got {self.columns}.")

    def post(self, u: Tensor, *, label: Tensor) -> Dense:
        """g = t - s of the neurons that take part in the event, 0 of the others; `label` is int64, one per sample."""
        self._check_label(label)
        own = along_units(associations(u.shape[1], self.classes, label.device), u) == label
        error = own.to(u) - torch.sigmoid(self.slope * u)
        return Dense(error if self.k is None else error * self._winners(u, own, self.k))

    def _winners(self, drive: Tensor, own: Tensor, k: int) -> Tensor:
        """1 for the neurons that win in their column and camp, 0 for the others; all (samples, units, *positions)."""
        rivals = drive.unflatten(1, (self.columns, -1))
        won = torch.zeros_like(rivals)
        for camp in (own, ~own):
            best = rivals.masked_fill(~camp.expand_as(drive).unflatten(1, (self.columns, -1)), -torch.inf)
            won.scatter_(2, best.topk(k, 2).indices, 1)
        return won.flatten(1, 2)

    def check_units(self, units: int) -> None:
        """Refuse a layer that has too few neurons for the classes, columns and winners, or columns that do not fit."""
        size, rest = divmod(units, self.columns)
        require(rest == 0, f"Association needs columns of equal size, got {units} neurons in {self.columns} columns.")
        fewest = len(associations(size, self.classes)) // self.classes
        few = f"{size} neurons for {self.classes} classes, {fewest} each; use more neurons or a smaller k."
        fits = self.k is None or self.k <= fewest
        require(fits, f"Association needs k <= neurons per class in a column, got k={self.k} and {few}")

    def _check_label(self, label: Tensor) -> None:
        dtype = str(label.dtype).removeprefix("torch.")
        require(label.dtype == torch.int64, f"Association needs labels in int64, got {dtype}.")
        low, high = torch.stack(label.aminmax()).tolist() if len(label) else (0, 0)
        fits = low >= 0 and high < self.classes
        require(fits, f"Association needs labels 0 <= y < classes={self.classes}, got {low} to {high}.")
