"""The loop that every comparison shares: learners side by side on the same data, the test set read once by each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator

from neuropil.checks import check_device
from neuropil.data import Split, load, subset
from neuropil.evaluate import examine_units, sample_efficiency, trial
from neuropil.learners import receptive_fields
from neuropil.recipes._spikes import draw_spikes
from neuropil.runs import Keeper, Run, Tagged, kept_path

JUDGED = 1000  # images on which the units of a convolution compete once more, at every position


@dataclass(frozen=True)
class Entrant:
    """A learner that has not learned yet, and how the report should treat it.

    Attributes:
        name: in plain words, as it stands in tables.
        family: "local" for local learning, "events" for spiking networks trained by exact gradients, "twin" for what
            they are measured against.
        learner: has ``fit``, ``fit_labels`` and ``predict``, and after a fit ``network_``, ``body_`` if it is local,
            and all that `draw_spikes` asks for if it is of the events.
        norm: the p of the fixed point sum |w|^p = 1 that its rule has, None if it has none.
        competes: whether its units compete, so that one that never wins is a waste.
        layers: of a local learner, the convolutions whose units the report judges; none for the dense ``hidden``.
    """

    name: str
    family: str
    learner: Any
    norm: float | None = None
    competes: bool = True
    layers: tuple[str, ...] = ()


Build = Callable[[Split, Generator], Entrant]
After = Callable[[Entrant, Split, Split, Tagged], None]  # what a recipe looks at in a fitted learner: train, test, log


class Comparison(NamedTuple):
    """Who is compared on what: all that is needed to do a comparison, or to bring its learners back.

    Attributes:
        builds: make a fresh learner from the training data and a generator.
        data: name of the data set.
        seeds: one after the other.
        splits: maps a seed to (train, test).
        task: by which a run of several tasks keeps what was learned at this one.
    """

    builds: Sequence[Build]
    data: str
    seeds: Sequence[int]
    splits: Callable[[int], tuple[Split, Split]]
    task: str = ""


def data_splits(data: str, n_train: int, seed: int, *, device: str = "cpu") -> tuple[Split, Split]:
    """(train, test) of the data set `data`, with `n_train` training examples, or all if that is 0, on `device`."""
    check_device(device)
    train, test = load(data, seed=seed)
    return (subset(train, n_train, seed) if n_train else train).to(device), test.to(device)


def of_one_seed(builds: Sequence[Build], data: str, seed: int, n_train: int, *, device: str = "cpu") -> Comparison:
    """All of `builds` on the data set `data`, as recipes with a setting ``seed`` compare them; see `data_splits`."""
    return Comparison(builds, data, [seed], partial(data_splits, data, n_train, device=device))


def beside_twins(plan: Comparison, labels: Sequence[int], run: Run, *, after: After | None = None) -> None:
    """Load the data of the one seed of `plan`, and run all learners on them, with pictures; see `side_by_side`."""
    (seed,) = plan.seeds
    train, test = plan.splits(seed)
    run.note(data={plan.data: {"train": train.checksum(), "test": test.checksum()}})
    side_by_side(plan.builds, train, test, data=plan.data, seed=seed, labels=labels, draw=True, run=run, after=after)


def side_by_side(
    builds: Sequence[Build],
    train: Split,
    test: Split,
    *,
    data: str,
    seed: int,
    labels: Sequence[int],
    draw: bool,
    run: Run,
    after: After | None = None,
) -> None:
    """Fit each learner on `train`, read `test` once, then ask what fewer labels would have given; log everything.

    Args:
        builds: make a fresh learner from the training data and a generator; every learner gets its own, from `seed`.
        train, test: what to learn from, and what to read once.
        data, seed: columns of every row.
        labels: numbers of labels for the sample-efficiency curves; those not below the training set are left out.
        draw: whether to keep what the report draws of a learner, see `keep_pictures`.
        run: where it is written; every fit in it can be resumed.
        after: called when a learner has been tried.
    """
    for index in run.loop("learners", len(builds)):
        rng = torch.Generator().manual_seed(seed)
        entrant = builds[index](train, rng)
        learner = entrant.learner
        watch = Tagged(run, learner=entrant.name, family=entrant.family, data=data, seed=seed)
        keeper = Keeper(watch)
        accuracy = trial(learner, train, test, rng=rng, watch=keeper)
        keeper.keep(kept_path(run.folder, entrant.name, seed))
        if draw:
            keep_pictures(entrant, train, watch)
        if after is not None:
            after(entrant, train, test, watch)
        if entrant.family == "local":
            judge_units(entrant, train, watch)
        counts = [count for count in labels if count < len(train)]
        again = partial(learner.fit_labels, rng=rng)
        for count, right in [*sample_efficiency(again, train, test, counts, seed=seed), (len(train), accuracy)]:
            watch.log("labels", n_labels=count, accuracy=right)


def judge_units(entrant: Entrant, train: Split, watch: Tagged) -> None:
    """Log where the units of a local learner stand: of convolutions on at most `JUDGED` images, a sample at a time."""
    body, norm, competes = entrant.learner.body_, entrant.norm, entrant.competes
    names = [name for name, _ in body.named_children()]
    for layer in entrant.layers:
        drive, weight = body[: names.index(layer) + 1], body.get_parameter(f"{layer}.weight").flatten(1)
        few = train[:JUDGED]
        examine_units(drive, weight, few, layer=layer, batch=20, norm=norm, competes=competes, watch=watch)
    if not entrant.layers:
        weight = body.get_parameter("hidden.weight")
        examine_units(body, weight, train, norm=norm, competes=competes, watch=watch)


def keep_pictures(entrant: Entrant, train: Split, watch: Tagged) -> None:
    """Of images: receptive fields, drawings of learners that draw; of spiking networks a trial, and out of silence."""
    learner, run, name, images = entrant.learner, watch.run, entrant.name, train.x.ndim == 4
    if images:
        run.save(**{f"fields.{name}": receptive_fields(learner.network_, train.x.shape[1:])})
    if entrant.family == "events":
        draw_spikes(learner, train, watch)
    if getattr(learner, "draws", False) and images:
        rng = torch.Generator().manual_seed(watch.tags["seed"])
        run.save(**{f"drawings.{name}": learner.generate(torch.arange(train.classes), 10, rng)})
