"""What benchmarks share: contestants timed side by side, and the memory that a step takes."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

K = TypeVar("K")
Times = dict[K, list[float]]


def clock(
    contestants: Mapping[K, Callable[[], object]], *, repeats: int, device: str = "cpu", warm: int = 3, before: int = 1
) -> Times[K]:
    """Seconds of every contestant in every round, after `warm` rounds that do not count.

    In a round each runs `before` times, and once more, which counts. In training, too, a step follows a step of its own
    kind and finds its own memory and caches.
    """
    times: Times[K] = {name: [] for name in contestants}
    for _ in range(warm + repeats):
        for name, run in contestants.items():
            for _ in range(before):
                run()
            times[name].append(seconds(run, device))
    return {name: values[warm:] for name, values in times.items()}


def medians(times: Times[K]) -> dict[K, float]:
    """The median time of each contestant, s."""
    return {name: median(values) for name, values in times.items()}


def fastest(times: Times[K]) -> dict[K, float]:
    """The shortest time of each contestant, s, which a busy machine disturbs least."""
    return {name: min(values) for name, values in times.items()}


def seconds(run: Callable[[], object], device: str) -> float:
    """How long `run` takes, s; on a GPU that has nothing else to do, by events of its own clock."""
    if torch.device(device).type != "cuda":
        start = perf_counter()
        run()
        return perf_counter() - start
    with torch.cuda.device(device):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        run()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000


@contextmanager
def hushed() -> Iterator[None]:
    """Without what the profiler's C++ writes to stderr."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak_extra(step: Callable[[], object], device: str) -> int:
    """Bytes that `step` holds at its peak beyond what it found: every allocation of torch, counted by its profiler."""
    step()
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with hushed(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        record.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    held, peak = 0, 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak
