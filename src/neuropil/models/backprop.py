"""The baseline: the same architecture, every weight trained end to end by backprop."""

from typing import Self

from torch import Generator, nn

from neuropil.data import Split
from neuropil.models.contract import begin_fit, copied
from neuropil.models.description import savable
from neuropil.models.training.readout import ReadoutClassifier, featurise, fresh_head, network_of
from neuropil.models.training.supervised import SupervisedTraining
from neuropil.runs.tracker import NullTracker, Tracker


class BackpropClassifier(ReadoutClassifier):
    """A body and a linear readout, trained together by backpropagation.

    The features are standardised once, by their statistics before training, so that the readout starts from the same
    scale as that of `FeatureClassifier`. Batch normalisation gathers its statistics during training, as usual.

    Args:
        body: maps (batch, *shape) in [0, 1] to features. It is copied; the original stays as it is.
        training: how the network is trained.
        standardise: whether the features are standardised before the readout.

    After `fit`: ``network_``, body and readout, in evaluation mode.
    """

    shares = True
    shown = ("body", "training")

    def __init__(self, body: nn.Sequential, *, training: SupervisedTraining | None = None, standardise: bool = True):
        self.body = body
        self.training = training or SupervisedTraining()
        self.standardise = standardise

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Train everything on `train`, from the body as it was given."""
        begin_fit(self, train, rng)
        body = copied(self, self.body, train.x.device).requires_grad_(True)
        head = fresh_head(featurise(body, train), standardise=self.standardise)
        self.network_ = network_of(body, head).train()
        self.training.fit_(self.network_, train, stage="backprop", rng=rng, tracker=tracker or NullTracker())
        return self


savable(BackpropClassifier, learned=("network_",), for_learning=("body", "training"))
