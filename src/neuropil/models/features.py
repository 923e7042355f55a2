"""Features learned by local rules, or frozen, under a supervised linear readout."""

import math
from typing import Protocol, Self

from torch import Generator, nn

from neuropil.data import Split
from neuropil.errors import needs_numbers, require
from neuropil.models.contract import begin_fit, copied
from neuropil.models.description import NotSaved, savable
from neuropil.models.training.augment import Augment
from neuropil.models.training.banded import BandedRidge
from neuropil.models.training.readout import ReadoutClassifier, featurise, fresh_head, network_of
from neuropil.models.training.supervised import SupervisedTraining
from neuropil.runs.tracker import NullTracker, Tracker


class Learning(Protocol):
    """How a body learns without a readout."""

    def fit_(self, body: nn.Sequential, train: Split, *, rng: Generator, tracker: Tracker) -> None:
        """Let `body` learn in place."""


class Readout(Protocol):
    """How a linear readout learns from features."""

    def fit_(self, network: nn.Sequential, train: Split, *, stage: str, rng: Generator, tracker: Tracker) -> None:
        """Let the readout `network` learn in place; loop and rows are named `stage`."""


class FeatureClassifier(ReadoutClassifier):
    """A linear readout, trained with labels, on features that no gradient ever reaches.

    With `learning` the body learns its features by local rules first. Without it, the body is frozen: random features,
    or, if the body only flattens, a linear classifier. The body learns from all examples, the readout from those that
    have a label.

    Args:
        body: maps (batch, *shape) in [0, 1] to features. It is copied; the original stays as it is.
        learning: how the body learns, for example `LocalLearning`; None for a frozen body.
        readout: how the readout is trained: `SupervisedTraining` by gradient descent, `RidgeRegression` in closed form,
            `BandedRidge` where there are more features than fit into memory.
        n_augmented: augmented copies of every labelled image that the readout learns from besides the image.
        augment: makes the augmented copies.
        min_examples: fewest examples of the readout; few labels get as many more augmented copies as this takes.

    After `fit`: ``network_``, the learned body and the trained readout, in evaluation mode.

    Raises:
        Refusal: augmented copies without `augment`, `augment` without copies, or a readout that takes no copies.

    Examples:
        >>> from neuropil.data import digits
        >>> from neuropil.models import dense_body, init_normal_
        >>> train, test = digits()
        >>> body, rng = dense_body(train, 100, n=1.0), torch.Generator().manual_seed(0)
        >>> init_normal_(body, rng)
        >>> model = FeatureClassifier(body, readout=SupervisedTraining(epochs=5)).fit(train, rng=rng)
        >>> bool((model.predict(test.x) == test.y).float().mean() > 0.9)
        True
    """

    shares = True
    shown = ("body", "learning", "readout")

    def __init__(
        self, body: nn.Sequential, *, learning: Learning | None = None, readout: Readout | BandedRidge | None = None,
        n_augmented: int = 0, augment: Augment | None = None, min_examples: int = 0,
    ):  # fmt: skip
        needs_numbers(self, n_augmented=n_augmented, min_examples=min_examples)
        fine = n_augmented >= 0 and min_examples >= 0 and (n_augmented + min_examples > 0) == (augment is not None)
        needed = "n_augmented and min_examples >= 0, and augment where one of them is above 0"
        got = f"n_augmented={n_augmented}, min_examples={min_examples} and augment={augment}"
        require(fine, f"FeatureClassifier needs {needed}, got {got}.")
        how = "LocalLearning({'hidden': rule})"
        learns = learning is None or isinstance(learning, NotSaved) or hasattr(learning, "fit_")
        require(learns, f"FeatureClassifier needs learning={how} or None, got {type(learning).__name__}.")
        banded = augment is not None and isinstance(readout, BandedRidge)
        require(
            not banded, "BandedRidge takes no augmented copies; put the networks of the body into MirrorMean instead."
        )
        takes = augment is None or getattr(readout, "takes_copies", True)
        cure = "name one of its strengths, or take no copies"
        require(takes, f"copies of one image would be on both sides of the held-out part of {readout}; {cure}.")
        self.body, self.learning, self.readout = body, learning, readout or SupervisedTraining()
        self.n_augmented, self.augment, self.min_examples = n_augmented, augment, min_examples

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn the features from all examples of `train`, and the readout from those that have a label."""
        begin_fit(self, train, rng)
        tracker = tracker or NullTracker()
        body = copied(self, self.body, train.x.device).requires_grad_(False)
        if isinstance(self.readout, BandedRidge):
            self.readout.check_room(train.labelled())
        if self.learning is not None:
            self.learning.fit_(body, train, rng=rng, tracker=tracker)
        body.zero_grad(set_to_none=True)
        return self._fit_readout(body, train.labelled(), rng, tracker)

    def refit_readout(self, labelled: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn only the readout afresh, from `labelled`; the features stay as `fit` left them."""
        return self._fit_readout(self.body_, labelled, rng, tracker or NullTracker())

    def _copies(self, labelled: Split) -> int:
        """How many distorted copies of each labelled example the readout sees."""
        return max(self.n_augmented, math.ceil(self.min_examples / len(labelled)) - 1)

    def _fit_readout(self, body: nn.Sequential, labelled: Split, rng: Generator, tracker: Tracker) -> Self:
        if isinstance(self.readout, BandedRidge):
            head = self.readout.head_on(body.eval(), labelled, stage="readout", rng=rng, tracker=tracker)
        else:
            copies = self._copies(labelled)
            features = featurise(body.eval(), labelled, n_augmented=copies, augment=self.augment, rng=rng)
            head = fresh_head(features)
            self.readout.fit_(head, features, stage="readout", rng=rng, tracker=tracker)
        self.network_ = network_of(body, head)
        return self


savable(FeatureClassifier, learned=("network_",), for_learning=("body", "learning", "readout", "augment"))
