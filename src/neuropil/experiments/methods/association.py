"""Association rule, two layers: the label makes the likeliest neurons of its class fire; all layers learn at once.

https://arxiv.org/abs/2011.12012
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.methods import Method
from neuropil.models import AssociationClassifier, AssociationTraining


def build(train: Split, rng: Generator, units: int) -> Method:
    """Two layers of `units` neurons, the second of which votes.

    On images the first has nine columns that see a square of half the side, if every class can have a neuron in each.
    """
    shape = train.x.shape[1:]
    columns = 9 if len(shape) == 3 and units >= 9 * train.classes else 1
    learner = AssociationClassifier(
        (units // columns * columns, units), columns=(columns, 1),
        receptive_field=min(shape[1:]) // 2 if columns > 1 else None, unit_norm_input=len(shape) == 3,
        k=1, n_send=max(4, 24 // columns), training=AssociationTraining(min_steps=600),
    )  # fmt: skip
    return Method("association", "local", learner, competes=False)
