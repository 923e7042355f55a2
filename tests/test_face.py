"""The face: `import neuropil` is quick and light, its names are all there, and their examples run."""

import doctest
import statistics
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import neuropil as npl
from neuropil.errors import Refusal

sys.path.append(str(Path(__file__).parents[1] / "docs/theme"))
import reference

ROOMS = ("associative", "data", "evaluate", "models", "plasticity", "runs", "spiking")


def test_the_import_takes_no_time_and_loads_no_torch():
    script = (
        "import sys, time; start = time.process_time(); import neuropil; seconds = time.process_time() - start; "
        "print(seconds, len(dir(neuropil)), *{'torch', 'numpy', 'numba', 'matplotlib', 'pooch'} & set(sys.modules))"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True) for _ in range(5)]
    lines = [run.stdout.split() for run in runs]
    assert all(line[2:] == [] for line in lines), lines
    assert statistics.median(float(line[0]) for line in lines) < 0.05
    assert 35 <= int(lines[0][1]) <= 55


@pytest.mark.parametrize("name", npl.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    value = getattr(npl, name)
    assert (value.__doc__ or "").strip(), name
    first = value.__doc__.strip().partition("\n\n")[0]
    assert first.endswith((".", ":", "`.", ")")) or "\n" not in first, first


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="neuropil has no 'load_dta'; did you mean 'load_data'"):
        _ = npl.load_dta
    with pytest.raises(AttributeError, match=r"neuropil has no 'qqqq'; dir\(neuropil\) lists all names"):
        _ = npl.qqqq


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_offers(room):
    module = import_module(f"neuropil.{room}")
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("name", npl.__all__)
def test_the_examples_of_the_face_run(name):
    value = getattr(npl, name)
    names = vars(import_module(value.__module__)) | {"torch": torch, "npl": npl}
    tests = doctest.DocTestFinder(recurse=True).find(value, name, globs=names)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with torch.random.fork_rng():
        for test in tests:
            torch.manual_seed(0)
            assert runner.run(test).failed == 0, name


def test_every_public_name_has_words_and_an_example_and_the_examples_of_the_rooms_run():
    assert list(reference.lacking()) == []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    elsewhere = (
        "plasticity.",
        "sklearn.",
        "evaluate.robustness.",
        "distributed.",
        "report.frame",
    )  # in tests of theirs
    for path, value in reference.names().items():
        if path.split(".")[-1] not in npl.__all__ and not path.startswith(elsewhere) and reference.docstring(value):
            names = vars(import_module(value.__module__)) | {"torch": torch, "npl": npl}
            with torch.random.fork_rng():
                torch.manual_seed(0)
                for test in doctest.DocTestFinder().find(value, path, globs=names):
                    assert runner.run(test).failed == 0, path


def test_the_example_of_the_package_runs():
    assert doctest.testmod(npl, globs={"npl": npl}).failed == 0


def test_a_loaded_file_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(Refusal, match="no such file"):
        npl.load(tmp_path / "model.safetensors")
