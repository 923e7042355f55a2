"""Where a stranger's run falls: the intervals that docs/results/stdp.md gives for a single new run."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

PAGE = (Path(__file__).parents[1] / "docs/results/stdp.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| ([\d., ]+) \| ([\d.]+) to ([\d.]+) \|$", PAGE, re.MULTILINE)


def new_run(values):
    """Both ends of the 95 % interval of one more value from the normal distribution that gave these."""
    n = values.shape[-1]
    half = stats.t.ppf(0.975, n - 1) * values.std(-1, ddof=1) * (1 + 1 / n) ** 0.5
    return values.mean(-1) - half, values.mean(-1) + half


@pytest.mark.parametrize(("units", "runs", "low", "high"), ROWS, ids=[row[0] for row in ROWS])
def test_the_page_says_where_one_more_run_falls(units, runs, low, high):
    values = np.array([float(one) for one in runs.split(", ")])
    assert new_run(values) == pytest.approx((float(low), float(high)), abs=0.06)
    mean, half = values.mean(), stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    assert f"| {units} | {len(values)} | {mean:.2f} ± {half:.2f} |" in PAGE.replace("**", "")


def test_the_page_has_the_rows_and_the_one_of_400_units_follows_from_its_mean():
    assert [row[0] for row in ROWS] == ["100", "1600"]
    mean, half = 91.80, 0.62 * 2  # sqrt(1 + 1/3) over sqrt(1/3) times that of the mean
    assert f"| 400 | {mean:.2f} ± {half / 2:.2f} (n = 3) | {mean - half:.1f} to {mean + half:.1f} |" in PAGE


def test_nineteen_of_twenty_new_runs_fall_into_their_interval():
    values = np.random.default_rng(0).normal(91.3, 0.37, (20_000, 4))
    low, high = new_run(values[:, :3])
    inside = ((low < values[:, 3]) & (values[:, 3] < high)).mean()
    assert inside == pytest.approx(0.95, abs=0.006)  # four standard errors
    of_the_mean = np.abs(values[:, 3] - values[:, :3].mean(1)) < (high - low) / 4
    assert of_the_mean.mean() < 0.9  # the interval of the mean is half as wide, and no promise for a run
