"""Room for spikes, checked before it is taken: a trial that has too many ends in a refusal, never in fewer spikes."""

import os

import torch
from torch import Tensor

from neuropil.errors import require

UNKNOWN = 2**32  # bytes taken for the memory of a machine that does not tell


def memory(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    known = getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in known else UNKNOWN


def check_room(spikes: int, size: int, device: torch.device) -> None:
    """Refuse `spikes` of `size` bytes each if they take more than half of the memory."""
    most, gib = memory(device) // 2, 2**30
    require(
        spikes * size <= most,
        f"the spikes of this batch need {spikes * size / gib:.3g} GiB, more than half of the memory, {most / gib:.3g}; "
        "take a smaller batch, an earlier end or smaller weights.",
    )


def silence(batch: int, neurons: int, slots: int, like: Tensor) -> Tensor:
    """Trains without a spike, (batch, neurons, slots) of inf, on the device and in the type of `like`."""
    check_room(batch * neurons * slots, like.element_size(), like.device)
    return torch.full((batch, neurons, slots), torch.inf, dtype=like.dtype, device=like.device)
