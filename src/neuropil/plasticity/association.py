"""The association rule: a label event makes neurons fire or keeps them silent, and every synapse sees its own two."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuropil.errors import require
from neuropil.plasticity.correlate import correlate
from neuropil.plasticity.geometry import check_finite, unit_axis, units
from neuropil.plasticity.hebbian import output


def associations(units: int, classes: int) -> Tensor:
    """(units,) the class that neuron j is associated with, j modulo `classes`: as many for each, give or take one.

    Raises:
        Refusal: fewer neurons than classes, so that a class would have none.
    """
    require(classes >= 2, f"an association needs at least 2 classes, got {classes}.")
    require(
        units >= classes,
        f"every class needs a neuron that is associated with it, got {units} neurons for {classes} classes; "
        "use more neurons.",
    )
    return torch.arange(units) % classes


@dataclass(frozen=True)
class Association:
    r"""Who is made to fire learns, who is kept silent unlearns: :math:`\Delta W_j = \sum_b (t_{bj} - s_{bj})\, x_b`.

    The neuron's own answer to its input is :math:`s = 1 / (1 + e^{-\beta u})`, u = W x. Then comes the label event:
    neurons associated with the label are made to fire (t = 1), the others are kept silent (t = 0). A synapse is
    strengthened if its neuron fires after the input because of the event, and weakened if the neuron would have fired
    without it. No error comes from anywhere: a synapse sees its two neurons and an event that all neurons see alike.

    With `k` the neurons compete at the event: of those associated with the label only the k with the largest drives
    are made to fire, of all others only the k with the largest drives are kept silent, and the rest do not learn.
    Without it all neurons of a layer become copies of one another.

    Our reconstruction from the abstract of Gupta 2020 (arXiv 2011.12012); the text and code of that paper are not to
    be had. Competition and columns are ours.

    Attributes:
        classes: number of classes; neuron j is associated with class j modulo `classes`, see `associations`.
        slope: beta, 1 / units of u.
        k: how many neurons win among the associated, and among the others; None for all of them.
        columns: the layer is cut into that many columns of equal size (the first units, the next, ...), and neurons
            compete with those of their own column only.
    """

    classes: int
    slope: float = 1.0
    k: int | None = None
    columns: int = 1

    def __post_init__(self) -> None:
        require(self.classes >= 2, f"Association needs at least 2 classes, got {self.classes}.")
        require(self.slope > 0, f"Association needs a slope > 0, got {self.slope}.")
        require(self.k is None or self.k >= 1, f"Association needs k >= 1, or None for all neurons, got k={self.k}.")
        require(self.columns >= 1, f"Association needs columns >= 1, got {self.columns}.")

    def __call__(self, layer: nn.Module, pre: Tensor, label: Tensor, post: Tensor | None = None) -> Tensor:
        """The change for `pre` (batch, *in) and `label` (batch,) int64; `post` is u, computed if not given."""
        return correlate(layer, pre, self.surprise(layer, pre, label, post))

    def surprise(self, layer: nn.Module, pre: Tensor, label: Tensor, post: Tensor | None = None) -> Tensor:
        """t - s of the neurons that take part in the event, 0 of the others: (batch, *out)."""
        drive = output(layer, pre, post)
        check_finite(layer, pre, drive)
        self.check_neurons(units(layer))
        self._check_label(label, len(drive))
        last = drive.movedim(unit_axis(layer), -1)  # (batch, *positions, units)
        own = associations(units(layer), self.classes).to(label) == label.view(-1, *[1] * (last.dim() - 1))
        surprise = own.to(drive) - torch.sigmoid(self.slope * last)
        if self.k is not None:
            surprise = surprise * self._winners(last, own)
        return surprise.movedim(-1, unit_axis(layer))

    def _winners(self, drive: Tensor, own: Tensor) -> Tensor:
        """1 for the neurons that win in their column and camp, 0 for the others; all (..., units)."""
        rivals = drive.unflatten(-1, (self.columns, -1))
        won = torch.zeros_like(rivals)
        for camp in (own, ~own):
            best = rivals.masked_fill(~camp.expand_as(drive).unflatten(-1, (self.columns, -1)), -torch.inf)
            won.scatter_(-1, best.topk(self.k or 1, -1).indices, 1)
        return won.flatten(-2)

    def check_neurons(self, neurons: int) -> None:
        """Refuse a layer that has too few neurons for the classes, columns and winners, or columns that do not fit."""
        size, rest = divmod(neurons, self.columns)
        require(rest == 0, f"Association needs columns of equal size, got {neurons} neurons in {self.columns} columns.")
        fewest = int(associations(size, self.classes).bincount().min())
        require(
            self.k is None or self.k <= fewest,
            f"Association needs k <= neurons per class in a column, got k={self.k} and {size} neurons for "
            f"{self.classes} classes, {fewest} each; use more neurons or a smaller k.",
        )

    def _check_label(self, label: Tensor, samples: int) -> None:
        require(
            label.shape == (samples,) and label.dtype == torch.int64,
            f"Association needs one label per sample, ({samples},) in int64, got {tuple(label.shape)} in "
            f"{str(label.dtype).removeprefix('torch.')}.",
        )
        low, high = (int(value) for value in label.aminmax())
        require(
            low >= 0 and high < self.classes,
            f"Association needs labels 0 <= y < classes={self.classes}, got {low} to {high}.",
        )
