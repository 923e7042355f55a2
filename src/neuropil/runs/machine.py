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
    packages = {module.__name__: str(module.__version__) for module in (neuropil, torch, numpy)}
    return packages | {"python": platform.python_version()}


def machine() -> dict[str, Any]:
    """Processor, cores of the machine, threads in use, GPUs if any, operating system."""
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    processor = {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return processor | {"gpu": ", ".join(gpus) or None, "system": platform.platform()}


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
    asked = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    ask: dict[str, Any] = {"stderr": subprocess.DEVNULL, "text": True, "timeout": 5}
    try:
        commit, changes = (subprocess.check_output(["git", "-C", str(folder), *words], **ask) for words in asked)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or one too large to wait for
        return None
    return {"commit": commit.strip(), "dirty": bool(changes.strip())}


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
