"""Learning with few bits for each weight: rounded after every step, stochastically or to the nearest level.

A step is often smaller than half the distance of two levels. Rounded to the nearest level, such a step is lost, and
learning stalls. Stochastic rounding takes it rarely, so that the mean is right. Beside both stands rounding once, after
learning. Each layer keeps one outermost level while it learns. It is the one with the least squared error for the
weights that the same method learns in float32, with the same seed. Biases, activity and what optimisers remember stay
float32. Learning rates stay as they are, too.

Measured: digits, n = 5, 95 % interval, points above float32: 4 bits stochastic, then 2 bits stochastic and after
learning. Association -0.5 +- 0.9, -3.6 +- 1.7, -12.5 +- 3.4; Krotov-Hopfield -1.5 +- 0.8, -4.8 +- 1.3, -8.3 +- 1.4;
mSTDP -1.3 +- 0.7, -3.3 +- 1.6, -7.4 +- 6.6; backprop -0.7 +- 0.5, -0.6 +- 0.6, -1.8 +- 0.8. At the nearest level none
has more than 41.4 %, see docs/results/robustness.md.

Group: robustness. Minutes: 4. Data: any.

Try: neuropil run few_bits --seeds 5 --out runs/few_bits
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal

import torch
from torch import Generator, Tensor

from neuropil.data import Split
from neuropil.errors import at_least, require
from neuropil.evaluate import accuracy
from neuropil.evaluate.robustness.precision import rounded, with_bits
from neuropil.experiments.comparison import Build, Method, attempted, data_splits
from neuropil.experiments.methods import builders
from neuropil.experiments.own_data import title_of
from neuropil.experiments.settings import DataSettings
from neuropil.models.training.rounding import few_bits, weights_seen
from neuropil.runs import ResultRow, Run, TaggedTracker

Way = Literal["stochastic", "nearest", "after"]
WORDS: dict[Way, str] = {
    "stochastic": "stochastic rounding",
    "nearest": "nearest level",
    "after": "rounded after learning",
}


@dataclass(frozen=True)
class Config(DataSettings):
    """Methods and their settings are those of `neuropil compare`."""

    data: str = "digits"  # data set, by name (`neuropil data list`), or data of your own: a path
    # methods to run, by short name, or ./mine.py
    learners: tuple[str, ...] = ("krotov_hopfield", "association", "mstdp", "backprop", "linear")
    units: int = 300  # hidden units of every method that has them
    bits: tuple[int, ...] = (8, 4, 2)  # bits of a weight, from 2 to 8
    # when weights are rounded: stochastically or to the nearest level after every step, or once after learning
    rounding: tuple[Way, ...] = ("stochastic", "nearest", "after")
    threads: int = 1  # threads of the CPU; 0 for as many as torch takes by itself

    def __post_init__(self) -> None:
        at_least(10, self, "units")
        require(all(2 <= few <= 8 for few in self.bits), f"setting 'bits' needs numbers from 2 to 8, got {self.bits}.")


def main(config: Config, run: Run) -> None:
    """One seed: every method in float32, then with every number of bits and every way to round."""
    train, test = data_splits(config.data, config.n_train, config.seed, device=config.device)
    run.update_metadata(data={title_of(config.data): {"train": train.checksum(), "test": test.checksum()}})
    builds = list(builders(config.learners, config.units).items())
    for index in run.loop("learners", len(builds)):
        name, build = builds[index]
        rng, score = seeded(config), partial(log_score, train=train, test=test)
        tried = partial(attempted, run=run, data=title_of(config.data), seed=config.seed, name=name)
        found = tried(build, train, rng, partial(in_float32, train=train, rng=rng, score=score))
        if found is None:
            continue
        method, (weights, full) = found
        for bits, way in product(config.bits, config.rounding):
            made = partial(with_few_bits, config, bits, way, outermost(weights, bits), method, build)
            tried(made, train, rng, partial(score, bits=bits, way=way, full=full))


def seeded(config: Config) -> Generator:
    """The same first weights and order of examples for all."""
    return torch.Generator().manual_seed(config.seed)


def in_float32(
    method: Method, tracker: TaggedTracker, *, train: Split, rng: Generator, score: Callable[..., float]
) -> tuple[list[Tensor], float]:
    """The weights that learned, in the order of their first steps, and the accuracy."""
    with weights_seen() as weights:
        method.learner.fit(train, rng=rng)
    require(len(weights) > 0, f"no optimiser takes a step of the weights of {method.name}.")
    return weights, score(method, tracker)


def outermost(weights: Sequence[Tensor], bits: int) -> list[float]:
    """The outermost level of each weight: that of the least squared error."""
    return [rounded(weight.detach(), bits).abs().max().item() for weight in weights]


def with_few_bits(
    config: Config, bits: int, way: Way, largest: Sequence[float], whole: Method, build: Build,
    train: Split, _: Generator,
) -> Method:  # fmt: skip
    """The method after it learned with few bits; or `whole`, which has learned, rounded."""
    name = f"{whole.name}, {bits} bits, {WORDS[way]}"
    if way == "after":
        return replace(whole, name=name, learner=with_bits(whole.learner, bits))
    rng = seeded(config)
    method = replace(build(train, rng), name=name)
    with few_bits(bits, largest, seeded(config) if way == "stochastic" else None):
        method.learner.fit(train, rng=rng)
    return method


def log_score(
    method: Method, tracker: TaggedTracker, *, train: Split, test: Split, bits: int = 32, way: str = "", full: float = 0
) -> float:
    """Log the accuracy on the test examples, and how far it is above that in float32."""
    right = accuracy(method.learner, test)
    more = {"bits": bits, "rounding": way, "above_float32": right - full} if way else {"bits": bits}
    tracker.log(ResultRow(accuracy=right, n_train=len(train), metrics=more))
    return right
