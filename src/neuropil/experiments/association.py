"""The association rule beside its baselines: what `mnist_association`, `mnist_parity`, ... share."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import at_least
from neuropil.experiments.comparison import Build, Comparison, Method, single_seed
from neuropil.experiments.machine import Machine
from neuropil.models import (
    AssociationClassifier,
    AssociationTraining,
    BackpropClassifier,
    FeatureClassifier,
    SupervisedTraining,
)
from neuropil.models.association import TopKSigmoid, fields
from neuropil.models.nn.layers import MaskedLinear


@dataclass(frozen=True)
class Settings(Machine):
    """What an association experiment can be told."""

    seed: int = 0
    """of weights and order of examples"""
    hidden: tuple[int, ...] = (1000, 1000)
    """neurons of each layer; backprop and random features have the same and a linear head on top"""
    columns: tuple[int, ...] = (25, 10)
    """into how many columns each layer is cut; neurons compete within theirs"""
    field: int = 14
    """side of the square of the image that a column of the first layer sees, in pixels; 0 if all see everything"""
    k: int = 1
    """how many neurons of a column win among the associated, and among the others"""
    strongest: int = 4
    """how many neurons of a column send"""
    slope: float = 32.0
    """of the neurons' answers"""
    norm: bool = True
    """whether examples are brought to unit length for the association rule"""
    epochs: int = 8
    """passes of the association rule over the examples"""
    batch: int = 100
    """label events in a step"""
    lr: float = 4e-3
    """first learning rate of the association rule, falls linearly to 0"""
    plain_epochs: int = 2
    """passes of the plain rule, without competition"""
    plain_lr: float = 1e-2
    """its first learning rate"""
    backprop_epochs: int = 10
    """passes of backprop over the examples"""
    backprop_batch: int = 500
    """examples in a step of backprop"""
    backprop_lr: float = 2e-3
    """first learning rate of backprop, falls linearly to 0"""
    backprop_decay: float = 0.1
    """weight decay of backprop"""
    smoothing: float = 0.1
    """label smoothing of backprop"""
    readout_epochs: int = 10
    """passes of the linear heads over the examples"""
    steps: int = 1
    """fewest steps of every learner; a small data set gets as many more passes as this takes"""
    n_train: int = 0
    """use only that many training examples; 0 for all"""

    def __post_init__(self) -> None:
        at_least(1, self, "hidden", "columns", "strongest")


def local(settings: Settings) -> AssociationClassifier:
    """Competition within the associations of a column."""
    events = AssociationTraining(settings.epochs, settings.batch, settings.lr, min_steps=settings.steps)
    return AssociationClassifier(
        settings.hidden,
        columns=settings.columns,
        field=settings.field or None,
        k=settings.k,
        slope=settings.slope,
        strongest=settings.strongest,
        unit_norm_input=settings.norm,
        events=events,
    )


def association(settings: Settings, train: Split, rng: Generator) -> Method:
    """The likeliest neurons of the label fire at its event."""
    return Method("association", "local", local(settings), competes=False)


def plain_rule(settings: Settings, train: Split, rng: Generator) -> Method:
    """The reconstruction as the abstract has it: all neurons of the label fire, all others are silent."""
    events = AssociationTraining(settings.plain_epochs, settings.batch, settings.plain_lr, min_steps=settings.steps)
    learner = AssociationClassifier(
        settings.hidden, k=None, slope=1.0, strongest=None, unit_norm_input=False, events=events
    )
    return Method("association, plain rule", "local", learner, competes=False)


def backprop(settings: Settings, train: Split, rng: Generator, *, field: bool = False) -> Method:
    """Layers of as many units, ReLU, trained end to end; `field`: units of the first layer see what its columns see."""
    inputs, layers = train.x[0].numel(), OrderedDict[str, nn.Module](flat=nn.Flatten())
    for depth, units in enumerate(settings.hidden):
        layer = nn.Linear(inputs, units)
        if field and depth == 0:
            layer = MaskedLinear(fields(train.x.shape[1:], settings.field, settings.columns[0], units))
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=rng)
        if isinstance(layer, MaskedLinear):
            layer.weight.data *= layer.mask * (inputs / layer.mask.sum(1, keepdim=True)).sqrt()
        nn.init.zeros_(layer.bias)
        layers |= {f"hidden{depth}": layer, f"act{depth}": nn.ReLU()}
        inputs = units
    training = SupervisedTraining(
        epochs=settings.backprop_epochs,
        batch=settings.backprop_batch,
        lr=settings.backprop_lr,
        weight_decay=settings.backprop_decay,
        smoothing=settings.smoothing,
        min_steps=settings.steps,
    )
    name = "backprop, same fields" if field else "backprop"
    return Method(name, "baseline", BackpropClassifier(nn.Sequential(layers), training=training))


def random_features(settings: Settings, train: Split, rng: Generator) -> Method:
    """The network of the association rule as it was drawn: fields, columns and who sends, under a linear head."""
    body = local(settings).fresh(train, rng)
    body[-1] = TopKSigmoid(settings.slope)
    head = SupervisedTraining(epochs=settings.readout_epochs, lr=1e-2, weight_decay=0.0, min_steps=settings.steps)
    return Method("random features", "baseline", FeatureClassifier(body, readout=head))


def linear(settings: Settings, train: Split, rng: Generator) -> Method:
    """Softmax regression on standardised inputs."""
    head = SupervisedTraining(epochs=settings.readout_epochs, lr=4e-3, weight_decay=0.0, min_steps=settings.steps)
    return Method("linear", "baseline", FeatureClassifier(nn.Sequential(nn.Flatten()), readout=head))


def learners(settings: Settings) -> list[Build]:
    """The rule, its plain form and the baselines."""
    builds = [association, plain_rule, backprop, random_features, linear]
    if settings.field:
        builds.insert(3, partial(backprop, field=True))
    return [partial(build, settings) for build in builds]


def association_comparison(data: str, settings: Settings) -> Comparison:
    """All learners on the data set `data`, one seed."""
    return single_seed(learners(settings), data, settings.seed, settings.n_train, device=settings.device)


PARITY = tuple(digit % 2 for digit in range(10))  # digits become odd (1) and even (0), which no line separates
