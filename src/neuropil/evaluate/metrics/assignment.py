"""Labels for units that learned without any: what a unit stands for is the class for which it is most active."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from neuropil.data import Split
from neuropil.errors import require


class AssignedUnits(NamedTuple):
    """Units with the class that `assign_units` gave to each; their vote classifies.

    Attributes:
        body: maps (batch, *shape) to the activity of the units, (batch, units), 0 or more.
        classes: (units,) the class of each; -1 for a unit that was silent for all of them.
        mean_activity: (units,) mean activity over all classes, by which it is measured.
        n_classes: how many classes.
    """

    body: nn.Module
    classes: Tensor
    mean_activity: Tensor
    n_classes: int

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,): the class whose units are, on average, most above what is mean_activity for them."""
        votes = nn.functional.one_hot(self.classes + 1, self.n_classes + 1)[:, 1:].to(self.mean_activity)
        votes = votes / (votes.sum(0).clamp(min=1) * self.mean_activity.where(self.mean_activity > 0, 1)[:, None])
        return torch.cat([(self.body(chunk).flatten(1) @ votes).argmax(1) for chunk in x.split(1000)])


@torch.no_grad()
def assign_units(body: nn.Module, labelled: Split) -> AssignedUnits:
    """The label of every unit, from its mean activity for each class of `labelled`. Diehl & Cook 2015."""
    labelled.check_labelled("the assignment of units to classes")
    total: Tensor | None = None
    sizes = labelled.y.bincount(minlength=labelled.classes).to(torch.float64)
    require(bool((sizes > 0).all()), "units can be assigned to classes only if every class has an example.")
    for chunk in labelled.batches(min(1000, len(labelled))):
        active = body(chunk.x).flatten(1).double()
        require(bool((active >= 0).all()), "units can be assigned by their activity only if it is 0 or more.")
        total = active.new_zeros(labelled.classes, active.shape[1]) if total is None else total
        total.index_add_(0, chunk.y, active)
    assert total is not None
    mean = total / sizes[:, None].to(total.device)
    classes = torch.where(mean.sum(0) > 0, mean.argmax(0), -1)
    return AssignedUnits(body, classes, mean.mean(0).float(), labelled.classes)
