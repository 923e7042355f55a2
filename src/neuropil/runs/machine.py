"""What a run ran on: versions, processor, memory, and the commit of the code."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch

import neuropil

if sys.platform != "win32":
    import resource


def versions() -> dict[str, str]:
    """The versions that decide a result, and a digest of the code of this package."""
    packages = {module.__name__: str(module.__version__) for module in (neuropil, torch, numpy)}
    packages |= {"numba": version("numba"), "python": platform.python_version()}
    return packages | {"code of neuropil": package_digest()}


@cache
def package_digest() -> str:
    """Tells apart two states of this package that have one version."""
    folder, found = Path(neuropil.__file__).parent, sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(f"{path.relative_to(folder)} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()[:12]


def world(code: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    """What the result may depend on besides the settings."""
    digests = {name: sha256(content).hexdigest() for name, content in (code or {}).items()}
    return {"versions": versions(), "machine": machine(), "code": digests}


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of the world of a run is other `now`, in words: versions, processor, threads, GPU, the user's code."""
    said = []
    for group, names in {"versions": None, "machine": ("cpu", "threads", "gpu"), "code": None}.items():
        before, after = then.get(group, {}), now.get(group, {})
        for name in names or dict.fromkeys([*before, *after]):
            if before.get(name) != after.get(name):
                what = "the code in {0}" if group == "code" else "{0} {1}, now {2}"
                said.append(what.format(name, before.get(name), after.get(name)))
    return said


def machine() -> dict[str, Any]:
    """Processor, cores of the machine, threads in use, GPUs if any, operating system."""
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    processor = {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return processor | {"gpu": ", ".join(gpus) or None, "system": platform.platform()}


def peak_memory_mb() -> float:
    """The most memory this process has held so far, in MiB; nan where the system does not say.

    >>> peak_memory_mb() > 1
    True
    """
    if sys.platform == "win32":
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def git() -> dict[str, dict[str, Any]]:
    """Commit and dirtiness of the code and of the working folder, where they are in a repository."""
    states = {"package": _git(Path(neuropil.__file__).parent), "folder": _git(Path.cwd())}
    return {name: state for name, state in states.items() if state}


def _git(folder: Path) -> dict[str, Any] | None:
    """Nothing that the repository configures is run: no monitor, hook, filter, remote, nor what a submodule has."""
    off = ["core.fsmonitor=false", f"core.hooksPath={os.devnull}", "protocol.allow=never"]

    def ask(*words: str) -> str:
        given = [word for setting in off for word in ("-c", setting)]
        command = ["git", "--no-optional-locks", "-C", str(folder), *given, *words]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=5)

    try:
        commit = ask("rev-parse", "HEAD").strip()
        filters = [name for name in ask("config", "--list", "--name-only").splitlines() if name.startswith("filter.")]
        if any("=" in name for name in filters):  # such a name cannot be switched off
            return {"commit": commit, "dirty": None}
        off += [f"{name}=" for name in filters]
        changes = ask("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    except (OSError, ValueError, subprocess.SubprocessError):  # no git, no repository, or one too large to wait for
        return None
    return {"commit": commit, "dirty": bool(changes.strip())}


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
