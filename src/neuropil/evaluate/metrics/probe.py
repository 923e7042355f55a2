"""A linear probe: how much of the classes a linear classifier can read off features that stay as they are."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import require


def linear_probe(train: Split, test: Split, *, weight_decay: float = 1e-3) -> float:
    """Accuracy on `test` of softmax regression fitted to `train`, in [0, 1]. Alain & Bengio 2017, ICLR workshop.

    Features are standardised by those of `train`. The loss is convex, so nothing depends on a start or a seed.

    Args:
        train, test: features (n, d) with labels.
        weight_decay: factor of the squared weights in the loss.

    Raises:
        Refusal: features that are not finite; no examples, or one without a label.

    Examples:
        >>> x = torch.arange(8.0)[:, None]
        >>> linear_probe(Split(x, (x[:, 0] > 3).long(), 2), Split(x, (x[:, 0] > 3).long(), 2))
        1.0
    """
    for split in train, test:
        split.check_labelled("a linear probe")
    x, y = train.pixels().flatten(1), train.y
    require(bool(x.isfinite().all()), "a linear probe needs finite features.")
    mean, sd = x.mean(0), x.std(0, correction=0)
    sd = sd.clamp_min(1e-2 * sd.mean() + torch.finfo(sd.dtype).tiny)  # what hardly varies stays small
    x = (x - mean) / sd
    weight, bias = (x.new_zeros(shape, requires_grad=True) for shape in ((x.shape[1], train.classes), train.classes))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, tolerance_change=1e-6, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight + bias, y) + weight_decay * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    scores = ((test.pixels().flatten(1) - mean) / sd) @ weight + bias
    return (scores.argmax(1) == test.y).double().mean().item()
