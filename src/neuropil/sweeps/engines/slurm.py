"""Jobs of a Slurm cluster by submitit; where there is no Slurm, submitit runs them on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuropil.errors import optional
from neuropil.sweeps.pool import Outcome, refused


class Engine:
    """A job for every run. All machines have to see the folder of the sweep, the data and this package.

    submitit hands functions and results over as pickles, in ``slurm/`` of the sweep; nothing else reads these.
    """

    def __init__(self, folder: Path, threads: int, options: dict[str, Any], recipe: str):
        submitit: Any = optional("submitit", "--engine slurm", extra="slurm")
        self._executor = submitit.AutoExecutor(folder=folder / "slurm")
        told = {"name": "neuropil", "cpus_per_task": threads, "timeout_min": 24 * 60} | options
        try:
            self._executor.update_parameters(**told)
        except Exception as error:  # submitit has many ways to say that it does not know one
            raise refused(options, error) from error

    def start(self, work: Callable[[Any], Outcome], task: Any) -> "Live":
        """Submit ``work(task)``."""
        return Live(self._executor.submit(work, task))


class Live:
    """One job; see `neuropil.sweeps.pool.Live`."""

    def __init__(self, job: Any):
        self._job = job

    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self._job.done())

    def result(self) -> Outcome:
        """What it returned, or that it was lost."""
        error = self._job.exception()
        if error is None:
            found: Outcome = self._job.result()
            return found
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return Outcome("lost", f"its job {self._job.job_id} ended without an answer ({said:.200})")

    def stop(self) -> None:
        """Cancel it."""
        self._job.cancel(check=False)
