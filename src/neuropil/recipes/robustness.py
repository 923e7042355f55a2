"""Every learner and its baselines under attack, corruption and damage, with checks that say which curves are void.

Measured: digits, n = 5, 95 % interval, what withstands all attacks of Linf 0.1: hard WTA 78.2 +- 3.0 %, Krotov-Hopfield
69.8 +- 4.2, plain linear 50.7 +- 2.2, backprop 30.7 +- 3.0; see docs/results/robustness.md.

Group: robustness. Minutes: 5. Data: any.

Try: neuropil run robustness --data digits --seeds 5 --out runs/robustness_digits
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
    seeds: int = 3
    """independent repetitions"""
    seed: int = 0
    """first seed"""
    units: int = 300
    """hidden units of every learner that has them"""
    learners: tuple[str, ...] = ()
    """files of recipes/entrants to run, all if none is named"""
    n_train: int = 0
    """use only that many training examples; 0 for all"""

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
    """Seeds outside; in each, all learners learn, and then all are attacked as the run kept them."""
    plan = comparison(config)
    for step in run.loop("seeds", config.seeds):
        seed = plan.seeds[step]
        train, test = plan.splits(seed)
        run.update_metadata(data={config.data: {f"seed {seed}": {"train": train.checksum(), "test": test.checksum()}}})
        run_methods(
            plan.builds, train, test, data=config.data, seed=seed, labels=(), draw=False, run=run, origin=plan.origin
        )
        methods = loaded(models_of(run.folder, seed=seed), config.device)
        attack_all(methods, test, config, data=config.data, seed=seed, run=run)
