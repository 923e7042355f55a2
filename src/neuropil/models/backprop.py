"""The baseline: the same architecture, every weight trained end to end by backprop."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Self, cast

from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.models.contract import FeatureLayer, feature_layers_of, show_model
from neuropil.models.description import savable_model
from neuropil.models.saving import write_model
from neuropil.models.training.readout import featurise, fresh_head, network_of, scores_of
from neuropil.models.training.supervised import SupervisedTraining
from neuropil.runs.tracker import NullTracker, Tracker


@savable_model("network_", for_learning=("body", "training"))
class BackpropClassifier:
    """A body and a linear readout, trained together by backpropagation.

    The features are standardised once, by their statistics before training, so that the readout starts from the same
    scale as that of `FeatureClassifier`. Batch normalisation gathers its statistics during training, as usual.

    Args:
        body: maps (batch, *shape) in [0, 1] to features. It is copied; the original stays as it is.
        training: how the network is trained.
        standardise: whether the features are standardised before the readout.

    After `fit`: ``network_``, body and readout, in evaluation mode.
    """

    def __init__(self, body: nn.Sequential, *, training: SupervisedTraining | None = None, standardise: bool = True):
        self.body = body
        self.training = training or SupervisedTraining()
        self.standardise = standardise

    def fit(self, train: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Train everything on `train`, from the body as it was given."""
        body = deepcopy(self.body).to(train.x.device).requires_grad_(True)
        head = fresh_head(featurise(body, train), standardise=self.standardise)
        self.network_ = network_of(body, head).train()
        self.training.fit_(self.network_, train, stage="backprop", rng=rng, tracker=tracker or NullTracker())
        return self

    def refit_readout(self, labelled: Split, *, rng: Generator, tracker: Tracker | None = None) -> Self:
        """Train everything afresh on `labelled` alone: backprop learns nothing from images without labels."""
        return self.fit(labelled, rng=rng, tracker=tracker)

    @property
    def body_(self) -> nn.Sequential:
        """The trained body."""
        return cast(nn.Sequential, self.network_.get_submodule("body"))

    def __repr__(self) -> str:
        return show_model(self, "body", "training")

    def save(self, path: Path | str, *, about: Mapping[str, Any] | None = None) -> Path:
        """Write the fitted model into one .safetensors file, from which `neuropil.load` brings it back.

        Args:
            path: the file; its folder is made if need be.
            about: facts that travel with it, such as its name and its seed.
        """
        return write_model(self, path, about)

    def feature_layers(self) -> list[FeatureLayer]:
        """The dense and convolutional layers of the body, from below."""
        return feature_layers_of(self.body_, self.network_.get_parameter("readout.linear.weight").shape[1])

    def decision_function(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes) logits."""
        return scores_of(self.network_, x)

    def forward(self, x: Tensor) -> Tensor:
        """The same with its exact gradient by `x`, and all at once: for attacks and saliency."""
        scores: Tensor = self.network_(x)
        return scores

    def predict(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n,) labels."""
        return self.decision_function(x).argmax(1)
