"""What the words of a command ask for: a recipe, its settings, and the user's code that it takes."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from tyro.conf import arg

from neuropil.cli.recipes import about, is_file, load, resolve, source
from neuropil.cli.settings import config_of, parse, repeatable, use_machine, without
from neuropil.cli.trust import COPY, seal, split, value_of
from neuropil.errors import require
from neuropil.runs.sinks import check_sinks

MANNER = {"out", "seed", "seeds", "quiet", "track", "workers", "stages", "device", "threads"}  # no setting of a method
HOLD_OUT = "score on that fraction of the training examples, held out, and not on the test set"


@dataclass(frozen=True)
class RunOptions:
    """What every run can be told besides the settings of its recipe."""

    out: Annotated[Path | None, arg(help="folder to write, which must not exist; without it, one under runs/")] = None
    seeds: Annotated[int | None, arg(help="that many runs, with seed, seed + 1, ..., and one report")] = None
    quiet: Annotated[bool, arg(help="whether to leave out the lines that say how far the run is")] = False
    workers: Annotated[int | None, arg(help="processes that learn together, each from a part of every batch")] = None
    stages: Annotated[int | None, arg(help="processes that learn together, each with some of the layers")] = None
    hold_out: Annotated[float | None, arg(help=HOLD_OUT)] = None
    track: Annotated[tuple[str, ...], arg(help="where numbers go as well: csv, tensorboard, wandb")] = ()

    def __post_init__(self) -> None:
        require(self.seeds is None or self.seeds >= 1, f"--seeds takes a number of runs, got {self.seeds}.")
        for name in ("workers", "stages"):
            count = getattr(self, name)
            require(count is None or count >= 1, f"--{name} takes a number >= 1, got {count}.")
        check_sinks(self.track)
        fine = self.hold_out is None or 0 < self.hold_out < 1
        require(fine, f"--hold-out takes a fraction between 0 and 1, got {self.hold_out}.")


@dataclass(frozen=True)
class NoMore:
    """No settings besides those of a recipe and of a run."""


@dataclass(frozen=True)
class Manner:
    """How a run goes on."""

    quiet: Annotated[bool, arg(help="whether to leave out the lines that say how far the run is")] = False
    device: Annotated[str | None, arg(help="go on there; such a change of the world needs --anyway")] = None
    workers: Annotated[int | None, arg(help="go on with that many; such a change needs --anyway")] = None
    anyway: Annotated[bool, arg(help="go on though versions, threads, data or code have changed")] = False
    code: Annotated[tuple[Path, ...], arg(help="files of code that the run may execute")] = ()


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
        more: settings of the command itself, where it has other ones than those of a run.
    """

    asked: str
    name: str
    recipe: ModuleType
    file: Path
    words: list[str]
    config: Any
    options: RunOptions
    command: str
    more: Any = None

    @classmethod
    def of(
        cls, command: str, instead: Mapping[str, str] | None = None, device: str | None = None,
        workers: int | None = None, *, also: Any = NoMore,
    ) -> "Job":  # fmt: skip
        """What `command` ("neuropil run NAME ..." or "neuropil compare ...") asks for, with other files `instead`.

        Device and threads are those of the machine from here on; device and workers are others if they are given.
        `also` is a dataclass of further settings, which are kept in `more`.
        """
        words = split(command)
        ours = words[:1] == ["neuropil"] and words[1:2] in (["run"], ["attack"], ["compare"])
        ours = ours and (words[1] == "compare" or len(words) > 2)
        require(ours, f"the command {command!r} is not of a run; resume it where it was started, with Run.resume.")
        _, verb, *words = words
        asked = verb if verb in ("attack", "compare") else words.pop(0)
        words = ["--of", *words] if verb == "attack" else words
        for old, new in (instead or {}).items():
            words = [word.removesuffix(old) + new if value_of(word) == old else word for word in words]
        file = (instead or {}).get(asked, asked)
        recipe = load(file)
        name, words = resolve(asked, words)
        words = words if device is None else [*without(words, {"device"}), "--device", device]
        words = words if workers is None else [*without(words, {"workers"}), "--workers", str(workers)]
        config, more, options = parse(words, config_of(recipe, name), also, RunOptions)
        config = repeatable(use_machine(config))
        return cls(asked, name, recipe, source(file), words, config, options, command, more)

    def with_seed(self, seed: int) -> "Job":
        """One run of many, with a seed and a command of its own."""
        return self.with_words([*without(self.words, {"out", "seeds", "seed"}), "--seed", str(seed)])

    def with_words(self, words: list[str]) -> "Job":
        """The same recipe with other settings, and the command of that."""
        head = ["compare"] if self.name == "compare" else ["run", self.name]
        config, options = parse(words, self.recipe.Config, RunOptions)
        config = use_machine(config)
        command = shlex.join(["neuropil", *head, *words])
        return replace(self, words=words, config=config, options=options, command=command)

    @property
    def purpose(self) -> str:
        """In one line, with the settings that were typed: they may not be those that the recipe speaks of."""
        said = about(str(self.file) if is_file(self.asked) else self.asked).purpose
        variant = [] if is_file(self.asked) else resolve(self.asked, [])[1]
        typed = without(self.words[len(variant) :], MANNER)
        own = self.asked not in ("compare", "attack") and bool(typed)
        return f"{said} Here with {shlex.join(typed)}." if own else said

    def code(self) -> dict[str, Path]:
        """The files of the user whose code is run, by the name of the copy in the run: recipe, data and learners."""
        named = (getattr(self.config, "data", ""), *getattr(self.config, "learners", ()))
        own = {path.name: path for path in (Path(str(name)) for name in named if is_file(str(name))) if path.is_file()}
        return own | ({COPY: self.file} if is_file(self.name) else {})

    def signed(self) -> dict[str, Any]:
        """Digests of the user's code in a run, and the proof that the user named it."""
        code = {name: sha256(content).hexdigest() for name, content in self.copies().items()}
        return {"code": code, "seal": seal(self.command, code)} if code else {}

    def copies(self) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in self.code().items()}
