"""The deliberate faults must still fit the code; `python tests/mutants.py` shows that they are caught."""

import pytest

from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.meaning)
def test_a_mutant_fits_exactly_one_place(mutant):
    assert mutant.matches() == 1
    assert mutant.old != mutant.new
    file, _, name = mutant.test.partition("::")
    assert f"def {name}" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_there_are_many_and_no_two_are_the_same():
    assert len(MUTANTS) >= 15
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
