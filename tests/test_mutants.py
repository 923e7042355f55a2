"""The deliberate faults: what they name is there. `make mutants` shows that each still fits the code and is caught."""

import pytest

from mutants import MUTANTS, find, pattern


@pytest.mark.parametrize("function", sorted({mutant.function for mutant in MUTANTS}))
def test_what_a_mutant_changes_is_there(function):
    assert find(function), f"{function} has moved: name it anew in tests/mutants.toml"


def test_there_are_many_and_no_two_mean_the_same():
    assert len(MUTANTS) >= 200
    assert len({mutant.meaning for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("text", ["f(a,  b)", "f(\n    a,\n    b,\n)", "f(a,b)"])
def test_a_fault_is_found_in_any_formatting(text):
    assert pattern("f(a, b)").fullmatch(text)
    assert pattern("f(a,b\n)").fullmatch(text)


@pytest.mark.parametrize("text", ["f(ab)", "f(a, b, c)", "g(a, b)"])
def test_and_nothing_else_is(text):
    assert not pattern("f(a, b)").fullmatch(text)


def test_nothing_has_the_name_of_what_is_gone():
    assert find("neuropil.errors.require")
    assert find("neuropil.errors.required") is None
    assert find("neuropil.error.require") is None
