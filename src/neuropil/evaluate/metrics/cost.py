"""The largest memory that a piece of work takes."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Peak:
    """Filled in when the measured block ends.

    Attributes:
        mb: largest resident memory of the process during the block, MiB, or of the GPU's allocations if one is in use.
            Where the system cannot restart its high-water mark, the largest since the process began.
    """

    mb: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the block: ``with peak_memory() as peak: ...`` and then read ``peak.mb``."""
    peak = Peak()
    gpu = torch.cuda.is_available() and torch.cuda.memory_allocated() > 0
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR.exists():
        CLEAR.write_text("5")  # Linux only: the peak resident size is set back to the present one
    try:
        yield peak
    finally:
        peak.mb = torch.cuda.max_memory_allocated() / 2**20 if gpu else _high_water_mark()


def _high_water_mark() -> float:
    """Peak resident memory of this process, MiB."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
