"""Where Triton's kernels do the work: on CUDA GPUs if Triton is installed, and wherever a plan asks for them."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from neuropil.errors import require
from neuropil.plasticity.plan import Plan


def on_gpu(name: str, like: Tensor, plan: Plan) -> Any:
    """The module `name` of the Triton kernels for tensors like this one, or None: torch's operations are to be used.

    Raises:
        Refusal: the plan asks for Triton, which is not installed.
    """
    wanted = like.device.type == "cuda" if plan.triton is None else plan.triton
    if not wanted or not like.is_floating_point():
        return None
    kernels = _kernels(name)
    what = "Plan(triton=True) needs triton, which comes with the CUDA builds of torch for Linux"
    require(kernels is not None or not plan.triton, f"{what}; install it, or leave triton=None.")
    return kernels


@cache
def _kernels(name: str) -> Any:
    """A module of kernels, loaded when it is first used; None without Triton."""
    return import_module(f"neuropil.plasticity.kernels.gpu.{name}") if find_spec("triton") else None
