"""Association: a label event makes the likeliest neurons of a class fire; a synapse sees its own two. Two layers."""

from torch import Generator

from neuropil.data import Split
from neuropil.learners import AssociationClassifier, LabelEvents
from neuropil.recipes.entrants import Entrant


def build(train: Split, rng: Generator, units: int) -> Entrant:
    """Two layers of `units` neurons, the second of which votes; at most half of an association is made to fire."""
    k = max(1, min(3, units // train.classes // 2))
    learner = AssociationClassifier((units, units), k=k, strongest=8 * k, events=LabelEvents(steps=1500))
    return Entrant("association", "local", learner, competes=False)
