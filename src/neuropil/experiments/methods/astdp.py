"""aSTDP: the network of mSTDP, whose teacher comes in one step; numerical derivatives set how far it pulls."""

from torch import Generator

from neuropil.associative import Teacher
from neuropil.data import Split
from neuropil.experiments.methods import Method, mstdp


def build(train: Split, rng: Generator, units: int) -> Method:
    """As mSTDP, but for the teacher."""
    return mstdp.build(train, rng, units, name="aSTDP", teacher=Teacher(1, reach=2.0))
