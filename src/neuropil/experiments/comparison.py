"""The loop that every comparison shares: learners side by side on the same data, the test set read once by each."""

import gc
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Generator

from neuropil.data import Split, is_own, relabel, subset
from neuropil.errors import Diverged, Refusal, device_named, enough_memory, require, unknown
from neuropil.evaluate import fit_and_score, label_counts, log_units, sample_efficiency
from neuropil.experiments.gallery import log_examples, save_pictures
from neuropil.experiments.own_data import examples, title_of
from neuropil.loading import model_path
from neuropil.plasticity.joint import is_together
from neuropil.runs import FailedRow, LabelsRow, MethodRow, Run, TaggedTracker, WarningRow

NOT_SAVED = "the model is not saved, so that it cannot be attacked"
N_COMPETING = 1000  # images on which the units of a convolution compete once more, at every position

T = TypeVar("T")


@dataclass(frozen=True)
class Method:
    """A learner that has not learned yet, and how the report should treat it.

    Attributes:
        name: in plain words, as it stands in tables.
        family: "local" for local learning, "spiking" for spiking networks trained by exact gradients, "baseline" for
            what they are measured against.
        learner: a `Model`.
        norm: the p of the fixed point sum |w|^p = 1 that its rule has, None if it has none.
        competes: whether its units compete, so that one that never wins is a waste.
        about: what it does, in a sentence, with a link; None for the docstring of what builds it.
    """

    name: str
    family: str
    learner: Any
    norm: float | None = None
    competes: bool = True
    about: str | None = None

    def tracker(self, run: Run, data: str, seed: int) -> TaggedTracker:
        """Logs rows about this method in `run`."""
        return TaggedTracker(run, learner=self.name, family=self.family, data=data, seed=seed)

    def introduced(self, build: Any) -> "Method":
        """The same, with what `about_of` finds of its `build` where it does not say itself what it does."""
        return replace(self, about=about_of(build)) if self.about is None else self

    def row(self) -> MethodRow:
        """The first paragraph on the method, and its link."""
        said = self.about or ""
        link = re.search(r"https://\S+", said)
        text = " ".join(said.strip().partition("\n\n")[0].split())
        return MethodRow(about=text.replace(link[0], "").strip() if link else text, link=link[0] if link else "")


def about_of(build: Any) -> str:
    """The docstring of what builds a method; of a ``build`` that of its file, where it has one."""
    build = _function(build)
    file = build.__globals__.get("__doc__") if getattr(build, "__name__", "") == "build" else None
    return file or build.__doc__ or ""


def _function(build: Any) -> Any:
    """`build` without the arguments that it was given beforehand."""
    return _function(build.func) if isinstance(build, partial) else build


Build = Callable[[Split, Generator], Method]
Methods = Mapping[str, Callable[..., Method]]  # by short name; called with (config, train, rng)
After = Callable[[Method, Split, Split, TaggedTracker], None]
"""What a recipe looks at in a fitted method, with the training and the test examples."""


class Origin(NamedTuple):
    """Where test examples come from.

    Attributes:
        data_set: its name, or the path of data of one's own.
        labels: what each class is called, see `relabel`; empty if they keep their labels.
    """

    data_set: str
    labels: tuple[int, ...] = ()

    @classmethod
    def of(cls, data: str) -> "Origin":
        """Data as they were named on the command line; a path is made absolute."""
        return cls(str(Path(data).expanduser().resolve()) if is_own(data) else data)

    def test(self, seed: int, device: str = "cpu") -> Split:
        """The test examples of this seed."""
        test = examples(self.data_set, seed)[1]
        return (relabel(test, self.labels) if self.labels else test).to(device)


class Comparison(NamedTuple):
    """Who is compared on what: all that is needed to do a comparison, or to bring its learners back.

    Attributes:
        builds: by short name, make a fresh learner from the training data and a generator.
        data: name of the data set.
        seeds: one after the other.
        splits: maps a seed to (train, test).
        task: by which a run of several tasks keeps what was learned at this one.
        origin: where the test examples come from; None if they are in no data set, so that they cannot be loaded again.
    """

    builds: Mapping[str, Build]
    data: str
    seeds: Sequence[int]
    splits: Callable[[int], tuple[Split, Split]]
    task: str = ""
    origin: Origin | None = None


def plan_on(
    data: str, n_train: int, seeds: Sequence[int], builds: Mapping[str, Build], device: str, min_side: int = 0
) -> Comparison:
    """A comparison on a data set of ours, or on data of one's own by their path; see `data_splits`."""
    splits = partial(data_splits, data, n_train, device=device, min_side=min_side)
    return Comparison(builds, title_of(data), seeds, splits, origin=Origin.of(data))


def select(methods: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    """The methods of these short names, or all if none is named."""
    for name in names:
        if name not in methods:
            raise unknown("learner", name, methods)
    return {name: methods[name] for name in names or methods}


def data_splits(data: str, n_train: int, seed: int, *, device: str = "cpu", min_side: int = 0) -> tuple[Split, Split]:
    """(train, test) of a name or a path, with `n_train` training examples, or all if that is 0, on `device`.

    Data other than images of at least `min_side` pixels a side are refused, if that is above 0.
    """
    device = device_named(device)
    train, test = examples(data, seed)
    fits = not min_side or (train.x.ndim == 4 and min(train.x.shape[2:]) >= min_side)
    require(fits, f"images of {min_side}x{min_side} or more are needed, {data} has {tuple(train.x.shape[1:])}.")
    most = f"setting 'n_train' needs a number up to {len(train)}, or 0 for all of {data}, got {n_train}."
    require(n_train <= len(train), most)
    return (subset(train, n_train, seed) if n_train else train).to(device), test.to(device)


def run_comparison(plan: Comparison, labels: Sequence[int], run: Run, *, after: After | None = None) -> None:
    """Load the data of the one seed of `plan`, and run all learners on them, with pictures; see `run_methods`."""
    (seed,) = plan.seeds
    train, test = plan.splits(seed)
    run.update_metadata(data={plan.data: {"train": train.checksum(), "test": test.checksum()}})
    run_methods(plan, train, test, seed=seed, labels=labels, run=run, after=after)


def run_methods(
    plan: Comparison, train: Split, test: Split, *, seed: int, labels: Sequence[int], run: Run,
    after: After | None = None,
) -> None:  # fmt: skip
    """Fit each method on `train`, read `test` once, then ask what fewer labels would have given; log everything.

    A method that refuses the data, or that diverges, is a row that says why; the others go on.

    Args:
        plan: the methods, of which every one gets its own generator, from `seed`. Its first seed has pictures, too.
        train, test: what to learn from, and what to read once.
        seed: column of every row.
        labels: numbers of labels for the sample-efficiency curves, see `label_counts`.
        run: where it is written; every fit in it can be resumed.
        after: called when a method has been tried.
    """
    counts = label_counts(labels, train, seed)
    if seed == plan.seeds[0]:
        log_examples(test, TaggedTracker(run, learner="", data=plan.data, seed=seed))
    for index in run.loop("learners", len(plan.builds)):
        rng = torch.Generator().manual_seed(seed)
        method = fitted(plan, index, train, test, seed=seed, rng=rng, run=run)
        if method is None:
            continue
        tracker = method.tracker(run, plan.data, seed)
        try:
            if seed == plan.seeds[0]:
                save_pictures(method.learner, train, test, tracker)
            if after is not None:
                after(method, train, test, tracker)
            if method.family == "local" and hasattr(method.learner, "feature_layers"):
                log_unit_statistics(method, train, tracker)
        except Refusal as refusal:
            tracker.log(WarningRow(message=f"not all of its measurements could be made: {refusal}"))
        log_label_curve(method, counts, train, test, seed=seed, rng=rng, tracker=tracker)


def fitted(
    plan: Comparison, index: int, train: Split, test: Split, *, seed: int, rng: Generator, run: Run
) -> Method | None:
    """The method `index` of `plan`, fitted, scored and saved; None if it refuses or diverges, and the row says why."""
    name = list(plan.builds)[index]

    def score(method: Method, tracker: TaggedTracker) -> float:
        if seed == plan.seeds[0] and method.about:
            tracker.log(method.row())
        able = not is_together() or getattr(method.learner, "shares", False)
        require(able, f"{method.name} learns in one process; run it without --workers.")
        return fit_and_score(method.learner, train, test, rng=rng, tracker=tracker)

    done = attempted(plan.builds[name], train, rng, score, run=run, data=plan.data, seed=seed, name=name)
    if done is None:
        return None
    method, accuracy = done
    facts = {
        "accuracy": accuracy,
        "n_train": len(train),
        "shape": list(train.x.shape[1:]),
        "data": plan.data,
        "seed": seed,
        "place": index,
        "short": name,
    }
    save_learned(method, run, plan.origin, facts)
    method.tracker(run, plan.data, seed).log(LabelsRow(n_labels=len(train), accuracy=accuracy))
    return method


def attempted(
    build: Build, train: Split, rng: Generator, work: Callable[[Method, TaggedTracker], T], *,
    run: Run, data: str, seed: int, name: str = "", where: str = "",
) -> tuple[Method, T] | None:  # fmt: skip
    """The method that `build` makes, and what `work` makes of it; None if it refuses or diverges, and a row says why.

    Args:
        build, train, rng: makes the method from training data and a generator.
        work: fits and scores it; its tracker logs rows about the method.
        run, data, seed: for these rows.
        name: of the method where `build` itself refuses; that of the function if it is empty.
        where: before the reason, for example the task.
    """
    name = (name or getattr(_function(build), "__name__", "method")).replace("_", " ")
    tracker = TaggedTracker(run, learner=name, data=data, seed=seed)
    try:
        with enough_memory():
            method = build(train, rng).introduced(build)
            tracker = method.tracker(run, data, seed)
            return method, work(method, tracker)
    except Refusal as refusal:
        tracker.log(FailedRow(reason=f"{where}{refusal}", diverged=isinstance(refusal, Diverged)))
    gc.collect()  # what the failed fit held: the next one may need the memory
    return None


def log_label_curve(
    method: Method,
    counts: Sequence[int],
    train: Split,
    test: Split,
    *,
    seed: int,
    rng: Generator,
    tracker: TaggedTracker,
) -> None:
    """Log the test accuracy with so many labels; a count with which the method diverges becomes a warning."""
    again = getattr(method.learner, "refit_readout", None)
    for count in counts:
        try:
            if again is None:
                raise Refusal("the model has no refit_readout(labelled, rng=...).")
            for _, right in sample_efficiency(partial(again, rng=rng), train, test, [count], seed=seed):
                tracker.log(LabelsRow(n_labels=count, accuracy=right))
        except Refusal as refusal:
            tracker.log(WarningRow(message=f"no accuracy with {count} labels: {refusal}"))


def save_learned(method: Method, run: Run, origin: Origin | None, facts: Mapping[str, Any], task: str = "") -> None:
    """Save the fitted model of `method` in its run, with the `facts` that testing it again needs."""
    own = {"name": method.name, "family": method.family, "about": method.about}
    about = {**own, "origin": origin and origin._asdict(), **facts}
    try:
        require(hasattr(method.learner, "save"), "it has no save(path, about=...)")
        method.learner.save(model_path(run.folder, method.name, facts["seed"], task), about=about)
    except Refusal as refusal:
        said = WarningRow(message=f"{NOT_SAVED}: {refusal}")
        method.tracker(run, facts["data"], facts["seed"]).log(said)


def log_unit_statistics(method: Method, train: Split, tracker: TaggedTracker) -> None:
    """Log the statistics of the units of a local learner; those of convolutions on at most `N_COMPETING` images."""
    norm, competes = method.norm, method.competes
    for layer, module, weight in method.learner.feature_layers():
        some, batch = (train[:N_COMPETING], 20) if weight.ndim > 2 else (train, 1000)
        rows = weight.flatten(1)
        log_units(module, rows, some, layer=layer, batch=batch, norm=norm, competes=competes, tracker=tracker)
