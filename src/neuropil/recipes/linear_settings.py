"""How the settings of the linear baseline were chosen: candidates compared on held-out training examples.

The test set is never read. Candidates differ in learning rate, weight decay, passes, label smoothing, and in whether
inputs are standardised.

Measured: see docs/results/baselines.md.

Group: searches. Minutes: 5. Data: any.

Try: neuropil run linear_settings --data mnist --seeds 3 --out runs/linear_settings
"""

from dataclasses import asdict, dataclass, replace
from math import ceil

from neuropil.data import hold_out
from neuropil.experiments.baselines import linear_classifier
from neuropil.experiments.comparison import Build, data_splits
from neuropil.experiments.selection import Candidate, score_candidates
from neuropil.experiments.settings import DataSettings
from neuropil.models import SupervisedTraining
from neuropil.runs import Run


def many_steps(*chosen: tuple[float, float]) -> list[SupervisedTraining]:
    """At least 1500 steps with each of these learning rates and weight decays."""
    return [SupervisedTraining(lr=lr, weight_decay=decay, min_steps=1500) for lr, decay in chosen]


STANDARDISED = [
    SupervisedTraining(lr=4e-3, weight_decay=0.0),
    SupervisedTraining(lr=1e-3, weight_decay=0.0),
    SupervisedTraining(lr=4e-3, weight_decay=0.0, epochs=10, min_steps=1),
    *many_steps((4e-3, 1e-3), (1e-2, 0.0), (1e-2, 0.1), (1e-3, 0.0), (1e-3, 0.1), (1e-3, 1.0)),
    SupervisedTraining(lr=1e-3, weight_decay=0.0, smoothing=0.1, min_steps=1500),
    *many_steps((3e-4, 0.0)),
]
AS_THEY_ARE = many_steps((1e-2, 1.0), (1e-2, 0.1), (1e-2, 0.0), (3e-2, 0.0), (4e-3, 0.0), (1e-3, 0.0))


@dataclass(frozen=True)
class Config(DataSettings):
    """What to choose settings for."""

    data: str = "mnist"  # data set, by name (`neuropil data list`)
    holdout_fraction: float = 1 / 6  # fraction of the training examples that is held out
    steps_factor: float = 1.0  # scales the fewest steps of every candidate


def main(config: Config, run: Run) -> None:
    """Fit every candidate on the rest, score it on the held-out examples."""
    train, _ = data_splits(config.data, config.n_train, config.seed, device=config.device)
    rest, held = hold_out(train, config.holdout_fraction, config.seed)
    candidates = [
        Candidate("standardised" if standardise else "as they are", changes(training), build(training, standardise))
        for standardise, trainings in ((True, STANDARDISED), (False, AS_THEY_ARE))
        for training in (replace(one, min_steps=ceil(one.min_steps * config.steps_factor)) for one in trainings)
    ]
    score_candidates(candidates, rest, held, seed=config.seed, run=run)


def build(training: SupervisedTraining, standardise: bool) -> Build:
    """A candidate, as the comparison makes its methods."""
    return lambda train, rng: linear_classifier("linear", training, standardise=standardise)


def changes(training: SupervisedTraining) -> dict[str, float]:
    """The settings in which the candidates differ."""
    names = ("lr", "weight_decay", "smoothing", "epochs", "min_steps")
    return {name: asdict(training)[name] for name in names}
