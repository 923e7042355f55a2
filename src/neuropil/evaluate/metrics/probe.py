"""A linear probe: how much of the classes a linear classifier can read off features that stay as they are."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from neuropil.data import Split
from neuropil.errors import require

DECAYS = (0.1, 0.01, 0.001, 0.0001)  # among which a probe chooses


def linear_probe(train: Split, test: Split, *, weight_decay: float | None = None) -> float:
    """Accuracy on `test` of softmax regression fitted to `train`, in [0, 1]. Alain & Bengio 2017, ICLR workshop.

    Features are standardised by those of `train`. The loss is convex, so nothing depends on a start.

    Args:
        train, test: features (n, d) with labels.
        weight_decay: factor of the squared weights in the loss; None for the one of 0.1, 0.01, 0.001 and 0.0001 with
            the lowest cross-entropy on a held-out quarter of `train`.

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
    if weight_decay is None:
        held, rest = (
            torch.randperm(len(y), generator=Generator().manual_seed(0)).to(y.device).tensor_split([len(y) // 4])
        )

        def held_out(decay: float) -> float:
            weight, bias = _fit(x[rest], y[rest], train.classes, decay)
            return F.cross_entropy(x[held] @ weight + bias, y[held]).item()

        weight_decay = min(DECAYS, key=held_out)
    weight, bias = _fit(x, y, train.classes, weight_decay)
    scores = ((test.pixels().flatten(1) - mean) / sd) @ weight + bias
    return (scores.argmax(1) == test.y).double().mean().item()


def _fit(x: Tensor, y: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Weight (d, classes) and bias of the softmax regression of y on x."""
    weight, bias = (x.new_zeros(shape, requires_grad=True) for shape in ((x.shape[1], classes), classes))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, tolerance_change=1e-6, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight + bias, y) + decay * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return weight.detach(), bias.detach()
