"""How the Triton kernels are launched: their blocks, programs and workspace."""

import torch
import triton

BUDGET = 2**28  # bytes that the workspace of one backward pass may take


def block_of(neurons: int, most: int) -> int:
    """Neurons that one program simulates together."""
    return min(most, int(triton.next_power_of_2(neurons)))


def programs(batch: int, device: torch.device, size: int) -> int:
    """How many programs share the samples of a batch, when each needs a workspace of `size` bytes.

    They go through their samples one after the other, so that memory does not grow with the batch.
    """
    cores = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return max(1, min(batch, 4 * cores, BUDGET // max(size, 1)))


def terms(dtype: torch.dtype) -> int:
    """Of the power series, for |z| <= 4."""
    return 13 if dtype == torch.float64 else 8
