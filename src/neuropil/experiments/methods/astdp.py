"""aSTDP: the network of mSTDP with a nudge of one step, whose effect is extrapolated.

https://arxiv.org/abs/2206.14137
"""

from torch import Generator

from neuropil.associative import Nudge
from neuropil.data import Split
from neuropil.experiments.methods import Method, mstdp


def build(train: Split, rng: Generator, units: int) -> Method:
    """As mSTDP, but for the nudge."""
    return mstdp.build(train, rng, units, name="aSTDP", nudge=Nudge(1, extrapolation=2.0))
