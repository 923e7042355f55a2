"""Yin-Yang: points in the yin-yang sign, three classes, generated (Kriener, Goltz & Petrovici 2021)."""

from math import dist

import numpy as np
import torch

from neuropil.data.split import Split
from neuropil.errors import require

EXAMPLES = (5000, 1000)
SOURCE = "it is generated on this machine"
R_BIG, R_SMALL = 0.5, 0.1  # radius of the sign and of its two dots
LEFT, MIDDLE, RIGHT = (0.25, 0.5), (0.5, 0.5), (0.75, 0.5)


def yin_yang() -> tuple[Split, Split]:
    """(train, test): 5000 and 1000 points as published (seeds 42 and 40); see `generate`."""
    return generate(5000, seed=42), generate(1000, seed=40)


def validation() -> Split:
    """The published validation part: 1000 points, seed 41."""
    return generate(1000, seed=41)


def generate(n: int, seed: int) -> Split:
    """`n` vectors (x, y, 1 - x, 1 - y) in float32, labels 0, 1 and 2 (a dot); arXiv 2102.08211.

    Law: the class is chosen first, evenly; then points in the unit square, until one lies in the sign
    and has that class. Random numbers are used in the order of the published generator, so its samples
    come out, number for number. That is why this is a loop and why it is numpy's old generator.
    """
    require(n >= 1, f"generate needs n >= 1, got n={n}.")
    rng = np.random.RandomState(seed)
    labels, points = np.empty(n, np.int64), np.empty((n, 2))
    for i in range(n):
        labels[i] = rng.randint(3)
        points[i] = _point(rng, labels[i])
    return Split(torch.tensor(np.hstack([points, 1 - points]), dtype=torch.float32), torch.tensor(labels), classes=3)


def _point(rng: np.random.RandomState, label: int) -> tuple[float, float]:
    """A random point of the sign with this label."""
    while True:
        x, y = rng.rand(2).tolist()
        if dist((x, y), MIDDLE) <= R_BIG and _label(x, y) == label:
            return x, y


def _label(x: float, y: float) -> int:
    """2 in a dot; 1 in the upper half without the right bulge, or in the left bulge; 0 elsewhere."""
    left, right = dist((x, y), LEFT), dist((x, y), RIGHT)
    if min(left, right) < R_SMALL:
        return 2
    return int(left <= R_BIG / 2 or (y > R_BIG and right > R_BIG / 2))
