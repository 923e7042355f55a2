"""A sweep from its words to its report: a folder of runs, each done once, however often the sweep is stopped."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from tyro.conf import arg

from neuropil.cli import sweep_run
from neuropil.cli.app import reason, say
from neuropil.cli.job import Job, Manner, RunOptions
from neuropil.cli.recipes import load, resolve
from neuropil.cli.runner import group_of, job_of
from neuropil.cli.settings import config_of, parse, show
from neuropil.cli.sweep_plan import Pool, SweepOptions, plan_of
from neuropil.cli.sweep_run import Task
from neuropil.errors import Refusal, optional
from neuropil.runs.files import Taken, hold, json_bytes, new_folder
from neuropil.runs.machine import changes
from neuropil.runs.run import ANYWAY
from neuropil.sweeps.axes import axes_of, title_of
from neuropil.sweeps.folder import FAILED, FILE, Place, Sweep, chooser, score_of
from neuropil.sweeps.pool import Outcome, run_all
from neuropil.sweeps.progress import Progress
from neuropil.sweeps.search import Search

NEEDS = {"slurm": "submitit", "ray": "ray"}


@dataclass(frozen=True)
class Continue(Pool):
    """How a sweep goes on."""

    resume: Annotated[Path, arg(help="the folder of the sweep")] = Path()
    again: Annotated[bool, arg(help="whether runs that failed are done once more")] = False


def do(words: Sequence[str]) -> int:
    """Do what `neuropil sweep WORDS` asks for: all runs, the report, the table."""
    job, facts = plan_of(words)
    _check_extras(job.more, facts)
    for number in count(1):
        folder = job.options.out or _folder(job, number)
        try:
            new_folder(folder, {**job.copies(), FILE: json_bytes(facts, indent=1)})
            break
        except Taken:
            if job.options.out:
                raise
    return _go(Sweep.read(folder), Manner(quiet=job.options.quiet), job.more)


def resume(words: Sequence[str]) -> int:
    """Go on with a sweep that was stopped; what is finished stays, and what failed stays failed unless it is asked."""
    asked, manner = parse(words, Continue, Manner)
    sweep = Sweep.read(asked.resume)
    _check_extras(asked, sweep.facts)
    if asked.again:
        for place in sweep.places():
            (sweep.at(place) / FAILED).unlink(missing_ok=True)
    return _go(sweep, manner, asked)


def show_settings(name: str) -> int:
    """Print the settings of the recipe `name` and of a sweep over them."""
    words = resolve(name, [])[1]
    config, text = config_of(load(name), name), "Sweep the settings of this recipe; see neuropil sweep --help."
    show(
        f"neuropil sweep {name}",
        text,
        config,
        SweepOptions,
        RunOptions,
        default=parse(words, config)[0] if words else None,
    )
    return 0


def _check_extras(pool: Pool, facts: dict[str, Any]) -> None:
    """Refuse before anything runs what needs a package that is not there."""
    if facts.get("search"):
        optional("optuna", "--search", extra="sweep")
    if pool.engine in NEEDS:
        optional(NEEDS[pool.engine], f"--engine {pool.engine}", extra=pool.engine)


def _go(sweep: Sweep, manner: Manner, pool: Pool) -> int:
    """Do what is left of a sweep, then its report."""
    hint = f"neuropil sweep --resume {shlex.quote(str(sweep.folder))}"
    lock = hold(sweep.folder)
    try:
        lost = _work(sweep, manner, pool)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; go on with: {hint}") from None
    except OSError as error:
        raise Refusal(f"{reason(error)} What was written is kept; go on with: {hint}") from error
    finally:
        if lock:
            lock.close()
    code = report(sweep.folder)
    if lost:
        many = f"{len(lost)} runs have" if len(lost) > 1 else "1 run has"
        say(f"{many} not finished ({lost[0]}); go on with: {hint}")
    return 2 if lost else code


def _work(sweep: Sweep, manner: Manner, pool: Pool) -> list[str]:
    """All runs that are left, in rounds if settings are searched; why some are still left after that."""
    if not _left(sweep):
        say(f"the sweep in {sweep.folder} was finished; its report is written again.")
        return []
    job, _ = job_of(sweep.folder, sweep.facts, manner)
    torch.set_num_threads(sweep.facts["threads"])
    changed = changes(sweep.facts, group_of(job))
    if changed and not manner.anyway:
        raise Refusal(f"since the sweep in {sweep.folder} began, this has changed: {'; '.join(changed)}. {ANYWAY}")
    engine = import_module(f"neuropil.sweeps.engines.{pool.engine}").Engine(
        sweep.folder, sweep.facts["threads"], pool.options, job.file.read_text(encoding="utf-8")
    )
    workers = pool.workers or sweep.facts["at_once"]
    wanted = sweep.facts["search"] or len(sweep.settings)
    total, done = wanted * len(sweep.seeds), len(sweep.places()) - len(sweep.open())
    titled = lambda place: f"{title_of(sweep.settings[place.setting])}, seed {place.seed}"
    shown = Progress(
        total, done, workers, titled, lambda place: sweep.at(place).with_suffix(".log"), quiet=manner.quiet
    )
    each = partial(
        _round,
        sweep,
        partial(Task, sweep.folder.resolve(), manner=manner, changed=tuple(changed)),
        engine,
        workers,
        shown,
    )
    try:
        return each(sweep.open()) if not sweep.facts["search"] else _search(sweep, each)
    finally:
        shown.close()


def _left(sweep: Sweep) -> bool:
    """Whether there is anything to do."""
    more = sweep.facts["search"] and not sweep.facts.get("exhausted") and len(sweep.settings) < sweep.facts["search"]
    return bool(more or sweep.open())


def _round(sweep: Sweep, task: Any, engine: Any, workers: int, shown: Progress, places: Sequence[Place]) -> list[str]:
    """Do these runs; why some are not finished."""
    lost, known = [], False
    tasks = [task(place=place) for place in places]
    for one, outcome in run_all(tasks, partial(engine.start, sweep_run.do), workers):
        if outcome is None:
            shown.began(one.place)
            continue
        if outcome.kind == "stop":
            hint = f"go on with: neuropil sweep --resume {shlex.quote(str(sweep.folder))}"
            raise Refusal(f"{outcome.reason} What was written is kept; {hint}")
        lost += [outcome.reason] if outcome.kind == "lost" else []
        shown.ended(one.place, _said(sweep, one.place, outcome))
        if not known and outcome.kind == "done":
            known = bool(chooser(sweep.scores(one.place), sweep.facts["learner"]))
    return lost


def _said(sweep: Sweep, place: Place, outcome: Outcome) -> str:
    """What has come of a run, in words."""
    if outcome.kind != "done":
        return f"{outcome.kind}: {outcome.reason}"
    scores = sweep.scores(place)
    one = score_of(scores, chooser(scores, sweep.facts["learner"]))
    return one.reason if one.accuracy is None else f"{one.learner} {100 * one.accuracy:.2f} %"


def _search(sweep: Sweep, each: Any) -> list[str]:
    """Rounds of proposals, each made when all before it have been told."""
    facts = sweep.facts
    search = Search(sweep.folder, axes_of(facts["axes"], search=True), sweep.seeds[0], facts["trials"])
    while True:
        lost: list[str] = each(sweep.open())
        if lost:
            return lost
        learner = chooser([one for place in sweep.places() for one in sweep.scores(place)], facts["learner"])
        for index, number in enumerate(facts["trials"]):
            if number not in search.told:
                search.tell(number, _value(sweep, index, learner))
        if not _left(sweep):
            return []
        for index in range(len(sweep.settings), min(len(sweep.settings) + facts["at_once"], facts["search"])):
            found = search.ask(index, sweep.settings)
            if found is None:
                facts["exhausted"] = True
                say(f"the search proposes nothing new after {len(sweep.settings)} settings, and ends.")
                break
            facts["trials"].append(found[0])
            facts["settings"].append(found[1])
        sweep.write()


def _value(sweep: Sweep, index: int, learner: str) -> float:
    """What a search is told of a setting: its mean accuracy, and 0 where a seed has none."""
    reached = [score_of(sweep.scores(place), learner).accuracy for place in sweep.places([index])]
    known = [value for value in reached if value is not None]
    return sum(known) / len(known) if len(known) == len(reached) else 0.0


def report(folder: Path, out: Path | None = None) -> int:
    """Write the report of a sweep, print its table; the exit code, 3 if no setting has an accuracy for every seed."""
    room: Any = import_module("neuropil.report.sweeps")  # loads matplotlib, which is slow
    results = room.gather(Sweep.read(folder))
    page = room.write(results, out or folder / "report.html")
    console = Console()
    console.print(room.table(results))
    console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
    return 0 if results.chosen else 3


def _folder(job: Job, number: int) -> Path:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-sweep{f'-{number}' if number > 1 else ''}"
    return Path("runs") / Path(job.asked).stem / name
