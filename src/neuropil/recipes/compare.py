"""Every learner beside its twins on one data set: accuracy with intervals, labels needed, cost, features, alarms.

Try: neuropil compare --data digits --seeds 5 --out demo
"""

from dataclasses import dataclass

import torch

from neuropil.checks import require
from neuropil.data import load, subset
from neuropil.evaluate import examine_units, sample_efficiency, trial
from neuropil.learners import receptive_fields
from neuropil.recipes.entrants import builders
from neuropil.runs import Run
from neuropil.runs.tagged import Tagged


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

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f"setting 'seeds' must be at least 1, got {self.seeds}.")
        require(self.units >= 10, f"setting 'units' must be at least 10, got {self.units}.")


def main(config: Config, run: Run) -> None:
    """Seeds outside, learners inside; every fit can be resumed."""
    builds = list(builders(config.learners).values())
    checksums = {}
    for step in run.loop("seeds", config.seeds):
        seed = config.seed + step
        train, test = load(config.data, seed=seed)
        if config.n_train:
            train = subset(train, config.n_train, seed)
        checksums[f"seed {seed}"] = {"train": train.checksum(), "test": test.checksum()}
        run.note(data={config.data: checksums})
        for index in run.loop("learners", len(builds)):
            rng = torch.Generator().manual_seed(seed)
            entrant = builds[index](train, config.units, rng)
            watch = Tagged(run, learner=entrant.name, family=entrant.family, data=config.data, seed=seed)
            reached = trial(entrant.learner, train, test, rng=rng, watch=watch)
            if step == 0:
                fields = receptive_fields(entrant.learner.network_, train.x.shape[1:])
                run.save(**{f"fields.{entrant.name}": fields})
            if entrant.family == "local":
                body = entrant.learner.body_
                examine_units(body, body.hidden.weight, train, norm=entrant.norm, watch=watch)
            counts = [count for count in config.labels if count < len(train)]
            learn = lambda labelled, entrant=entrant, rng=rng: entrant.learner.fit_labels(labelled, rng=rng)
            for count, right in [*sample_efficiency(learn, train, test, counts, seed=seed), (len(train), reached)]:
                watch.log("labels", n_labels=count, accuracy=right)
