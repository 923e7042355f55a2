"""The robustness suite on the models of a finished run: attacks, checks for masking, corruptions, damage.

Nothing is trained: the models come back from the files that the run left. A model that does not classify as many test
examples correctly as the run wrote down is refused.

Group: robustness. Minutes: 2.

Try: neuropil attack DIR
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from neuropil.data import Split
from neuropil.errors import require, unknown
from neuropil.evaluate import accuracy, majority_rate
from neuropil.experiments.comparison import NOT_SAVED, Method, Origin
from neuropil.experiments.robustness import Attacks, attack_all, loaded
from neuropil.loading import saved_models, slug
from neuropil.models.saving import Header
from neuropil.runs import FailedRow, ResultRow, Run, WarningRow, load_recipe_file, read, read_rows
from neuropil.runs.files import METRICS, RUN


@dataclass(frozen=True)
class Config(Attacks):
    """Which run, and how hard."""

    of: str = ""  # folder of a finished run, or of several; or the name of a network of the zoo
    tasks: tuple[str, ...] = ()  # of a run of several tasks attack only these ("mnist 4 or 9"), all if none is named
    learners: tuple[str, ...] = ()  # attack only these, by short name; ./mine.py has the classes of your own model
    data: str = ""  # where the test examples come from, if not from where the run took them: a name, or a path


def main(config: Config, run: Run) -> None:
    """Runs, tasks and seeds, one after the other; every attack can be resumed."""
    require(bool(config.of), "setting 'of' is needed: the folder of the run whose models are attacked.")
    for file in (Path(name) for name in config.learners if name.endswith(".py")):
        load_recipe_file(file)  # so that its classes are known
    headers = [header for header in saved_models(config.of) if is_named(header, config.learners)]
    groups = chosen(headers, config.tasks)
    for folder in {folder for folder in (run_of(group[0]) for group in groups) if folder}:
        run.update_metadata(attacked={str(folder): read(folder).facts.get("data", {})})
    for step in run.loop("tasks and seeds", len(groups)):
        about = groups[step][0].about
        test, methods = test_of(groups[step][0], config), loaded(groups[step], config.device)
        first = all(group[0].about["data"] != about["data"] for group in groups[:step])
        for method, header in zip(methods, groups[step]):
            if first and method.about:
                method.tracker(run, about["data"], about["seed"]).log(method.row())
            verify_accuracy(method, header, test, run)
        log_failures(groups[step][0], config.learners, run)
        attack_all(methods, test, config, data=about["data"], seed=about["seed"], run=run, pictures=first)


def run_of(header: Header) -> Path | None:
    """The folder of the run that left a model; None for a model of the zoo, or in a file of its own."""
    folder = header.path.parents[1]
    return folder if (folder / RUN).exists() else None


def is_named(header: Header, learners: Sequence[str]) -> bool:
    """Whether the model is one of `learners`, by its short name; all are if there are none."""
    names = {slug(Path(name).stem) for name in learners}
    return not names or bool(names & {slug(header.about["name"]), slug(header.about.get("short", ""))})


def log_failures(header: Header, learners: Sequence[str], run: Run) -> None:
    """Repeat why others have no model of the task and the seed of this one, unless only some are attacked."""
    about, folder = header.about, run_of(header)
    rows = read_rows(folder / METRICS) if folder and not learners else ()
    told = [row for row in rows if isinstance(row, FailedRow | WarningRow)]
    for row in told:
        absent = isinstance(row, FailedRow) or row.message.startswith(NOT_SAVED)
        if absent and (row.data, row.seed) == (about["data"], about["seed"]):
            run.log(row)


def chosen(headers: Sequence[Header], tasks: tuple[str, ...]) -> list[list[Header]]:
    """The models that learned the same task with the same seed in the same run, of the named tasks or of all."""
    require(
        bool(headers), "these runs left no models, or none of these names; a run of another version cannot be attacked."
    )
    known = {header.about["data"] for header in headers}
    for name in tasks:
        if name not in known:
            raise unknown("task", name, known)
    same: Any = lambda header: (header.path.parent, header.about["seed"], header.about["data"])
    wanted = [header for header in headers if header.about["data"] in (tasks or known)]
    return [list(group) for _, group in groupby(wanted, same)]


def test_of(header: Header, config: Config) -> Split:
    """The test examples of a model. A file of code is run only if the settings name it."""
    origin = header.about["origin"]
    said = origin is not None or bool(config.data)
    require(said, f"{header.path} does not say where its test examples come from; say so with --data.")
    known = Origin(**origin) if origin else Origin("")
    code = known.data_set.endswith(".py") and not config.data
    require(not code, f"the test examples of {header.path} come from {known.data_set}; run it with --data FILE.py.")
    return known._replace(data_set=config.data or known.data_set).test(header.about["seed"], config.device)


def verify_accuracy(method: Method, header: Header, test: Split, run: Run) -> None:
    """Log the accuracy of a loaded model, which must be the one that its run wrote down."""
    found, about = accuracy(method.learner, test), header.about
    said = f"{found:.2%} correctly, its run wrote {about['accuracy']:.2%}; changed code or data?"
    require(abs(found - about["accuracy"]) < 0.005, f"{header.path} classifies {said}")
    row = ResultRow(n_train=about["n_train"], accuracy=found, majority_rate=majority_rate(test))
    method.tracker(run, about["data"], about["seed"]).log(row)
