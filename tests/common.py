"""What many tests need."""

import pytest
from torch import Generator

from neuropil.data import digits
from neuropil.errors import Refusal


def rng(seed=0):
    """A generator with a seed of its own."""
    return Generator().manual_seed(seed)


def first_digits(n):
    """A fixture: the first n training images of the digits."""
    return pytest.fixture(scope="module")(lambda: digits(seed=0)[0][:n])


def refused(do):
    """The one line in which a call is refused."""
    with pytest.raises(Refusal) as refusal:
        do()
    line = str(refusal.value)
    assert "\n" not in line
    return line
