"""Where the numbers of a run go besides its own folder: a CSV file, TensorBoard, Weights & Biases."""

import csv
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from neuropil.errors import optional, unknown
from neuropil.runs.rows import Row

WHO = ("kind", "learner", "family", "data", "seed", "stage")
STEPS = ("epoch", "n_labels")  # what the numbers of a row are plotted over, the first that it has


class Number(NamedTuple):
    """One number of a row."""

    name: str
    value: float
    step: int
    who: Mapping[str, Any]  # the columns WHO that the row has


class Sink(Protocol):
    """Takes the numbers of a run as they come. Adapt a tracker of your own to it, and give it to `Run.track`.

    A class with ``again = False`` keeps what it was told: where a run goes on, it does not hear of that once more.
    """

    def log(self, number: Number) -> None:
        """Take one number."""

    def close(self) -> None:
        """Write what is left."""


def numbers(row: Mapping[str, Any]) -> Iterator[Number]:
    """The numbers in a row of a learner, without those that say whose they are or which epoch it is."""
    steps = [row[name] for name in STEPS if name in row]
    who = {name: row[name] for name in WHO if name in row}
    for name, value in row.items() if row.get("learner") else ():
        if type(value) in (int, float) and name not in {*WHO, *STEPS[: 1 if "epoch" in row else None]}:
            yield Number(name, float(value), int(steps[0]) if steps else 0, who)


class CsvFile:
    """``metrics.csv``: one line for each number, for spreadsheets and data frames."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        self._file = (folder / "metrics.csv").open("w", newline="", encoding="utf-8")
        self._lines = csv.writer(self._file)
        self._lines.writerow([*WHO, "step", "name", "value"])

    def log(self, number: Number) -> None:
        """One line."""
        self._lines.writerow([*(number.who.get(name, "") for name in WHO), number.step, number.name, number.value])
        self._file.flush()

    def close(self) -> None:
        """Nothing is left: every line was written at once."""
        self._file.close()


class TensorBoard:
    """A folder ``tensorboard`` in the run, with a run of TensorBoard for each learner, so that curves lie together."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        self._folder, self._writers = folder / "tensorboard", dict[str, Any]()
        self._writer: Any = import_module("torch.utils.tensorboard").SummaryWriter
        with suppress(FileNotFoundError):  # a run that goes on tells everything once more
            shutil.rmtree(self._folder)

    def log(self, number: Number) -> None:
        """A point of a curve."""
        parts = [str(number.who[name]) for name in ("data", "learner", "seed") if name in number.who]
        name = re.sub(r"[^\w.+-]+", "_", "-".join(parts)) or "run"
        if name not in self._writers:
            self._writers[name] = self._writer(str(self._folder / name))
        group = number.who.get("stage") or number.who.get("kind", "run")
        self._writers[name].add_scalar(f"{group}/{number.name}", number.value, number.step)

    def close(self) -> None:
        """Write what is left."""
        for writer in self._writers.values():
            writer.close()


class WandB:
    """A run of Weights & Biases, in the project ``neuropil``; WANDB_MODE, WANDB_PROJECT and WANDB_DIR are heeded.

    Its files are not in the run's folder: there are links among them, which no run may have.
    """

    again = False  # what was told before a run was stopped is kept there

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        started = re.sub(r"\D", "", str(facts.get("started")))
        names = {"id": f"{folder.resolve().name}-{started}", "name": folder.resolve().name}
        config = {**facts.get("config", {}), "recipe": facts.get("recipe")}
        project = os.environ.get("WANDB_PROJECT", "neuropil")
        self._run: Any = import_module("wandb").init(project=project, resume="allow", config=config, **names)

    def log(self, number: Number) -> None:
        """A point of a curve over its own step."""
        parts = [str(number.who[name]) for name in ("learner", "stage") if name in number.who]
        self._run.log({"/".join([*parts, number.name]): number.value, "step": number.step})

    def close(self) -> None:
        """End the run there."""
        self._run.finish()


SINKS: dict[
    str, tuple[Callable[[Path, Mapping[str, Any]], Sink], str]
] = {  # and its package, also the name of our extra
    "csv": (CsvFile, ""),
    "tensorboard": (TensorBoard, "tensorboard"),
    "wandb": (WandB, "wandb"),
}


class Sinks:
    """Those who are told of the numbers of a run."""

    def __init__(self) -> None:
        self._all: list[Sink] = []

    def add(
        self, sinks: Sequence[str | Sink], folder: Path, facts: Mapping[str, Any], rows: Iterable[Row | None]
    ) -> None:
        """Begin to tell these: csv, tensorboard, wandb, or a tracker of one's own.

        One that fails is left out from then on, with a warning; the run goes on.

        Args:
            sinks: names, or objects.
            folder: of the run.
            facts: what run.json says of it.
            rows: those that the run has already; None for a damaged one.

        Raises:
            Refusal: a name is not known, or the package that it needs is not installed.
        """
        check_sinks([one for one in sinks if isinstance(one, str)])
        new = [SINKS[one][0](folder, facts) if isinstance(one, str) else one for one in dict.fromkeys(sinks)]
        late = [one for one in new if getattr(one, "again", True)]
        told = list(late)
        for row in rows if told else ():
            _tell(row.columns() if row else {}, told)
        self._all += [one for one in new if one in told or one not in late]

    def tell(self, columns: Mapping[str, Any]) -> None:
        """Hand the numbers of a row on."""
        if self._all:
            _tell(columns, self._all)

    def close(self) -> None:
        """No more will come."""
        while self._all:
            with suppress(Exception):
                self._all.pop().close()


def _tell(columns: Mapping[str, Any], sinks: list[Sink]) -> None:
    """Hand the numbers of a row on; who fails is told no more."""
    for number in numbers(columns):
        for sink in list(sinks):
            try:
                sink.log(number)
            except Exception as error:  # code of others, a network, a disk
                sinks.remove(sink)
                said = f"{type(sink).__name__} is told no more: {type(error).__name__}: {error}"
                warnings.warn(said, stacklevel=2)


def check_sinks(names: Sequence[str]) -> None:
    """Refuse names that are not known, and those whose package is not installed."""
    for name in names:
        if name not in SINKS:
            raise unknown("tracker", name, SINKS)
        if package := SINKS[name][1]:
            optional(package, f"--track {name}", extra=package)
