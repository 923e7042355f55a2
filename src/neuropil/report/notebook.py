"""What a notebook shows of gathered results: the figure and the table."""

from collections.abc import Sequence
from pathlib import Path

from neuropil.report import results
from neuropil.report.page import fragment


class ShownResults(results.Results):
    """Results that a notebook shows as their figure and table."""

    def _repr_html_(self) -> str:
        return fragment(self)


def gather(runs: Sequence[Path] | results.Results) -> ShownResults:
    """What run folders say together; a notebook shows its figure and table.

    Args:
        runs: run folders, or folders that hold run folders.

    Raises:
        Refusal: no run, nothing to show, a result that cannot be, or two for one learner, data set and seed.
    """
    return ShownResults(**vars(results.gather(runs)))
