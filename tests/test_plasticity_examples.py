"""The examples in the docstrings of the rules run, and importing the rules does no work."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

from neuropil import plasticity

MODULES = sorted(m.name for m in pkgutil.walk_packages(plasticity.__path__, "neuropil.plasticity."))


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_give_what_they_say(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0


def test_every_public_name_says_what_it_is():
    for name in plasticity.__all__:
        assert getattr(plasticity, name).__doc__, name
    assert {"Rule", "Dense", "Chosen", "correlate", "tap", "propose_"} <= set(plasticity.__all__)


IMPORT = """
import torch
torch.empty = None
import numba
compiled = []
numba.core.dispatcher.Dispatcher.compile = lambda *given: compiled.append(given)
import neuropil.plasticity
print(len(compiled))
"""


def test_importing_the_rules_allocates_and_compiles_nothing():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
