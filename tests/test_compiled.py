"""Compiled kernels need neither a folder for their cache nor the threads of a parent process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neuropil

SOURCE = Path(neuropil.__file__).parents[1]
USE = """
import warnings
from pathlib import Path
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import torch, neuropil, neuropil.spiking
    from neuropil.plasticity.kernels.rows import signed_square
    square = signed_square(torch.tensor([-0.3, 0.7, 1.1], dtype=torch.float64))
print(Path(neuropil.__file__).parents[1], *square.tolist(), *(str(one.message) for one in told), sep="|")
"""


def use(package, **environment):
    """The warnings of a process that imports what is compiled, and compiles a kernel or finds it in the cache."""
    environment = os.environ | {"PYTHONPATH": str(package)} | environment
    done = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    place, *square = done.stdout.strip().split("|")[:4]
    assert Path(place) == package.resolve()
    assert [float(entry) for entry in square] == pytest.approx([-0.09, 0.49, 1.21], rel=1e-12)
    return done.stdout.strip().split("|")[4:]


def test_without_any_folder_to_write_to_everything_works_after_one_warning(tmp_path):
    shutil.copytree(SOURCE / "neuropil", tmp_path / "neuropil", ignore=shutil.ignore_patterns("__pycache__"))
    for file in list((tmp_path / "neuropil").rglob("__init__.py")):
        (file.parent / "__pycache__").touch()  # a file: not even root can make a folder of it
    warnings = use(tmp_path, **dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), "/proc/nowhere"))
    assert len(warnings) == 1
    assert "NUMBA_CACHE_DIR" in warnings[0]


def test_a_damaged_cache_costs_the_cache_and_not_the_run(tmp_path):
    place = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert use(SOURCE, **place) == []
    (index,), (kernel,) = tmp_path.rglob("*_signed_square*.nbi"), tmp_path.rglob("*_signed_square*.nbc")
    whole = kernel.read_bytes()
    third = len(whole) // 3
    kernel.write_bytes(whole[:third] + bytes(third) + whole[2 * third :])  # LLVM ends the process over such code
    assert ["NUMBA_CACHE_DIR" in said for said in use(SOURCE, **place)] == [True]
    assert use(SOURCE, **place) == []  # it has started anew
    index.write_bytes(index.read_bytes()[:20])
    assert ["NUMBA_CACHE_DIR" in said for said in use(SOURCE, **place)] == [True]
    index.unlink()
    index.mkdir()  # can be neither read nor written, as on a full disk, but by root as well
    assert ["NUMBA_CACHE_DIR" in said for said in use(SOURCE, **place)] == [True]


FORK = """
import os, sys, torch
from neuropil._threads import share_out
torch.set_num_threads(2)
done = [0, 0]
def kernel(part, first, last):
    done[part] = last - first
share_out(kernel, 7)
child = os.fork()
if not child:
    done[:] = [0, 0]
    share_out(kernel, 7)
    os._exit(sum(done))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), done)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_child_has_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["7", "[3,", "4]"], done.stderr
