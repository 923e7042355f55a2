"""Outcomes of studies: tables and sentences of reports, streams of tasks, k-means, spreading, estimators for tables."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from common import rng
from neuropil.data import Split, iris, subset
from neuropil.evaluate import label_counts, select
from neuropil.evaluate.robustness.suite import Suite, robustness
from neuropil.experiments.continual.features import FEATURES, Architecture
from neuropil.experiments.continual.learners import learners
from neuropil.experiments.continual.protocol import in_random_order, one_pass, stream
from neuropil.experiments.continual.tasks import class_tasks, forgetting, permuted_tasks
from neuropil.experiments.k_means import centres_of, init_centres_, init_whitened_, k_means_centres
from neuropil.experiments.self_taught import SelfTaught, answer, confident
from neuropil.experiments.spreading import LabelSpreading
from neuropil.models import FeatureClassifier, RidgeRegression, dense_body, init_normal_
from neuropil.recipes.continual import Config, begun
from neuropil.report.results import gather
from neuropil.report.tables import markdown, summary_rows
from neuropil.runs import NullTracker, Run, TaggedTracker, parse_row
from neuropil.sklearn import (
    AssociationRuleClassifier,
    HebbianClassifier,
    HebbianFeatures,
    SpikeTimeClassifier,
    STDPNetworkClassifier,
)
from outcome_measures import coloured, network
from outcome_models import TEST, TRAIN, kernels
from report_runs import LOCAL, everything, make, pairs, result


def reports():
    with TemporaryDirectory() as name:
        folder = Path(name)
        failed = ("failed", {"learner": "lost", "data": "digits", "seed": 0, "reason": "it diverged; lower the rate."})
        slow = result(seed=5, accuracy=0.2, seconds=99.0)
        given = {
            "pairs": [make(folder / "a", [*pairs(), failed, result("third", 0, 0.5), result("third", 1, 0.7)])],
            "unfinished": [make(folder / "b", pairs()), make(folder / "c", [slow], finish=False)],
            "everything": [make(folder / "d", everything(LOCAL, (0, 1, 2)))],
            "attacked": [attacked(folder / "e")],
        }
        for title, runs in given.items():
            for k, line in enumerate(markdown(runs).splitlines()):
                yield f"{title}, line {k}", line.replace(name, "FOLDER")
            yield f"{title}, numbers", summary_rows(gather(runs))


def attacked(folder):
    """A run in which networks of two seeds are attacked, corrupted and damaged."""
    run = Run.start(folder, recipe="attack", config={}, command="neuropil attack")
    for seed in 0, 1:
        linear = nn.Sequential(nn.Flatten(), nn.Linear(90, 3)).double().eval()
        nn.init.normal_(linear[1].weight, std=0.3, generator=rng(seed))
        nn.init.zeros_(linear[1].bias)
        nets = {"logistic regression": linear, "mine": network(seed), "other": network(seed + 2, kernels=False)}
        trackers = {name: TaggedTracker(run, learner=name, data="colours", seed=seed) for name in nets}
        small = Suite((0.04, 0.1), (0.3,), attack_steps=2, attack_restarts=1, attack_queries=11)
        robustness(nets, coloured(23, seed=seed + 3), trackers=trackers, baselines=["other"], suite=small, seed=seed)
        for name in nets:
            run.log(parse_row({"kind": "result", **result(name, seed, 0.5 + 0.1 * seed, data="colours")[1]}))
    run.finish()
    return folder


def streams():
    how, rates = Architecture(13), Config(per_class=3, ewc_lr=0.03, backprop_lr=0.05, consolidation=3.0).rates()
    tasks = class_tasks(TRAIN, TEST, 5)
    yield "permuted", [(task.train.x, task.test.x) for task in permuted_tasks(TRAIN, TEST, 3, 7)]
    yield (
        "forgetting",
        forgetting(torch.tensor([[0.5, 0, 0, 0], [0.9, 0.7, 0, 0], [0.6, 0.8, 0.4, 0], [0.3, 0.2, 0.6, 1]])),
    )
    bodies = {name: make(how, tasks[0].train, rng(3)).eval() for name, make in FEATURES.items()}
    yield "features", {name: body(TEST.pixels()) for name, body in bodies.items()}
    for name, learner in learners(how, rates).items():
        if learner.features in (None, "", "random"):
            body = bodies["random"] if learner.features else nn.Identity()
            seen = [part._replace(train=through(body, part.train), test=through(body, part.test)) for part in tasks]
            model = begun(learner, tasks[0].train, seen, rng(4))
            stream(model, seen, batch=7, rng=rng(5), tracker=NullTracker())
            yield f"{name}, in order", model.decision_function(seen[0].test.x)
            joint = begun(learner, tasks[0].train, seen, rng(4))
            reached = in_random_order(joint, seen, batch=5, rng=rng(5), tracker=NullTracker())
            one_pass(joint, seen[1].train, batch=4, rng=rng(6))
            yield f"{name}, again", joint.decision_function(seen[0].test.x)
            yield f"{name}, joint", float(reached > 0)


def through(body, split):
    """What features make of a split."""
    with torch.no_grad():
        return Split(body(split.pixels()).flatten(1) if len(list(body.children())) else split.x, split.y, split.classes)


def taught():
    x = torch.rand(61, 9, generator=rng(1), dtype=torch.float64)
    yield "centres", centres_of(x, x[:7], sweeps=5)
    yield "mini-batches", k_means_centres(x.float(), 5, 3)
    for name, start in {"k-means": init_centres_, "whitened": init_whitened_}.items():
        body = kernels()
        start(body, TRAIN, rng(2), count=300)
        yield f"kernels of {name}", [body[0].weight, body[3].weight]
    y = torch.where(torch.arange(61) % 3 == 0, TRAIN.y, -1)
    for spreading in LabelSpreading(5, 0), LabelSpreading(4, 6, alpha=0.7):
        yield repr(spreading), spreading(TRAIN.pixels().flatten(1), y, 10)
    body = dense_body(TRAIN, 31, n=1.0)
    init_normal_(body, rng(2))
    plain = FeatureClassifier(body, readout=RidgeRegression(strengths=(0.1,)))
    model = SelfTaught(plain, 2).fit(TRAIN, rng=rng(3)).refit_readout(subset(TRAIN, 30, 0), rng=rng(4))
    yield "self-taught", model.decision_function(TEST.x)
    head, seen = nn.Linear(4, 3), Split(torch.rand(6, 4, generator=rng(5)), torch.arange(6) % 3, 3)
    nn.init.normal_(head.weight, generator=rng(6))
    nn.init.zeros_(head.bias)
    yield "answers", (answer(head, seen, 2), [*confident(answer(head, seen, 1))])
    yield "selection", label_counts([10, 20, 7], TRAIN, 3)
    chosen = select(
        {"few": lambda part: Fixed(part, 3), "all": lambda part: Fixed(part, 99)}, TRAIN, holdout_fraction=0.4, seed=2
    )
    yield "selected", [*chosen]


class Fixed:
    """Names the commonest class of the first examples."""

    def __init__(self, part, most):
        self.y = int(part.y[:most].bincount().argmax())

    def predict(self, x):
        return torch.full((len(x),), self.y)


def estimators():
    train, test = iris(seed=0)
    x, y, z = train.x[:77].numpy(), np.array(["c", "a", "b"])[train.y[:77].numpy()], test.x[:11].numpy()
    made = {
        "association": AssociationRuleClassifier(20, epochs=2, min_steps=9, random_state=3),
        "hebb": HebbianClassifier(20, epochs=2, C=0.3, random_state=3),
        "hebb alone": HebbianClassifier(20, epochs=2, passthrough=False, rule="soft_hebb", random_state=3),
        "spikes": SpikeTimeClassifier(9, epochs=2, min_steps=5, random_state=3),
        "stdp": STDPNetworkClassifier(12, n_generation_units=8, epochs=2, min_steps=5, random_state=3),
    }
    for name, estimator in made.items():
        fitted = estimator.fit(x, y)
        yield name, ([*fitted.classes_], torch.from_numpy(fitted.predict_proba(z)))
        if hasattr(fitted, "partial_fit"):
            for part in np.split(np.arange(60), [7, 31]):
                fitted.partial_fit(x[part] * 1.3 + 0.1, y[part])
            yield f"{name}, more", torch.from_numpy(fitted.predict_proba(z))
        if hasattr(fitted, "complete"):
            holes = np.where(np.arange(4) < 2, z, np.nan)
            yield f"{name}, completed", torch.from_numpy(fitted.complete(holes, random_state=5))
            yield f"{name}, drawn", torch.from_numpy(fitted.sample(["a", "c", "c"], random_state=5))
    features = HebbianFeatures(20, epochs=2, random_state=3).fit(x)
    yield "features", torch.from_numpy(features.transform(z))


CASES = {"reports": reports, "streams": streams, "taught": taught, "estimators": estimators}
