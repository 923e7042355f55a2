"""What a run ran on: versions, processor, memory, and the commit of the code."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import torch

import neuropil

if sys.platform != "win32":
    import resource


def versions() -> dict[str, str]:
    """The versions that decide a result."""
    return {
        "neuropil": neuropil.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def machine() -> dict[str, Any]:
    """Processor, cores of the machine, threads in use, GPUs if any, operating system."""
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": ", ".join(gpus) or None,
        "system": platform.platform(),
    }


def peak_memory_mb() -> float:
    """The most memory this process has held so far, in MiB; nan where the system does not say."""
    if sys.platform == "win32":
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def git() -> dict[str, dict[str, Any]]:
    """Commit and dirtiness of the code and of the working folder, where they are in a repository."""
    states = {"package": _git(Path(neuropil.__file__).parent), "folder": _git(Path.cwd())}
    return {name: state for name, state in states.items() if state}


def _git(folder: Path) -> dict[str, Any] | None:
    ask = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        status = subprocess.run(
            [*ask, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or one too large to wait for
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
