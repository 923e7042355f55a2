"""The features of a data set, and the linear readout that classifies them."""

from collections import OrderedDict
from typing import cast

import torch
from torch import Generator, Tensor, nn

from neuropil.data import Split
from neuropil.models.contract import Classifier, FeatureLayer, as_examples, feature_layers_of
from neuropil.models.nn.layers import Standardise
from neuropil.models.training.augment import Augment
from neuropil.plasticity.attachable import in_evaluation
from neuropil.plasticity.joint import in_parts


class ReadoutClassifier(Classifier):
    """A body under a linear readout, both in ``network_``."""

    network_: nn.Sequential

    @property
    def body_(self) -> nn.Sequential:
        """The body as it has learned."""
        return cast(nn.Sequential, self.network_.get_submodule("body"))

    def feature_layers(self) -> list[FeatureLayer]:
        """The dense and convolutional layers of the body, from below."""
        return feature_layers_of(self.body_, self.network_.get_parameter("readout.linear.weight").shape[1])

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to (n, classes) logits with their exact gradient by `x`, all at once."""
        return cast(Tensor, self.network_(as_examples(self, x)))


def fresh_head(features: Split, *, standardise: bool = True) -> nn.Sequential:
    """Standardised by the statistics of `features`, or as they are, to a linear layer of zeros: (n, classes)."""
    linear = nn.Linear(features.x.shape[1], features.classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    first = Standardise(linear.in_features).fit_(features.x) if standardise else nn.Identity()
    return nn.Sequential(OrderedDict[str, nn.Module](standardise=first, linear=linear)).to(features.x)


def network_of(body: nn.Sequential, readout: nn.Module) -> nn.Sequential:
    """`body`, flattened, and `readout` on top."""
    return nn.Sequential(OrderedDict[str, nn.Module](body=body, flat=nn.Flatten(), readout=readout))


@torch.no_grad()
def featurise(
    body: nn.Module, split: Split, *, batch: int = 1000, n_augmented: int = 0, augment: Augment | None = None,
    rng: Generator | None = None,
) -> Split:  # fmt: skip
    """`split` seen through `body` in evaluation mode: (n, features) float32, labels as they were.

    Args:
        body: maps a batch to features of any shape.
        split: n examples.
        batch: examples at a time.
        n_augmented: augmented copies of every example that follow the examples: ((1 + n_augmented) n, features).
        augment: makes them, with randomness from `rng`.
        rng: needed for augmented copies.
    """
    seen, start = torch.empty(0), 0
    with in_evaluation(body):
        for copy in range(1 + n_augmented):
            for part in split.batches(min(batch, len(split))):
                x = augment(part.x, rng) if copy and augment and rng else part.x
                features = in_parts(lambda x: body(x).flatten(1), x)
                if start == 0:
                    seen = features.new_empty(len(split) * (1 + n_augmented), features.shape[1])
                seen[start : start + len(part)] = features
                start += len(part)
    return Split(seen, split.y.repeat(1 + n_augmented), split.classes)
