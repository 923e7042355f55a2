"""Which kernels walk where: compiled for the CPU by numba, for CUDA GPUs by Triton, if torch brought it along.

Each is a module with `simulate` and `adjoint`, which do the same on either device.
"""

from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from neuropil.errors import require
from neuropil.spiking.kernels.cpu import qif as qif_cpu
from neuropil.spiking.kernels.cpu import recurrent as recurrent_cpu
from neuropil.spiking.kernels.cpu import theta as theta_cpu

LARGEST = torch.finfo(torch.float32).max
CPU: dict[str, ModuleType] = {"theta": theta_cpu, "qif": qif_cpu, "recurrent": recurrent_cpu}
GPU: dict[str, ModuleType] = {}

if find_spec("triton"):
    from neuropil.spiking.kernels.gpu import qif, recurrent, theta

    GPU |= {"theta": theta, "qif": qif, "recurrent": recurrent}


def kernels(kind: str, device: torch.device) -> ModuleType:
    """The module that walks neurons of this kind on this device; refuses a device that has none."""
    require(
        device.type in ("cpu", "cuda"),
        f"events run on the CPU and on CUDA GPUs, got times on {device}; move times and network to the CPU.",
    )
    require(
        device.type == "cpu" or bool(GPU),
        "events on a GPU need triton, which comes with the CUDA builds of torch for Linux; "
        "install it, or move times and network to the CPU.",
    )
    return CPU[kind] if device.type == "cpu" else GPU[kind]


def bounded(part: Tensor, low: float = LARGEST, high: float = LARGEST) -> bool:
    """Whether all of a tensor is between -low and high, so no NaN is in it; in one pass, without a copy."""
    if not part.numel():
        return True
    least, most = torch.aminmax(part.detach())
    return bool((least >= -low) & (most <= high))


def check_parameters(times: Tensor, most: float = LARGEST, **parts: Tensor) -> None:
    """Refuse parameters that are not where the times are, and NaN and what exceeds `most`; a potential may be -inf."""
    for name, part in parts.items():
        require(
            part.device == times.device,
            f"times and {name} need one device, got {times.device} and {part.device}; move one of them with .to().",
        )
        fine = bounded(part, torch.inf) if name == "potential" else bounded(part, most, most)
        too = "inf" if most == LARGEST or name == "potential" else f"values beyond {most:g}"
        require(fine, f"{name} has NaN or {too}; did training diverge? try a smaller step.")
