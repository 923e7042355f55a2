"""A recipe, its settings and a folder become a run; a run that was stopped goes on; many seeds make many runs."""

import re
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from neuropil.cli.app import reason, say
from neuropil.cli.job import Job, Manner, RunOptions
from neuropil.cli.recipes import FACTS, about, load, resolve
from neuropil.cli.settings import config_of, parse, show
from neuropil.cli.trust import code_of
from neuropil.cli.workers import count_of, crew, use_threads
from neuropil.data import held_out
from neuropil.errors import Gone, Refusal, enough_memory, require
from neuropil.runs import Run, jsonable
from neuropil.runs.files import METRICS, RUN, Taken, json_bytes, new_folder, read_json, refuse_links
from neuropil.runs.machine import changes, world
from neuropil.runs.parsing import kinds_in
from neuropil.runs.record import read_facts
from neuropil.runs.run import ANYWAY
from neuropil.sweeps.folder import FILE

UNSEEN = (
    "nothing could be held out, since {} takes no data from neuropil.data; load data there, "
    "or log a Row of kind 'validation' with learner, data, seed and accuracy."
)
SEEDS = "seeds.json"  # what the words were that asked for many seeds


class Unseen(Refusal):
    """Test examples could not be kept out of reach."""


def do(verb: str, words: list[str]) -> int:
    """Do what `neuropil VERB WORDS` asks for: run it, write the report, show the table."""
    job = Job.of(shlex.join(["neuropil", verb, *words]))
    count_of(job)  # refuses what cannot be
    use_threads(job)
    many = job.options.seeds is not None
    require(not many or hasattr(job.config, "seed"), f"--seeds needs a setting 'seed', which {job.name} has not.")
    for number in count(1):
        folder = job.options.out or _folder(job, number)
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            run = None if many else started(job, folder)
            if many:
                new_folder(folder, {**job.copies(), SEEDS: json_bytes(group_of(job))})
            break
        except Taken:
            if job.options.out:
                raise
    try:
        if run:
            work(job, run, again=folder)
        else:
            _all_seeds(job, folder, Manner(quiet=job.options.quiet))
    except Exception as error:
        if not isinstance(error.__cause__, Gone):  # after which the run goes on from its folder
            _forget_if_empty(folder, missing)
        raise
    return _report_if_any(folder)


def resume(folder: Path, manner: Manner) -> int:
    """Go on with the run in `folder`, or with the runs of many seeds in it, and do what `do` would have done."""
    is_sweep = (folder / FILE).exists()
    require(not is_sweep, f"{folder} is a sweep; go on with: neuropil sweep --resume {shlex.quote(str(folder))}")
    if (folder / SEEDS).exists():
        refuse_links(folder)
        facts = read_json(folder / SEEDS, command=str)
        job, _ = job_of(folder, facts, manner)
        changed = changes(facts, group_of(job)) if _missing(job, folder) else []
        if changed and not manner.anyway:
            raise Refusal(f"since the runs in {folder} began, this has changed: {'; '.join(changed)}. {ANYWAY}")
        _all_seeds(job, folder, manner, changed)
    elif read_facts(folder)["finished"] is None:
        work(*go_on(folder, manner), again=folder)
    else:
        code = _report_if_any(folder)
        say(f"the run in {folder} was finished; its report is written again.")
        return code
    return _report_if_any(folder)


def show_settings(name: str, prog: str) -> int:
    """Print the settings of the recipe `name`, for the help of the words `prog`."""
    recipe, (base, words) = load(name), resolve(name, [])
    text, config = re.sub(FACTS, _time_and_data, (recipe.__doc__ or "").strip(), flags=re.M), config_of(recipe, name)
    if base != name:
        text = f"{about(name).purpose} The recipe {base} with {' '.join(words)}.\n\n{about(name).measured}"
    show(prog, text, config, RunOptions, default=parse(words, config)[0] if words else None)
    return 0


def _time_and_data(facts: re.Match[str]) -> str:
    """The line of a docstring that `neuropil list` reads, for people."""
    data = f" Data: {facts['data']}." if facts["data"] else ""
    return f"One seed takes about {facts['minutes']} minutes on one core.{data}"


def report(folders: list[Path], out: Path) -> int:
    """Write the report of `folders` to `out`, and print its table and where it is."""
    from neuropil import report as room  # loads matplotlib, which is slow: not before the work is done

    results = room.gather(folders)
    page = room.write(results, out=out)
    console = Console()
    console.print(room.table(results))
    console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _report_if_any(out: Path) -> int:
    """The report of the finished runs in `out`, if they have anything to report, and the pictures that they made.

    The exit code: 3 if learners failed, or were left out, and none has a result.
    """
    kinds = {kind for path in out.rglob(RUN) for kind in kinds_in(path.with_name(METRICS))}
    if kinds & {"result", "failed", "epoch"} or any(out.rglob("pictures/*.png")):
        report([out], out / "report.html")
    else:
        print(f"{out} is finished; it logged no result, so there is no report.")
    for picture in sorted(out.rglob("pictures/*.png")):
        print(f"picture: {picture}")
    return 3 if "failed" in kinds and "result" not in kinds else 0


def group_of(job: Job) -> dict[str, Any]:
    """What is kept of the words that asked for many seeds, and of the world in which they did."""
    return {"command": job.command, **world(job.copies()), **job.signed()}


def _missing(job: Job, out: Path) -> dict[int, Path]:
    """The runs of `job` in `out` that have not begun, by seed."""
    seeds = range(job.config.seed, job.config.seed + (job.options.seeds or 0))
    folders = {seed: out / f"seed-{seed}" for seed in seeds}
    return {seed: folder for seed, folder in folders.items() if not (folder / RUN).exists()}


def _all_seeds(job: Job, out: Path, manner: Manner, changed: Sequence[str] = ()) -> None:
    """The runs of `job` in `out`: the finished ones are left, the interrupted one goes on, the others start."""
    missing = _missing(job, out)
    for folder in sorted({path.parent for path in out.glob(f"seed-*/{RUN}")}):
        if read_facts(folder)["finished"] is None:
            work(*go_on(folder, manner), again=out)
    for seed, folder in missing.items():
        one = job.with_seed(seed)
        one = replace(one, options=replace(one.options, quiet=manner.quiet))
        work(one, started(one, folder, changed), again=out)


def started(job: Job, folder: Path, changed: Sequence[str] = ()) -> Run:
    """A new run of `job` in `folder`."""
    facts = {"purpose": job.purpose, **job.signed()}
    facts |= {"resumed": [{"changed": list(changed)}]} if changed else {}
    facts |= {"workers": count_of(job)} if count_of(job) > 1 else {}
    facts |= {} if job.options.hold_out is None else {"hold_out": job.options.hold_out}
    return Run.start(
        folder, recipe=job.name, config=job.config, command=job.command, quiet=job.options.quiet, code=job.copies(),
        facts=facts,
    )  # fmt: skip


def _forget_if_empty(folder: Path, missing: list[Path]) -> None:
    """Remove a folder in which no work was done, and those above it, so that the same words work once they can."""
    left = [path for path in folder.rglob("*") if path.is_file()]
    if {path.name for path in left if path.suffix != ".py"} <= {"run.json", ".lock", SEEDS}:
        shutil.rmtree(folder)
        with suppress(OSError):  # others may have put something there
            for path in missing[1:]:
                path.rmdir()


def job_of(folder: Path, facts: Mapping[str, Any], manner: Manner) -> tuple[Job, dict[str, str]]:
    """The job of a run or a group that goes on, and the files that take the place of those that its command names."""
    files, changed = code_of(folder, facts, manner.code)
    if changed and not manner.anyway:
        raise Refusal(f"since the run in {folder} began, this has changed: {'; '.join(changed)}. {ANYWAY}")
    for old, new in files.items():
        if Path(new) != Path(old).expanduser():
            say(f"going on with {new} in the place of {old}.")
    job = Job.of(facts["command"], files, manner.device, manner.workers)
    count_of(job)
    use_threads(job)
    odd = set(map(str, job.code().values())) - set(files.values())
    require(not odd, f"the run in {folder} names code in an unusual way: {', '.join(odd)}.")
    return job, files


def go_on(folder: Path, manner: Manner) -> tuple[Job, Run]:
    """The interrupted run in `folder` and what it was asked to do."""
    facts = read_facts(folder)
    job, files = job_of(folder, facts, manner)
    then, now = facts["config"], _renamed(jsonable(job.config), {new: old for old, new in files.items()})
    differ = [name for name in now | then if now.get(name) != then.get(name)]
    changed = [f"setting {name} {then.get(name)}, now {now.get(name)}" for name in differ]
    began, goes_on = facts.get("workers", 1), count_of(job)
    changed += [f"workers {began}, now {goes_on}"] if began != goes_on else []
    run = Run.resume(folder, anyway=manner.anyway, quiet=manner.quiet, changed=changed, code=job.copies())
    for entry in run.changed:
        say(f"going on though this has changed: {entry}; the report will say so.")
    return job, run


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A setting in which files have their former names."""
    if isinstance(value, dict):
        return {key: _renamed(one, names) for key, one in value.items()}
    return [_renamed(one, names) for one in value] if isinstance(value, list) else names.get(str(value), value)


def work(job: Job, run: Run, again: Path) -> None:
    """Run the recipe to its end; whatever stops it says how to go on."""
    hint = f"go on with: neuropil run --resume {shlex.quote(str(again))}"
    try:
        perform(job, run, crew(job, run))
    except OSError as error:
        raise Refusal(f"{reason(error)} What was written is kept; {hint}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {hint}") from None
    except BaseException as error:
        error.add_note(f"What was written is kept; {hint}")
        raise


def perform(job: Job, run: Run, company: AbstractContextManager[Any] | None = None) -> None:
    """Run the recipe to its end, in `company`, with the test examples out of reach if that was asked.

    Raises:
        Unseen: that was asked, and the recipe took no data from the data room and scored no validation itself.
    """
    fraction, seed = job.options.hold_out, getattr(job.config, "seed", 0)
    try:
        run.track(*job.options.track)
        held_data = held_out(fraction, seed if isinstance(seed, int) else 0)
        with enough_memory(), held_data as held, company or nullcontext():
            job.recipe.main(job.config, run)
        if fraction is not None and not held.used and "validation" not in kinds_in(run.folder / METRICS):
            raise Unseen(UNSEEN.format(job.asked))
        run.finish()
    finally:
        run.close()


def _folder(job: Job, number: int) -> Path:
    """A folder under runs/ named for the recipe, the time and the seed, and a number where others have the same."""
    seeds, seed = job.options.seeds, getattr(job.config, "seed", None)
    who = f"-seeds{seeds}" if seeds else "" if seed is None else f"-seed{seed}"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}{who}{f'-{number}' if number > 1 else ''}"
    return Path("runs") / Path(job.asked).stem / name
