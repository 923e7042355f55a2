"""The words of a sweep become a plan, checked before anything runs: a command, settings and seeds."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import torch
from tyro.conf import arg

from neuropil.cli.job import Job, RunOptions
from neuropil.cli.runner import group_of
from neuropil.cli.settings import named, read, without
from neuropil.cli.sweep_run import switches_of
from neuropil.cli.trust import split
from neuropil.errors import Refusal, require, unknown
from neuropil.sweeps.axes import Axis, axes_of, grid, title_of, words_of

SEEDS, HOLD_OUT = 3, 1 / 6
FIXED = {
    "seed": "seeds are counted by --seeds N",
    "data": "accuracies on several data sets choose no setting; make a sweep for each",
    "device": "it is where all runs compute",
    "threads": "they are divided among the workers",
    "learners": "each learner has a table of its own",
}
EngineName = Literal["local", "slurm", "ray"]


@dataclass(frozen=True)
class Pool:
    """Where the runs of a sweep are done, and how many at once."""

    workers: Annotated[int | None, arg(help="runs at once; one if it is not said")] = None
    engine: Annotated[EngineName, arg(help="processes of this machine, jobs of Slurm, or tasks of Ray")] = "local"
    resources: Annotated[tuple[str, ...], arg(help="NAME=VALUE that Slurm or Ray is told of every run")] = ()

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 1, f"--workers takes a number of runs, got {self.workers}.")
        local = self.engine == "local" and bool(self.resources)
        require(not local, "--resources are for --engine slurm or ray; the local engine needs none.")

    @property
    def options(self) -> dict[str, Any]:
        """The resources by name."""
        pairs = [word.partition("=") for word in self.resources]
        require(all(name and value for name, _, value in pairs), f"--resources takes NAME=VALUE, got {self.resources}.")
        return {name: _number(value) for name, _, value in pairs}


@dataclass(frozen=True)
class SweepOptions(Pool):
    """What a sweep can be told besides the settings of its recipe and of its runs."""

    grid: Annotated[tuple[str, ...], arg(help="NAME=VALUE,VALUE ...; with --search also NAME=LOW..HIGH")] = ()
    search: Annotated[int | None, arg(help="settings that Optuna proposes; without it, every combination runs")] = None
    learner: Annotated[str | None, arg(help="the learner whose accuracy chooses; the first that the runs log")] = None


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def plan_of(words: Sequence[str]) -> tuple[Job, dict[str, Any]]:
    """The job that the words after `neuropil sweep` describe, without setting and seed, and what sweep.json says.

    Raises:
        Refusal: whatever is wrong with the words, each setting and each combination; nothing has run then.
    """
    job = Job.of(shlex.join(["neuropil", "run", *words]), also=SweepOptions)
    asked: SweepOptions = job.more
    require(job.name != "attack", "attack reads the test set, so it chooses no settings; sweep another recipe.")
    require(bool(asked.grid), "say what to try: --grid lr=1e-3,3e-3 k=2,7, or with --search N also lr=1e-4..1e-1:log")
    require(asked.search is None or asked.search >= 1, f"--search takes a number of settings, got {asked.search}.")
    require(hasattr(job.config, "seed"), f"a sweep needs a setting 'seed', which {job.name} has not.")
    axes, seeds = axes_of(asked.grid, search=asked.search is not None), _own_seeds(job) or job.options.seeds or SEEDS
    _check_names(job, axes, words)
    workers = asked.workers or 1
    threads = _threads(job, workers, asked.engine)
    base = _base(job, axes, threads)
    settings = [] if asked.search else grid(axes)
    _check_values(base, axes, settings)
    facts = {
        "sweep": shlex.join(["neuropil", "sweep", *words]), **group_of(base), "axes": list(asked.grid),
        "settings": settings, "seeds": [base.config.seed + k for k in range(seeds)], "search": asked.search,
        "at_once": workers, "threads": threads, "learner": asked.learner, "hold_out": base.options.hold_out,
        "trials": [], "plain": _plain(job, base), "switches": sorted(switches_of(base)),
    }  # fmt: skip
    return replace(base, options=job.options), facts


def _base(job: Job, axes: Sequence[Axis], threads: int) -> Job:
    """The job without what is swept, and with what all runs share."""
    of_recipe = {item.name for item in fields(job.config)}
    own = {item.name for item in fields(SweepOptions)} | {"out", "seeds", "quiet"}
    words = without(job.words, {*(own - of_recipe), *(axis.name for axis in axes), "seeds"})
    if _own_seeds(job):
        words += ["--seeds", "1"]  # in each of its runs
    if job.options.hold_out is None:
        words += ["--hold-out", f"{HOLD_OUT:.4f}"]
    if getattr(job.config, "threads", None) == 0:
        words += ["--threads", str(threads)]
    base = job.with_words(words)
    torch.set_num_threads(threads)
    return replace(base, asked=job.asked)


def _own_seeds(job: Job) -> int:
    """How many seeds a recipe runs by a setting of its own, as compare does; 0 if it has none."""
    seeds = getattr(job.config, "seeds", 0)
    return seeds if type(seeds) is int else 0


def _plain(job: Job, base: Job) -> list[str]:
    """The command of a run that reads the test set, without the setting."""
    words = without(split(base.command), {"hold_out", "seed", "seeds"})
    return words if getattr(job.config, "threads", None) else without(words, {"threads"})


def _threads(job: Job, workers: int, engine: str) -> int:
    """Threads of one run: what it was told, or on this machine its part of them."""
    told = getattr(job.config, "threads", 0)
    return told or (max(1, torch.get_num_threads() // workers) if engine == "local" else 1)


def _check_names(job: Job, axes: Sequence[Axis], words: Sequence[str]) -> None:
    known = [item.name for item in fields(job.config) if item.init]
    typed = named(words, known)
    for axis in axes:
        if axis.name not in known:
            raise unknown("setting", axis.name, [name for name in known if name not in FIXED])
        require(axis.name not in FIXED, f"{axis.name!r} is not swept: {FIXED.get(axis.name)}.")
        require(axis.name not in typed, f"setting {axis.name!r} is both fixed and swept; leave --{axis.name} out.")


def _check_values(base: Job, axes: Sequence[Axis], settings: Sequence[dict[str, str]]) -> None:
    """Refuse words that are no value of their setting, equal values, and combinations that the recipe refuses."""
    made: dict[tuple[str, str], Any] = {}
    kind, switches = type(base.config), switches_of(base)
    for axis in axes:
        for value in axis.values:
            words = [*base.words, *words_of({axis.name: value}, switches)]
            made[axis.name, value] = getattr(read(words, kind, RunOptions), axis.name)
        several = [made[axis.name, value] for value in axis.values]
        twice = next((value for k, value in enumerate(several) if value in several[:k]), None)
        require(twice is None, f"setting {axis.name!r} has the value {twice} twice in {','.join(axis.values)}.")
    for setting in settings:
        try:
            replace(base.config, **{name: made[name, value] for name, value in setting.items()})
        except ValueError as error:
            raise Refusal(f"with {title_of(setting)}: {error}") from error
