"""Benchmarks on CUDA once more, as graphs: what a step takes without the host that asks for it, kernel by kernel."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from neuropil.bench._timing import clock, medians


def graph_seconds(
    contestants: Mapping[str, Callable[[], object]], *, repeats: int, device: str, before: int = 1
) -> dict[str, float | None]:
    """The median time of each contestant as a CUDA graph, s, as columns of a row; none on other devices.

    All are replayed in turn, `before` times and once more, which counts; see `clock`. None stands for what cannot be
    a graph, because the host decides something in the middle.
    """
    if torch.device(device).type != "cuda":
        return {}
    replays = {name: captured(run, device) for name, run in contestants.items()}
    able = {name: replay for name, replay in replays.items() if replay is not None}
    times = medians(clock(able, repeats=repeats, device=device, warm=0, before=before))
    return {f"{name}_graph_s": times.get(name) for name in contestants}


def captured(run: Callable[[], object], device: str) -> Callable[[], object] | None:
    """What does the same as `run` with one launch; None if `run` waits for the host.

    See https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs: it runs three times on a stream of its own first,
    so that memory and kernels are ready.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                run()
        except RuntimeError:  # torch has no class of its own for it
            torch.cuda.synchronize()
            return None
        return graph.replay


def graph_cell(row: Mapping[str, Any]) -> dict[str, str]:
    """The step as a graph, as a cell of a terminal; none off CUDA, or where it cannot be one."""
    time = row.get("step_graph_s")
    return {} if time is None else {"in a graph": f"{1e3 * time:.3f} ms"}
