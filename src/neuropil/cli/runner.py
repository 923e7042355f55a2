"""A recipe, its settings and a folder become a run; a run that was stopped goes on; many seeds make many runs."""

import json
import re
import shlex
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import arg

from neuropil.cli.app import reason, say
from neuropil.cli.recipes import FACTS, about, is_file, load, resolve, source
from neuropil.cli.settings import config_of, parse, show, use_machine, without
from neuropil.errors import Refusal, enough_memory, require
from neuropil.runs import Run, jsonable, read
from neuropil.runs.machine import versions

SEEDS, COPY = "seeds.json", "recipe.py"  # what the words were that asked for many seeds; a user's recipe as it was


@dataclass(frozen=True)
class RunOptions:
    """What every run can be told besides the settings of its recipe."""

    out: Annotated[Path | None, arg(help="folder to write, which must not exist; without it, one under runs/")] = None
    seeds: Annotated[int | None, arg(help="that many runs, with seed, seed + 1, ..., and one report")] = None
    quiet: Annotated[bool, arg(help="whether to leave out the lines that say how far the run is")] = False

    def __post_init__(self) -> None:
        require(self.seeds is None or self.seeds >= 1, f"--seeds takes a number of runs, got {self.seeds}.")


@dataclass(frozen=True)
class Job:
    """What the words asked for.

    Attributes:
        asked: the recipe or variant that was named, or the path of a user's file.
        name: the same, but of a variant the recipe that it is based on.
        recipe: the module, loaded once.
        file: where it is.
        words: its settings as words, those of the variant first.
        config: its settings.
        options: those of the run.
        command: all words, as they were typed.
    """

    asked: str
    name: str
    recipe: ModuleType
    file: Path
    words: list[str]
    config: Any
    options: RunOptions
    command: str

    @classmethod
    def of(cls, command: str, *, home: Path | None = None) -> "Job":
        """What `command` ("neuropil run NAME ..." or "neuropil compare ...") asks for.

        Device and threads are those of the machine from here on. Where a user's file is gone, the copy in the run
        `home` takes its place.
        """
        _, verb, *words = shlex.split(command)
        asked = verb if verb in ("attack", "compare") else words.pop(0)
        words = ["--of", *words] if verb == "attack" else words
        file = asked
        if home and is_file(asked) and not Path(asked).is_file() and (home / COPY).is_file():
            file = str(home / COPY)
            say(f"{asked} is not here; going on with the copy in the run, {file}.")
        recipe = load(file)
        name, words = resolve(asked, words)
        config, options = parse(words, config_of(recipe, name), RunOptions)
        use_machine(config)
        return cls(asked, name, recipe, source(file), words, config, options, command)

    def with_seed(self, seed: int) -> "Job":
        """One run of many, with a seed and a command of its own."""
        words = [*without(self.words, {"out", "seeds", "seed"}), "--seed", str(seed)]
        head = ["compare"] if self.name == "compare" else ["run", self.name]
        config, options = parse(words, self.recipe.Config, RunOptions)
        command = shlex.join(["neuropil", *head, *words])
        return replace(self, words=words, config=config, options=options, command=command)


def do(verb: str, words: list[str]) -> int:
    """Do what `neuropil VERB WORDS` asks for: run it, write the report, show the table."""
    job = Job.of(shlex.join(["neuropil", verb, *words]))
    many = job.options.seeds is not None
    require(not many or hasattr(job.config, "seed"), f"--seeds needs a setting 'seed', which {job.name} has not.")
    folder, missing = _new_folder(job)
    try:
        if many:
            (folder / SEEDS).write_text(json.dumps({"command": job.command}))
            _all_seeds(job, folder, quiet=job.options.quiet)
        else:
            _start(job, folder, again=folder)
    except Exception:
        _forget_if_empty(folder, missing)
        raise
    return _report_if_any(folder)


def resume(folder: Path, *, quiet: bool = False) -> int:
    """Go on with the run in `folder`, or with the runs of many seeds in it, and do what `do` would have done."""
    if (folder / SEEDS).is_file():
        kept = next((path.parent for path in sorted(folder.glob(f"*/{COPY}"))), None)
        _all_seeds(Job.of(json.loads((folder / SEEDS).read_text())["command"], home=kept), folder, quiet=quiet)
    else:
        _resume(folder, again=folder, quiet=quiet)
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
    kinds = {row["kind"] for path in out.rglob("run.json") for row in read(path.parent).rows}
    if kinds & {"result", "failed", "epoch"} or any(out.rglob("pictures/*.png")):
        report([out], out / "report.html")
    else:
        print(f"{out} is finished; it logged no result, so there is no report.")
    for picture in sorted(out.rglob("pictures/*.png")):
        print(f"picture: {picture}")
    return 3 if "failed" in kinds and "result" not in kinds else 0


def _new_folder(job: Job) -> tuple[Path, list[Path]]:
    """The folder that was asked for, or the first of ours that is not taken; and the ones made for it."""
    for number in count(1):
        folder = job.options.out or _folder(job, number)
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder, missing
        require(not job.options.out, f"{folder} exists already, and a run needs a new folder; name another one.")
    raise AssertionError("there is always one more number")


def _all_seeds(job: Job, out: Path, *, quiet: bool) -> None:
    """The runs of `job` in `out`: the finished ones are left, the interrupted one goes on, the others start."""
    for seed in range(job.config.seed, job.config.seed + (job.options.seeds or 0)):
        folder = out / f"seed-{seed}"
        if not folder.exists():
            _start(job.with_seed(seed), folder, again=out)
        elif not read(folder).finished:
            _resume(folder, again=out, quiet=quiet)


def _start(job: Job, folder: Path, again: Path) -> None:
    run = Run.start(folder, recipe=job.name, config=job.config, command=job.command, quiet=job.options.quiet)
    run.update_metadata(purpose=about(str(job.file) if is_file(job.asked) else job.asked).purpose)
    for name, path in _code(job).items():
        shutil.copyfile(path, folder / name)
    _work(job, run, again)


def _code(job: Job) -> dict[str, Path]:
    """The files of the user whose code is run, by the name of the copy in the run: recipe, data and learners."""
    named = (getattr(job.config, "data", ""), *getattr(job.config, "learners", ()))
    own = {path.name: path for path in (Path(str(name)) for name in named if is_file(str(name))) if path.is_file()}
    return own | ({COPY: job.file} if is_file(job.name) else {})


def _forget_if_empty(folder: Path, missing: list[Path]) -> None:
    """Remove a folder in which no work was done, and those above it, so that the same words work once they can."""
    left = [path for path in folder.rglob("*") if path.is_file()]
    if {path.name for path in left if path.suffix != ".py"} <= {"run.json", ".lock", SEEDS}:
        shutil.rmtree(folder)
        with suppress(OSError):  # others may have put something there
            for path in missing[1:]:
                path.rmdir()


def _resume(folder: Path, again: Path, *, quiet: bool) -> None:
    record = read(folder)
    ours = shlex.split(record.facts["command"])[:1] == ["neuropil"]
    require(ours, f"the run in {folder} was not started by this command; resume it in Python, with Run.resume.")
    job = Job.of(record.facts["command"], home=folder)
    now = jsonable(job.config)
    changed = [name for name in now | record.config if now.get(name) != record.config.get(name)]
    require(not changed, f"{job.name} has changed since this run began: {', '.join(changed)}. Start a new run.")
    run = Run.resume(folder, quiet=quiet)
    for name, path in _code(job).items():
        if (folder / name).is_file() and (folder / name).read_bytes() != path.read_bytes():
            say(f"{path} was edited since this run began; the result may differ.")
    then, other = record.facts.get("versions", {}), versions()
    differ = [f"{name} {then[name]}, now {other[name]}" for name in then if other.get(name, then[name]) != then[name]]
    if differ:
        say(f"this run began with {'; '.join(differ)}; the result may differ in its last digits.")
    _work(job, run, again)


def _work(job: Job, run: Run, again: Path) -> None:
    """Run the recipe to its end; whatever stops it says how to go on."""
    hint = f"go on with: neuropil run --resume {shlex.quote(str(again))}"
    try:
        with enough_memory():
            job.recipe.main(job.config, run)
        run.finish()
    except OSError as error:
        raise Refusal(f"{reason(error)} What was written is kept; {hint}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {hint}") from None
    except BaseException as error:
        error.add_note(f"What was written is kept; {hint}")
        raise
    finally:
        run.close()


def _folder(job: Job, number: int) -> Path:
    """A folder under runs/ named for the recipe, the time and the seed, and a number where others have the same."""
    seeds, seed = job.options.seeds, getattr(job.config, "seed", None)
    who = f"-seeds{seeds}" if seeds else "" if seed is None else f"-seed{seed}"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}{who}{f'-{number}' if number > 1 else ''}"
    return Path("runs") / Path(job.asked).stem / name
