"""Tasks of a Ray cluster: that of $RAY_ADDRESS, one that runs on this machine, or a new one here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuropil.errors import optional
from neuropil.sweeps.pool import Outcome, refused


class Engine:
    """A task for every run, in a process of its own. All nodes have to see the folder of the sweep and the data."""

    def __init__(self, folder: Path, threads: int, options: dict[str, Any], recipe: str):
        self._ray: Any = optional("ray", "--engine ray", extra="ray")
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
        self._options = options
        self._resources = {"num_cpus": threads, "max_retries": 0, "max_calls": 1} | options

    def start(self, work: Callable[[Any], Outcome], task: Any) -> "Live":
        """Submit ``work(task)``."""
        try:
            return Live(self._ray, self._ray.remote(**self._resources)(work).remote(task))
        except (TypeError, ValueError) as error:
            raise refused(self._options, error) from error


class Live:
    """One task; see `neuropil.sweeps.pool.Live`."""

    def __init__(self, ray: Any, answer: Any):
        self._ray, self._answer = ray, answer

    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self._ray.wait([self._answer], timeout=0)[0])

    def result(self) -> Outcome:
        """What it returned, or that it was lost."""
        try:
            found: Outcome = self._ray.get(self._answer)
        except self._ray.exceptions.RayError as error:
            return Outcome("lost", f"its task ended without an answer ({type(error).__name__})")
        return found

    def stop(self) -> None:
        """Cancel it."""
        self._ray.cancel(self._answer, force=True)
