"""Where an experiment computes: two settings that every recipe and every command which trains accepts."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Machine:
    """Device and threads. `neuropil` checks both and sets the threads before a run begins."""

    shares: ClassVar[bool] = False  # whether several processes can learn together, by --workers
    layered: ClassVar[bool] = False  # whether layers can learn in processes of their own, by --stages
    device: str = "cpu"  # where data and networks lie: cpu, or cuda where torch sees a GPU
    threads: int = 0  # threads of the CPU; 0 for as many as torch takes by itself
