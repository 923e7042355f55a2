"""Features under a head, both of which learn from one batch after the other; no example is needed twice."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Self, cast

import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.errors import needs_numbers, require, unknown
from neuropil.models.contract import (
    FeatureLayer,
    as_batch,
    as_examples,
    begin_fit,
    cannot_take,
    copied,
    feature_layers_of,
    fitting,
)
from neuropil.models.description import layers_of, savable
from neuropil.models.heads import Head, Prototypes
from neuropil.models.training.readout import ReadoutClassifier, network_of
from neuropil.plasticity import RULES, Rule, propose_, tap
from neuropil.runs.tracker import Tracker

RATE = 1e-3  # of rules by default, for inputs of length 1
CHUNK = 500  # examples that a frozen body sees at once


class OnlineReadoutClassifier(ReadoutClassifier):
    """A classifier that learns from one batch after the other: what its kinds share."""

    @property
    @abstractmethod
    def _classes(self) -> int:
        """How many classes there are, seen or not."""

    @abstractmethod
    def begin(self, x: Tensor, classes: int) -> Self:
        """Make the network for examples like those of `x` (n, *shape); it has learned nothing yet."""

    @abstractmethod
    def _learn(self, x: Tensor, y: Tensor) -> None:
        """One step from (batch, *shape) and its labels."""

    def partial_fit(self, x: Tensor, y: Tensor, *, classes: int | None = None) -> Self:
        """Learn from one batch.

        Args:
            x: (batch, *shape), as for `predict`.
            y: (batch,) labels, int64.
            classes: number of all classes; needed in the first call.
        """
        begun = "network_" in vars(self)
        batch = as_batch(self, x, y, classes, self._classes if begun else None)
        if not begun:
            try:
                self.begin(x, batch.classes)
            except RuntimeError as error:
                raise cannot_take(f"the body of {type(self).__name__}", x, error, "make one for them") from error
        with fitting(self, batch.x):
            self._learn(batch.x, batch.y)
        return self


class OnlineClassifier(OnlineReadoutClassifier):
    """Learns from one batch after the other, of one example or many, in any order of classes: `partial_fit`.

    Args:
        body: maps (batch, *shape) in [0, 1] to features. It is copied; the original stays as it is.
        head: makes the head from the number of features and of classes, for example `Prototypes`.
        rules: layers of the body that learn on, by name; the features of a body without any stay as they are.
        lr: learning rate of these layers, constant. None for 0.001, divided in each batch by the mean squared length
            of a layer's inputs where that is above 1. Features that change faster run away from the head.
        batch: examples in a step of `fit`.

    After the first `partial_fit`: ``network_``, body and head, in evaluation mode.

    Examples:
        >>> from neuropil.data import digits
        >>> from neuropil.models import LateralReadout, dense_body, init_normal_
        >>> train, test = digits()
        >>> body = dense_body(train, 200, n=1.0)
        >>> init_normal_(body, torch.Generator().manual_seed(0))
        >>> model = OnlineClassifier(body, LateralReadout)
        >>> for label in range(10):  # one class after the other
        ...     part = train[train.y == label]
        ...     model = model.partial_fit(part.x, part.y, classes=10)
        >>> bool((model.predict(test.x) == test.y).float().mean() > 0.9)
        True
    """

    shown = ("body", "rules")

    def __init__(
        self, body: nn.Sequential, head: Callable[[int, int], Head] = Prototypes, *,
        rules: Mapping[str, Rule] | None = None, lr: float | None = None, batch: int = 10,
    ):  # fmt: skip
        needs_numbers(self, lr=lr, batch=batch)
        fine, got = (lr is None or 0 < lr < math.inf) and batch >= 1, f"got lr={lr} and batch={batch}."
        require(fine, f"OnlineClassifier needs a finite lr > 0 or None, and batch >= 1, {got}")
        self.body, self.head, self.rules, self.lr, self.batch = body, head, rules or {}, lr, batch

    @property
    def head_(self) -> Head:
        """The head as it has learned."""
        return cast(Head, self.network_.get_submodule("readout"))

    @property
    def _classes(self) -> int:
        """How many classes there are, seen or not."""
        return self.head_.classes

    def begin(self, x: Tensor, classes: int) -> Self:
        """Make the network for examples like those of `x` (n, *shape); it has learned nothing yet."""
        body = copied(self, self.body, x.device).requires_grad_(False).eval()
        for name in self.rules:
            if name not in layers_of(body):
                raise unknown("layer", name, layers_of(body))
        with torch.no_grad():
            seen = body(Split.unlabelled(x[:1], classes).pixels()).flatten(1)
        self.network_ = network_of(body, self.head(seen.shape[1], classes).to(seen.device))
        return self

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn afresh from every example of `train` once, in random order."""
        begin_fit(self, train, rng)
        return self.begin(train.x, train.classes).learn_(train, batch=self.batch, rng=rng)

    def learn_(self, train: Split, *, batch: int, rng: Generator) -> Self:
        """`partial_fit` for every batch of `train` in random order; a frozen body sees many batches at once."""
        train.check_labelled("OnlineClassifier")
        many = batch if self.rules else batch * max(1, CHUNK // batch)
        for part in train.batches(min(many, len(train)), shuffle=rng):
            self._learn(part.x, part.y, batch)
        return self

    @torch.no_grad()
    def _learn(self, x: Tensor, y: Tensor, batch: int | None = None) -> None:
        """Body and head from the same forward pass; the head in batches."""
        with tap(self.body_, self.rules) as seen:
            features = self.body_(as_examples(self, x)).flatten(1)
        size = len(y) if batch is None else batch
        for some, labels in zip(features.split(size), y.split(size)):
            self.head_.learn_(some, labels)
        for name, activity in seen.items():
            layer = self.body_.get_submodule(name)
            change, weight = self.rules[name](layer, *activity), self.body_.get_parameter(f"{name}.weight")
            if self.lr is None:
                change = change / _squared_length(weight, activity.pre)
            propose_(layer, change)
            torch.optim.SGD([weight], lr=RATE if self.lr is None else self.lr).step()
            weight.grad = None

    def feature_layers(self) -> list[FeatureLayer]:
        """The dense and convolutional layers of the body, from below."""
        return feature_layers_of(self.body_, self.head_.features)


def _squared_length(weight: Tensor, pre: Tensor) -> Tensor:
    """Of the inputs of a unit, mean over samples; 1 where it is less."""
    return (pre.square().mean() * weight[0].numel()).clamp_min(1)


savable(*RULES)
savable(OnlineClassifier, learned=("network_",), for_learning=("body", "head", "rules"))
