"""Means, intervals and paired differences, and how such numbers are written."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.special import stdtrit  # Student quantiles without the start-up cost of scipy.stats

from neuropil.errors import require

ALONE = "n = 1"
DASH = "–"


def interval(values: Iterable[float]) -> tuple[float, float]:
    r"""The mean, and the half width of its 95 % interval; nan for a single value, which has none.

    :math:`\bar x \pm t_{0.975, n-1}\, s / \sqrt{n}`, s with n - 1 in the denominator. Student 1908, Biometrika 6.

    >>> mean, half_width = interval([1, 2, 3])
    >>> round(mean, 2), round(half_width, 2)
    (2.0, 2.48)
    """
    sample = np.asarray(list(values), dtype=np.float64)
    require(sample.size > 0, "an interval needs at least one value, got none.")
    require(bool(np.isfinite(sample).all()), f"an interval needs finite values, got {sample.tolist()}.")
    if sample.size == 1:
        return float(sample[0]), math.nan
    spread = sample.std(ddof=1) / math.sqrt(sample.size)
    return float(sample.mean()), float(stdtrit(sample.size - 1, 0.975) * spread)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> tuple[float, float]:
    """The mean of a - b over the seeds that both have, and the half width of its 95 % interval.

    Equal seeds share their data split and order, so this interval is usually far tighter than that of either mean.

    Args:
        a, b: seed -> value.

    >>> mean, half_width = paired({0: 0.9, 1: 0.8}, {1: 0.7, 0: 0.8, 2: 0.5})
    >>> round(mean, 2), round(half_width, 2)
    (0.1, 0.0)
    """
    common = sorted(a.keys() & b.keys())
    require(bool(common), f"a paired difference needs a seed that both have, got {sorted(a)} and {sorted(b)}.")
    return interval(a[seed] - b[seed] for seed in common)


def percent(mean: float, half: float) -> str:
    """A fraction in 0..1 and its half width as '97.53 ± 0.21', in percent; with one decimal from a point on.

    >>> percent(0.97534, 0.00213)
    '97.53 ± 0.21'
    """
    if math.isnan(half):
        return f"{100 * mean:.2f} ({ALONE})"
    digits = 1 if 100 * half >= 1 else 2
    return f"{100 * mean:.{digits}f} ± {100 * half:.{digits}f}"


def points(mean: float, half: float) -> str:
    """A difference of fractions as '+0.31 ± 0.20', in percentage points, with its sign."""
    text = percent(abs(mean), half)
    rounds_to_zero = float(text.split()[0]) == 0
    return text if rounds_to_zero else ("+" if mean > 0 else "−") + text


def quantity(value: float) -> str:
    """A cost with three figures: 0.42, 3.14, 42.0, 1,204."""
    if math.isnan(value):
        return DASH
    if value >= 99.95:  # from where on it would round to 100.0
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in short.

    >>> spans([4, 0, 1, 2, 7])
    '0–2, 4, 7'
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def counted(matrix: Sequence[Sequence[float]], whose: str) -> np.ndarray:
    """A confusion matrix (classes, classes), or with a last column for "none"; `whose` is named in a refusal."""
    shape = (len(matrix), *sorted({len(row) for row in matrix}))
    fits = len(shape) == 2 and shape[1] - shape[0] in (0, 1)
    require(fits, f"confusion matrices need one square shape, got {shape} for {whose}.")
    return np.array(matrix, dtype=np.float64)


def recall(matrix: Sequence[Sequence[float]], whose: str = "a learner") -> float:
    """Balanced accuracy: the fraction correct of each class that has examples, averaged over them.

    >>> recall([[9, 1], [4, 6]])
    0.75
    >>> recall([[98, 0, 2], [0, 0, 0], [1, 0, 1]])
    0.74
    """
    counts = counted(matrix, whose)
    sizes = counts.sum(1)
    return float((counts.diagonal()[sizes > 0] / sizes[sizes > 0]).mean())
