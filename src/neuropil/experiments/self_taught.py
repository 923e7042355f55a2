"""A linear readout that teaches itself: it takes its confident answers for the labels that are missing."""

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.errors import require
from neuropil.models import FeatureClassifier
from neuropil.models.features import Readout
from neuropil.models.training.banded import BandedRidge
from neuropil.models.training.readout import featurise, fresh_head, network_of
from neuropil.runs import NullTracker, Tracker

SHOWN = 0.25  # the labelled examples are repeated until they are about this fraction of the answers


class SelfTaught(FeatureClassifier):
    """A `FeatureClassifier` whose readout learns from labelled images, then from its own answers to all of them.

    In every round it answers all images that the features have learned from. Of each class the half with the highest
    probability joins the labelled images, with the answer for a label. It learns afresh from them all. Where no label
    is missing it stays as it is. Lee 2013 (ICML workshop).

    Args:
        plain: features, readout and copies are those of this classifier; it stays as it is.
        rounds: how often, at least 1.

    Raises:
        Refusal: fewer than one round.

    Examples:
        >>> from neuropil.data import digits, subset
        >>> from neuropil.models import SupervisedTraining, dense_body, init_normal_
        >>> train, test = digits()
        >>> body, rng = dense_body(train, 100, n=1.0), torch.Generator().manual_seed(0)
        >>> init_normal_(body, rng)
        >>> plain = FeatureClassifier(body, readout=SupervisedTraining(epochs=5))
        >>> model = SelfTaught(plain, rounds=2).fit(train, rng=rng)
        >>> model = model.refit_readout(subset(train, 50, 0), rng=rng)
        >>> bool((model.predict(test.x) == test.y).float().mean() > 0.7)
        True
    """

    def __init__(self, plain: FeatureClassifier, rounds: int):
        super().__init__(
            plain.body, learning=plain.learning, readout=plain.readout,
            n_augmented=plain.n_augmented, augment=plain.augment, min_examples=plain.min_examples,
        )  # fmt: skip
        require(rounds >= 1, f"SelfTaught needs rounds >= 1, got {rounds}.")
        cure = "take RidgeRegression or SupervisedTraining"
        require(
            not isinstance(plain.readout, BandedRidge), f"SelfTaught cannot teach a readout by BandedRidge; {cure}."
        )
        self.plain, self.rounds = plain, rounds

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Learn the features from all examples of `train`, and the readout from its labels and its own answers."""
        self._images = Split.unlabelled(train.x, train.classes)
        return super().fit(train, rng=rng, tracker=tracker)

    def save(self, path: Path | str, *, about: Mapping[str, Any] | None = None, precision: str | None = None) -> Path:
        """Write what it has learned as a `FeatureClassifier`, which answers alike and teaches itself no more."""
        taught = copy(self.plain)
        taught.network_, taught.names_, taught.columns_ = self.network_, self.names_, self.columns_
        return taught.save(path, about=about, precision=precision)

    def _fit_readout(self, body: nn.Sequential, labelled: Split, rng: Generator, tracker: Tracker) -> Self:
        super()._fit_readout(body, labelled, rng, tracker)
        if len(labelled) >= len(self._images):
            return self
        copies, how = self._copies(labelled), {"augment": self.augment, "rng": rng}
        known = featurise(body, labelled, n_augmented=copies, **how)  # type: ignore[arg-type]
        seen = featurise(body, self._images, n_augmented=self.n_augmented, **how)  # type: ignore[arg-type]
        head, readout = self.network_.get_submodule("readout"), cast(Readout, self.readout)
        for k in range(1, self.rounds + 1):
            sure, answers = confident(answer(head, seen, 1 + self.n_augmented))
            which = torch.cat([sure + len(self._images) * k for k in range(1 + self.n_augmented)])
            times = max(1, round(SHOWN * len(which) / len(known)))
            x = torch.cat([seen.x[which], known.x.repeat(times, 1)])
            y = torch.cat([answers.repeat(1 + self.n_augmented), known.y.repeat(times)])
            examples = Split(x, y, labelled.classes)
            head = fresh_head(examples)
            readout.fit_(head, examples, stage=f"readout, round {k}", rng=rng, tracker=NullTracker())
        self.network_ = network_of(body, head)
        return self


@torch.no_grad()
def answer(head: nn.Module, seen: Split, copies: int) -> Tensor:
    """Probabilities of the classes, the mean over the copies of each image: (images, classes)."""
    scores = torch.cat([head(part.x) for part in seen.batches(min(1000, len(seen)))])
    mean: Tensor = scores.softmax(1).view(copies, -1, scores.shape[1]).mean(0)
    return mean


def confident(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """(places, classes) of that half of the answers of each class that have the highest probability."""
    best, classes = probabilities.max(1)
    chosen = []
    for k in classes.unique():
        own = (classes == k).nonzero()[:, 0]
        chosen.append(own[best[own].argsort(descending=True)[: (len(own) + 1) // 2]])
    where = torch.cat(chosen)
    return where, classes[where]
