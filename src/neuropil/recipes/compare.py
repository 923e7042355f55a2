"""All methods and their baselines on one data set: accuracy with intervals, labels needed, cost, features, warnings.

Group: start here. Minutes: 8. Data: any.

Try: neuropil compare --data digits --seeds 5 --out demo
"""

from dataclasses import dataclass
from functools import partial

from neuropil.errors import at_least
from neuropil.experiments.comparison import Comparison, Origin, data_splits, run_methods
from neuropil.experiments.methods import builders
from neuropil.experiments.robustness import Attacks, attack_all, loaded
from neuropil.loading import models_of
from neuropil.runs import Run


@dataclass(frozen=True)
class Config(Attacks):
    """Settings of the comparison; the learners' own settings are in their files."""

    data: str = "digits"
    """data set, by name (`neuropil data list`)"""
    seeds: int = 5
    """independent repetitions; each has its own weights, order of examples and, without an official test set, split"""
    seed: int = 0
    """first seed"""
    units: int = 300
    """hidden units of every learner that has them"""
    labels: tuple[int, ...] = (20, 50, 100, 300)
    """numbers of labels for the sample-efficiency curves; those above the training set are left out"""
    learners: tuple[str, ...] = ()
    """methods to run, by the names of their files; all if none is given"""
    n_train: int = 0
    """use only that many training examples; 0 for all"""
    attack: bool = False
    """whether to attack, corrupt and damage every learner after it has learned, and put that into the report"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, self, "seeds")
        at_least(10, self, "units")


def comparison(config: Config) -> Comparison:
    """Who takes part, on what."""
    builds = [partial(build, units=config.units) for build in builders(config.learners)]
    seeds = range(config.seed, config.seed + config.seeds)
    return Comparison(
        builds,
        config.data,
        seeds,
        partial(data_splits, config.data, config.n_train, device=config.device),
        origin=Origin(config.data),
    )


def main(config: Config, run: Run) -> None:
    """Seeds outside, learners inside; every fit can be resumed."""
    plan, checksums = comparison(config), {}
    for step in run.loop("seeds", config.seeds):
        seed, first = plan.seeds[step], step == 0
        train, test = plan.splits(seed)
        checksums[f"seed {seed}"] = {"train": train.checksum(), "test": test.checksum()}
        run.update_metadata(data={config.data: checksums})
        run_methods(
            plan.builds,
            train,
            test,
            data=config.data,
            seed=seed,
            labels=config.labels,
            pictures=first,
            run=run,
            origin=plan.origin,
        )
        if config.attack:
            methods = loaded(models_of(run.folder, seed=seed), config.device)
            attack_all(methods, test, config, data=config.data, seed=seed, run=run)
