"""The features of a data set, and the linear readout that classifies them."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
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
    size = features.x.shape[1]
    first = Standardise(size).fit_(features.x) if standardise else nn.Identity()
    return head_of(first, size, features.classes).to(features.x)


def head_of(first: nn.Module, features: int, classes: int) -> nn.Sequential:
    """The layers ``standardise``, which is `first`, and ``linear``, of zeros."""
    linear = nn.Linear(features, classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(OrderedDict[str, nn.Module](standardise=first, linear=linear))


def network_of(body: nn.Sequential, readout: nn.Module) -> nn.Sequential:
    """`body`, flattened, and `readout` on top."""
    return nn.Sequential(OrderedDict[str, nn.Module](body=body, flat=nn.Flatten(), readout=readout))


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
    copies = [lambda x: augment(x, rng) if augment and rng else x] * n_augmented
    return Split(features_of(body, split, batch, copies), split.y.repeat(1 + n_augmented), split.classes)


@torch.no_grad()
def features_of(
    body: nn.Module, split: Split, batch: int = 1000, copies: Sequence[Callable[[Tensor], Tensor]] = (),
    dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """What `body` makes of `split` in evaluation mode, then of each of its `copies`: (n (1 + copies), features).

    In the type in which `body` answers, or rounded to `dtype`.
    """
    seen, start = torch.empty(0), 0
    with in_evaluation(body):
        for copy in (lambda x: x, *copies):
            for part in split.batches(min(batch, len(split))):
                features = in_parts(lambda x: body(x).flatten(1), copy(part.x))
                if start == 0:
                    seen = features.new_empty(len(split) * (1 + len(copies)), features.shape[1], dtype=dtype)
                seen[start : start + len(part)] = features
                start += len(part)
    return seen
