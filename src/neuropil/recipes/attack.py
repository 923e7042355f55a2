"""The robustness suite on the models of a finished run: attacks, checks for masking, corruptions, damage.

Nothing is trained: the models come back from the files that the run left. A model that does not classify as many test
examples correctly as the run wrote down is refused.

Group: robustness. Minutes: 2.

Try: neuropil attack DIR
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from neuropil.data import Split
from neuropil.errors import require, unknown
from neuropil.evaluate import accuracy, majority_rate
from neuropil.experiments.comparison import Method, Origin
from neuropil.experiments.robustness import Attacks, attack_all, loaded
from neuropil.loading import saved_models
from neuropil.models.saving import Header
from neuropil.runs import ResultRow, Run, read


@dataclass(frozen=True)
class Config(Attacks):
    """Which run, and how hard."""

    of: str = ""  # folder of a finished run, or one that holds folders of runs with different seeds
    tasks: tuple[str, ...] = ()  # of a run of several tasks attack only these ("mnist 4 or 9"), all if none is named


def main(config: Config, run: Run) -> None:
    """Runs, tasks and seeds, one after the other; every attack can be resumed."""
    require(bool(config.of), "setting 'of' is needed: the folder of the run whose models are attacked.")
    groups = chosen(saved_models(config.of), config.tasks)
    for folder in {group[0].path.parents[1] for group in groups}:
        run.update_metadata(attacked={str(folder): read(folder).facts.get("data", {})})
    for step in run.loop("tasks and seeds", len(groups)):
        about = groups[step][0].about
        test, methods = test_of(groups[step][0], config.device), loaded(groups[step], config.device)
        for method, header in zip(methods, groups[step]):
            verify_accuracy(method, header, test, run)
        attack_all(methods, test, config, data=about["data"], seed=about["seed"], run=run)


def chosen(headers: Sequence[Header], tasks: tuple[str, ...]) -> list[list[Header]]:
    """The models that learned the same task with the same seed in the same run, of the named tasks or of all."""
    require(bool(headers), "these runs left no models; a run of another version cannot be attacked.")
    known = {header.about["data"] for header in headers}
    for name in tasks:
        if name not in known:
            raise unknown("task", name, known)
    same: Any = lambda header: (header.path.parent, header.about["seed"], header.about["data"])
    wanted = [header for header in headers if header.about["data"] in (tasks or known)]
    return [list(group) for _, group in groupby(wanted, same)]


def test_of(header: Header, device: str) -> Split:
    """The test examples of a model."""
    origin = header.about["origin"]
    lacks = f"{header.path} does not say from which data set its test examples come; it is not attacked."
    require(origin is not None, lacks)
    return Origin(**origin).test(header.about["seed"], device)


def verify_accuracy(method: Method, header: Header, test: Split, run: Run) -> None:
    """Log the accuracy of a loaded model, which must be the one that its run wrote down."""
    found, about = accuracy(method.learner, test), header.about
    said = f"{found:.2%} correctly, its run wrote {about['accuracy']:.2%}; changed code or data?"
    require(abs(found - about["accuracy"]) < 0.005, f"{header.path} classifies {said}")
    row = ResultRow(n_train=about["n_train"], accuracy=found, majority_rate=majority_rate(test))
    method.tracker(run, about["data"], about["seed"]).log(row)
