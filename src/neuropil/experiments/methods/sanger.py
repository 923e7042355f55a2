"""Sanger's rule: the units become the principal components, in order. Hebbian learning without competition.

https://doi.org/10.1016/0893-6080(89)90044-0
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments.methods import READOUT, Method
from neuropil.models import CReLU, FeatureClassifier, LocalLearning, dense_body, init_normal_
from neuropil.plasticity import Sanger


def build(train: Split, rng: Generator, units: int) -> Method:
    """At most as many units as inputs: there are no further components. Their sign means nothing, so both are used."""
    inputs = train.x[0].numel()
    body = dense_body(train, min(units, inputs), n=1.0)
    body.act = CReLU(1.0)
    init_normal_(body, rng, std=inputs**-0.5)
    learning = LocalLearning({"hidden": Sanger()}, epochs=4, batch=100, lr=0.01, min_steps=450, reduction="sum")
    learner = FeatureClassifier(body, learning=learning, readout=READOUT)
    return Method("Sanger (PCA)", "local", learner, norm=2.0, competes=False)
