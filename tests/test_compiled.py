"""Compiled kernels need no folder for their cache and no threads of a parent, and round alike from cache and afresh."""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
import torch

import neuropil
from neuropil._threads import _Cache, _sources, share_out

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
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["7", "[3,", "4]"], done.stderr


@pytest.mark.parametrize("fails", range(3))
def test_an_error_in_any_thread_of_a_kernel_is_an_error(fails):
    def kernel(part, first, last):
        if part == fails:
            raise ZeroDivisionError

    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(ZeroDivisionError):
            share_out(kernel, 7)
    finally:
        torch.set_num_threads(threads)


def kernels():
    """What is compiled and kept, by its name."""
    names = [one.name for one in walk_packages(neuropil.__path__, "neuropil.") if "_threads" not in one.name]
    modules = [import_module(name) for name in names if "__main__" not in name and ".gpu" not in name]
    everything = [one for module in modules for one in vars(module).values()]
    found = {f"{one.__module__}.{one.__name__}": one for one in everything if kept(one)}
    assert len(found) > 10
    return found


def kept(one):
    return isinstance(getattr(one, "_cache", None), _Cache)


def test_a_kernel_calls_no_other_kernel():
    for name, kernel in kernels().items():
        todo = [kernel.py_func]
        for function in todo:
            called = [function.__globals__.get(word) for word in function.__code__.co_names]
            todo += [one.py_func for one in called if hasattr(one, "py_func") and one.py_func not in todo]
            for one in called:
                options = getattr(one, "targetoptions", {})
                inline = options.get("inline") == "always" or options.get("forceinline")
                assert not hasattr(one, "py_func") or inline, f"{name} calls {one}"


def test_a_kept_kernel_is_stale_when_what_is_inlined_in_it_changes():
    found = kernels()
    files = {Path(file).name for file in _sources(found["neuropil.spiking.kernels.cpu.recurrent.backward"].py_func)}
    assert files == {"recurrent.py", "oscillator.py", "qif.py"}


GRADIENT = """
import hashlib, torch
from neuropil.spiking.kernels.bundles import OutputGrads, Plan, QIFModel
from neuropil.spiking.kernels.cpu.qif import adjoint, simulate
from neuropil.spiking.times import Events
rng = torch.Generator().manual_seed(3)
normal = lambda *shape: torch.randn(shape, generator=rng)
time = torch.cat([torch.rand(20, 60, generator=rng).mul(3.7).sort().values, torch.full((20, 1), torch.inf)], 1)
source = torch.randint(30, (20, 61), generator=rng, dtype=torch.int32)
events = Events(time, source, source, torch.full((20,), 60, dtype=torch.int32))
model = QIFModel(3.1 * normal(30, 20), torch.nn.functional.normalize(normal(3, 1, 20), dim=0), 1.3, 3.9)
times, state, steps = simulate(events, model, Plan())
given = OutputGrads(normal(*times.shape), normal(2, 20, 20))
for part in times, state, *adjoint(events, model, Plan(), times, steps, given):
    print(hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest())
"""


def test_a_process_that_compiles_rounds_as_one_that_finds_its_kernels(tmp_path):
    once = {"env": os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}, "capture_output": True, "text": True}
    first, again = (subprocess.run([sys.executable, "-c", GRADIENT], timeout=300, **once) for _ in range(2))
    assert first.stdout.count("\n") == 5, first.stderr
    assert again.stdout == first.stdout
