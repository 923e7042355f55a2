"""Models whose worst case is known by heart, and a projection by a route of its own."""

import torch

from neuropil.data import Split
from neuropil.evaluate.robustness import Victim


def linear_task(n=200, pixels=16, seed=0, side=0):
    """A two-class linear model on examples in [0, 1] that it names right: (weight, bias, logits, split)."""
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(pixels, generator=rng, dtype=torch.float64)
    x = torch.rand(n, pixels, generator=rng)
    bias = -(x.double() @ weight).median()
    y = (x.double() @ weight + bias > 0).long()
    if side:
        x = x.view(n, 1, side, side)

    def logits(inputs):
        score = inputs.flatten(1).double() @ weight + bias
        return torch.stack([-score / 2, score / 2], 1)

    return weight, bias, logits, Split(x, y, 2)


def white(logits):
    """A victim that shows everything."""
    scores = torch.no_grad()(logits)
    return Victim(lambda x: scores(x).argmax(1), scores, logits)


def project_by_bisection(x, moved, size, low, high):
    """The point of the ball and the range nearest to `moved`, one example, from the multiplier of the ball."""
    at = lambda mu: ((moved + mu * x) / (1 + mu)).clamp(low, high)
    if (at(0.0) - x).norm() <= size:
        return at(0.0)
    small, large = 0.0, 1.0
    while (at(large) - x).norm() > size:
        large *= 2
    for _ in range(200):
        middle = (small + large) / 2
        small, large = (middle, large) if (at(middle) - x).norm() > size else (small, middle)
    return at(large)


def worst_of_linear(x, weight, size, norm, low, high):
    """The least weight . (x + d) over all d of `size` that stay in the range, one example."""
    if norm == "Linf":
        return ((x - size * weight.sign()).clamp(low, high) * weight).sum()
    at = lambda slope: (x - slope * weight).clamp(low, high)
    small, large = 0.0, 1.0
    while (at(large) - x).norm() < size and large < 1e9:
        large *= 2
    for _ in range(200):
        middle = (small + large) / 2
        small, large = (middle, large) if (at(middle) - x).norm() < size else (small, middle)
    return (at(small) * weight).sum()
