"""The deliberate faults must still fit the code; `python tests/mutants.py` shows that they are caught."""

import pytest

from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.meaning)
def test_a_mutant_fits_exactly_one_place(mutant):
    assert mutant.matches() == 1
    assert mutant.old != mutant.new
    assert (ROOT / "tests" / mutant.test).exists()
