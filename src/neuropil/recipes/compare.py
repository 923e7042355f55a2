"""Every learner beside its twins on one data set: accuracy with intervals, labels needed, cost, features, alarms.

Try: neuropil compare --data digits --seeds 5 --out demo
"""

from dataclasses import dataclass
from functools import partial

import torch

from neuropil.checks import require
from neuropil.data import load, subset
from neuropil.recipes._twins import side_by_side
from neuropil.recipes.entrants import builders
from neuropil.runs import Run


@dataclass(frozen=True)
class Config:
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
    """files of recipes/entrants to run, all if none is named"""
    n_train: int = 0
    """use only that many training examples; 0 for all"""
    threads: int = 1
    """torch threads; small networks are fastest with one, data sets like MNIST use two and more"""

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f"setting 'seeds' must be at least 1, got {self.seeds}.")
        require(self.threads >= 1, f"setting 'threads' must be at least 1, got {self.threads}.")
        require(self.units >= 10, f"setting 'units' must be at least 10, got {self.units}.")


def main(config: Config, run: Run) -> None:
    """Seeds outside, learners inside; every fit can be resumed."""
    torch.set_num_threads(config.threads)
    builds = [partial(build, units=config.units) for build in builders(config.learners)]
    checksums = {}
    for step in run.loop("seeds", config.seeds):
        seed = config.seed + step
        train, test = load(config.data, seed=seed)
        if config.n_train:
            train = subset(train, config.n_train, seed)
        checksums[f"seed {seed}"] = {"train": train.checksum(), "test": test.checksum()}
        run.note(data={config.data: checksums})
        draw = step == 0
        side_by_side(builds, train, test, data=config.data, seed=seed, labels=config.labels, draw=draw, run=run)
