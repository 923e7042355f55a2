"""What tests of Triton's kernels share: a process for the interpreter, and a compiler that needs no GPU."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from neuropil.spiking.kernels.dispatch import gpu_kernels

needs_triton = pytest.mark.skipif(not gpu_kernels(), reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
KINDS = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")


class Built(NamedTuple):
    """A kernel that was compiled."""

    name: str
    code: bytes
    shared: int  # memory that the threads of a program share, bytes
    assembly: str  # PTX


def run_cases(name, **settings):
    """Run a file of cases in a process of its own, because triton reads its settings when it is imported."""
    file = str(Path(__file__).with_name(name))
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", file]
    done = subprocess.run(words, env=os.environ | settings, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def compile_only(monkeypatch, folder, arch=90, written=()):
    """From now on kernels are compiled for a GPU of compute capability `arch` / 10, and not run.

    What the interpreter forgives, such as a type that changes in a loop, the compiler does not.

    Args:
        monkeypatch: of the test.
        folder: for Triton's cache.
        arch: 80 for an A100, 90 for an H100.
        written: names of arguments that a kernel would have filled: they are set to 0.

    Returns:
        a list that gets every kernel that is launched, as `Built`.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile
    from triton.runtime.jit import JITFunction

    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    built = []

    def launch(kernel, grid):
        def compiled(*args, **named):
            given = dict(zip(kernel.arg_names, args)) | named
            options = {name: given.pop(name) for name in OPTIONS if name in given}
            for name in {*written} & set(given):
                given[name].zero_()
            signature, fixed = {}, {}
            for place, one in enumerate(kernel.params):
                value = given[one.name]
                if one.is_constexpr or (type(value) is int and value == 1 and not one.do_not_specialize):
                    signature[one.name], fixed[place,] = "constexpr", value
                elif isinstance(value, tuple):
                    signature[one.name] = tuple("constexpr" if part == 1 else "i32" for part in value)
                    fixed |= {(place, at): 1 for at, part in enumerate(value) if part == 1}
                else:
                    kind = KINDS[value.dtype] if isinstance(value, Tensor) else one.annotation_type or "i32"
                    signature[one.name] = kind
            target = GPUTarget("cuda", arch, 32)
            made = compile(ASTSource(kernel, signature, fixed), target=target, options=options)
            built.append(Built(kernel.__name__, made.asm["cubin"], made.metadata.shared, made.asm["ptx"]))

        return compiled

    monkeypatch.setattr(JITFunction, "__getitem__", launch)
    return built
