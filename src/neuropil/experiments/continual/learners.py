"""Who learns from the stream: features of five kinds under six heads, networks that learn as a whole, and backprop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import Generator, nn

from neuropil.data import Split
from neuropil.experiments.continual.features import FEATURES, Architecture, patches, random_features
from neuropil.models import (
    AssociationClassifier,
    AssociationReadout,
    AssociationTraining,
    DeltaReadout,
    Head,
    LateralReadout,
    LeastSquares,
    OnlineBackprop,
    OnlineClassifier,
    Prototypes,
)
from neuropil.models.training.readout import network_of


@dataclass(frozen=True)
class Rates:
    """Settings of heads and networks, chosen on held-out training images.

    Attributes:
        per_class: units of each class of prototypes.
        ridge: of least squares.
        iterations: of settling.
        delta_lr, association_lr, stream_lr, backprop_lr, ewc_lr: learning rates.
        consolidation: strength of elastic weight consolidation.
    """

    per_class: int
    ridge: float
    iterations: int
    delta_lr: float
    association_lr: float
    stream_lr: float
    backprop_lr: float
    ewc_lr: float
    consolidation: float


class Learner(NamedTuple):
    """One learner.

    Attributes:
        title: in plain words, as it stands in tables.
        family: "local" if every change is local, the features' included; "baseline" otherwise.
        about: what it does and what it has seen before the stream begins.
        features: kind of frozen features on which it learns; "" if it learns from pixels.
        build: makes it from the first task's examples, of which it takes no label.
        joint: whether it learns the examples in random order, too; False where the order makes no difference, None
            where there would be nothing new: consolidation does nothing within a single task.
    """

    title: str
    family: str
    about: str
    features: str
    build: Callable[[Split, Generator], Any]
    joint: bool | None = True


HEADS = {
    "means": ("class means", "Each class has one unit, which becomes the mean of its examples."),
    "prototypes": (
        "prototypes",
        "Units of the label's class compete; the nearest moves to the mean of what it has won.",
    ),
    "association": ("association", "Label events make the neurons of their class fire and keep others silent."),
    "delta": ("delta rule", "A softmax readout by the delta rule, as backprop would train it on frozen features."),
    "lateral": ("lateral inhibition", "Neurons inhibit each other by their covariance and settle; a Hebbian readout."),
    "least_squares": ("least squares", "Ridge regression on all examples so far in closed form, which is not local."),
}
USUAL = tuple(
    ["pixels_means", "pixels_least_squares"]
    + [f"random_{head}" for head in HEADS]
    + [f"{kind}_{head}" for kind in ("patches", "k_means", "local") for head in ("prototypes", "lateral")]
    + ["stream_prototypes", "stream_lateral", "association", "backprop", "ewc"]
)
"""The learners of a run in which none is named."""
ORDERLESS = ("means", "lateral", "least_squares")
SAW = {
    "pixels": "pixels.",
    "random": "random features, frozen: they have seen nothing.",
    "patches": "random patches of the first task's images, frozen.",
    "k_means": "k-means of the first task's images, frozen; 20 sweeps, without labels.",
    "local": "Krotov-Hopfield features of the first task's images, frozen; one pass, without labels.",
}


def head_of(name: str, rates: Rates, rng: Generator) -> Callable[[int, int], Head]:
    """What makes a head."""
    return {
        "means": Prototypes,
        "prototypes": partial(Prototypes, per_class=rates.per_class),
        "association": partial(AssociationReadout, lr=rates.association_lr, rng=rng),
        "delta": partial(DeltaReadout, lr=rates.delta_lr),
        "lateral": partial(LateralReadout, iterations=rates.iterations),
        "least_squares": partial(LeastSquares, ridge=rates.ridge),
    }[name]  # type: ignore[return-value]


def learners(how: Architecture, rates: Rates) -> Mapping[str, Learner]:
    """All of them, by short name: features and head, such as ``random_lateral``, then those that learn as a whole."""
    found = {}
    for kind in FEATURES:
        for head, (title, about) in HEADS.items():
            baseline = kind == "k_means" or head in ("delta", "least_squares")
            found[f"{kind}_{head}"] = Learner(
                f"{kind.replace('_', '-')} + {title}", "baseline" if baseline else "local",
                f"{about} On {SAW[kind]}", kind, partial(on_features, head, rates), head not in ORDERLESS,
            )  # fmt: skip
    for head in ("prototypes", "lateral"):
        title, about = HEADS[head]
        text = f"{about} On patches of the first task's images that learn on by Krotov-Hopfield all along the stream."
        found[f"stream_{head}"] = Learner(
            f"learning on + {title}", "local", text, "", partial(learning_on, head, how, rates)
        )
    text = "Two layers of associated neurons on pixels; all layers learn from every batch, by label events."
    found["association"] = Learner("association network", "local", text, "", partial(association, rates))
    text = "The same architecture, every weight trained by backprop on whatever comes."
    found["backprop"] = Learner("backprop", "baseline", text, "", partial(backprop, how, rates.backprop_lr, 0.0))
    text = "Backprop that holds weights which mattered for former tasks; it is told when a task ends."
    found["ewc"] = Learner(
        "backprop + EWC", "baseline", text, "", partial(backprop, how, rates.ewc_lr, rates.consolidation), None
    )
    return found


def on_features(head: str, rates: Rates, first: Split, rng: Generator) -> OnlineClassifier:
    """A head on features that come as they are."""
    return OnlineClassifier(nn.Sequential(nn.Flatten()), head_of(head, rates, rng))


def on_images(learned: OnlineClassifier, body: nn.Sequential) -> OnlineClassifier:
    """The head that learned on features, with the `body` that makes them: it takes images, and learns on."""
    whole = OnlineClassifier(body, learned.head)
    whole.network_ = network_of(body.requires_grad_(False).eval(), learned.head_)
    return whole


def learning_on(head: str, how: Architecture, rates: Rates, first: Split, rng: Generator) -> OnlineClassifier:
    """A head on features that learn from every batch, too."""
    body = patches(how, first, rng)
    return OnlineClassifier(body, head_of(head, rates, rng), rules={how.layer: how.rule()}, lr=rates.stream_lr)


def association(rates: Rates, first: Split, rng: Generator) -> AssociationClassifier:
    """The network of `neuropil compare`."""
    shape, units = first.x.shape[1:], 100 * first.classes
    columns = 9 if len(shape) == 3 and min(shape[1:]) >= 8 else 1
    size = 9 * first.classes * 10
    return AssociationClassifier(
        (size, units), columns=(columns, 1), receptive_field=min(shape[1:]) // 2 if columns > 1 else None,
        unit_norm_input=len(shape) == 3, k=1, n_send=max(4, 24 // columns),
        training=AssociationTraining(lr=0.03 * rates.association_lr),
    )  # fmt: skip


def backprop(how: Architecture, lr: float, consolidation: float, first: Split, rng: Generator) -> OnlineBackprop:
    """The architecture with random first weights."""
    body = random_features(how, first, rng)
    return OnlineBackprop(body, lr=lr, consolidation=consolidation)
