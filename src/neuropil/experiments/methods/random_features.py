"""The same architecture with frozen random weights, N(0, 1): what the architecture alone achieves.

https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines
"""

from torch import Generator

from neuropil.data import Split
from neuropil.experiments import baselines
from neuropil.experiments.methods import READOUT, Method
from neuropil.models import dense_body, init_normal_


def build(train: Split, rng: Generator, units: int) -> Method:
    """Frozen features, trained readout."""
    network = dense_body(train, units, n=1.0)
    init_normal_(network, rng)
    return baselines.frozen_features(network, READOUT)
