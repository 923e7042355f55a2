"""A recipe, its settings and a folder become a run; a run that was stopped goes on; many seeds make many runs."""

import json
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from rich.console import Console

from neuropil.cli import reason
from neuropil.cli.argv import take
from neuropil.cli.recipes import is_file, load, resolve
from neuropil.cli.settings import check, parse, use_machine
from neuropil.errors import Refusal, require
from neuropil.runs import Run, jsonable, read

SEEDS, COPY = "seeds.json", "recipe.py"  # what the words were that asked for many seeds; a user's recipe as it was


@dataclass(frozen=True)
class Job:
    """What the words asked for.

    Attributes:
        asked: the recipe or variant that was named, or the path of a user's file.
        name: the same, but of a variant the recipe that it is based on.
        recipe: the module, loaded once.
        words: its settings, those of the variant first.
        out: the folder to write, or None for one under runs/.
        seeds: number of runs, each in a folder of its own; None for one run that is `out` itself.
        command: all words, as they were typed.
    """

    asked: str
    name: str
    recipe: ModuleType
    words: list[str]
    out: Path | None
    seeds: int | None
    command: str

    @classmethod
    def of(cls, command: str) -> "Job":
        """What `command` ("neuropil run NAME ..." or "neuropil compare ...") asks for."""
        _, verb, *words = shlex.split(command)
        asked = verb if verb in ("attack", "compare") else words.pop(0)
        words = ["--of", *words] if verb == "attack" else words
        recipe, (name, words) = load(asked), resolve(asked, words)
        own = check(getattr(recipe, "Config", None), name).__dataclass_fields__  # type: ignore[attr-defined]
        out = None if "out" in own else take(words, "--out")
        seeds = None if "seeds" in own else take(words, "--seeds")
        whole = seeds is None or (seeds.isdecimal() and int(seeds) > 0)
        require(whole, f"--seeds takes a number of runs, got {seeds!r}.")
        return cls(asked, name, recipe, words, Path(out) if out else None, int(seeds) if seeds else None, command)


def config_of(job: Job) -> Any:
    """The settings that `job` asks for, checked; device and threads are those of the machine from here on."""
    config = parse(job.recipe.Config, job.words, {"out", "seeds"})
    use_machine(config)
    return config


def do(job: Job) -> int:
    """Run it, write the report, show the table."""
    config = config_of(job)
    out = job.out or _folder(job, config)
    if job.seeds is None:
        _start(job, config, out, again=out)
    else:
        require(hasattr(config, "seed"), f"--seeds needs a recipe with a setting 'seed', which {job.name} has not.")
        require(not out.exists(), f"{out} exists already, and these runs need a new folder; name another one.")
        out.mkdir(parents=True)
        (out / SEEDS).write_text(json.dumps({"command": job.command}))
        try:
            _all_seeds(job, out)
        except Refusal:
            _forget_if_empty(out)
            raise
    return _report_if_any(out)


def resume(folder: Path) -> int:
    """Go on with the run in `folder`, or with the runs of many seeds in it, and do what `do` would have done."""
    if (folder / SEEDS).is_file():
        _all_seeds(Job.of(json.loads((folder / SEEDS).read_text())["command"]), folder)
    else:
        _resume(folder, again=folder)
    return _report_if_any(folder)


def report(folders: list[Path], out: Path) -> int:
    """Write the report of `folders` to `out`, and print its table and where it is."""
    from neuropil import report as room  # draws with matplotlib, which takes its time: not before the work is done

    results = room.gather(folders)
    page = room.write(results, out=out)
    console = Console()
    console.print(room.table(results))
    console.print(f"report: {page}", soft_wrap=True, highlight=False, markup=False)
    return 0


def _report_if_any(out: Path) -> int:
    """The report of the finished runs in `out`, if they have results to report."""
    rows = (row for path in sorted(out.rglob("run.json")) for row in read(path.parent).rows)
    if any(row["kind"] == "result" for row in rows):
        return report([out], out / "report.html")
    print(f"{out} is finished; it logged no result, so there is no report.")
    return 0


def _all_seeds(job: Job, out: Path) -> None:
    """The runs of `job` in `out`: the finished ones are left, the interrupted one goes on, the others start."""
    words = list(job.words)
    take(words, "--seed")
    first = config_of(job).seed
    for seed in range(first, first + (job.seeds or 0)):
        folder = out / f"seed-{seed}"
        if not folder.exists():
            mine = [*words, "--seed", str(seed)]
            head = ["compare"] if job.name == "compare" else ["run", job.name]
            one = Job(job.name, job.name, job.recipe, mine, folder, None, shlex.join(["neuropil", *head, *mine]))
            _start(one, config_of(one), folder, again=out)
        elif not read(folder).finished:
            _resume(folder, again=out)


def _start(job: Job, config: Any, folder: Path, again: Path) -> None:
    run = Run.start(folder, recipe=job.name, config=config, command=job.command)
    if is_file(job.name):
        shutil.copyfile(job.name, folder / COPY)
    try:
        _work(job, config, run, again)
    except Refusal:
        _forget_if_empty(folder)
        raise


def _forget_if_empty(folder: Path) -> None:
    """Remove a folder in which no work was done, so that the same words work once what they lacked is there."""
    if {path.name for path in folder.iterdir()} <= {"run.json", ".lock", COPY, SEEDS}:
        shutil.rmtree(folder)


def _resume(folder: Path, again: Path) -> None:
    record = read(folder)
    require(
        shlex.split(record.facts["command"])[:1] == ["neuropil"],
        f"the run in {folder} was not started by this command; resume it in Python, with Run.resume.",
    )
    job = Job.of(record.facts["command"])
    config = config_of(job)
    now = jsonable(config)
    changed = [name for name in now | record.config if now.get(name) != record.config.get(name)]
    require(not changed, f"{job.name} has changed since this run began: {', '.join(changed)}. Start a new run.")
    run = Run.resume(folder)
    if is_file(job.name) and (folder / COPY).read_bytes() != Path(job.name).read_bytes():
        print(f"neuropil: {job.name} was edited since this run began; the result may differ.", file=sys.stderr)
    _work(job, config, run, again)


def _work(job: Job, config: Any, run: Run, again: Path) -> None:
    hint = f"go on with: neuropil run --resume {shlex.quote(str(again))}"
    with _Closing(run, hint):
        try:
            job.recipe.main(config, run)
            run.finish()
        except OSError as error:
            raise Refusal(f"{reason(error)} What was written is kept; {hint}") from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped; {hint}") from None


class _Closing:
    """Closes the run whatever happens, and adds to the traceback of a bug how to go on once it is mended."""

    def __init__(self, run: Run, hint: str):
        self.run, self.hint = run, hint

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.run.close()
        if error is not None:
            error.add_note(f"What was written is kept; {self.hint}")


def _folder(job: Job, config: Any) -> Path:
    """A new folder under runs/, named for the recipe, the time and the seed."""
    stem, now = Path(job.asked).stem, time.strftime("%Y%m%d-%H%M%S")
    seed = f"-seed{config.seed}" if hasattr(config, "seed") else ""
    return Path("runs") / stem / f"{now}{f'-seeds{job.seeds}' if job.seeds else seed}"
