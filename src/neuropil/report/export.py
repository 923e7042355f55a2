"""The results as others take them: a data frame, CSV, LaTeX."""

import csv
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from neuropil.errors import optional
from neuropil.report.page import results_json
from neuropil.report.remarks import remarks_on
from neuropil.report.results import Results, gather
from neuropil.report.tables import HEADS, cells_of, columns_of, markdown, note_of, summary_rows

__all__ = ["FORMATS", "export", "frame"]

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$"}
SPECIAL |= {"–": "--", "…": r"\ldots{}", **{letter: f"\\{letter}" for letter in "&%$#_{}"}}


def export(runs: Sequence[Path] | Results, form: str) -> str:
    """The results as text of one of `FORMATS`."""
    results = gather(runs)
    return FORMATS[form](results)


def frame(runs: Sequence[Path | str] | Path | str | Results) -> Any:
    """A pandas data frame with a row for each learner, data set and seed, of one run or of several.

    Raises:
        Refusal: pandas is not installed.

    Examples:
        >>> import neuropil.report
        >>> neuropil.report.frame([])
        Traceback (most recent call last):
        neuropil.errors.Refusal: a report needs at least one run folder, got none.
    """
    several = [runs] if isinstance(runs, (str, Path)) else runs
    found = gather(several)
    return optional("pandas", "a data frame").DataFrame([outcome.columns() for outcome in found.outcomes])


def as_csv(results: Results) -> str:
    """A line for each learner and data set: mean, interval, costs, difference to the baseline; in full precision."""
    rows = [{**row, "seeds": " ".join(map(str, row["seeds"]))} for row in summary_rows(results)]
    rows = [{name: None if value != value else value for name, value in row.items()} for row in rows]  # NaN: no number
    text = StringIO()
    names = [name for name in (rows[0] if rows else {}) if name not in ("failed", "unfinished_seeds")]
    lines = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    return text.getvalue()


def as_latex(results: Results) -> str:
    """A table for a paper; needs the package booktabs."""
    many = len(results.data) > 1
    kept = columns_of(results.summaries)
    heads = (["data"] if many else []) + [HEADS[k] for k in kept]
    body = [([one.data] if many else []) + [cells_of(one)[k] for k in kept] for one in results.summaries]
    columns = "l" * (1 + many) + "r" * (len(kept) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(heads), r"\midrule", *map(line, body)]
    lines += [r"\bottomrule", r"\end{tabular}", *(f"% {text}" for text in (note_of(results), *remarks_on(results)))]
    return "\n".join(lines) + "\n"


def line(cells: Sequence[str]) -> str:
    """One row of a LaTeX table."""
    return " & ".join(re.sub(r"[\\~^±−–…&%$#_{}]", lambda found: SPECIAL[found[0]], cell) for cell in cells) + r" \\"


FORMATS = {
    "markdown": markdown,
    "latex": as_latex,
    "csv": as_csv,
    "json": lambda results: results_json(results).decode(),
}
