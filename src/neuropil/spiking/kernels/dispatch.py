"""Which kernels run where: compiled by numba for the CPU, by Triton for CUDA GPUs, if Triton is installed.

Each is a module with `simulate` and `adjoint`, or for neurons driven by a clock `advance`, which do the same on either
device.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from neuropil.errors import Refusal, require
from neuropil.spiking.kernels.bundles import Plan
from neuropil.spiking.kernels.cpu import clocked as clocked_cpu
from neuropil.spiking.kernels.cpu import lif as lif_cpu
from neuropil.spiking.kernels.cpu import qif as qif_cpu
from neuropil.spiking.kernels.cpu import recurrent as recurrent_cpu
from neuropil.spiking.kernels.cpu import recurrent_lif as recurrent_lif_cpu
from neuropil.spiking.kernels.cpu import theta as theta_cpu

LARGEST = torch.finfo(torch.float32).max
CPU: dict[str, ModuleType] = {
    "theta": theta_cpu, "qif": qif_cpu, "lif": lif_cpu, "recurrent": recurrent_cpu, "recurrent_lif": recurrent_lif_cpu,
    "clocked": clocked_cpu,
}  # fmt: skip


@cache
def gpu_kernels() -> Mapping[str, ModuleType]:
    """The Triton kernels, none where Triton is not installed; imported when they are first asked for."""
    if not find_spec("triton"):
        return {}
    kinds = ("theta", "qif", "recurrent", "clocked")
    return {kind: import_module(f"neuropil.spiking.kernels.gpu.{kind}") for kind in kinds}


def kernels(
    kind: str, device: torch.device, plan: Plan, gpu: Callable[[], Mapping[str, ModuleType]] = gpu_kernels
) -> ModuleType:
    """The module that simulates neurons of this kind on this device.

    Args:
        kind: "theta", "qif", "recurrent"; on the CPU only: "lif", "recurrent_lif".
        device: of the input times.
        plan: its field `triton` asks for Triton's kernels on the CPU.
        gpu: gives the Triton kernels that are installed.

    Raises:
        Refusal: the device has no kernels.
    """
    if device.type == "cpu" and not plan.triton:
        return CPU[kind]
    cure = "move times and network to the CPU."
    known = device.type in ("cpu", "cuda")
    require(known, f"spiking networks run on the CPU and on CUDA GPUs, got times on {device}; {cure}")
    needed = "triton, which comes with the CUDA builds of torch for Linux"
    found = gpu()
    require(bool(found), f"spiking networks on a GPU need {needed}; install it, or {cure}")
    require(kind in found, f"{kind.split('_')[-1].upper()} neurons have no kernels for a GPU; {cure}")
    return found[kind]


def clocked(device: torch.device, gpu: Callable[[], Mapping[str, ModuleType]] = gpu_kernels) -> ModuleType | None:
    """The module that advances neurons driven by a clock; None where torch's operations do it, step by step.

    Args:
        device: of their state.
        gpu: gives the Triton kernels that are installed.
    """
    if device.type == "cpu":
        return CPU["clocked"]
    return gpu().get("clocked") if device.type == "cuda" else None


def bounded(part: Tensor, low: float, high: float) -> bool | Tensor:
    """Whether all of a tensor is between -low and high, so no NaN is in it; in one pass, without a copy.

    On other devices than the CPU it is a tensor that has not been read yet.
    """
    if not part.numel():
        return part.new_ones((), dtype=torch.bool)
    least, most = torch.aminmax(part.detach())
    if part.device.type == "cpu":  # two reads take a quarter of the time of three operations
        return least.item() >= -low and most.item() <= high
    return (least >= -low) & (most <= high)


def sound_parameters(times: Tensor, most: float = LARGEST, **parts: Tensor) -> dict[str, bool | Tensor]:
    """For each parameter whether it has neither NaN nor more than `most`; a potential may be -inf.

    Raises:
        Refusal: a parameter on another device than the times.
    """
    for name, part in parts.items():
        if part.device != times.device:
            got = f"{times.device} and {part.device}; move one of them with .to()."
            raise Refusal(f"times and {name} need one device, got {got}")
    limits = {name: (torch.inf, LARGEST) if name == "potential" else (most, most) for name in parts}
    return {name: bounded(part, *limits[name]) for name, part in parts.items()}


def refuse_unsound(sound: Mapping[str, bool | Tensor], most: float = LARGEST) -> None:
    """Refuse the first parameter that is not `sound`."""
    for name, well in sound.items():
        if not well:
            too = "inf" if most == LARGEST or name == "potential" else f"values beyond {most:g}"
            raise Refusal(f"{name} has NaN or {too}; did training diverge? try a smaller step.")
