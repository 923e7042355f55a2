"""Features learned by local rules (or by nobody) under a supervised linear readout."""

import math
from copy import deepcopy
from typing import Protocol, Self

from torch import Generator, Tensor, nn

from neuropil.checks import require
from neuropil.data import Split
from neuropil.learners.augment import Augment
from neuropil.learners.descent import Descent
from neuropil.learners.readout import featurise, fresh_head, scores_of
from neuropil.learners.watch import Unwatched, Watch


class Learning(Protocol):
    """How a body learns without a readout."""

    def fit_(self, body: nn.Sequential, train: Split, *, rng: Generator, watch: Watch) -> None:
        """Let `body` learn in place."""
        ...


class FeatureClassifier:
    """A linear readout, trained by gradient descent, on a body that no gradient ever reaches.

    With rules the body learns locally first (Hebbian features); without, it stays as it was drawn (random features) or
    has nothing to learn (a linear model is a body that only flattens).

    Args:
        body: maps (batch, *shape) in [0, 1] to features; it is copied, the original stays as it is.
        learning: how the body learns, for example `LocalLearning`; None for a frozen body.
        readout: how the head is trained.
        copies: how many altered copies of every labelled image the head learns from besides the image itself.
        augment: what alters them.
        examples: fewest examples of the head, copies included: few labels get as many more copies as this takes.

    After `fit`: ``body_``, the learned body in evaluation mode, and ``network_``, body and trained head.
    """

    def __init__(
        self,
        body: nn.Sequential,
        *,
        learning: Learning | None = None,
        readout: Descent | None = None,
        copies: int = 0,
        augment: Augment | None = None,
        examples: int = 0,
    ):
        require(
            copies >= 0 and examples >= 0 and (copies + examples > 0) == (augment is not None),
            "FeatureClassifier needs copies and examples >= 0, and augment where one of them is above 0, got "
            f"copies={copies}, examples={examples} and augment={augment}.",
        )
        self.body = body
        self.learning = learning
        self.readout = readout or Descent()
        self.copies = copies
        self.augment = augment
        self.examples = examples

    def fit(self, train: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Learn the features from all images of `train` and the readout from all its labels."""
        watch = watch or Unwatched()
        self.body_ = deepcopy(self.body).requires_grad_(False)
        if self.learning is not None:
            self.learning.fit_(self.body_, train, rng=rng, watch=watch)
        self.body_.zero_grad(set_to_none=True)
        return self.fit_labels(train, rng=rng, watch=watch)

    def fit_labels(self, labelled: Split, *, rng: Generator, watch: Watch | None = None) -> Self:
        """Learn only the readout afresh, from `labelled`; the features stay as `fit` left them."""
        copies = max(self.copies, math.ceil(self.examples / len(labelled)) - 1)
        features = featurise(self.body_.eval(), labelled, copies=copies, augment=self.augment, rng=rng)
        head = fresh_head(features)
        self.readout.fit_(head, features, stage="readout", rng=rng, watch=watch or Unwatched())
        self.network_ = nn.Sequential(self.body_, nn.Flatten(), head)
        return self

    def scores(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes) logits."""
        return scores_of(self.network_, x)

    def logits(self, x: Tensor) -> Tensor:
        """The same with its exact gradient by `x`, and all at once: for attacks and saliency."""
        return self.network_(x)

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return self.scores(x).argmax(1)
