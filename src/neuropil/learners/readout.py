"""What a body makes of a data set, and the linear head that names it."""

import torch
from torch import Tensor, nn

from neuropil.data import Split
from neuropil.learners.layers import Standardise


def fresh_head(features: Split, *, standardise: bool = True) -> nn.Sequential:
    """Standardised by the statistics of `features`, or as they are, to a linear layer of zeros: (n, classes)."""
    linear = nn.Linear(features.x.shape[1], features.classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    first = Standardise(linear.in_features).fit_(features.x) if standardise else nn.Identity()
    return nn.Sequential(first, linear).to(features.x)


@torch.no_grad()
def featurise(body: nn.Module, split: Split, *, batch: int = 1000) -> Split:
    """`split` seen through `body` in evaluation mode: (n, features) float32, labels as they were."""
    training = body.training
    body.eval()
    seen, start = torch.empty(0), 0
    for part in split.batches(min(batch, len(split))):
        features = body(part.x).flatten(1)
        if start == 0:
            seen = features.new_empty(len(split), features.shape[1])
        seen[start : start + len(part)] = features
        start += len(part)
    body.train(training)
    return Split(seen, split.y, split.classes)


@torch.no_grad()
def scores_of(model: nn.Module, x: Tensor, *, batch: int = 1000) -> Tensor:
    """(n, classes) scores, made in batches so that memory does not grow with n."""
    return torch.cat([model(part) for part in x.split(batch)])
