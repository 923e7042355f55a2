"""The robustness suite in recipes: its settings, trained models from a run, and seeds that are attacked in turn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuropil.data import Split, subset
from neuropil.errors import Refusal, at_least
from neuropil.evaluate.robustness.suite import Suite, robustness
from neuropil.evaluate.robustness.victim import check_repeats, victim_of
from neuropil.experiments.comparison import Comparison, Method, run_methods
from neuropil.experiments.gallery import log_adversarial
from neuropil.experiments.machine import Machine
from neuropil.loading import models_of
from neuropil.models.saving import Header, read_model
from neuropil.runs import Run, TaggedTracker, WarningRow


@dataclass(frozen=True)
class Attacks(Suite, Machine):
    """How hard learners are attacked, and on how many examples."""

    n_test: int = 1000  # attack only that many test examples, a stratified subset for each seed; 0 for all
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself

    def __post_init__(self) -> None:
        at_least(0, self, "n_test")
        super().__post_init__()


def loaded(headers: Iterable[Header], device: str) -> list[Method]:
    """The models of these files, on `device`."""
    return [
        Method(one.about["name"], one.about["family"], read_model(one.path, device), about=one.about.get("about", ""))
        for one in headers
    ]


def attack_all(
    methods: Sequence[Method], test: Split, attacks: Attacks, *, data: str, seed: int, run: Run, pictures: bool = True
) -> None:
    """The whole suite on every method, on the same test examples; transfer attacks come from the baselines.

    With `pictures` some adversarial images in Linf, of the middle budget, are kept.
    """
    methods = [one for one in methods if _can_be_attacked(one, test, one.tracker(run, data, seed))]
    baselines = sorted((one.name for one in methods if one.family == "baseline"), key=lambda name: name != "backprop")
    some = subset(test, attacks.n_test, seed) if 0 < attacks.n_test < len(test) else test
    trackers = {one.name: one.tracker(run, data, seed) for one in methods}
    learners = {one.name: one.learner for one in methods}
    robustness(learners, some, trackers=trackers, baselines=baselines, suite=attacks, seed=seed)
    if attacks.linf and pictures:
        for name, learner in learners.items():
            log_adversarial(learner, some, trackers[name], attacks)


def _can_be_attacked(method: Method, test: Split, tracker: TaggedTracker) -> bool:
    """Whether attacks can ask it what they need; a warning says what it lacks."""
    try:
        check_repeats(victim_of(method.learner, test.classes), test)
    except Refusal as refusal:
        tracker.log(WarningRow(message=f"it is not attacked: {refusal}"))
        return False
    return True


def run_seeds(plan: Comparison, labels: Sequence[int], run: Run, *, attacks: Attacks | None = None) -> None:
    """All seeds of `plan`, one after the other: train and score all methods, and attack them if `attacks` are given.

    Args:
        plan: methods, data and seeds.
        labels: numbers of labels for the sample-efficiency curves; those not below the training set are left out.
        run: takes the rows; every fit and every attack in it can be resumed.
        attacks: how hard the trained models are attacked; None for not at all.
    """
    checksums = {}
    for step in run.loop("seeds", len(plan.seeds)):
        seed = plan.seeds[step]
        train, test = plan.splits(seed)
        checksums[f"seed {seed}"] = {"train": train.checksum(), "test": test.checksum()}
        run.update_metadata(data={plan.data: checksums})
        if attacks:
            attacks.check(test)
        run_methods(plan, train, test, seed=seed, labels=labels, run=run)
        if attacks:
            methods = loaded(models_of(run.folder, seed=seed), attacks.device)
            attack_all(methods, test, attacks, data=plan.data, seed=seed, run=run, pictures=not step)
