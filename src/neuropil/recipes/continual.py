"""Learning without end: tasks come one after the other, once, and do not come back; local heads beside backprop.

The classes come two at a time, in order, in batches of ten or of one. No example is kept, and at the test no task is
named: all classes compete. Features are frozen before the stream begins, or learn on; heads are local, or not.

Measured: split MNIST, 5,000 training images, n = 5, 95 % interval, test accuracy after the last task. Lateral
inhibition on local features 97.3 +- 0.2 %, on random ones 96.9 +- 0.2, least squares on these 96.9 +- 0.1, class
means 87.2 +- 0.5. Backprop 73.0 +- 1.1, with elastic weight consolidation 73.1 +- 1.5, association rule 29.0 +- 3.7.
Backprop with steps large enough to learn well has 19.4 +- 0.2, and 96.0 +- 0.4 in random order. Split Fashion-MNIST:
85.9 +- 0.3, 85.0 +- 0.1 and 84.7 +- 0.3 for the first three. Permuted MNIST, five tasks: lateral inhibition on random
features 87.6 +- 0.2, on local ones 83.2 +- 0.8, backprop 85.8 +- 1.3.

Group: start here. Minutes: 10. Data: mnist, fashion_mnist, cifar10, digits.

Try: neuropil run continual --data mnist --n-train 5000 --seeds 5 --out runs/continual_mnist

Try: neuropil run continual --data digits --learners random_lateral local_lateral backprop --batch 1 --seeds 5
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.evaluate import accuracy
from neuropil.experiments.comparison import Method, Origin, data_splits, save_learned, select
from neuropil.experiments.continual.features import FEATURES, Architecture
from neuropil.experiments.continual.learners import USUAL, Learner, Rates, learners, on_images
from neuropil.experiments.continual.protocol import in_random_order, log_order, stream
from neuropil.experiments.continual.tasks import Task, class_tasks, permuted_tasks
from neuropil.experiments.own_data import title_of
from neuropil.experiments.settings import DataSettings
from neuropil.models import OnlineModel
from neuropil.models.training.readout import featurise
from neuropil.runs import MethodRow, Run, TaggedTracker

CONVOLUTIONS: Mapping[str, Architecture] = {
    "mnist": Architecture(100, kernel=9, stride=2, grid=4),
    "fashion_mnist": Architecture(100, kernel=7, stride=2, grid=4),
    "cifar10": Architecture(200, kernel=6, stride=2, grid=2, maximum=False, whitening_floor=0.1),
}
"""What is below the heads, for data sets of images that are large enough."""


@dataclass(frozen=True)
class Config(DataSettings):
    """Chosen on images held out of the training images; see docs/results/continual.md."""

    data: str = "mnist"  # data set: mnist, fashion_mnist, cifar10, digits; or data of your own, by path
    # learners by short name: features and head, such as local_lateral, or association, backprop, ewc; 19 if none
    learners: tuple[str, ...] = ()
    batch: int = 10  # examples in a step; 1 for one at a time
    # what a task is: some classes, or all classes with the pixels in an order of its own
    tasks: Literal["classes", "permutations"] = "classes"
    classes_per_task: int = 2  # classes in a task
    n_permutations: int = 5  # tasks, where tasks are permutations
    joint: bool = True  # also let learners for which order matters learn the same examples in random order
    dense: bool = False  # a dense layer of features on images, too; it is used anyway where kernels do not fit
    units: int = 1000  # units of a dense layer
    kernels: int = 0  # kernels of a convolution; 0 for as many as were chosen for the data set
    per_class: int = 100  # units of each class, of the head that has prototypes
    ridge: float = 0.1  # ridge of least squares, in units of a sum of squares of features
    iterations: int = 100  # sweeps of settling, of the head with lateral inhibition
    delta_lr: float = 0.001  # learning rate of the delta rule
    association_lr: float = 0.01  # learning rate of the association rule
    stream_lr: float = 0.0001  # learning rate of features that learn on
    backprop_lr: float = 0.0005  # learning rate of backprop alone
    ewc_lr: float = 0.005  # learning rate of backprop with elastic weight consolidation
    consolidation: float = 5.0  # strength of elastic weight consolidation

    def __post_init__(self) -> None:
        at_least(1, self, "batch", "classes_per_task", "units", "per_class", "iterations")
        at_least(2, self, "n_permutations")

    def architecture(self) -> Architecture:
        """What is below the heads."""
        chosen = CONVOLUTIONS.get(self.data)
        if chosen is None or self.dense or self.tasks == "permutations":
            return Architecture(self.units)
        return Architecture(**{**vars(chosen), "units": self.kernels or chosen.units})

    def shown(self) -> str:
        """What tables call the data."""
        return title_of(self.data) + (", permuted" if self.tasks == "permutations" else "")

    def rates(self) -> Rates:
        """The settings of heads and networks."""
        return Rates(
            per_class=self.per_class,
            ridge=self.ridge,
            iterations=self.iterations,
            delta_lr=self.delta_lr,
            association_lr=self.association_lr,
            stream_lr=self.stream_lr,
            backprop_lr=self.backprop_lr,
            ewc_lr=self.ewc_lr,
            consolidation=self.consolidation,
        )


def main(config: Config, run: Run) -> None:
    """One seed: all learners in turn, each with the same tasks, every test set read after each task."""
    how = config.architecture()
    chosen = select(learners(how, config.rates()), config.learners or USUAL)
    ordered = sorted(chosen.values(), key=lambda one: list(FEATURES).index(one.features) if one.features else -1)
    train, test = data_splits(config.data, config.n_train, config.seed, device=config.device)
    run.update_metadata(data={title_of(config.data): {"train": train.checksum(), "test": test.checksum()}})
    tasks = tasks_of(config, train, test)
    seen: dict[str, tuple[nn.Sequential, list[Task]]] = {}  # frozen features of the kind that comes now, and the tasks
    for index in run.loop("learners", len(ordered)):
        learner = ordered[index]
        if learner.features and learner.features not in seen:
            seen = {learner.features: through(learner.features, how, tasks, config.seed)}
        body, shown = seen.get(learner.features, (None, tasks))
        model, reached = one_learner(config, learner, tasks[0].train, shown, run)
        whole = on_images(model, body) if body is not None else model
        short = next(name for name, one in chosen.items() if one is learner)
        keep(config, learner, whole, reached, tasks, {"short": short, "place": index}, run)


def tasks_of(config: Config, train: Split, test: Split) -> list[Task]:
    """The stream."""
    if config.tasks == "permutations":
        return permuted_tasks(train, test, config.n_permutations, config.seed)
    return class_tasks(train, test, config.classes_per_task)


def through(kind: str, how: Architecture, tasks: list[Task], seed: int) -> tuple[nn.Sequential, list[Task]]:
    """(frozen features, all tasks as they show them); they have met the first task's images, and no label."""
    first = Split.unlabelled(tasks[0].train.x, tasks[0].train.classes)
    body = FEATURES[kind](how, first, torch.Generator().manual_seed(seed))
    return body, [Task(featurise(body, task.train), featurise(body, task.test)) for task in tasks]


def one_learner(config: Config, learner: Learner, first: Split, tasks: list[Task], run: Run) -> tuple[Any, float]:
    """The tasks in order, then in random order if that makes a difference: (what learned in order, its accuracy)."""
    tracker = TaggedTracker(run, learner=learner.title, family=learner.family, data=config.shown(), seed=config.seed)
    tracker.log(MethodRow(about=learner.about))
    rng = torch.Generator().manual_seed(config.seed)
    begin = lambda: begun(learner, first, tasks, rng)
    model = begin()
    outcome = stream(model, tasks, batch=config.batch, rng=rng, tracker=tracker)
    joint = outcome.accuracy if learner.joint is False else None
    if config.joint and learner.joint:
        joint = in_random_order(begin(), tasks, batch=config.batch, rng=rng, tracker=tracker)
    log_order(tracker, outcome, joint)
    return model, outcome.accuracy


def keep(
    config: Config, learner: Learner, model: OnlineModel, reached: float, tasks: list[Task],
    facts: Mapping[str, str | int], run: Run,
) -> None:  # fmt: skip
    """Save what learned in order; its accuracy is that of the table, or on the first task where pixels are permuted."""
    if config.tasks == "permutations":
        reached = accuracy(model, tasks[0].test)
    known: dict[str, Any] = {
        "accuracy": reached,
        "n_train": sum(len(task.train) for task in tasks),
        "seed": config.seed,
    }
    known |= {"data": config.shown(), "shape": list(tasks[0].train.x.shape[1:])}
    method = Method(learner.title, learner.family, model, about=learner.about)
    save_learned(method, run, Origin.of(config.data), {**known, **facts})


def begun(learner: Learner, first: Split, tasks: list[Task], rng: Generator) -> OnlineModel:
    """A fresh learner, ready for the stream."""
    made = learner.build(Split.unlabelled(first.x, first.classes), rng)
    extra = {"rng": rng} if learner.features == "" and hasattr(made, "mask") else {}
    return made.begin(tasks[0].train.x, first.classes, **extra)
